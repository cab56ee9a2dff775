package config

import (
	"slices"
	"strings"
	"testing"
)

func TestGateway(t *testing.T) {
	c := mustParse(t, least+`resolver = 192.0.2.1, 2001:db8::1
resolver = [2001:db8::2]:5353 ::ffff:192.0.2.9
client-dns = intercept
gateway-forward = tcp:5201 -> 127.0.0.1:5202
gateway-forward = tcp:80->[2001:db8::1]:8080
gateway-forward = tcp:443 -> service.example.com:443
`)
	base := c.Vhosts[0].User
	want := []string{"192.0.2.1:53", "[2001:db8::1]:53", "[2001:db8::2]:5353", "192.0.2.9:53"}
	if got := stringsOf(base.Resolver.Servers); !slices.Equal(got, want) {
		t.Errorf("resolver: %q", got)
	}
	want = []string{"tcp:5201 -> 127.0.0.1:5202", "tcp:80 -> [2001:db8::1]:8080", "tcp:443 -> service.example.com:443"}
	if got := stringsOf(base.Forwards); !slices.Equal(got, want) {
		t.Errorf("gateway-forward: %q", got)
	}
	if base.ClientDNS != "intercept" {
		t.Errorf("client-dns: %q", base.ClientDNS)
	}
	u, _, err := ParseUserFile("anna", []byte("resolver = 198.51.100.1\nclient-dns = deny\ngateway-forward = tcp:80 -> 10.0.0.1:80\n"), base)
	if err != nil {
		t.Fatal(err)
	}
	if len(u.Resolver.Servers) != 1 || len(u.Forwards) != 1 || u.ClientDNS != "deny" || len(base.Resolver.Servers) != 4 || len(base.Forwards) != 3 {
		t.Errorf("the user's file does not replace the lists: %v, %v, %q; base %v, %v", u.Resolver.Servers, u.Forwards, u.ClientDNS, base.Resolver.Servers, base.Forwards)
	}
	if u := mustParse(t, least).Vhosts[0].User; len(u.Resolver.Servers)+len(u.Forwards) != 0 || u.ClientDNS != "allow" {
		t.Errorf("without a line: %v, %v, %q", u.Resolver.Servers, u.Forwards, u.ClientDNS)
	}
}

func TestGatewayErrors(t *testing.T) {
	for line, want := range map[string]string{
		"resolver = dns.example.com":                                     "neither an address",
		"resolver = 192.0.2.1:0":                                         "no address of a server",
		"resolver = 0.0.0.0":                                             "no address of a server",
		"resolver = fe80::1%eth0":                                        "zone",
		"resolver = " + strings.Repeat("192.0.2.1 ", 9):                  "more than 8",
		"client-dns = drop":                                              "allow, intercept or deny",
		"gateway-forward = 5201":                                         "is not tcp:PORT -> HOST:PORT",
		"gateway-forward = udp:1 -> h:1":                                 "is not tcp:PORT -> HOST:PORT",
		"gateway-forward = tcp:0 -> h:1":                                 "is no port",
		"gateway-forward = tcp:70000 -> h:1":                             "is no port",
		"gateway-forward = tcp:53 -> h:1":                                "the resolver's",
		"gateway-forward = tcp:1 -> h":                                   "is not HOST:PORT",
		"gateway-forward = tcp:1 -> :1":                                  "is not HOST:PORT",
		"gateway-forward = tcp:1 -> h:0":                                 "is no port",
		"gateway-forward = tcp:1 -> h:1\ngateway-forward = tcp:1 -> g:1": "has a line already",
	} {
		if got := problems(t, least+line+"\n"); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: %q, not %q", line, got, want)
		}
	}
}
