package config

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// baseUser is a virtual host's settings for users.
func baseUser(t *testing.T) User {
	return mustParse(t, least+`
dpd = 60
mobile-dpd = 600
idle-timeout = 1000
route = 10.1.0.0/16
route = 10.2.0.0/16
no-route = 10.2.3.0/24
dns = 192.0.2.53
split-dns = example.org
max-same-clients = 2
ipv6-network = fd00::/48
ipv6-subnet-prefix = 64
`).Vhosts[0].User
}

func TestUserFile(t *testing.T) {
	base := baseUser(t)
	before := base.clone()
	u, problems, err := ParseUserFile("alice", []byte(`# alice
dpd = 30
route = 10.3.0.0/16
route = 10.4.0.0/255.255.0.0
dns = 192.0.2.1
ipv4-dns = 192.0.2.2
ipv6-dns = 2001:db8::1
no-udp = true
iroute = 192.168.7.0/24
explicit-ipv4 = 10.9.0.77
explicit-ipv6 = fd00::77
hostname = alices-laptop
idle-timeout = 50
banner = hello
foo = bar
`), base)
	if err != nil {
		t.Fatal(err)
	}
	want := before.clone()
	want.DPD, want.IdleTimeout, want.NoUDP, want.Hostname = 30*time.Second, 50*time.Second, true, "alices-laptop"
	want.Routes = []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16"), netip.MustParsePrefix("10.4.0.0/16")}
	want.DNS = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::1")}
	want.IRoutes = []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24")}
	want.ExplicitIPv4, want.ExplicitIPv6 = netip.MustParseAddr("10.9.0.77"), netip.MustParseAddr("fd00::77")
	if diff := cmp.Diff(want, u, cmp.Comparer(samePrefix), cmp.Comparer(sameAddr)); diff != "" {
		t.Errorf("- want, + got:\n%s", diff)
	}
	var unknown []string
	for _, p := range problems {
		if strings.Contains(p.Text, "skipping unknown option") {
			unknown = append(unknown, p.String())
		}
	}
	if !slices.Equal(unknown, []string{"alice:14: skipping unknown option 'banner'", "alice:15: skipping unknown option 'foo'"}) {
		t.Errorf("unknown: %q", unknown)
	}
	// The base is as it was, and shares nothing with the result.
	u.Routes[0], u.NoRoutes[0], u.SplitDNS[0] = everything, everything, "changed"
	if diff := cmp.Diff(before, base, cmp.Comparer(samePrefix), cmp.Comparer(sameAddr)); diff != "" {
		t.Errorf("the base changed:\n%s", diff)
	}
}

// Group file, then user file: the user's list replaces the group's.
func TestUserAfterGroup(t *testing.T) {
	base := baseUser(t)
	group, _, err := ParseUserFile("staff", []byte("route = 10.5.0.0/16\ndpd = 45\nkeepalive = 7\n"), base)
	if err != nil {
		t.Fatal(err)
	}
	u, _, err := ParseUserFile("alice", []byte("route = default\nno-route =\ndpd = 15\n"), group)
	if err != nil {
		t.Fatal(err)
	}
	if len(u.Routes) != 0 || len(u.NoRoutes) != 0 || u.DPD != 15*time.Second || u.Keepalive != 7*time.Second || len(u.DNS) != 1 {
		t.Errorf("%+v", u)
	}
	if u, _, err := ParseUserFile("bob", nil, group); err != nil || !cmp.Equal(u, group, cmp.Comparer(samePrefix), cmp.Comparer(sameAddr)) {
		t.Errorf("an empty file changes something: %+v, %v", u, err)
	}
}

func TestUserNetworks(t *testing.T) {
	base := baseUser(t)
	for file, want := range map[string]string{
		"":                           "10.9.0.0/24 fd00::/48 64",
		"ipv4-network = 10.8.0.0":    "10.8.0.0/24 fd00::/48 64",
		"ipv4-netmask = 255.0.0.0":   "10.0.0.0/8 fd00::/48 64",
		"ipv4-network = 10.7.1.0/28": "10.7.1.0/28 fd00::/48 64",
		"ipv6-network = fd01::/32\nipv6-subnet-prefix = 96": "10.9.0.0/24 fd01::/32 96",
		"ipv6-subnet-prefix = 48":                           "! alice: the subnet prefix (48) cannot be smaller or equal to network's (48)",
	} {
		u, _, err := ParseUserFile("alice", []byte(file), base)
		got := ""
		if err != nil {
			got = "! " + err.Error()
		} else {
			got = u.IPv4Network.String() + " " + u.IPv6Network.String() + " "
			got += map[int]string{64: "64", 96: "96", 48: "48"}[u.IPv6SubnetBits]
		}
		if got != want {
			t.Errorf("%q: %s, want %s", file, got, want)
		}
	}
}

// A file that is wrong anywhere is wrong altogether.
func TestUserFileFails(t *testing.T) {
	for file, want := range map[string]string{
		"dpd = 1\nfoo\n":                     "alice:2: neither 'key = value' nor a section",
		"[vhost:x]\nno-udp = true\n":         "alice:1: a section in a file that has none",
		"route = 10.0.0.0\n":                 "alice:1: route '10.0.0.0' is missing a /prefix, use address/prefix",
		"iroute = default\n":                 "alice:1: 'iroute' cannot be 'default'",
		"dns = local\n":                      "alice:1: the 'local' DNS keyword is no longer supported.",
		"explicit-ipv4 = x\n":                "alice:1: 'x' is not an IPv4 address",
		"explicit-ipv4 = fd00::1\n":          "alice:1: 'fd00::1' is not an IPv4 address",
		"explicit-ipv6 = 10.0.0.1\n":         "alice:1: '10.0.0.1' is not an IPv6 address",
		"restrict-user-to-ports = tcp(443\n": "alice:1: cannot parse restrict-user-to-ports: 'tcp(443' is not protocol(port)",
		"egress-deny = 10.0.0.256\n":         "alice:1: egress-deny: '10.0.0.256' is no network, no address and no domain",
		"dpd = 1\x00\n":                      "alice:1: line holds a control character",
		strings.Repeat("#", MaxUserFile+1):   "alice: the file is larger than 1048576 bytes",
	} {
		u, problems, err := ParseUserFile("alice", []byte(file), baseUser(t))
		var e *Error
		if !errors.As(err, &e) || err.Error() != want {
			t.Errorf("%.40q: %v, want %s", file, err, want)
		}
		if !cmp.Equal(u, User{}, cmp.Comparer(samePrefix), cmp.Comparer(sameAddr)) || problems != nil {
			t.Errorf("%.40q: settings beside an error", file)
		}
	}
}

func TestSafeFileName(t *testing.T) {
	for name, want := range map[string]bool{
		"alice": true, "a.b": true, "...": true, "..a": true, "a b": true, "alice@example.org": true, `a\b`: true, "-x": true, "ü": true,
		strings.Repeat("a", 255): true,
		"":                       false, ".": false, "..": false, "/": false, "a/b": false, "../a": false, "a/": false, "/etc/passwd": false,
		"a\x00": false, "a\n": false, "\x7f": false, "\xff": false, "\u0085": false, strings.Repeat("a", 256): false,
	} {
		if got := SafeFileName(name); got != want {
			t.Errorf("%.20q: %v", name, got)
		}
	}
}

// A per-user file is read at every session open.
func BenchmarkParseUserFile(b *testing.B) {
	c, err := Parse("base", []byte(sample), SecMod)
	if err != nil {
		b.Fatal(err)
	}
	file := []byte("# alice\ndpd = 30\nroute = 10.3.0.0/16\nroute = 10.4.0.0/16\ndns = 192.0.2.1\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := ParseUserFile("alice", file, c.Vhosts[0].User); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("base", []byte(sample), SecMod); err != nil {
			b.Fatal(err)
		}
	}
}
