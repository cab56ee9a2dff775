package egress

import (
	"net/netip"
	"slices"
	"sync"
)

// Denied is a refusal by Policy and says which line of it refused. It wraps
// ErrProhibited.
type Denied uint8

// The refusals. Up to DeniedHost they are the hard tier, which only
// egress-allow-unsafe opens; after it come the private tier, which the profile
// "internet" denies, and what the operator says of users.
const (
	DeniedInvalid     Denied = iota + 1 // no address at all
	DeniedProtocol                      // neither TCP, UDP nor ICMP
	DeniedZone                          // an address with an IPv6 zone
	DeniedLoopback                      // the host itself
	DeniedUnspecified                   // 0.0.0.0/8 and ::, which Linux takes for the host itself
	DeniedLinkLocal
	DeniedMulticast
	DeniedBroadcast
	DeniedReserved   // 240.0.0.0/4
	DeniedMetadata   // a cloud's metadata service
	DeniedOwnAddress // of one of the host's interfaces
	DeniedListener   // of this server
	DeniedHost       // what main named beyond: the cluster's API

	DeniedPrivate       // RFC 1918, unique local addresses, site-local addresses
	DeniedShared        // carrier-grade NAT
	DeniedSpecial       // IETF protocol assignments, benchmarking
	DeniedDocumentation // TEST-NETs and their like

	DeniedRule    // egress-deny
	DeniedRoute   // not among the routes of a user who is restricted to them
	DeniedNoRoute // a no-route of such a user
	DeniedPort    // restrict-user-to-ports
)

var deniedText = [...]string{
	DeniedInvalid:       "invalid address",
	DeniedProtocol:      "protocol",
	DeniedZone:          "address with a zone",
	DeniedLoopback:      "loopback",
	DeniedUnspecified:   "unspecified address",
	DeniedLinkLocal:     "link-local address",
	DeniedMulticast:     "multicast",
	DeniedBroadcast:     "broadcast",
	DeniedReserved:      "reserved address",
	DeniedMetadata:      "cloud metadata service",
	DeniedOwnAddress:    "own address of the host",
	DeniedListener:      "listener of this server",
	DeniedHost:          "address named by the host",
	DeniedPrivate:       "private address",
	DeniedShared:        "shared address space",
	DeniedSpecial:       "special-purpose address",
	DeniedDocumentation: "documentation address",
	DeniedRule:          "egress-deny",
	DeniedRoute:         "restrict-user-to-routes",
	DeniedNoRoute:       "no-route of a restricted user",
	DeniedPort:          "restrict-user-to-ports",
}

// String names the line, without what refused.
func (d Denied) String() string {
	if int(d) >= len(deniedText) || d == 0 {
		return "unknown"
	}
	return deniedText[d]
}

// Error is ErrProhibited's text and the name of the line.
func (d Denied) Error() string { return ErrProhibited.Error() + ": " + d.String() }

// Unwrap makes errors.Is(d, ErrProhibited) true.
func (d Denied) Unwrap() error { return ErrProhibited }

// Hard says whether the refusal is of the hard tier.
func (d Denied) Hard() bool { return d <= DeniedHost }

// addrRange is a line of the tables.
type addrRange struct {
	prefix netip.Prefix
	denied Denied
}

// hardTier is denied in every profile. Within it and the private tier the
// longest prefix gives the reason.
var hardTier = []addrRange{
	{netip.MustParsePrefix("0.0.0.0/8"), DeniedUnspecified},        // RFC 1122 section 3.2.1.3; Linux connects 0.0.0.0 to itself
	{netip.MustParsePrefix("127.0.0.0/8"), DeniedLoopback},         // RFC 1122 section 3.2.1.3
	{netip.MustParsePrefix("169.254.0.0/16"), DeniedLinkLocal},     // RFC 3927
	{netip.MustParsePrefix("224.0.0.0/4"), DeniedMulticast},        // RFC 5771
	{netip.MustParsePrefix("240.0.0.0/4"), DeniedReserved},         // RFC 1112 section 4
	{netip.MustParsePrefix("255.255.255.255/32"), DeniedBroadcast}, // RFC 919 section 7
	{netip.MustParsePrefix("::/128"), DeniedUnspecified},           // RFC 4291 section 2.5.2
	{netip.MustParsePrefix("::1/128"), DeniedLoopback},             // RFC 4291 section 2.5.3
	{netip.MustParsePrefix("fe80::/10"), DeniedLinkLocal},          // RFC 4291 section 2.5.6
	{netip.MustParsePrefix("ff00::/8"), DeniedMulticast},           // RFC 4291 section 2.7

	{netip.MustParsePrefix("169.254.169.254/32"), DeniedMetadata}, // AWS, GCP, Azure, OpenStack, OCI, ...
	{netip.MustParsePrefix("169.254.170.2/32"), DeniedMetadata},   // AWS ECS task credentials
	{netip.MustParsePrefix("169.254.170.23/32"), DeniedMetadata},  // AWS EKS pod identity
	{netip.MustParsePrefix("fd00:ec2::254/128"), DeniedMetadata},  // AWS, by IPv6
	{netip.MustParsePrefix("fd00:ec2::23/128"), DeniedMetadata},   // AWS EKS pod identity, by IPv6
	{netip.MustParsePrefix("168.63.129.16/32"), DeniedMetadata},   // Azure wire server
	{netip.MustParsePrefix("100.100.100.200/32"), DeniedMetadata}, // Alibaba Cloud
	{netip.MustParsePrefix("192.0.0.192/32"), DeniedMetadata},     // Oracle Cloud, classic
}

// privateTier is denied in the profile "internet".
var privateTier = []addrRange{
	{netip.MustParsePrefix("10.0.0.0/8"), DeniedPrivate},            // RFC 1918
	{netip.MustParsePrefix("172.16.0.0/12"), DeniedPrivate},         // RFC 1918
	{netip.MustParsePrefix("192.168.0.0/16"), DeniedPrivate},        // RFC 1918
	{netip.MustParsePrefix("fc00::/7"), DeniedPrivate},              // RFC 4193
	{netip.MustParsePrefix("fec0::/10"), DeniedPrivate},             // site-local, deprecated by RFC 3879, still routed
	{netip.MustParsePrefix("100.64.0.0/10"), DeniedShared},          // RFC 6598
	{netip.MustParsePrefix("192.0.0.0/24"), DeniedSpecial},          // RFC 6890 section 2.1
	{netip.MustParsePrefix("198.18.0.0/15"), DeniedSpecial},         // RFC 2544
	{netip.MustParsePrefix("192.0.2.0/24"), DeniedDocumentation},    // RFC 5737
	{netip.MustParsePrefix("198.51.100.0/24"), DeniedDocumentation}, // RFC 5737
	{netip.MustParsePrefix("203.0.113.0/24"), DeniedDocumentation},  // RFC 5737
	{netip.MustParsePrefix("2001:db8::/32"), DeniedDocumentation},   // RFC 3849
	{netip.MustParsePrefix("3fff::/20"), DeniedDocumentation},       // RFC 9637
}

// everywhere are both tiers, as they are in every network.
var everywhere = sync.OnceValue(func() *rules {
	r := new(rules)
	r.insert(privateTier)
	r.insert(hardTier)
	return r
})

// Private says whether an address, or one it stands for, means another thing in
// every network: it is not of the public Internet. Addresses of documentation
// are nobody's, so nobody's inside either.
func Private(a netip.Addr) bool {
	r := everywhere()
	inside := func(a netip.Addr) bool {
		d, _ := r.table.Lookup(a)
		return d != 0 && d != DeniedDocumentation
	}
	a = a.Unmap().WithZone("")
	if inside(a) {
		return true
	}
	if a.Is6() {
		var buf [maxReadings]netip.Addr
		return slices.ContainsFunc(r.embedded(a, &buf), inside)
	}
	return false
}
