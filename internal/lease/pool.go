package lease

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
)

// hashed is how many addresses are tried before the network is walked.
const hashed = 16

// pool is a network cut into subnets, one for each client; of IPv4, subnets of
// one address.
type pool struct {
	net     netip.Prefix // masked
	all     block        // the same
	subMask u128         // the bits that name a subnet
	subBits int
	gateway u128 // the server's own address
}

// newPool makes a pool of subnets of so many bits, counted in the network's family.
func newPool(net netip.Prefix, bits int) (pool, error) {
	if !net.IsValid() {
		return pool{}, fmt.Errorf("%w: no network", ErrNetwork)
	}
	a := net.Addr()
	if a.Is4In6() || bits < net.Bits() || bits > a.BitLen() {
		return pool{}, fmt.Errorf("%w: subnets /%d of %v", ErrRequest, bits, net)
	}
	p := pool{net: net.Masked(), all: blockOf(a, net.Bits())}
	p.subBits = bits + 128 - a.BitLen()
	p.subMask = mask128(p.subBits)
	p.gateway = p.all.at.or(u128{0, 1})
	return p, nil
}

func (p pool) is4() bool { return p.net.Addr().Is4() }

// subnetOf is the subnet an address is in.
func (p pool) subnetOf(a u128) block { return block{a.and(p.subMask), p.subBits} }

// reserved says whether an address can be nobody's: the server's own, and the
// first and last of a network that has more than two (RFC 3021; IPv6 has no
// broadcast).
func (p pool) reserved(a u128) bool {
	if a == p.gateway {
		return true
	}
	last := p.all.last()
	tiny := last == p.all.at || last == p.gateway
	return !tiny && (a == p.all.at || p.is4() && a == last)
}

// reservedSubnet says whether a subnet is not given out by itself: it has no
// address to give, or the server's is in it and there are others.
func (p pool) reservedSubnet(s block) bool {
	if s.bits == 128 {
		return p.reserved(s.at)
	}
	return s.bits != p.all.bits && s == p.subnetOf(p.gateway)
}

// find finds a free subnet, and an address in it.
func (p pool) find(s seed, used *space) (netip.Addr, error) {
	var at block
	for range hashed {
		at = p.subnetOf(s.first().and(mask128(p.all.bits).not()).or(p.all.at))
		if _, ok := p.free(at, used); ok {
			return p.host(at, s), nil
		}
		s = s.next()
	}
	at, ok := p.walk(at, used)
	if !ok {
		return netip.Addr{}, fmt.Errorf("%w: %v", ErrExhausted, p.net)
	}
	return p.host(at, s), nil
}

// free says whether a subnet can be given out; if not, after which address to
// look on.
func (p pool) free(subnet block, used *space) (after u128, ok bool) {
	if other, taken := used.blocker(subnet); taken {
		return other.last(), false
	}
	return subnet.last(), !p.reservedSubnet(subnet)
}

// walk goes from a subnet that is not free to the next that is, around the end
// of the network.
func (p pool) walk(from block, used *space) (block, bool) {
	wrapped := false
	for at := from; ; {
		after, ok := p.free(at, used)
		if ok {
			return at, true
		}
		switch {
		case after.less(p.all.last()):
			at.at = after.inc()
		case wrapped:
			return block{}, false
		default:
			at.at, wrapped = p.all.at, true
		}
		if wrapped && !at.at.less(from.at) {
			return block{}, false
		}
	}
}

// host picks the address inside a subnet: not the first, which is the routers'
// (RFC 4291 section 2.6.1), nor the server's, if there are more than these two.
func (p pool) host(subnet block, s seed) netip.Addr {
	for _, h := range [...]u128{s.second(), {0, 1}, {0, 2}} {
		h = h.and(p.subMask.not())
		if a := subnet.at.or(h); h != (u128{}) && a != p.gateway {
			return a.addr(p.is4())
		}
	}
	return subnet.at.addr(p.is4())
}

// seed is where the search for an address begins.
type seed [sha256.Size]byte

func seedOf(b []byte) seed { return sha256.Sum256(b) }

func (s seed) next() seed { return seedOf(s[:]) }

// first decides about the subnet, second about the address inside.
func (s seed) first() u128  { return number(netip.AddrFrom16([16]byte(s[:16]))) }
func (s seed) second() u128 { return number(netip.AddrFrom16([16]byte(s[16:]))) }
