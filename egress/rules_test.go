package egress

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"rocserv/egress/match"
)

func rule(allow bool, where ...string) Rule {
	r := Rule{Allow: allow}
	for _, w := range where {
		if p, err := netip.ParsePrefix(w); err == nil {
			r.Nets = append(r.Nets, p)
		} else if w != "any" {
			r.Domains = append(r.Domains, w)
		}
	}
	return r
}

func ports(r Rule, p ...match.Ports) Rule { r.Ports = p; return r }

// The rules stand between the hard tier and the profile: they open and close
// the private tier and everything public, and never the hard tier.
func TestRules(t *testing.T) {
	names := NewNames(nil)
	names.Learn("www.blocked.example", addr("8.8.8.8"), 0)
	names.Learn("db.corp.example", addr("10.3.0.1"), 0)
	names.Learn("evil.corp.example", addr("127.0.0.1"), 0)
	list := []Rule{
		ports(rule(true, "10.0.0.5/32"), match.Ports{Proto: match.TCP, First: 443, Last: 443}),
		rule(false, "10.0.0.0/24"),
		rule(true, "10.0.0.0/16", "127.0.0.0/8", "169.254.169.254/32"),
		rule(false, "blocked.example"),
		rule(true, "corp.example"),
		ports(rule(false, "any"), match.Ports{Proto: match.TCP, First: 25, Last: 25}),
	}
	host := Host{OwnAddrs: []netip.Addr{addr("10.0.9.9")}}
	for _, tt := range []struct {
		dst         string
		lan, inside Denied // in the profiles lan and internet
	}{
		{"10.0.0.5:443", 0, 0},
		{"10.0.0.5:80", DeniedRule, DeniedRule},
		{"10.0.1.1:80", 0, 0},
		{"10.1.1.1:80", 0, DeniedPrivate},
		{"10.1.1.1:25", DeniedRule, DeniedRule},
		{"10.3.0.1:5432", 0, 0}, // by its name
		{"8.8.8.8:443", DeniedRule, DeniedRule},
		{"8.8.4.4:443", 0, 0},
		{"8.8.4.4:25", DeniedRule, DeniedRule},
		{"127.0.0.1:443", DeniedLoopback, DeniedLoopback}, // named by a rule, and by a name
		{"169.254.169.254:80", DeniedMetadata, DeniedMetadata},
		{"10.0.9.9:443", DeniedOwnAddress, DeniedOwnAddress},
		{"[64:ff9b::a00:5]:80", DeniedRule, DeniedRule},
		{"[64:ff9b::a00:5]:443", 0, 0},
		{"[::ffff:10.0.0.5]:80", DeniedRule, DeniedRule},
	} {
		for internet, want := range map[bool]Denied{false: tt.lan, true: tt.inside} {
			p := mustPolicy(t, PolicyConfig{Internet: internet, Rules: list, Names: names, Host: host})
			var got Denied
			if err := p.Check(TCP, netip.MustParseAddrPort(tt.dst)); err != nil {
				got = err.(Denied)
			}
			if got != want {
				t.Errorf("internet=%v %s: %v, want %v", internet, tt.dst, got, want)
			}
		}
	}
	p := mustPolicy(t, PolicyConfig{Rules: list, Names: names})
	for dst, want := range map[string]int{"10.0.0.5:443": 0, "10.0.0.5:80": 1, "8.8.8.8:53": 3, "1.1.1.1:53": match.None, "127.0.0.1:1": match.None} {
		if got, _ := p.Explain(TCP, netip.MustParseAddrPort(dst)); got != want {
			t.Errorf("%s: rule %d, want %d", dst, got, want)
		}
	}
}

// What was allowed by a name is not, once the name is another address's.
func TestRulesFollowNames(t *testing.T) {
	now := time.Unix(1e9, 0)
	names := NewNames(func() time.Time { return now })
	p := mustPolicy(t, PolicyConfig{Rules: []Rule{rule(true, "ok.example"), rule(false, "any")}, Names: names})
	a, b := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1")
	if p.Check(TCP, a) == nil {
		t.Error("an address without a name is reached")
	}
	names.Learn("ok.example", a.Addr(), time.Minute)
	if err := p.Check(TCP, a); err != nil {
		t.Error(err)
	}
	if p.Check(TCP, b) == nil {
		t.Error("the next address is reached")
	}
	now = now.Add(nameAtLeast + time.Second)
	if p.Check(TCP, a) == nil {
		t.Error("a name is good for ever")
	}
}

func TestNames(t *testing.T) {
	n := NewNames(nil)
	a := addr("192.0.2.1")
	for _, name := range []string{"a", "b", "a", "c", "c"} {
		n.Learn(name, addr("::ffff:192.0.2.1"), 0)
	}
	if got := n.Of(a); !slices.Equal(got, []string{"c", "a", "b"}) {
		t.Errorf("%q", got)
	}
	held := n.Of(a)
	for i := range 20 {
		n.Learn(string(rune('d'+i)), a, 0)
	}
	if len(n.Of(a)) != namesOfOne || !slices.Equal(held, []string{"c", "a", "b"}) {
		t.Errorf("%q, and %q was changed", n.Of(a), held)
	}
	for i := range maxNamed + 10 {
		n.Learn("x", netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 0)
	}
	if len(n.byAddr) != maxNamed || n.order.Len() != maxNamed || n.Of(a) != nil {
		t.Errorf("%d addresses, %q", len(n.byAddr), n.Of(a))
	}
}

// ocserv-fw's order: DNS, no-routes, ports, routes; reference for all of it.
func TestAccess(t *testing.T) {
	tcp := func(port uint16) match.Ports { return match.Ports{Proto: match.TCP, First: port, Last: port} }
	icmp := match.Ports{Proto: match.ICMP, Last: 65535}
	routes, noRoutes := prefixes("10.0.0.0/8", "fd00::/8"), prefixes("10.9.0.0/16")
	dns := []netip.Addr{addr("192.0.2.53")}
	all := Access{Routes: routes, NoRoutes: noRoutes, DNS: dns}
	with := func(deny bool, p ...match.Ports) Access { a := all; a.Ports, a.PortsDeny = p, deny; return a }
	for _, tt := range []struct {
		name   string
		access Access
		proto  Proto
		dst    string
		want   Denied
	}{
		{"in a route", all, TCP, "10.1.1.1:80", 0},
		{"in a route, UDP", all, UDP, "10.1.1.1:80", 0},
		{"in a route, ping", all, ICMP, "10.1.1.1:0", 0},
		{"in a route, IPv6", all, TCP, "[fd00::1]:80", 0},
		{"outside", all, TCP, "192.0.2.1:80", DeniedRoute},
		{"outside, IPv6", all, ICMPv6, "[2a00::1]:0", DeniedRoute},
		{"no-route", all, TCP, "10.9.1.1:80", DeniedNoRoute},
		{"DNS server", all, UDP, "192.0.2.53:53", 0},
		{"DNS server by TCP", all, TCP, "192.0.2.53:53", 0},
		{"DNS server, another port", all, TCP, "192.0.2.53:80", DeniedRoute},
		{"allowed port", with(false, tcp(443)), TCP, "10.1.1.1:443", 0},
		{"allowed port outside", with(false, tcp(443)), TCP, "192.0.2.1:443", DeniedRoute},
		{"allowed port in a no-route", with(false, tcp(443)), TCP, "10.9.0.1:443", DeniedNoRoute},
		{"another port", with(false, tcp(443)), TCP, "10.1.1.1:80", DeniedPort},
		{"another protocol", with(false, tcp(443)), UDP, "10.1.1.1:443", DeniedPort},
		{"ping not listed", with(false, tcp(443)), ICMP, "10.1.1.1:0", DeniedPort},
		{"ping listed", with(false, tcp(443), icmp), ICMP, "10.1.1.1:0", 0},
		{"DNS where only 443 is allowed", with(false, tcp(443)), UDP, "192.0.2.53:53", 0},
		{"denied port", with(true, tcp(25)), TCP, "10.1.1.1:25", DeniedPort},
		{"not the denied port", with(true, tcp(25)), TCP, "10.1.1.1:80", 0},
		{"not the denied port, outside", with(true, tcp(25)), TCP, "192.0.2.1:80", DeniedRoute},
		{"ping where a port is denied", with(true, tcp(25)), ICMP, "10.1.1.1:0", 0},
		{"no routes: everywhere", Access{Ports: []match.Ports{tcp(443)}}, TCP, "192.0.2.1:443", 0},
		{"only what cannot leave is allowed", with(false, match.Ports{Proto: match.Nothing}), TCP, "10.1.1.1:443", DeniedPort},
		{"only what cannot leave is denied", with(true, match.Ports{Proto: match.Nothing}), TCP, "10.1.1.1:443", 0},
		{"the hard tier first", Access{Routes: prefixes("127.0.0.0/8"), DNS: []netip.Addr{addr("127.0.0.53")}}, UDP, "127.0.0.53:53", DeniedLoopback},
	} {
		p := mustPolicy(t, PolicyConfig{Access: &tt.access})
		var got Denied
		if err := p.Check(tt.proto, netip.MustParseAddrPort(tt.dst)); err != nil {
			got = err.(Denied)
		}
		if got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func BenchmarkCheckRules(b *testing.B) {
	names := NewNames(nil)
	dst := netip.MustParseAddrPort("8.8.8.8:443")
	names.Learn("www.host.example", dst.Addr(), 0)
	var list []Rule
	for i := range 5000 {
		list = append(list, rule(false, netip.PrefixFrom(netip.AddrFrom4([4]byte{9, byte(i >> 8), byte(i), 0}), 24).String()),
			rule(false, "host"+string(rune('a'+i%26))+time.Duration(i).String()+".example"))
	}
	for name, cfg := range map[string]PolicyConfig{"none": {}, "10000 rules": {Rules: list, Names: names}} {
		p := mustPolicy(b, cfg)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Check(TCP, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
