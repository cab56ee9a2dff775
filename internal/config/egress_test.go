package config

import (
	"slices"
	"strings"
	"testing"
)

func TestEgressRules(t *testing.T) {
	c := mustParse(t, least+`egress-allow = 10.0.0.5 tcp(443), tcp(8000 - 8080)
egress-deny = 10.0.0.0/8
egress-allow = Example.ORG. udp()
 *.example.net
egress-deny = any icmp(),icmpv6()
egress-rule = allow ::ffff:192.0.2.0/120
egress-deny = ANY
[vhost:b]
egress-deny = c.example
[vhost:c]
egress-allow =
egress-deny = d.example
`)
	want := [][]string{
		{"allow 10.0.0.5/32 tcp(443), tcp(8000-8080)", "deny 10.0.0.0/8", "allow example.org udp()", "allow *.example.net",
			"deny any icmp(), icmpv6()", "allow 192.0.2.0/24", "deny any"},
		{"deny c.example"},
		{"deny d.example"},
	}
	want[1] = append(slices.Clone(want[0]), want[1]...) // inherited
	for i, v := range c.Vhosts {
		if got := stringsOf(v.User.EgressRules); !slices.Equal(got, want[i]) {
			t.Errorf("vhost %q: %q, want %q", v.Name, got, want[i])
		}
	}
}

// A user's file replaces the list once, whichever of its lines come first.
func TestEgressRulesOfAUser(t *testing.T) {
	base := mustParse(t, least+"egress-deny = a.example\n").Vhosts[0].User
	for file, want := range map[string][]string{
		"dpd = 9\n": {"deny a.example"},
		"egress-allow = b.example\negress-deny = any\negress-allow = c.example\n": {"allow b.example", "deny any", "allow c.example"},
		"egress-deny = any\negress-allow = b.example\n":                           {"deny any", "allow b.example"},
		"egress-deny =\n": {},
	} {
		u, _, err := ParseUserFile("alice", []byte(file), base)
		if err != nil {
			t.Fatal(err)
		}
		if got := stringsOf(u.EgressRules); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", file, got, want)
		}
	}
	u, _, err := ParseUserFile("alice", []byte("egress-profile = internet\n"), base)
	if err != nil || !u.EgressInternet || base.EgressInternet {
		t.Errorf("egress-profile of a user: %v, %v", u.EgressInternet, err)
	}
}

func TestEgressRulesRefused(t *testing.T) {
	for line, want := range map[string]string{
		"egress-allow = 10.0.0.0/33":               "is no network, no address and no domain",
		"egress-allow = 10.0.0.1:443":              "is no network, no address and no domain",
		"egress-allow = 1.2.3":                     "is no network, no address and no domain",
		"egress-allow = a..b":                      "is no network, no address and no domain",
		"egress-allow = *":                         "is no network, no address and no domain",
		"egress-allow = *.":                        "is no network, no address and no domain",
		"egress-allow = tcp(443)":                  "is no network, no address and no domain",
		"egress-allow = any tcp":                   "'tcp' is not protocol(port)",
		"egress-allow = any tcp(443) udp(1)":       "is neither a port nor a range of ports",
		"egress-allow = any tcp(9-8)":              "is neither a port nor a range of ports",
		"egress-allow = any tcp(65536)":            "is neither a port nor a range of ports",
		"egress-allow = any icmp(8)":               "icmp has no ports",
		"egress-allow = any sctp(9)":               "'sctp' is no protocol that can leave",
		"egress-rule = reject any":                 "begins with allow or deny",
		"egress-deny = " + strings.Repeat("a", 64): "is no network, no address and no domain",
	} {
		got := problems(t, least+line+"\n")
		if len(got) != 1 || !strings.HasPrefix(got[0], "test.conf:8: ") || !strings.Contains(got[0], want) {
			t.Errorf("%s: %q", line, got)
		}
	}
}

func FuzzEgressRule(f *testing.F) {
	for _, s := range []string{"any", "10.0.0.0/8 tcp(443)", "*.example.org udp(1-2), icmp()", "fd00::1 icmpv6()", "x tcp(", "10.0.0.256"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseEgressRule(s)
		if err != nil {
			return
		}
		text := strings.TrimPrefix(r.String(), "deny ")
		again, err := parseEgressRule(text)
		if err != nil || again.String() != r.String() {
			t.Errorf("%q is %q, which is %q: %v", s, text, again, err)
		}
	})
}
