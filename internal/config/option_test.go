package config

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// ocservOptions are the names that ocserv knows or has known.
const ocservOptions = `auth enable-auth acct listen-host udp-listen-host listen-netns tcp-port udp-port run-as-user run-as-group
occtl-socket-file socket-file chroot-dir server-cert server-key ca-cert dh-params pin-file srk-pin-file key-pin srk-pin sec-mod-scale
server-stats-reset-time pid-file log-level syslog-facility debug-no-secmod-stats isolate-workers limit-worker-memory max-clients
listen-proxy-proto rate-limit-ms server-drain-ms try-mtu-discovery ping-leases use-utmp use-occtl auth-timeout max-ban-score ban-time
ban-reset-time ban-points-wrong-password ban-points-connection ban-points-kkdcp dtls-psk compression-algo-priority device route-add-cmd
route-del-cmd connect-script disconnect-script host-update-script sec-mod-db-cleanup-time listen-host-is-dyndns append-routes kkdcp
switch-to-tcp-timeout ocsp-response default-domain crl cert-user-oid cert-group-oid banner pre-login-banner dtls-legacy
cisco-client-compat cisco-svc-client-compat match-tls-dtls-ciphers compression no-compress-limit predictable-ips tls-priorities
output-buffer rekey-time rekey-method cookie-timeout persistent-cookies proxy-url custom-header included-http-headers
default-select-group select-group select-group-by-url auto-select-group config-per-user config-per-group default-user-config
default-group-config expose-iroutes camouflage camouflage_secret camouflage_realm tunnel-all-dns keepalive dpd mobile-dpd user-profile
client-bypass-protocol restrict-user-to-routes restrict-user-to-ports mtu net-priority rx-data-per-sec tx-data-per-sec deny-roaming
stats-report-time session-timeout idle-timeout mobile-idle-timeout max-same-clients ipv4-network ipv4-netmask ipv6-network
ipv6-subnet-prefix split-dns route no-route dns nbns no-udp iroute explicit-ipv4 explicit-ipv6 hostname listen-clear-file
always-require-cert use-seccomp use-dbus session-control min-reauth-time ipv4-dns ipv6-dns ipv4-nbns ipv6-nbns ipv6-prefix cgroup`

func TestTable(t *testing.T) {
	known := map[string]bool{}
	for _, name := range strings.Fields(ocservOptions) {
		known[name] = true
	}
	seen := map[string]Option{}
	for _, o := range Options() {
		if _, twice := seen[o.Name]; twice {
			t.Errorf("%s: twice in the table", o.Name)
		}
		seen[o.Name] = o
		if known[o.Name] == o.Ours {
			t.Errorf("%s: Ours is %v", o.Name, o.Ours)
		}
		if o.Meaning == "" || o.Type == "" {
			t.Errorf("%s: no meaning or type", o.Name)
		}
		if (o.Status == Refused || o.Status == NoEffect && !o.Quiet) && o.Note == "" {
			t.Errorf("%s: %s, and nothing says why", o.Name, o.Status)
		}
		if o.Status == InEffect && o.at == nil && o.set == nil {
			t.Errorf("%s: in effect, but it goes nowhere", o.Name)
		}
		if o.set != nil && o.at == nil && o.get == nil && o.Into == "" && o.Status != Gone && o.Name != "ipv4-netmask" {
			t.Errorf("%s: cannot be shown", o.Name)
		}
		if o.List && o.Default != "" {
			t.Errorf("%s: a list with a default", o.Name)
		}
		checkField(t, o)
	}
	for name := range known {
		if _, ok := seen[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	for _, o := range seen {
		if o.Alias != "" && (seen[o.Alias].Name == "" || seen[o.Alias].Alias != "") {
			t.Errorf("%s: alias of %q", o.Name, o.Alias)
		}
	}
}

// checkField: the field of an option is of a kind that its type is stored in,
// and one of a per-user file needs no virtual host.
func checkField(t *testing.T, o Option) {
	if o.at == nil {
		return
	}
	to := target{global: &Global{}, vhost: &Vhost{}, user: &User{}, draft: newDraft()}
	if o.Scope >= ScopeUser {
		to = target{user: &User{}, draft: newDraft()}
	}
	field := reflect.TypeOf(o.at(&to)).Elem()
	fits := false
	switch o.Type {
	case Bool:
		fits = field == reflect.TypeFor[bool]()
	case Seconds, Milliseconds:
		fits = field == reflect.TypeFor[time.Duration]()
	case Number, PortNumber:
		fits = field == reflect.TypeFor[int]()
	case Bytes:
		fits = field == reflect.TypeFor[int]() || field == reflect.TypeFor[uint64]()
	case Address:
		fits = field == reflect.TypeFor[netip.Addr]() || field == reflect.TypeFor[[]netip.Addr]()
	case Route, Prefixes:
		fits = field == reflect.TypeFor[[]netip.Prefix]()
	case MethodText:
		fits = field == reflect.TypeFor[[]Method]()
	case GroupText:
		fits = field == reflect.TypeFor[[]Group]()
	case Hosts:
		fits = field == reflect.TypeFor[[]string]()
	case Text, Raw, File, Folder, Priorities:
		fits = field == reflect.TypeFor[string]() || field == reflect.TypeFor[[]string]() || field == reflect.TypeFor[Secret]() || o.set != nil
	case WayText:
		fits = field == reflect.TypeFor[[]Way]()
	case ResolverText:
		fits = field == reflect.TypeFor[[]DNSServer]()
	case KDCText:
		fits = field == reflect.TypeFor[[]KDC]()
	case BlockText:
		fits = field == reflect.TypeFor[[]string]()
	case ViaText:
		fits = field == reflect.TypeFor[[]Via]()
	case RuleText:
		fits = field == reflect.TypeFor[[]EgressRule]()
	case PortList:
		fits = field == reflect.TypeFor[[]Port]()
	}
	if !fits {
		t.Errorf("%s: a %s in a %s", o.Name, o.Type, field)
	}
	if o.Secret && field != reflect.TypeFor[Secret]() {
		t.Errorf("%s: a secret in a %s", o.Name, field)
	}
	if list := field.Kind() == reflect.Slice; o.List != list && o.Type != Hosts && o.Type != PortList && o.Name != "acct" {
		t.Errorf("%s: List is %v, the field is a %s", o.Name, o.List, field)
	}
}

// Every option can be set to something, in its place, without a panic, and
// each Status says what it must.
func TestEveryOption(t *testing.T) {
	value := map[Type]string{
		Bool: "true", Number: "3", Seconds: "3", Milliseconds: "3", Bytes: "3", PortNumber: "443", Text: "x", Raw: "X: y", File: "/x", Folder: "/x",
		Hosts: "192.0.2.1", Address: "192.0.2.1", Network4: "192.0.2.0/24", Mask4: "255.255.255.0", Network6: "2001:db8::/32", Route: "192.0.2.0/24",
		Prefixes: "192.0.2.0/24", MethodText: "radius[config=/x]", GroupText: "x", PortList: "tcp(1)", RuleText: "192.0.2.0/24 tcp(1)", Priorities: "NORMAL", KDCText: "/x R tcp@a:1",
	}
	special := map[string]string{
		"auth": "plain[passwd=/x]", "syslog-facility": "user", "log-format": "json", "rekey-method": "ssl", "egress-profile": "lan", "nat-filtering": "full-cone", "max-same-clients-policy": "reject",
		"net-priority": "3", "egress-rule": "deny any", "egress": "a socks5://u:p@h", "egress-via": "direct for any", "resolver": "192.0.2.1:53", "resolver-via": "direct", "resolver-block": "x.example", "resolver-block-answer": "refused", "client-dns": "deny", "gateway-forward": "tcp:80 -> 10.0.0.1:80", "tls-fingerprint": "chrome", "enable-auth": "gssapi", "explicit-ipv6": "2001:db8::1", "cert-user-oid": "2.5.4.3", "match-tls-dtls-ciphers": "false", "camouflage": "false",
	}
	for _, o := range Options() {
		v := special[o.Name]
		if v == "" {
			v = value[o.Type]
		}
		if v == "" {
			t.Fatalf("%s: no value for a %s", o.Name, o.Type)
		}
		line := o.Name + " = " + v + "\n"
		if o.Scope >= ScopeUser {
			_, problems, err := ParseUserFile("alice", []byte(line), User{IPv6SubnetBits: 128})
			if (err == nil) != (o.Status != Refused) || len(problems) > 1 {
				t.Errorf("%s in a per-user file: %q, %v", o.Name, problems, err)
			}
		}
		if o.Scope == ScopeUserOnly {
			continue
		}
		file := least + line
		if o.Name == "server-cert" || o.Name == "server-key" || o.Name == "auth" {
			file = least
		}
		_, err := Parse("test.conf", []byte(file), SecMod)
		if (err == nil) != (o.Status != Refused && o.Name != "listen-clear-file") {
			t.Errorf("%s: %v", line, err)
		}
		if o.Scope == ScopeGlobal {
			if got := problems(t, least+"[vhost:x]\n"+line); len(got) == 0 || !strings.Contains(got[0], "cannot be set inside a virtual host section") {
				t.Errorf("%s in a virtual host: %q", o.Name, got)
			}
		}
	}
}
