package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseRoute(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"10.0.0.0/8", "10.0.0.0/255.0.0.0"},
		{"10.0.0.0/255.0.0.0", "10.0.0.0/255.0.0.0"},
		{"10.1.2.3/8", "10.1.2.3/255.0.0.0"}, // host bits stay
		{"10.1.2.3/32", "10.1.2.3/255.255.255.255"},
		{"10.1.2.3/255.255.255.255", "10.1.2.3/255.255.255.255"},
		{"0.0.0.0/0", "0.0.0.0/0.0.0.0"},
		{"0.0.0.0/0.0.0.0", "0.0.0.0/0.0.0.0"},
		{"default", "0.0.0.0/0.0.0.0"},
		{"DEFAULT", "0.0.0.0/0.0.0.0"},
		{"128.0.0.0/1", "128.0.0.0/128.0.0.0"},
		{"fd00::1/8", "fd00::1/8"},
		{"::/0", "::/0"},
		{"2001:db8::1/128", "2001:db8::1/128"},
		{"10.0.0.0", "route '10.0.0.0' is missing a /prefix, use address/prefix"},
		{"defaults", "route 'defaults' is missing a /prefix, use address/prefix"},
		{"", "route '' is missing a /prefix, use address/prefix"},
	} {
		p, err := parseRoute(c.in)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = RouteString(p)
		}
		if got != c.want {
			t.Errorf("%q: %s, want %s", c.in, got, c.want)
		}
	}
	for _, in := range []string{"x/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/ 8", "10.0.0.0/255.0.255.0", "10.0.0.0/", "/8", "10.0.0/8",
		"fd00::/129", "fd00::/255.0.0.0", "fe80::1%eth0/64", "::ffff:10.0.0.0/104", "10.0.0.0/8/8", "010.0.0.0/8", "10.0.0.0/1e1"} {
		if p, err := parseRoute(in); err == nil || !strings.Contains(err.Error(), "cannot figure format of route") {
			t.Errorf("%q: %v, %v", in, p, err)
		}
	}
}

func TestMask(t *testing.T) {
	for n := range 33 {
		s := maskOf(n).String()
		if got, ok := parseMask(s); !ok || got != n {
			t.Errorf("/%d is %s is /%d, %v", n, s, got, ok)
		}
	}
	for _, s := range []string{"255.0.255.0", "0.0.0.255", "1.2.3.4", "255.255.255.253", "255.255.255", "ffff::", "", "24"} {
		if n, ok := parseMask(s); ok {
			t.Errorf("%q is /%d", s, n)
		}
	}
}

// With the default route in it a list is empty, which is the default route.
func TestDefaultRoute(t *testing.T) {
	for list, want := range map[string]string{
		"10.0.0.0/8 fd00::/8":       "10.0.0.0/8 fd00::/8",
		"10.0.0.0/8 default":        "",
		"default 10.0.0.0/8":        "",
		"10.0.0.0/8 0.0.0.0/0 ::/0": "",
		"::/0":                      "::/0",
	} {
		lines := ""
		for r := range strings.FieldsSeq(list) {
			lines += "route = " + r + "\n"
		}
		c := mustParse(t, least+lines)
		if got := strings.Join(stringsOf(c.Vhosts[0].User.Routes), " "); got != want {
			t.Errorf("%s: %q, want %q", list, got, want)
		}
	}
}

func TestWithVhostRoutes(t *testing.T) {
	p := func(s string) []netip.Prefix {
		var list []netip.Prefix
		for f := range strings.FieldsSeq(s) {
			list = append(list, netip.MustParsePrefix(f))
		}
		return list
	}
	for _, c := range []struct {
		appends                 bool
		vhost, vhostNo          string
		user, userNo            string
		wantRoutes, wantNoRoute string
	}{
		{true, "1.0.0.0/8", "2.0.0.0/8", "3.0.0.0/8", "4.0.0.0/8", "3.0.0.0/8 1.0.0.0/8", "4.0.0.0/8 2.0.0.0/8"},
		{false, "1.0.0.0/8", "2.0.0.0/8", "3.0.0.0/8", "4.0.0.0/8", "3.0.0.0/8", "4.0.0.0/8"},
		{true, "1.0.0.0/8", "", "1.0.0.0/8", "", "1.0.0.0/8", ""}, // nothing of its own
		{true, "1.0.0.0/8", "", "", "", "", ""},                   // its own default route
	} {
		v := &Vhost{AppendRoutes: c.appends, User: User{Routes: p(c.vhost), NoRoutes: p(c.vhostNo)}}
		u := v.WithVhostRoutes(User{Routes: p(c.user), NoRoutes: p(c.userNo)})
		if !slices.Equal(u.Routes, p(c.wantRoutes)) || !slices.Equal(u.NoRoutes, p(c.wantNoRoute)) {
			t.Errorf("%+v: %v, %v", c, u.Routes, u.NoRoutes)
		}
	}
}

func TestParsePorts(t *testing.T) {
	for _, c := range []struct {
		in, want string // want as shown again, or what the error says
		deny     bool
	}{
		{"tcp(443), udp(53), sctp(9), icmp(), icmpv6(), esp()", "tcp(443), udp(53), sctp(9), icmp(), icmpv6(), esp()", false},
		{"TCP(443),Udp( 53 )", "tcp(443), udp(53)", false},
		{"!(tcp(443), udp(53))", "!(tcp(443), udp(53))", true},
		{" ! ( tcp() ) ", "!(tcp())", true},
		{"tcp()", "tcp()", false},
		{"tcp(65535)", "tcp(65535)", false},
		{"tcp(65536)", "'65536' is not a port", false},
		{"tcp(-1)", "is not a port", false},
		{"tcp(1-2)", "is not a port", false},
		{"tcp(443", "is not protocol(port)", false},
		{"tcp443)", "is not protocol(port)", false},
		{"tcp", "is not protocol(port)", false},
		{"", "is not protocol(port)", false},
		{"tcp(1),", "is not protocol(port)", false},
		{"foo(1)", "unknown protocol 'foo'", false},
		{"icmp(8)", "icmp has no ports", false},
		{"!tcp(443)", "followed by a list in brackets", false},
		{"!", "followed by a list in brackets", false},
		{"!()", "is not protocol(port)", false},
		{"(tcp(1))", "unknown protocol", false},
	} {
		ports, deny, err := parsePorts(c.in)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "cannot parse restrict-user-to-ports") {
				t.Errorf("%q: %v", c.in, err)
			}
			continue
		}
		got := getPorts(&target{user: &User{Ports: ports, PortsDeny: deny}})
		if len(got) != 1 || got[0] != c.want || deny != c.deny {
			t.Errorf("%q: %q, deny %v; want %q", c.in, got, deny, c.want)
		}
	}
}

func TestNumbersAndBools(t *testing.T) {
	for _, c := range []struct {
		in    string
		n     int64
		exact bool
	}{
		{"0", 0, true}, {"12", 12, true}, {"100", 100, true}, {"007", 7, true}, {"101", 100, false}, {"12s", 12, false}, {"", 0, false},
		{"-1", 0, false}, {"+1", 0, false}, {"x", 0, false}, {"99999999999999999999", 100, false}, {"0x10", 0, false}, {"1 2", 1, false},
	} {
		if n, exact := parseNumber(c.in, 100); n != c.n || exact != c.exact {
			t.Errorf("%q: %d, %v; want %d, %v", c.in, n, exact, c.n, c.exact)
		}
	}
	for in, want := range map[string][2]bool{
		"true": {true, true}, "TRUE": {true, true}, "yes": {true, true}, "Yes": {true, true}, "false": {false, true}, "No": {false, true},
		"": {false, true}, "1": {false, false}, "on": {false, false}, "tru": {false, false},
	} {
		if v, known := parseBool(in); v != want[0] || known != want[1] {
			t.Errorf("%q: %v, %v", in, v, known)
		}
	}
}
