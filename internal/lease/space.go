package lease

import (
	"encoding/binary"
	"net/netip"
)

// block is a range of addresses that begin with the same bits: a prefix, in 128
// bits for both families, IPv4 as IPv4-mapped addresses (RFC 4291 section
// 2.5.5.2). What follows the first bits is zero.
type block struct {
	at   u128
	bits int // 0 to 128
}

// blockOf makes a block of the first bits of an address, counted in its family.
func blockOf(a netip.Addr, bits int) block {
	bits += 128 - a.BitLen()
	return block{number(a).and(mask128(bits)), bits}
}

// last is the last address of the block.
func (b block) last() u128 { return b.at.or(mask128(b.bits).not()) }

// space is the set of blocks in use. No two of them overlap.
//
// Blocks of several lengths can be asked for, and usually there are one or two.
// So that an overlap is found without a search, owners is asked once for each
// shorter length, and inside counts, for each length, the longer ones.
type space struct {
	owners  map[block]string
	inside  map[block]int // block of a known length: how many longer ones it contains
	lengths []int         // all that were ever asked for
}

func newSpace() *space {
	return &space{owners: map[block]string{}, inside: map[block]int{}}
}

// blocker finds what overlaps b: a block in use that contains b or is b, or b
// itself if there are longer ones in it.
func (s *space) blocker(b block) (other block, taken bool) {
	s.know(b.bits)
	for _, bits := range s.lengths {
		if bits > b.bits {
			continue
		}
		around := block{b.at.and(mask128(bits)), bits}
		if _, ok := s.owners[around]; ok {
			return around, true
		}
	}
	if len(s.inside) == 0 {
		return b, false
	}
	return b, s.inside[b] > 0
}

func (s *space) add(b block, owner string) {
	s.know(b.bits)
	s.owners[b] = owner
	s.count(b, 1)
}

func (s *space) remove(b block) {
	delete(s.owners, b)
	s.count(b, -1)
}

// count changes what the shorter blocks around b contain.
func (s *space) count(b block, by int) {
	for _, bits := range s.lengths {
		s.countIn(b, bits, by)
	}
}

func (s *space) countIn(b block, bits, by int) {
	if bits >= b.bits {
		return
	}
	around := block{b.at.and(mask128(bits)), bits}
	if s.inside[around] += by; s.inside[around] == 0 {
		delete(s.inside, around)
	}
}

// know begins to count for a length.
func (s *space) know(bits int) {
	for _, k := range s.lengths {
		if k == bits {
			return
		}
	}
	s.lengths = append(s.lengths, bits)
	for b := range s.owners {
		s.countIn(b, bits, 1)
	}
}

// u128 is an address as a number.
type u128 struct{ hi, lo uint64 }

func number(a netip.Addr) u128 {
	b := a.As16()
	return u128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (u u128) addr(is4 bool) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], u.hi)
	binary.BigEndian.PutUint64(b[8:], u.lo)
	a := netip.AddrFrom16(b)
	if is4 {
		return a.Unmap()
	}
	return a
}

func (u u128) and(v u128) u128 { return u128{u.hi & v.hi, u.lo & v.lo} }
func (u u128) or(v u128) u128  { return u128{u.hi | v.hi, u.lo | v.lo} }
func (u u128) not() u128       { return u128{^u.hi, ^u.lo} }

func (u u128) inc() u128 {
	u.lo++
	if u.lo == 0 {
		u.hi++
	}
	return u
}

// mask128 has the first n bits set.
func mask128(n int) u128 {
	if n >= 64 {
		return u128{^uint64(0), ^uint64(0) << (128 - uint(n))}
	}
	return u128{^uint64(0) << (64 - uint(n)), 0}
}

// less compares as numbers.
func (u u128) less(v u128) bool { return u.hi < v.hi || u.hi == v.hi && u.lo < v.lo }
