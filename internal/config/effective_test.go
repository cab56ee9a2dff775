package config

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const sample = least + `# what a site might have
listen-host = 0.0.0.0 ::
udp-port = 8443
udp-listen-host = 192.0.2.1
log-level = 3
pid-file = /run/x.pid
max-clients = 100
max-same-clients = 2
use-occtl = true
isolate-workers = true
dpd = 60
banner = Welcome "home" again
route = 10.1.2.3/255.255.0.0
route = fd00::/8
no-route = 10.1.3.0/24
dns = 192.0.2.53
split-dns = example.org
nbns = 192.0.2.54
select-group = staff[The staff]
select-group = guests
net-priority = 0x2e
custom-header = X-A: b
included-http-headers = X-Frame-Options: "deny"
egress-allow-unsafe = 127.0.0.0/8
egress-profile = internet
egress-allow = 10.0.0.5 tcp(443)
egress-deny = *.example.net
egress-deny = any tcp(25), udp(8000-8080), icmp()
egress-rule = allow fd00::/8
egress = corp https://proxy.example:8443 pin-sha256=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= ca=/ca.pem name=p.example tls-fingerprint=chrome check=a:1 timeout=3
egress = tor socks5h://[2001:db8::1] interface=eth1
egress = out direct source=192.0.2.1,2001:db8::1
egress-via = tor for *.onion 10.0.0.0/8 tcp(80), tcp(443-444)
egress-via = corp|tor,direct for user:anna group:staff
egress-via = out
resolver = 192.0.2.53:53
resolver = [2001:db8::53]:5353
client-dns = intercept
gateway-forward = tcp:80 -> [2001:db8::1]:8080
tls-fingerprint = firefox
tls-priorities = NORMAL:-VERS-TLS1.3:-SHA1
rekey-method = new-tunnel
kkdcp = /a B tcp@c:88
kkdcp = /d E udp@f:88
syslog-facility = local3
ipv6-network = fd00:1::/48
ipv6-subnet-prefix = 64
[vhost:a.example]
banner =
route =
dns = 192.0.2.55
auth = plain[passwd=/a]
[vhost:b.example]
server-cert = b.pem
server-key = b.key
ipv4-network = 10.77.0.0/20
no-udp = true
compression = true
`

// sameConfig compares what matters: not lines, not messages, not how a
// priority string or its default is marked.
func sameConfig(a, b *Config) string {
	return cmp.Diff(a, b, cmp.Comparer(samePrefix), cmp.Comparer(sameAddr), cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.IgnoreUnexported(Config{}), cmpopts.EquateEmpty(),
		cmpopts.IgnoreFields(Config{}, "Warnings", "Notes"), cmpopts.IgnoreFields(Method{}, "Line"))
}

func effective(t testing.TB, c *Config) string {
	t.Helper()
	var b bytes.Buffer
	if err := c.WriteEffective(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestEffectiveIsTheSameConfig(t *testing.T) {
	for _, file := range []string{least, sample} {
		c := mustParse(t, file)
		again, err := Parse("effective", []byte(effective(t, c)), SecMod)
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, effective(t, c))
		}
		if diff := sameConfig(c, again); diff != "" {
			t.Errorf("- first, + again:\n%s\nfrom\n%s", diff, effective(t, c))
		}
	}
}

func TestEffective(t *testing.T) {
	list := effective(t, mustParse(t, sample))
	for _, line := range []string{
		"tcp-port = 8443\n", "dpd = 60\n", "keepalive = 32400  # default\n", "use-occtl = true\n", "syslog-facility = local3\n",
		"ping-leases = false  # no effect\n", "route = 10.1.2.3/255.255.0.0\n", "ipv4-network = 10.9.0.0/24\n",
		"select-group = staff[The staff]\n", "listen-host = 0.0.0.0,::\n", "\n[vhost:a.example]\nauth =\nauth = plain[passwd=/a]\n",
		"banner =\n", "camouflage = false  # default\n",
	} {
		if !strings.Contains(list, line) {
			t.Errorf("%q is missing in\n%s", line, list)
		}
	}
	for _, s := range mustParse(t, sample).Effective() {
		if s.Option.Name == "dpd" && (s.Line != 18 || s.Vhost != "") {
			t.Errorf("dpd was set in line 18, it says %+v", s)
		}
		if s.Option.Name == "min-reauth-time" || s.Option.Name == "iroute" {
			t.Errorf("%s is listed", s.Option.Name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(least))
	f.Add([]byte(sample))
	f.Add([]byte(least + "egress = a https://u:p@h bearer=x\negress = b socks5://u:p@h\negress-via = a|b,c\n"))
	f.Add([]byte(least + "[vhost:x]\nroute = default\n 10.0.0.0/8\n[foo]\nx"))
	for _, o := range Options() {
		f.Add([]byte(least + o.Name + " = 0x1/2, [a](b)!:+c\n"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse("fuzz", b, SecMod)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		inMain, errMain := Parse("fuzz", b, Main)
		if (err == nil) != (errMain == nil) {
			t.Fatalf("sec-mod: %v; main: %v", err, errMain)
		}
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without a word")
			}
			return
		}
		for _, v := range inMain.Vhosts {
			if !v.KeyPin.IsZero() || !v.CamouflageSecret.IsZero() {
				t.Fatal("main has a secret")
			}
			for _, w := range v.User.Ways {
				if w.User+w.Password.Reveal()+w.Bearer.Reveal() != "" {
					t.Fatal("main has a proxy's login")
				}
			}
		}
		for _, v := range c.Vhosts {
			if len(v.Keys) == 0 || len(v.Auth) == 0 || v.TLS.MinVersion == 0 || !v.User.IPv4Network.IsValid() && !v.User.IPv6Network.IsValid() {
				t.Fatalf("incomplete: %+v", v)
			}
		}
		list := effective(t, inMain)
		again, err := Parse("effective", []byte(list), Main)
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, list)
		}
		if diff := sameConfig(inMain, again); diff != "" {
			t.Fatalf("- first, + again:\n%s\nfrom\n%s", diff, list)
		}
	})
}

func FuzzParseUserFile(f *testing.F) {
	f.Add([]byte("route = 10.0.0.0/8\nroute = default\ndns = 192.0.2.1\n"))
	f.Add([]byte("ipv4-network = 10.0.0.0/8\nipv6-network = fd00::/8\n ipv6-subnet-prefix = 3\n"))
	f.Add([]byte("iroute = 10.0.0.0/8\nexplicit-ipv4 = 1.2.3.4\nhostname = \"x\" # y\n[a]\n"))
	c, err := Parse("base", []byte(sample), SecMod)
	if err != nil {
		f.Fatal(err)
	}
	base := c.Vhosts[0].User
	keep := base.clone()
	f.Fuzz(func(t *testing.T, b []byte) {
		u, problems, err := ParseUserFile("fuzz", b, base)
		if err != nil && (len(problems) > 0 || !cmp.Equal(u, User{}, cmp.Comparer(samePrefix), cmp.Comparer(sameAddr), cmpopts.EquateComparable(netip.AddrPort{}))) {
			t.Fatal("settings beside an error")
		}
		if err == nil && (u.RestrictToRoutes || len(u.Ports) > 0 || !u.IPv4Network.IsValid()) {
			t.Fatalf("%+v", u)
		}
		if !cmp.Equal(base, keep, cmp.Comparer(samePrefix), cmp.Comparer(sameAddr), cmpopts.EquateComparable(netip.AddrPort{})) {
			t.Fatal("the base changed")
		}
	})
}

func FuzzPorts(f *testing.F) {
	f.Add("tcp(443), udp(53), sctp(9), icmp(), icmpv6(), esp()")
	f.Add("!(tcp(443))")
	f.Add("! (tcp(), )")
	f.Fuzz(func(t *testing.T, s string) {
		ports, deny, err := parsePorts(s)
		if err != nil {
			return
		}
		shown := getPorts(&target{user: &User{Ports: ports, PortsDeny: deny}})
		if len(shown) != 1 {
			t.Fatalf("%q is %q", s, shown)
		}
		again, denyAgain, err := parsePorts(shown[0])
		if err != nil || denyAgain != deny || !cmp.Equal(ports, again) {
			t.Fatalf("%q is %q is %v, %v, %v", s, shown, again, denyAgain, err)
		}
	})
}

func FuzzRoute(f *testing.F) {
	for _, s := range []string{"default", "10.0.0.0/8", "10.0.0.0/255.0.0.0", "fd00::/8", "::ffff:1.2.3.4/120", "fe80::1%x/64", "/", "1.2.3.4/0.0.0.0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseRoute(s)
		if err != nil {
			return
		}
		again, err := parseRoute(RouteString(p))
		if !p.IsValid() || err != nil || again != p {
			t.Fatalf("%q is %v is shown as %s is %v, %v", s, p, RouteString(p), again, err)
		}
	})
}

func FuzzPriorities(f *testing.F) {
	f.Add(defaultPriorities)
	f.Add("NONE:+VERS-TLS1.2:+AES-128-GCM:+ECDHE-ALL:+AEAD:+CURVE-ALL")
	f.Add("SECURE256:-VERS-ALL:+VERS-TLS1.3:%PROFILE_HIGH:!RSA:@x")
	f.Fuzz(func(t *testing.T, s string) {
		settings, _, err := parsePriorities(s)
		if err != nil {
			return
		}
		if settings.MinVersion < tls12 || settings.MaxVersion > tls13 || settings.MinVersion > settings.MaxVersion {
			t.Fatalf("%q: %x to %x", s, settings.MinVersion, settings.MaxVersion)
		}
		if settings.MinVersion == tls13 && len(settings.Suites) > 0 {
			t.Fatalf("%q: TLS 1.2 suites without TLS 1.2", s)
		}
	})
}
