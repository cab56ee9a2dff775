package nat64

import (
	"net/netip"
	"slices"
)

// Name is asked for IPv6 addresses, RFC 7050 section 3.
const Name = "ipv4only.arpa."

// known are Name's IPv4 addresses, RFC 7050 section 8.1.
var known = [...]netip.Addr{netip.MustParseAddr("192.0.0.170"), netip.MustParseAddr("192.0.0.171")}

// lengths are those a prefix can have, RFC 6052 section 2.2.
var lengths = [...]int{32, 40, 48, 56, 64, 96}

// maxPrefixes bounds what Find believes.
const maxPrefixes = 8

// Valid says whether p has the form of a translation prefix.
func Valid(p netip.Prefix) bool {
	return p.IsValid() && p.Addr().Is6() && !p.Addr().Is4In6() && slices.Contains(lengths[:], p.Bits())
}

// usable are the networks that a NAT64 can have its prefix in: global addresses,
// the well-known prefix, the one for local use (RFC 8215), a site's own.
var usable = [...]netip.Prefix{
	netip.MustParsePrefix("2000::/3"), netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("fc00::/7"),
}

// Usable says whether p can be a network's prefix.
func Usable(p netip.Prefix) bool {
	if !Valid(p) {
		return false
	}
	return slices.ContainsFunc(usable[:], func(u netip.Prefix) bool { return u.Bits() <= p.Bits() && u.Contains(p.Addr()) })
}

// Find returns the prefixes that Name's IPv6 addresses were made with, in their
// order. One in which a well-known address stands at two places is ambiguous and
// left out (RFC 7050 section 3).
func Find(answer []netip.Addr) (found []netip.Prefix) {
	for _, a := range answer {
		if !a.Is6() || a.Is4In6() {
			continue
		}
		var fits []netip.Prefix
		for _, bits := range lengths {
			if slices.Contains(known[:], Extract(a, bits)) {
				p, _ := a.WithZone("").Prefix(bits)
				fits = append(fits, p)
			}
		}
		if len(fits) == 1 && Usable(fits[0]) && !slices.Contains(found, fits[0]) && len(found) < maxPrefixes {
			found = append(found, fits[0])
		}
	}
	return found
}

// Embed makes the address by which p's network reaches the IPv4 address v4. It
// follows the prefix and leaves out byte 8; what is behind is zero.
func Embed(p netip.Prefix, v4 netip.Addr) netip.Addr {
	b, in := p.Masked().Addr().As16(), v4.As4()
	at := p.Bits() / 8
	for _, v := range in {
		if at == 8 {
			at++
		}
		b[at] = v
		at++
	}
	return netip.AddrFrom16(b)
}

// Extract takes the IPv4 address out of one made with a prefix of so many bits.
func Extract(a netip.Addr, bits int) netip.Addr {
	var v4 [4]byte
	b := a.As16()
	at := bits / 8
	for i := range v4 {
		if at == 8 {
			at++
		}
		v4[i] = b[at]
		at++
	}
	return netip.AddrFrom4(v4)
}
