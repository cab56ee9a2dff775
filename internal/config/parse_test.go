package config

import (
	"errors"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// least is a file that is as short as may be.
const least = `auth = "plain[passwd=/tmp/users]"
tcp-port = 8443
socket-file = /tmp/run/sock
server-cert = cert.pem
server-key = key.pem
ipv4-network = 10.9.0.0/24
device = vpns
`

func mustParse(t *testing.T, file string) *Config {
	t.Helper()
	c, err := Parse("test.conf", []byte(file), SecMod)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// problems returns the errors of a file as text.
func problems(t *testing.T, file string) []string {
	t.Helper()
	c, err := Parse("test.conf", []byte(file), SecMod)
	if err == nil {
		return nil
	}
	if c != nil {
		t.Error("a Config beside an error")
	}
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) == 0 {
		t.Fatalf("not an *Error with problems: %v", err)
	}
	return strings.Split(err.Error(), "\n")
}

func texts2(list []Problem) []string {
	var s []string
	for _, p := range list {
		s = append(s, p.String())
	}
	return s
}

// The defaults of ocserv 1.4.2 and later; isolate-workers alone is ours.
func TestDefaults(t *testing.T) {
	c := mustParse(t, least)
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %q", texts2(c.Warnings))
	}
	wantGlobal := Global{
		TCPPort: 8443, SocketFile: "/tmp/run/sock", Device: "vpns", LogLevel: 2, SyslogFacility: "daemon", StatsReset: 604800 * time.Second,
		Isolate: true, LimitWorkerMemory: true, CompressionOrder: []string{"oc-lz4", "lzs"}, WorkerFiles: 4096, WatchFiles: true, AuthTimeout: 240 * time.Second, MaxBanScore: 80, BanTime: 300 * time.Second,
		BanResetTime: 1200 * time.Second, BanPointsPassword: 10, BanPointsConnect: 1, BanPointsKDC: 1,
		Attempts: Attempts{User: 30, Source: 30, Pair: 10, Time: time.Hour},
	}
	if diff := cmp.Diff(wantGlobal, c.Global); diff != "" {
		t.Errorf("global settings, - want, + got:\n%s", diff)
	}
	want := Vhost{
		Keys:          []KeyPair{{"cert.pem", "key.pem"}},
		TLS:           TLS{Priorities: "NORMAL:%SERVER_PRECEDENCE:%COMPAT", MinVersion: 0x0303, MaxVersion: 0x0304},
		Auth:          []Method{{Name: "plain", Options: map[string]string{"passwd": "/tmp/users"}, Line: 1}},
		CookieTimeout: 300 * time.Second, SwitchToTCP: 25 * time.Second, DTLSPSK: true, DTLSLegacy: true,
		PredictableIPs: true, NoCompressLimit: 256, RekeyTime: 172800 * time.Second,
		Unused: map[string][]string{
			"sec-mod-scale": {"0"}, "debug-no-secmod-stats": {"false"},
			"ping-leases": {"false"}, "use-utmp": {"true"}, "sec-mod-db-cleanup-time": {"0"},
		},
		User: User{
			ClientDNS: "allow", Keepalive: 32400 * time.Second, DPD: 90 * time.Second, MobileDPD: 1800 * time.Second,
			Fingerprint: "go",
			Resolver:    Resolver{Cache: 256 << 10},
			NetPriority: -1, IPv6SubnetBits: 128, IPv4Network: netip.MustParsePrefix("10.9.0.0/24"),
			Flows: Flows{TCP: 2048, UDP: 1024, ICMP: 64, Dials: 256, Buffers: 64 << 20},
		},
	}
	if diff := cmp.Diff(&want, c.Vhosts[0], cmp.Comparer(samePrefix), cmp.Comparer(sameAddr)); diff != "" || len(c.Vhosts) != 1 {
		t.Errorf("virtual host, - want, + got:\n%s", diff)
	}
	wantNotes := []string{
		"test.conf:6: 'ipv4-network' works otherwise than in ocserv: " + row("ipv4-network").Note,
		"test.conf:7: 'device' works otherwise than in ocserv: " + row("device").Note,
		"test.conf: vhost:default: setting 'plain' as primary authentication method",
		"test.conf: setting 'file' as supplemental config option",
	}
	if got := texts2(c.Notes); !slices.Equal(got, wantNotes) {
		t.Errorf("notes %q", got)
	}
}

func row(name string) Option {
	list := Options()
	return list[slices.IndexFunc(list, func(o Option) bool { return o.Name == name })]
}

func samePrefix(a, b netip.Prefix) bool { return a == b }
func sameAddr(a, b netip.Addr) bool     { return a == b }

// Every fatal check, in ocserv's words.
func TestFatal(t *testing.T) {
	without := func(key string) string {
		var kept []string
		for line := range strings.Lines(least) {
			if !strings.HasPrefix(line, key) {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"no auth", without("auth"), []string{"test.conf: the 'auth' configuration option was not specified!"}},
		{"no socket-file", without("socket-file"), []string{"test.conf: the 'socket-file' configuration option must be specified!"}},
		{"no tcp-port", without("tcp-port"), []string{"test.conf: the tcp-port option is mandatory!"}},
		{"no device", without("device"), []string{"test.conf: the 'device' configuration option must be specified!"}},
		{"no cert", without("server-cert"), []string{"test.conf: the 'server-cert' and 'server-key' configuration options must be specified!"}},
		{"no key", without("server-key"), []string{"test.conf: the 'server-cert' and 'server-key' configuration options must be specified!"}},
		{"two certs", least + "server-cert = x\n", []string{"test.conf:8: the specified number of keys doesn't match the certificates"}},
		{"no network", without("ipv4"), []string{"test.conf: no ipv4-network or ipv6-network options set."}},
		{"no mask", without("ipv4") + "ipv4-network = 10.0.0.0\n", []string{"test.conf:7: no mask found for IPv4 network."}},
		{"bad mask length", least + "ipv4-network = 10.0.0.0/33\n", []string{"test.conf:8: '33' is not a mask"}},
		{"bad mask", least + "ipv4-netmask = 255.0.255.0\n", []string{"test.conf:8: '255.0.255.0' is not a mask"}},
		{"bad network", least + "ipv4-network = 1.2\n", []string{"test.conf:8: '1.2' is not an IPv4 network"}},
		{"v6 as v4", least + "ipv4-network = fd00::/64\n", []string{"test.conf:8: 'fd00::/64' is not an IPv4 network"}},
		{"v4 as v6", least + "ipv6-network = 10.0.0.0/8\n", []string{"test.conf:8: '10.0.0.0/8' is not an IPv6 network"}},
		{"no prefix", least + "ipv6-network = fd00::\n", []string{"test.conf:8: no prefix found for IPv6 network."}},
		{"bad prefix", least + "ipv6-network = fd00::/129\n", []string{"test.conf:8: '129' is not an IPv6 prefix", "test.conf:8: no prefix found for IPv6 network."}},
		{"subnet prefix", least + "ipv6-network = fd00::/64\nipv6-subnet-prefix = 64\n", []string{
			"test.conf:8: the subnet prefix (64) cannot be smaller or equal to network's (64)"}},
		{"port", least + "udp-port = 65536\ntcp-port = x\n", []string{
			"test.conf:8: 'udp-port' is a port from 0 to 65535, not '65536'", "test.conf:9: 'tcp-port' is a port from 0 to 65535, not 'x'"}},
		{"banner", least + "banner = " + strings.Repeat("x", 257), []string{"test.conf:8: banner size is too long"}},
		{"unknown auth", least + "auth = foo[bar]\n", []string{"test.conf:8: vhost:default: unknown or unsupported auth method: foo"}},
		{"every sub-option", without("auth") + "auth = \"gssapi[gid-min=1000]\"\n", nil},
		{"second factor", without("auth") + "auth = plain[passwd=/a,otp=/b]\n", nil},
		{"certificate", least + "auth = certificate\ncert-user-oid = 2.5.4.3\nca-cert = /ca\n", nil},
		{"certificate without authorities", least + "enable-auth = certificate\ncert-user-oid = 2.5.4.3\n", []string{
			"test.conf:8: client certificates are asked for, and no 'ca-cert' says whose they may be"}},
		{"certificate without oid", least + "enable-auth = certificate\nca-cert = /ca\n", []string{
			"test.conf:8: a certificate is requested by the option 'cert-user-oid' is not set"}},
		{"certificate, no oid", least + "auth = certificate\nca-cert = /ca\n", []string{
			"test.conf:8: a certificate is requested by the option 'cert-user-oid' is not set"}},
		{"certificate, bad oid", least + "auth = certificate\ncert-user-oid = CN\ncert-group-oid = 1.x\nca-cert = /ca\n", []string{
			"test.conf:9: unsupported 'cert-user-oid': 'CN'", "test.conf:10: unsupported 'cert-group-oid': '1.x'"}},
		{"two passwords", least + "auth = plain[passwd=/b]\n", []string{"test.conf:8: vhost:default: you cannot mix multiple authentication methods of plain type"}},
		{"mixed", least + "enable-auth = pam\n", []string{"test.conf:8: vhost:default: you cannot mix multiple authentication methods of pam type"}},
		{"too many", least + strings.Repeat("enable-auth = gssapi\n", 4), []string{"test.conf:1: vhost:default: 5 authentication methods, at most 4"}},
		{"radius group configuration", without("auth") + "auth = radius[config=/r,groupconfig=true]\nconfig-per-user = /u\n", []string{
			"test.conf:7: the option 'groupconfig' cannot be combined with 'config-per-user' or 'config-per-group'"}},
		{"plain without file", without("auth") + "auth = plain\n", []string{
			"test.conf:7: vhost:default: auth method 'plain' needs the option 'passwd' or 'otp'",
			"test.conf: the 'auth' configuration option was not specified!"}},
		{"auth option", least + "auth = plain[foo=x]\n", []string{"test.conf:8: vhost:default: unknown option 'foo'"}},
		{"accounting", least + "acct = foo\n", []string{"test.conf:8: vhost:default: unknown or unsupported accounting method: foo"}},
		{"rekey", least + "rekey-method = foo\n", []string{"test.conf:8: unknown rekey method 'foo'"}},
		{"facility", least + "syslog-facility = foo\n", []string{"test.conf:8: unknown syslog facility 'foo'"}},
		{"route", least + "route = 10.0.0.0\nno-route = 10.0.0.0/40\n", []string{
			"test.conf:8: route '10.0.0.0' is missing a /prefix, use address/prefix", "test.conf:9: cannot figure format of route '10.0.0.0/40'"}},
		{"no-route default", least + "no-route = default\n", []string{"test.conf:8: 'no-route' cannot be 'default'"}},
		{"dns", least + "dns = local\ndns = foo\n", []string{"test.conf:8: the 'local' DNS keyword is no longer supported.", "test.conf:9: dns: 'foo' is not an IP address"}},
		{"ports", least + "restrict-user-to-ports = tcp(443\n", []string{
			"test.conf:8: cannot parse restrict-user-to-ports: 'tcp(443' is not protocol(port)"}},
		{"clear text", least + "listen-clear-file = /x\n", []string{"test.conf:8: the 'listen-clear-file' option was removed in ocserv 1.1.2"}},
		{"svc", least + "cisco-svc-client-compat = true\nudp-port = 8443\n", []string{"test.conf:8: 'cisco-svc-client-compat' needs 'udp-port' to be 443 or 0"}},
		{"svc 443", least + "cisco-svc-client-compat = true\nudp-port = 443\n", nil},
		{"match ciphers", least + "match-tls-dtls-ciphers = true\n", []string{
			"test.conf:8: 'match-tls-dtls-ciphers' cannot be applied when 'dtls-legacy' or 'cisco-client-compat' is on"}},
		{"match ciphers, no legacy", least + "match-tls-dtls-ciphers = true\ndtls-legacy = false\n", nil},
		{"no TLS", least + "tls-priorities = NORMAL:-VERS-ALL:+VERS-TLS1.1\n", []string{
			"test.conf:8: tls-priorities: no TLS version is left: 1.2 and 1.3 are supported"}},
		{"global in vhost", least + "[vhost:x.org]\ntcp-port = 1\nmin-reauth-time = 1\nuse-dbus = true\nlog-level = 3\n", []string{
			"test.conf:9: 'tcp-port' cannot be set inside a virtual host section",
			"test.conf:10: 'min-reauth-time' cannot be set inside a virtual host section",
			"test.conf:11: 'use-dbus' cannot be set inside a virtual host section"}},
		{"in a vhost", least + "[vhost:X.org]\nserver-cert = x\nroute = 1.2.3.4\n", []string{
			"test.conf:10: route '1.2.3.4' is missing a /prefix, use address/prefix"}},
		{"vhost cert count", least + "[vhost:X.org]\nserver-cert = x\nserver-cert = y\n", []string{
			"test.conf:10: vhost:x.org: the specified number of keys doesn't match the certificates"}},
		{"names", least + "[vhost:]\n[vhost:a b]\n[vhost:" + strings.Repeat("x", 44) + "]\n", []string{
			"test.conf:8: '' cannot be the name of a virtual host", "test.conf:9: 'a b' cannot be the name of a virtual host",
			"test.conf:10: '" + strings.Repeat("x", 44) + "' cannot be the name of a virtual host"}},
		{"longest name", least + "[vhost:" + strings.Repeat("x", 43) + "]\n", nil},
		{"lexer", least + "foo\n", []string{"test.conf:8: neither 'key = value' nor a section"}},
		{"profile", least + "egress-profile = wan\nmax-same-clients-policy = x\n", []string{
			"test.conf:8: 'egress-profile' is lan or internet, not 'wan'", "test.conf:9: 'max-same-clients-policy' is reject or replace-oldest, not 'x'"}},
		{"group", least + "select-group = [x]\n", []string{"test.conf:8: 'select-group' has no name"}},
		{"unsafe", least + "egress-allow-unsafe = 10.0.0.0/8, foo\n", []string{"test.conf:8: egress-allow-unsafe: 'foo' is not an IP address"}},
	} {
		if got := problems(t, c.file); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

func TestCamouflage(t *testing.T) {
	for lines, want := range map[string]string{
		"camouflage = true":                                  "8: 'camouflage' needs a 'camouflage_secret'",
		"camouflage = true\ncamouflage_secret = a b":         "9: 'camouflage_secret' has a character that no URL can have",
		"camouflage = true\ncamouflage_secret = a%20b?x=1&y": "",
		"camouflage_secret = a b":                            "",
	} {
		got := problems(t, least+lines+"\n")
		if (len(got) > 0) != (want != "") || want != "" && !strings.Contains(got[0], want) {
			t.Errorf("%q: %q, want %q", lines, got, want)
		}
	}
	if _, err := Parse("x", []byte(least+"camouflage = true\n"), Main); err != nil {
		t.Errorf("main, who reads no secret: %v", err)
	}
}

// What is not in effect and would make the server less safe is refused, but
// only if it is switched on.
func TestRefused(t *testing.T) {
	for line, refused := range map[string]bool{
		"restrict-user-to-routes = true": false,
		"deny-roaming = yes":             false,
		"connect-script = /x":            false,
		"listen-netns = x":               true, "isolate-workers = true": false, "iroute = 1.2.3.0/24": false,
	} {
		got := problems(t, least+line+"\n")
		if (len(got) == 1 && strings.Contains(got[0], "is not supported")) != refused || !refused && got != nil {
			t.Errorf("%s: %q", line, got)
		}
	}
}

func TestWarningsAndNotes(t *testing.T) {
	for _, c := range []struct{ lines, warnings, notes string }{
		{"fooo = 1", "8: skipping unknown option 'fooo'", ""},
		{"[foo]\nroute = x\n", "8: skipping unknown section 'foo'", ""},
		{"iroute = 1.2.3.0/24", "8: skipping unknown option 'iroute'", ""},
		{"cgroup = x", "8: skipping unknown option 'cgroup'", ""},
		{"session-control = true", "8: the option 'session-control' is deprecated", ""},
		{"dpd = 12x", "8: 'dpd' is a number from 0 to 2147483647: '12x' is taken as 12", ""},
		{"dpd = x", "8: 'dpd' is a number from 0 to 2147483647: 'x' is taken as 0", ""},
		{"mobile-dpd = -5", "8: 'mobile-dpd' is a number from 0 to 2147483647: '-5' is taken as 0", ""},
		{"dpd = 99999999999999999999", "8: 'dpd' is a number from 0 to 2147483647: '99999999999999999999' is taken as 2147483647", ""},
		{"log-level = 9999", "8: 'log-level' is a number from 0 to 9: '9999' is taken as 9", ""},
		{"no-udp = on", "8: 'no-udp' is true or false: 'on' is taken as false", ""},
		{"compression = true", "8: 'compression' lets who sees the tunnel's packets guess what is in them by their lengths, if he can send to a client too", ""},
		{"compression = false", "", ""},
		{"compression-algo-priority = lz4:deflate", "8: 'compression-algo-priority' knows lz4 and lzs, 'deflate' is left out", ""},
		{"ping-leases = true", "8: 'ping-leases' has no effect: leased addresses exist only inside the server, so nobody else can have one", ""},
		{"ping-leases = false", "", ""},
		{"net-priority = 99", "8: 'net-priority' is 0 to 6 or 0xNN, '99' is left out", ""},
		{"listen-proxy-proto = true\nproxy-proto-trusted = 10.0.0.0/8", "", ""},
		{"listen-proxy-proto = true", "8: 'listen-proxy-proto' without 'proxy-proto-trusted': whoever reaches the port can claim any address, and bans do not hold him", ""},
		{"proxy-proto-trusted = 10.0.0.0/8", "8: 'proxy-proto-trusted' has no effect without 'listen-proxy-proto'", ""},
		{"use-dbus = no", "", ""},
		{"use-dbus = true", "", "8: 'use-dbus' was replaced by 'use-occtl'"},
		{"use-seccomp = true", "", "8: 'use-seccomp' was replaced by 'isolate-workers'"},
		{"use-seccomp = false", "", ""},
		{"always-require-cert = true", "", ""},
		{"always-require-cert = false", "", "8: 'always-require-cert' was replaced by 'cisco-client-compat'"},
		{"min-reauth-time = 5", "", "8: 'min-reauth-time' was replaced by 'ban-time'"},
		{"run-as-user = nobody", "", "8: 'run-as-user' has no effect: every process runs as the user who starts rocserv"},
		{"auth =\nauth = plain[/tmp/x]", "", "9: vhost:default: parsing plain auth method subconfig using legacy format"},
		{"banner = \"a # b\"", "8: what follows ' #' is a comment even within quotes", ""},
		{"banner = x\n dns = 1.2.3.4", "9: the line is indented and so a further value of 'banner'", ""},
		{"banner = \xff", "8: the line is not UTF-8", ""},
		{"select-group = " + strings.Repeat("x", 64), "8: the group name '" + strings.Repeat("x", 64) + "' is longer than 63 bytes, no login can choose it", ""},
		{"select-group = a[b", "8: select-group 'a': no closing bracket", ""},
		{"tls-priorities = NORMAL:+VERS-TLS1.0", "8: tls-priorities: 'VERS-TLS1.0' is not supported", ""},
		{"ipv4-network = 10.0.0.0/31", "", ""},
		{"ipv4-network = 10.0.0.0/32", "8: ipv4-network 10.0.0.0/32 has no address for a client", ""},
		{"[vhost:Ex.org]\nfoo = 1", "9: vhost:ex.org: skipping unknown option 'foo'",
			"8: virtual host name 'Ex.org' was canonicalized to 'ex.org' 8: adding virtual host: ex.org"},
		{"[vhost:b\u00fccher.example]", "", "8: virtual host name 'b\u00fccher.example' was canonicalized to 'xn--bcher-kva.example' 8: adding virtual host: xn--bcher-kva.example"},
	} {
		conf := mustParse(t, least+c.lines+"\n")
		var warnings, notes []string
		for _, p := range conf.Warnings {
			warnings = append(warnings, strings.TrimSpace(strings.TrimPrefix(p.String(), "test.conf:")))
		}
		for _, p := range conf.Notes {
			if p.Line > strings.Count(least, "\n") {
				notes = append(notes, strings.TrimPrefix(p.String(), "test.conf:"))
			}
		}
		if got := strings.Join(warnings, " "); got != c.warnings {
			t.Errorf("%.40q: warnings %q, want %q", c.lines, got, c.warnings)
		}
		if got := strings.Join(notes, " "); got != c.notes {
			t.Errorf("%.40q: notes %q, want %q", c.lines, got, c.notes)
		}
	}
}

// What a person can break, all at once: every error is told, in bounds.
func TestManyProblems(t *testing.T) {
	got := problems(t, strings.Repeat("foo\n", 1000))
	if len(got) != maxErrors+1 || got[0] != "test.conf:1: neither 'key = value' nor a section" || !strings.HasPrefix(got[maxErrors], "test.conf: and 9") {
		t.Errorf("%d errors, the last %q", len(got), got[len(got)-1])
	}
	c := mustParse(t, least+strings.Repeat("x = 1\n", 1000))
	if n := len(c.Warnings); n != maxWarnings+1 || c.Warnings[n-1].Text != "and 800 warnings more" {
		t.Errorf("%d warnings, the last %q", n, c.Warnings[n-1])
	}
	if got := problems(t, strings.Repeat("#", MaxFile+1)); len(got) != 1 {
		t.Errorf("large file: %q", got)
	}
	if got := problems(t, least+strings.Repeat("route = 10.0.0.0/8\n", maxList+1)); len(got) != 1 || !strings.Contains(got[0], "more than 10000 lines of 'route'") {
		t.Errorf("many routes: %q", got)
	}
	var b strings.Builder
	for i := range maxVhosts {
		b.WriteString("[vhost:x" + strings.Repeat("y", i%40) + string(rune('a'+i/40)) + "]\n")
	}
	if got := problems(t, least+b.String()); len(got) != 1 || !strings.Contains(got[0], "more than 256 virtual hosts") {
		t.Errorf("many virtual hosts: %q", got)
	}
}

// To main, secrets have no value. Neither role ever shows one.
func TestSecrets(t *testing.T) {
	const file = least + "key-pin = hunter2\nsrk-pin = hunter2\ncamouflage_secret = \"hunter2\"\n"
	for role, want := range map[Role]string{Main: "", SecMod: "hunter2"} {
		c, err := Parse("test.conf", []byte(file), role)
		if err != nil {
			t.Fatal(err)
		}
		v := c.Vhosts[0]
		if v.KeyPin.Reveal() != want || v.CamouflageSecret.Reveal() != want {
			t.Errorf("role %d: %q, %q", role, v.KeyPin.Reveal(), v.CamouflageSecret.Reveal())
		}
		if _, ok := v.Unused["srk-pin"]; ok {
			t.Errorf("role %d: srk-pin is kept as text", role)
		}
		var b strings.Builder
		if err := c.WriteEffective(&b); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "hunter2") || !strings.Contains(b.String(), "key-pin = [redacted]") {
			t.Errorf("role %d: listing %s", role, b.String())
		}
		for _, p := range append(c.Warnings, c.Notes...) {
			if strings.Contains(p.Text, "hunter2") {
				t.Error(p)
			}
		}
	}
	got := problems(t, least+"key-pin hunter2\n")
	if len(got) != 1 || strings.Contains(got[0], "hunter2") {
		t.Error(got)
	}
}

// Debian's own configuration, where it is installed, is understood.
func TestDebianSample(t *testing.T) {
	b, err := os.ReadFile("/etc/ocserv/ocserv.conf")
	if err != nil {
		t.Skip("ocserv is not installed")
	}
	b = append(b, "\nserver-cert = a\nserver-key = b\n"...)
	c, err := Parse("ocserv.conf", b, Main)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range c.Warnings {
		if !strings.Contains(w.Text, "not yet in effect") {
			t.Error(w)
		}
	}
	if v := c.Vhosts[0]; c.Global.TCPPort == 0 || len(v.Auth) != 1 || v.User.DPD == 0 {
		t.Errorf("%+v", c.Global)
	}
}

// What clone returns shares no memory, whatever fields are added.
func TestCloneSharesNothing(t *testing.T) {
	var v Vhost
	fill(reflect.ValueOf(&v).Elem())
	c := v.clone()
	if diff := cmp.Diff(&v, c, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Fatal(diff)
	}
	noShare(t, "Vhost", reflect.ValueOf(v), reflect.ValueOf(*c))
}

// fill makes every slice and map have one element.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type().PkgPath() != reflect.TypeFor[Vhost]().PkgPath() {
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value)
		v.SetMapIndex(reflect.ValueOf("x"), value)
	}
}

func noShare(t *testing.T, path string, a, b reflect.Value) {
	switch a.Kind() {
	case reflect.Struct:
		if a.Type().PkgPath() != reflect.TypeFor[Vhost]().PkgPath() {
			return
		}
		for i := range a.NumField() {
			noShare(t, path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	case reflect.Slice:
		if a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", path)
		}
		noShare(t, path+"[]", a.Index(0), b.Index(0))
	case reflect.Map:
		if a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", path)
		}
		noShare(t, path+"[]", a.MapIndex(reflect.ValueOf("x")), b.MapIndex(reflect.ValueOf("x")))
	}
}
