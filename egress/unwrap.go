package egress

import (
	"net/netip"

	"rocserv/internal/nat64"
)

// IPv6 addresses that stand for IPv4 ones. A packet to such an address ends,
// somewhere on its way, at the IPv4 address inside; so that one is judged too.
var (
	compatPrefix     = netip.MustParsePrefix("::/96")          // RFC 4291 section 2.5.5.1
	nat64Prefix      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052 section 2.1
	nat64LocalPrefix = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFourPrefix  = netip.MustParsePrefix("2002::/16")      // RFC 3056 section 2
	teredoPrefix     = netip.MustParsePrefix("2001::/32")      // RFC 4380 section 2.6
)

// maxReadings is how many IPv4 addresses one IPv6 address can stand for.
const maxReadings = 4

// embedded gives the IPv4 addresses that a stands for. v4-mapped addresses are
// unwrapped before.
func (r *rules) embedded(a netip.Addr, buf *[maxReadings]netip.Addr) []netip.Addr {
	b := a.As16()
	for _, p := range r.nat64 {
		if p.Contains(a) {
			return append(buf[:0], nat64.Extract(a, p.Bits()))
		}
	}
	switch {
	case compatPrefix.Contains(a):
		if a == netip.IPv6Unspecified() || a == netip.IPv6Loopback() {
			return nil // not of this kind, though the prefix is the same
		}
		return append(buf[:0], nat64.Extract(a, 96))
	case nat64Prefix.Contains(a):
		return append(buf[:0], nat64.Extract(a, 96))
	case nat64LocalPrefix.Contains(a):
		return localNAT64(a, buf)
	case sixToFourPrefix.Contains(a):
		return append(buf[:0], netip.AddrFrom4([4]byte(b[2:6])))
	case teredoPrefix.Contains(a):
		// The client's address is where packets end; by the server's address
		// the relay finds the client, so a packet goes there too (RFC 4380
		// section 5.4.1). Both must be allowed.
		client := [4]byte{^b[12], ^b[13], ^b[14], ^b[15]}
		return append(buf[:0], netip.AddrFrom4([4]byte(b[4:8])), netip.AddrFrom4(client))
	}
	return nil
}

// localNAT64 reads an address of the local-use translation prefix in every way
// it can be meant: a network may translate by the /48 itself or by any longer
// prefix within (RFC 8215 section 5), and does not tell us. A reading in
// 0.0.0.0/8 is the filling of another one, unless all are.
func localNAT64(a netip.Addr, buf *[maxReadings]netip.Addr) []netip.Addr {
	out := buf[:0]
	for _, bits := range [...]int{48, 56, 64, 96} {
		if v4 := nat64.Extract(a, bits); v4.As4()[0] != 0 {
			out = append(out, v4)
		}
	}
	if len(out) == 0 {
		out = append(out, netip.IPv4Unspecified())
	}
	return out
}
