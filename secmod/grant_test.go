package secmod

import (
	"net/netip"
	"testing"
	"time"

	"rocserv/internal/config"
)

// TestGrantAddresses: what is granted is inside the session's networks afterwards,
// since a lease is.
func TestGrantAddresses(t *testing.T) {
	pool4, pool6 := netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("fd00::/48")
	ip, net := netip.MustParseAddr, netip.MustParsePrefix
	for _, tt := range []struct {
		name       string
		g          grant
		net4, net6 string
		bits6      int
	}{
		{"nothing", grant{}, "10.9.0.0/16", "fd00::/48", 128},
		{"inside", grant{IPv4: ip("10.9.7.7"), IPv6: ip("fd00::7")}, "10.9.0.0/16", "fd00::/48", 128},
		{"outside", grant{IPv4: ip("10.200.7.7"), IPv6: ip("fd01::7")}, "10.200.0.0/16", "fd01::/64", 128},
		{"a mask", grant{IPv4: ip("10.9.7.7"), Bits4: 24}, "10.9.7.0/24", "fd00::/48", 128},
		{"a host's mask", grant{IPv4: ip("10.9.7.7"), Bits4: 32}, "10.9.0.0/16", "fd00::/48", 128},
		{"a mask alone", grant{Bits4: 24}, "10.9.0.0/16", "fd00::/48", 128},
		{"a network", grant{Net6: net("fd02::/64")}, "10.9.0.0/16", "fd02::/64", 64},
		{"a network, and an address in it", grant{Net6: net("fd02::/64"), IPv6: ip("fd02::5")}, "10.9.0.0/16", "fd02::/64", 64},
	} {
		u := config.User{IPv4Network: pool4, IPv6Network: pool6, IPv6SubnetBits: 128}
		tt.g.apply(&u)
		if u.IPv4Network.String() != tt.net4 || u.IPv6Network.String() != tt.net6 || u.IPv6SubnetBits != tt.bits6 ||
			u.ExplicitIPv4 != tt.g.IPv4 || u.ExplicitIPv6 != tt.g.IPv6 {
			t.Errorf("%s: %v %v /%d, explicit %v %v", tt.name, u.IPv4Network, u.IPv6Network, u.IPv6SubnetBits, u.ExplicitIPv4, u.ExplicitIPv6)
		}
	}
}

// TestGrantIsKept: as text and back.
func TestGrantIsKept(t *testing.T) {
	g := grant{IPv4: netip.MustParseAddr("10.0.0.1"), Routes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, IdleTimeout: time.Minute}
	text, err := g.text()
	if err != nil {
		t.Fatal(err)
	}
	back, err := readGrant(text)
	if err != nil || back.IPv4 != g.IPv4 || len(back.Routes) != 1 || back.IdleTimeout != time.Minute || back.Net6.IsValid() {
		t.Errorf("%s is %+v, %v", text, back, err)
	}
	for _, none := range []*grant{nil, {}} {
		if text, err := none.text(); text != "" || err != nil {
			t.Errorf("nothing is %q, %v", text, err)
		}
	}
	if _, err := readGrant("{"); err == nil {
		t.Error("nonsense is read")
	}
}
