package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// A virtual host is what the default one was at its first line, and what its
// own lines add.
func TestVhostInheritance(t *testing.T) {
	c := mustParse(t, least+`
dpd = 11
route = 10.1.0.0/16
select-group = staff
banner = hello
[vhost:A.example]
keepalive = 22
route = 10.2.0.0/16
[vhost:b.example]
banner =
route =
route = 10.3.0.0/16
select-group =
[vhost:a.EXAMPLE]
dpd = 33
`)
	if len(c.Vhosts) != 3 {
		t.Fatalf("%d virtual hosts", len(c.Vhosts))
	}
	base, a, b := c.Vhosts[0], c.Vhost("a.example"), c.Vhost("b.example")
	if c.Vhost("c.example") != base || c.Vhost("") != base || a.Name != "a.example" || b.Name != "b.example" {
		t.Error("Vhost finds the wrong one")
	}
	routes := func(v *Vhost) string { return strings.Join(RouteStrings(v.User.Routes), " ") }
	for _, x := range []struct{ what, got, want string }{
		{"default routes", routes(base), "10.1.0.0/255.255.0.0"},
		{"a adds", routes(a), "10.1.0.0/255.255.0.0 10.2.0.0/255.255.0.0"},
		{"b empties first", routes(b), "10.3.0.0/255.255.0.0"},
		{"banner of a", a.Banner, "hello"},
		{"banner of b", b.Banner, ""},
		{"dpd", base.User.DPD.String() + a.User.DPD.String() + b.User.DPD.String(), "11s33s11s"},
		{"keepalive", a.User.Keepalive.String() + b.User.Keepalive.String(), "22s9h0m0s"},
		{"pool", a.User.IPv4Network.String(), "10.9.0.0/24"},
	} {
		if x.got != x.want {
			t.Errorf("%s: %q, want %q", x.what, x.got, x.want)
		}
	}
	if len(base.SelectGroups) != 1 || len(a.SelectGroups) != 1 || len(b.SelectGroups) != 0 {
		t.Error("select-group")
	}
}

// What stands in the default virtual host after a section does not exist:
// lines after a section are the section's. So order is tested with what cannot
// be reloaded, which is taken over at the end.
func TestVhostTakesOver(t *testing.T) {
	c := mustParse(t, least+`
ca-cert = ca.pem
pin-file = pin
key-pin = secret
acct = radius[config=/a]
dtls-psk = false
[vhost:a]
[vhost:b]
server-cert = b.pem
server-key = b.key
ca-cert = b-ca.pem
pin-file = b-pin
auth = plain[passwd=/b]
acct = radius[config=/r]
`)
	base, a, b := c.Vhosts[0], c.Vhost("a"), c.Vhost("b")
	if !slices.Equal(a.Keys, base.Keys) || a.CACert != "ca.pem" || a.PinFile != "pin" || a.KeyPin.Reveal() != "secret" ||
		len(a.Auth) != 1 || a.Auth[0].Options["passwd"] != "/tmp/users" || a.Acct[0].Options["config"] != "/a" || a.DTLSPSK {
		t.Errorf("a: %+v", a)
	}
	if b.Keys[0] != (KeyPair{"b.pem", "b.key"}) || len(b.Keys) != 1 || b.CACert != "b-ca.pem" || b.PinFile != "b-pin" || !b.KeyPin.IsZero() ||
		len(b.Auth) != 1 || b.Auth[0].Options["passwd"] != "/b" || b.Acct[0].Options["config"] != "/r" || b.DTLSPSK {
		t.Errorf("b: %+v", b)
	}
}

// A mask may come from the default virtual host, the network from the named one.
func TestVhostNetwork(t *testing.T) {
	c := mustParse(t, strings.Replace(least, "10.9.0.0/24", "10.9.1.7\nipv4-netmask = 255.255.254.0", 1)+`
ipv6-network = fd00:1::5/48
ipv6-subnet-prefix = 64
[vhost:a]
ipv4-network = 10.10.0.0
[vhost:b]
ipv4-network = 10.11.0.0/16
ipv6-network = fd00:2::
ipv6-prefix = 56
`)
	for v, want := range map[string]string{
		"": "10.9.0.0/23 fd00:1::/48", "a": "10.10.0.0/23 fd00:1::/48", "b": "10.11.0.0/16 fd00:2::/56",
	} {
		u := c.Vhost(v).User
		if got := u.IPv4Network.String() + " " + u.IPv6Network.String(); got != want || u.IPv6SubnetBits != 64 {
			t.Errorf("%q: %s with /%d, want %s", v, got, u.IPv6SubnetBits, want)
		}
	}
	c = mustParse(t, strings.Replace(least, "ipv4-network = 10.9.0.0/24", "ipv6-network = fd00::/112", 1))
	if u := c.Vhosts[0].User; u.IPv4Network.IsValid() || u.IPv6Network.String() != "fd00::/112" {
		t.Errorf("only IPv6: %v, %v", u.IPv4Network, u.IPv6Network)
	}
}

// Options that ocserv takes inside a section though they are global.
func TestGlobalWithinVhost(t *testing.T) {
	c := mustParse(t, least+"pid-file = first\n[vhost:a]\npid-file = second\nlog-level = 5\nsyslog-facility = auth\ndebug-no-secmod-stats = true\n")
	if c.Global.PIDFile != "first" || c.Global.LogLevel != 5 {
		t.Errorf("%+v", c.Global)
	}
	if got := c.Global.SyslogFacility; got != "auth" {
		t.Errorf("facility %q", got)
	}
}

func TestValues(t *testing.T) {
	c := mustParse(t, least+`
listen-host = 192.0.2.1
listen-host = [::1], vpn.example.org
max-clients = 1024
rate-limit-ms = 100
server-drain-ms = 2500
cookie-timeout = 86400
mobile-dpd = 0
rekey-method = NEW-TUNNEL
route = 10.0.0.1/255.0.0.0
route = fd00::/8
no-route = 192.168.5.0/24
dns = 192.0.2.53
 2001:db8::53
ipv4-dns = 192.0.2.54
ipv6-nbns = 2001:db8::1
split-dns = a.example
split-dns = b.example
net-priority = 0x2e
rx-data-per-sec = 40000000000
custom-header = X-User: %{U}
custom-header = X-Group: "%{G}"
included-http-headers = Strict-Transport-Security: max-age=31536000 ; includeSubDomains
included-http-headers = X-Q: "quoted"
select-group = group1
select-group = group2[My special group]
egress-allow-unsafe = 127.0.0.0/8, 192.0.2.9 ::1
egress-profile = internet
exit-on-secmod-death = yes
max-same-clients-policy = replace-oldest
banner = "Welcome home"
use-occtl = TRUE
kkdcp = "/KdcProxy KERBEROS.REALM udp@127.0.0.1:88"
kkdcp = "/KdcProxy OTHER tcp@127.0.0.1:88"
always-require-cert = false
min-reauth-time = 7
`)
	g, v := c.Global, c.Vhosts[0]
	u := v.User
	for _, x := range []struct {
		what string
		ok   bool
	}{
		{"listen-host", slices.Equal(g.Listen, []string{"::1", "vpn.example.org"})},
		{"udp-listen-host", slices.Equal(g.UDPListen, g.Listen)},
		{"max-clients", g.MaxClients == 1024},
		{"milliseconds", g.RateLimit == 100*time.Millisecond && g.Drain == 2500*time.Millisecond},
		{"cookie-timeout", v.CookieTimeout == 24*time.Hour},
		{"mobile-dpd", u.MobileDPD == u.DPD && u.DPD == 90*time.Second},
		{"rekey-method", v.RekeyNewTunnel},
		{"route", slices.Equal(RouteStrings(u.Routes), []string{"10.0.0.1/255.0.0.0", "fd00::/8"})},
		{"no-route", slices.Equal(u.NoRoutes, []netip.Prefix{netip.MustParsePrefix("192.168.5.0/24")})},
		{"dns", slices.Equal(stringsOf(u.DNS), []string{"192.0.2.53", "2001:db8::53", "192.0.2.54"})},
		{"nbns", slices.Equal(stringsOf(u.NBNS), []string{"2001:db8::1"})},
		{"split-dns", slices.Equal(u.SplitDNS, []string{"a.example", "b.example"})},
		{"net-priority", u.NetPriority == 0x12e},
		{"rx-data-per-sec", u.RxPerSec == 40000000000},
		{"custom-header", slices.Equal(v.CustomHeaders, []string{"X-User: %{U}", "X-Group: \"%{G}"})},
		{"included-http-headers", slices.Equal(v.HTTPHeaders, []string{
			"Strict-Transport-Security: max-age=31536000 ; includeSubDomains", `X-Q: "quoted"`})},
		{"select-group", slices.Equal(v.SelectGroups, []Group{{"group1", ""}, {"group2", "My special group"}})},
		{"egress-allow-unsafe", slices.Equal(stringsOf(g.EgressAllowUnsafe), []string{"127.0.0.0/8", "192.0.2.9/32", "::1/128"})},
		{"egress-profile", c.Vhosts[0].User.EgressInternet},
		{"exit-on-secmod-death", g.ExitOnSecModDeath},
		{"max-same-clients-policy", u.ReplaceOldest},
		{"banner", v.Banner == "Welcome home"},
		{"use-occtl", g.UseControl},
		{"kkdcp", slices.Equal(v.KDCs, []KDC{
			{"/KdcProxy", "KERBEROS.REALM", "udp", "127.0.0.1", 88}, {"/KdcProxy", "OTHER", "tcp", "127.0.0.1", 88}})},
		{"always-require-cert", v.CiscoClientCompat && v.TLS.MaxVersion == 0x0303},
		{"min-reauth-time", g.BanTime == 7*time.Second},
	} {
		if !x.ok {
			t.Errorf("%s: %+v %+v", x.what, g, v)
		}
	}
}

// What the two options for Cisco's clients bring along.
func TestCiscoCompat(t *testing.T) {
	for line, want := range map[string][2]bool{ // dtls-legacy, select-group-by-url
		"": {false, false}, "cisco-client-compat = true": {true, true}, "cisco-svc-client-compat = true": {true, false},
	} {
		c, err := Parse("x", []byte(least+"dtls-legacy = false\n"+line+"\n"), SecMod)
		if err != nil {
			t.Fatal(err)
		}
		if v := c.Vhosts[0]; [2]bool{v.DTLSLegacy, v.SelectGroupByURL} != want {
			t.Errorf("%q: %t, %t", line, v.DTLSLegacy, v.SelectGroupByURL)
		}
	}
}

// cisco-client-compat takes TLS 1.3 only from the default priority string.
func TestCiscoCompatTLS(t *testing.T) {
	for lines, want := range map[string]uint16{
		"": 0x0304, "cisco-client-compat = true\n": 0x0303,
		"cisco-client-compat = true\ntls-priorities = " + defaultPriorities + "\n": 0x0304,
	} {
		c := mustParse(t, least+lines+"[vhost:a]\n")
		if c.Vhosts[0].TLS.MaxVersion != want || c.Vhosts[1].TLS.MaxVersion != want {
			t.Errorf("%q: %04x, in the named one %04x", lines, c.Vhosts[0].TLS.MaxVersion, c.Vhosts[1].TLS.MaxVersion)
		}
	}
}

func TestSelectGroupLimit(t *testing.T) {
	c := mustParse(t, least+strings.Repeat("select-group = g\n", maxGroups+3))
	if n := len(c.Vhosts[0].SelectGroups); n != maxGroups || len(c.Warnings) != 3 {
		t.Errorf("%d groups, %d warnings", n, len(c.Warnings))
	}
}

func TestCanonicalName(t *testing.T) {
	for in, want := range map[string]string{
		"Example.ORG": "example.org", "example.org.": "example.org", "BÜCHER.example": "xn--bcher-kva.example",
		"my_host": "my_host", "": "", ".": "", "a b": "", "a/b": "", "\u00fc..example\u0000": "",
	} {
		got, err := CanonicalName(in)
		if (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}
