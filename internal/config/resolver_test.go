package config

import (
	"slices"
	"strings"
	"testing"
)

const aPin = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="

func TestResolver(t *testing.T) {
	c := mustParse(t, least+`egress = corp socks5://192.0.2.9
resolver = 192.0.2.1, 2001:db8::1 for corp.example, *.10.in-addr.arpa
resolver = tls://dns.example.net ca=/etc/ca.pem name=other.example.net tls-fingerprint=firefox pin-sha256=`+aPin+`
resolver = https://[2001:db8::2]:8443/ask
resolver = https://192.0.2.7 for lab.example
resolver-via = corp|direct, blackhole
resolver-block = Ads.example, /etc/blocked
resolver-block = *.zip
resolver-block-answer = refused
resolver-guard = true
resolver-guard-except = a.example, B.example
resolver-cache = 1000
`)
	u := c.Vhosts[0].User
	want := []string{
		"192.0.2.1:53 for corp.example, 10.in-addr.arpa", "[2001:db8::1]:53 for corp.example, 10.in-addr.arpa",
		"tls://dns.example.net:853 pin-sha256=" + aPin + " ca=/etc/ca.pem name=other.example.net tls-fingerprint=firefox",
		"https://[2001:db8::2]:8443/ask", "https://192.0.2.7:443/dns-query for lab.example",
	}
	got := stringsOf(u.Resolver.Servers)
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if again := mustParse(t, least+"resolver = "+strings.Join(got, "\nresolver = ")+"\n"); !slices.Equal(stringsOf(again.Vhosts[0].User.Resolver.Servers), want) {
		t.Errorf("written and read again: %q", again.Vhosts[0].User.Resolver.Servers)
	}
	r := u.Resolver
	if !slices.Equal(r.Via, []string{"corp|direct", "blackhole"}) || !slices.Equal(r.Block, []string{"ads.example", "/etc/blocked", "zip"}) ||
		!slices.Equal(r.BlockFiles(), []string{"/etc/blocked"}) || !r.Refuse || !r.Guard || !slices.Equal(r.GuardExcept, []string{"a.example", "b.example"}) || r.Cache != 1000 {
		t.Errorf("%+v", r)
	}
	own, _, err := ParseUserFile("anna", []byte("resolver-block = x.example\nresolver = tls://192.0.2.2\nresolver-block-answer = nxdomain\n"), u)
	if err != nil {
		t.Fatal(err)
	}
	if o := own.Resolver; len(o.Servers) != 1 || len(o.Block) != 1 || o.Refuse || !o.Guard || len(u.Resolver.Servers) != 5 || len(u.Resolver.Block) != 3 {
		t.Errorf("the user's file does not replace the lists: %+v; base %+v", o, u.Resolver)
	}
	if r := mustParse(t, least).Vhosts[0].User.Resolver; len(r.Servers)+len(r.Via)+len(r.Block) != 0 || r.Refuse || r.Guard || r.Cache != 256<<10 {
		t.Errorf("without a line: %+v", r)
	}
}

func TestResolverErrors(t *testing.T) {
	for line, want := range map[string]string{
		"resolver = ca=/x":                                  "is for the tls:// or https:// server",
		"resolver = 192.0.2.1 ca=/x":                        "is for the tls:// or https:// server",
		"resolver = tls://192.0.2.1 http=1.1":               "is none of",
		"resolver = tls://192.0.2.1 pin-sha256=x":           "base64",
		"resolver = tls://192.0.2.1/x":                      "more than a host",
		"resolver = tls://u:p@192.0.2.1":                    "more than a host",
		"resolver = https://192.0.2.1/x?y":                  "more than a host",
		"resolver = quic://192.0.2.1":                       "is not tls://",
		"resolver = tls://":                                 "is not tls://",
		"resolver = tls://192.0.2.1:0":                      "is no port",
		"resolver = tls://a_b..c":                           "no address and no name",
		"resolver = for x":                                  "names no server",
		"resolver = 192.0.2.1 for":                          "nothing follows",
		"resolver = 192.0.2.1 for 10.0.0.0/8":               "is no domain",
		"resolver-via = nowhere":                            "no egress line defines it",
		"resolver-via = a/b":                                "not the name of a way",
		"resolver-block = a..b":                             "is no domain, nor a file",
		"resolver-block-answer = drop":                      "nxdomain or refused",
		"resolver-guard-except = 10.0.0.0/8":                "is no domain",
		"resolver = " + strings.Repeat("::1 ", 9) + "for a": "more than 8",
	} {
		if got := problems(t, least+line+"\n"); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: %q, not %q", line, got, want)
		}
	}
}
