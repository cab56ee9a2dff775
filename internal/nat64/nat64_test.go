package nat64

import (
	"fmt"
	"net/netip"
	"testing"
)

// RFC 6052 section 2.4, table 2.
func TestEmbed(t *testing.T) {
	v4 := netip.MustParseAddr("192.0.2.33")
	for prefix, want := range map[string]string{
		"2001:db8::/32":             "2001:db8:c000:221::",
		"2001:db8:100::/40":         "2001:db8:1c0:2:21::",
		"2001:db8:122::/48":         "2001:db8:122:c000:2:2100::",
		"2001:db8:122:300::/56":     "2001:db8:122:3c0:0:221::",
		"2001:db8:122:344::/64":     "2001:db8:122:344:c0:2:2100::",
		"2001:db8:122:344::/96":     "2001:db8:122:344::c000:221",
		"64:ff9b::/96":              "64:ff9b::c000:221",
		"2001:db8:122:344:5::99/64": "2001:db8:122:344:c0:2:2100::", // what is behind the prefix does not count
	} {
		p := netip.MustParsePrefix(prefix)
		got := Embed(p, v4)
		if got != netip.MustParseAddr(want) {
			t.Errorf("%v: %v, want %v", prefix, got, want)
		}
		if back := Extract(got, p.Bits()); back != v4 {
			t.Errorf("%v: %v comes back", prefix, back)
		}
	}
}

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		answer []string
		want   string
	}{
		{nil, "[]"},
		{[]string{"64:ff9b::192.0.0.170", "64:ff9b::192.0.0.171"}, "[64:ff9b::/96]"},
		{[]string{"64:ff9b:1::192.0.0.171"}, "[64:ff9b:1::/96]"},
		{[]string{"2001:db8:122:c000:0:aa00::", "2001:db8:122:344:c0:0:aa00::"}, "[2001:db8:122::/48 2001:db8:122:344::/64]"},
		{[]string{"fd00:1:2::192.0.0.170"}, "[fd00:1:2::/96]"},
		{[]string{"2001:db8::1"}, "[]"},                           // not made of them
		{[]string{"192.0.0.170", "::ffff:192.0.0.170"}, "[]"},     // no translation
		{[]string{"fe80::192.0.0.170", "::192.0.0.170"}, "[]"},    // no network's
		{[]string{"ff02::192.0.0.170", "100::192.0.0.170"}, "[]"}, // nor these
		{[]string{"2001:db8:c000:aa:0:0:c000:aa"}, "[]"},          // ambiguous: as /32 and as /96
		{[]string{"64:ff9a:ffff::c000:aa", "3ffe::c000:ab"}, "[3ffe::/96]"},
	} {
		var answer []netip.Addr
		for _, a := range tt.answer {
			answer = append(answer, netip.MustParseAddr(a))
		}
		if got := fmt.Sprint(Find(answer)); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.answer, got, tt.want)
		}
	}
	var many []netip.Addr
	for i := range 100 {
		many = append(many, netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::192.0.0.170", i)))
	}
	if n := len(Find(many)); n != maxPrefixes {
		t.Errorf("%d prefixes believed", n)
	}
}

func TestUsable(t *testing.T) {
	for p, want := range map[string]bool{
		"64:ff9b::/96": true, "2001:db8::/32": true, "fd00::/64": true, "64:ff9b:1::/48": true,
		"64:ff9b::/64": false, "2001:db8::/33": false, "::/96": false, "::ffff:0:0/96": false, "fe80::/64": false, "ff00::/32": false,
	} {
		if got := Usable(netip.MustParsePrefix(p)); got != want {
			t.Errorf("%v: %v", p, got)
		}
	}
	if Usable(netip.Prefix{}) || Usable(netip.MustParsePrefix("10.0.0.0/32")) {
		t.Error("no IPv6 prefix")
	}
}

func FuzzFind(f *testing.F) {
	f.Add([]byte("\x20\x01\x0d\xb8\xc0\x00\x00\xaa\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var answer []netip.Addr
		for ; len(b) >= 16; b = b[16:] {
			answer = append(answer, netip.AddrFrom16([16]byte(b)))
		}
		for _, p := range Find(answer) {
			v4 := netip.MustParseAddr("203.0.113.9")
			if a := Embed(p, v4); !p.Contains(a) || Extract(a, p.Bits()) != v4 || !Usable(p) {
				t.Errorf("%v: %v", p, a)
			}
		}
	})
}
