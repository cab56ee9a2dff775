package way

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"rocserv/egress"
	"rocserv/egress/match"
)

// forbidden are addresses of every line of the hard tier, and of the host.
var forbidden = []string{
	"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "169.254.1.1", "169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16",
	"100.100.100.200", "192.0.0.192", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "198.51.100.9", "198.51.100.255",
	"::", "::1", "fe80::1", "ff02::1", "fd00:ec2::254", "fd00:ec2::23", "2001:db8:9::9",
}

// mappings are the ways to write an IPv4 address as an IPv6 one.
func mappings(a netip.Addr) map[string]netip.Addr {
	all := map[string]netip.Addr{"itself": a}
	if !a.Is4() {
		return all
	}
	v4 := a.As4()
	in := func(prefix string, at int, flip byte) netip.Addr {
		b := netip.MustParseAddr(prefix).As16()
		for i, c := range v4 {
			b[at+i] = c ^ flip
		}
		return netip.AddrFrom16(b)
	}
	all["mapped"], all["compatible"], all["NAT64"] = in("::ffff:0:0", 12, 0), in("::", 12, 0), in("64:ff9b::", 12, 0)
	all["the network's NAT64"], all["local NAT64"] = in("2001:db8:64::", 12, 0), in("64:ff9b:1::", 12, 0)
	all["6to4"], all["Teredo"] = in("2002::", 2, 0), in("2001:0:808:808::", 12, 0xff)
	return all
}

// Nothing leads to the hard tier: no protocol, no way to write the address, no
// way out, no rule, and no name that a client was told it by, before or after.
func TestHardTier(t *testing.T) {
	came := newSocksServer(t, &socksServer{})
	web := httpServer(t, 200, "")
	names := egress.NewNames(nil)
	allow := []egress.Rule{
		{Rule: match.Rule{Domains: []string{"*.example", "example"}}, Allow: true, Text: "by name"},
		{Rule: match.Rule{Nets: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}, Allow: true, Text: "everything"},
	}
	policy, err := egress.NewPolicy(egress.PolicyConfig{
		Rules: allow, Names: names, NAT64: []netip.Prefix{netip.MustParsePrefix("2001:db8:64::/96")},
		Host: egress.Host{
			OwnAddrs: []netip.Addr{netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("2001:db8:9::9")},
			OwnNets:  []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := egress.NewDirect(policy, egress.DirectConfig{})
	defer d.Close()
	for _, list := range [][]string{{"direct"}, {"blackhole"}, {"socks"}, {"web"}, {"socks", "web", "direct"}} {
		w, err := New(Config{Direct: d, Policy: policy, Names: names, Rules: []Rule{{Ways: list}}, Log: slog.New(slog.DiscardHandler),
			Ways: []Definition{proxyAt("socks", SOCKS5, came.listener), proxyAt("web", HTTP, web)}})
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range forbidden {
			for how, a := range mappings(netip.MustParseAddr(text)) {
				for _, named := range []bool{false, true} {
					if named { // what was an answer for another address before
						names.Learn("www.example", netip.MustParseAddr("203.0.113.1"), time.Minute)
						names.Learn("www.example", a, time.Minute)
					}
					if what := reaches(t, w, netip.AddrPortFrom(a, 80)); what != "" {
						t.Errorf("%v, %s %s, named %v: %s", list, text, how, named, what)
					}
				}
			}
		}
		if reaches(t, w, netip.MustParseAddrPort("203.0.113.1:80")) == "" {
			t.Errorf("%v: nothing at all is reached", list)
		}
		w.Close()
	}
	for what, l := range map[string]*listener{"SOCKS5": came.listener, "HTTP": web} {
		if n := l.came.Load(); n != 0 {
			t.Errorf("the %s proxy was asked %d times", what, n)
		}
	}
}

// reaches says by what a destination can be reached; empty: by nothing.
func reaches(t *testing.T, w *Ways, dst netip.AddrPort) string {
	t.Helper()
	for name, p := range map[string]egress.Proto{"TCP": egress.TCP, "UDP": egress.UDP, "ICMP": egress.ICMP, "ICMPv6": egress.ICMPv6} {
		if err := w.Check(p, dst); !errors.Is(err, egress.ErrProhibited) {
			return name + " is allowed"
		}
	}
	if c, err := w.DialTCP(t.Context(), netip.AddrPort{}, dst); !errors.Is(err, egress.ErrProhibited) {
		if err == nil {
			c.Close()
		}
		return "TCP is dialled"
	}
	for _, open := range []func(bool, egress.Receiver) (egress.PacketSocket, error){w.OpenUDP, w.OpenPing} {
		s, err := open(dst.Addr().Is6() && !dst.Addr().Is4In6(), nobody{})
		if err != nil {
			continue // no ping sockets here
		}
		n, err := s.Send([]egress.Message{{Addr: dst, Payload: []byte{8, 0, 0, 0, 0, 0, 0, 0}}})
		s.Close()
		if n != 0 || !errors.Is(err, egress.ErrProhibited) {
			return "a datagram is sent"
		}
	}
	return ""
}

type nobody struct{}

func (nobody) Receive([]egress.Message) {}
func (nobody) Report(*egress.Report)    {}
