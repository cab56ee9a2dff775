package worker

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"rocserv/egress"
	"rocserv/egress/resolver"
	"rocserv/internal/blocklist"
	"rocserv/internal/ipc"
)

// zone is a DNS server on loopback that knows some names.
func zone(t *testing.T, known map[string][]string) netip.AddrPort {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil {
				continue
			}
			q := m.Questions[0]
			m.Response = true
			addrs, ok := known[q.Name.String()]
			if !ok {
				m.RCode = dnsmessage.RCodeNameError
			}
			for _, text := range addrs {
				a := netip.MustParseAddr(text)
				h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}
				switch {
				case a.Is4() && q.Type == dnsmessage.TypeA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
				case a.Is6() && q.Type == dnsmessage.TypeAAAA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
				}
			}
			answer, _ := m.Pack()
			c.WriteToUDPAddrPort(answer, from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// resolves gives a session the resolver that a client has.
func resolves(t *testing.T, s *session, cfg resolver.Config) {
	s.names = egress.NewNames(nil)
	cfg.Names = s.names
	d := egress.NewDirect(s.policy, egress.DirectConfig{})
	r := resolver.New(d, cfg)
	t.Cleanup(func() { r.Close(); d.Close() })
	s.outside.Resolver, s.outside.Ask = r, r.Ask
}

// An operator is told what the client's own policy and network do, of each
// address of a name.
func TestWhy(t *testing.T) {
	in := newInside(t, faketime.NewManualClock())
	defer in.close()
	s := in.s
	addrs := []string{"198.18.7.1", "10.0.0.5", "203.0.114.9"}
	server := zone(t, map[string][]string{"www.example.": addrs, "x.bad.example.": addrs, "y.bad.example.": addrs})
	resolves(t, s, resolver.Config{Servers: []resolver.Server{{Addr: server}}})
	rule := func(text string, allow bool, d *ipc.Destination) *ipc.EgressRule {
		return &ipc.EgressRule{Text: text, Allow: allow, Where: d}
	}
	cfg := &ipc.SessionConfig{Egress: &ipc.EgressPolicy{Internet: true, Rules: []*ipc.EgressRule{
		rule("deny *.bad.example", false, &ipc.Destination{Domains: []string{"*.bad.example"}}),
		rule("allow 10.0.0.5/32", true, &ipc.Destination{Nets: [][]byte{ipc.PutPrefix(netip.MustParsePrefix("10.0.0.5/32"))}}),
	}}}
	var err error
	if s.policy, err = policyOf(cfg, &ipc.HostInfo{}, s.names); err != nil {
		t.Fatal(err)
	}
	ask := func(host string) (all []string) {
		a := s.why(&ipc.Why{Host: host, Port: 443, Proto: 6})
		if a.Error != "" {
			return []string{a.Error}
		}
		for _, x := range a.Addresses {
			text := ipc.Addr(x.Addr).String() + " denied=" + x.Denied + " rule=" + x.Rule
			for _, w := range x.Ways {
				text += " " + w.Name
			}
			all = append(all, text)
		}
		return all
	}
	for host, want := range map[string]string{
		"127.0.0.1":       "127.0.0.1 denied=loopback rule=",
		"::ffff:10.0.0.5": "10.0.0.5 denied= rule=allow 10.0.0.5/32 direct",
		"10.0.0.6":        "10.0.0.6 denied=private address rule=",
		"203.0.114.1":     "203.0.114.1 denied= rule= direct",
		"none.example":    "resolver: none.example: DNS says: RCodeNameError",
		"www.example":     "198.18.7.1 denied=special-purpose address rule=\n10.0.0.5 denied= rule=allow 10.0.0.5/32 direct\n203.0.114.9 denied= rule= direct",
	} {
		if got := strings.Join(ask(host), "\n"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", host, got, want)
		}
	}
	for _, host := range []string{"x.bad.example", "Y.Bad.Example."} { // as people type it
		if got := strings.Join(ask(host), "\n"); strings.Count(got, "denied=egress-deny rule=deny *.bad.example") != 3 {
			t.Errorf("a name that is denied:\n%s", got)
		}
		if got := s.names.Of(netip.MustParseAddr("10.0.0.5"))[0]; got != strings.ToLower(strings.TrimSuffix(host, ".")) {
			t.Errorf("%s is known as %s", host, got)
		}
	}
	s.outside.Ask = nil
	if got := ask("www.example"); got[0] != "there is no resolver" {
		t.Errorf("%q", got)
	}
}

// A name has the addresses that the client is told. What a rule keeps from it
// is an error that says so, and teaches it nothing.
func TestWhyAsksAsTheClient(t *testing.T) {
	in := newInside(t, faketime.NewManualClock())
	defer in.close()
	s := in.s
	server := zone(t, map[string][]string{
		"www.example.": {"203.0.114.9"}, "ads.example.": {"203.0.114.7"}, "inside.example.": {"10.0.0.5", "fd00::5"}, "both.example.": {"10.0.0.6", "2001:db8::6"},
		"six.example.": {"2001:db8::7"}, "void.example.": {},
	})
	block := new(blocklist.Builder)
	block.Add("ads.example")
	cfg := resolver.Config{Servers: []resolver.Server{{Addr: server}}, Rules: resolver.Rules{Block: block.Set(), Guard: true}}
	ask := func(host string) string {
		a := s.why(&ipc.Why{Host: host, Port: 443, Proto: 6})
		if a.Error != "" {
			return a.Error
		}
		var all []string
		for _, x := range a.Addresses {
			all = append(all, ipc.Addr(x.Addr).String())
		}
		return strings.Join(all, " ")
	}
	for _, filter := range []bool{false, true} {
		cfg.AAAAFilter = filter
		resolves(t, s, cfg)
		both, six := "2001:db8::6", "2001:db8::7"
		if filter {
			both, six = "resolver: both.example: withheld by resolver-guard", "resolver: six.example: no IPv4 address, and no way out for IPv6"
		}
		void := map[bool]string{false: "resolver: void.example: it has no address", true: "resolver: void.example: no IPv4 address, and no way out for IPv6"}[filter]
		for host, want := range map[string]string{
			"www.example": "203.0.114.9", "ads.example": "resolver: ads.example: blocked by resolver-block",
			"x.ADS.example": "resolver: x.ads.example: blocked by resolver-block", "inside.example": "resolver: inside.example: withheld by resolver-guard",
			"both.example": both, "six.example": six, "void.example": void,
		} {
			if got := ask(host); got != want {
				t.Errorf("filter %v, %s: %s, want %s", filter, host, got, want)
			}
		}
		for addr, known := range map[string]bool{"203.0.114.9": true, "203.0.114.7": false, "10.0.0.5": false, "fd00::5": false, "2001:db8::6": !filter} {
			if got := s.names.Of(netip.MustParseAddr(addr)); (len(got) != 0) != known {
				t.Errorf("filter %v: %s is known as %q", filter, addr, got)
			}
		}
	}
}

// With dial the connection is made by the client's network, and no more than
// that: nothing is dialled that is refused.
func TestWhyDials(t *testing.T) {
	in := newInside(t, faketime.NewManualClock())
	defer in.close()
	s := in.s
	s.names, s.policy = egress.NewNames(nil), in.net.policy
	a := s.why(&ipc.Why{Host: "127.0.0.1", Port: 80, Proto: 6, Dial: true})
	if x := a.Addresses[0]; x.Dialled || x.Denied != "loopback" {
		t.Errorf("%v", x)
	}
	a = s.why(&ipc.Why{Host: "203.0.114.1", Port: 80, Proto: 6, Dial: true})
	if x := a.Addresses[0]; !x.Dialled || x.Failure == "" {
		t.Errorf("nobody listens there: %v", x)
	}
	if a := s.why(&ipc.Why{Host: "203.0.114.1", Port: 80, Proto: 17, Dial: true}); a.Addresses[0].Dialled {
		t.Error("a datagram is no connection")
	}
}
