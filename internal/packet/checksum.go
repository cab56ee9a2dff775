package packet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Sum adds the bytes of b to a partial sum (RFC 1071). b counts as padded to
// an even length: only the last part of a sum may be odd. The checksum is the
// complement of the sum over everything; a sum over data with its checksum in
// place is 0xffff.
func Sum(b []byte, partial uint16) uint16 {
	// Words are added as they lie in memory, eight bytes at a time, and the
	// result is swapped once: the sum does not depend on byte order, RFC 1071
	// section 2(B).
	le := binary.LittleEndian
	var s, c uint64
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		s, c = bits.Add64(s, le.Uint64(p[0:]), 0)
		s, c = bits.Add64(s, le.Uint64(p[8:]), c)
		s, c = bits.Add64(s, le.Uint64(p[16:]), c)
		s, c = bits.Add64(s, le.Uint64(p[24:]), c)
		s, c = bits.Add64(s, le.Uint64(p[32:]), c)
		s, c = bits.Add64(s, le.Uint64(p[40:]), c)
		s, c = bits.Add64(s, le.Uint64(p[48:]), c)
		s, c = bits.Add64(s, le.Uint64(p[56:]), c)
		s += c // cannot wrap: a sum that carried is at most 2^64-2
		b = b[64:]
	}
	for len(b) >= 8 {
		s, c = bits.Add64(s, le.Uint64(b), 0)
		s += c
		b = b[8:]
	}
	var tail uint64
	if len(b) >= 4 {
		tail = uint64(le.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		tail += uint64(le.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		tail += uint64(b[0])
	}
	s, c = bits.Add64(s, tail, 0)
	s += c
	return addSums(bits.ReverseBytes16(foldSum(s)), partial)
}

// foldSum makes a 64 bit ones' complement sum one of 16 bits.
func foldSum(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}

// addSums adds two partial sums.
func addSums(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s + s>>16)
}

// PseudoSum is the partial sum of the pseudo header: addresses of one family,
// the upper layer's protocol and its length in bytes with its header.
// RFC 768, RFC 9293 section 3.1, RFC 8200 section 8.1.
func PseudoSum(src, dst netip.Addr, proto uint8, length int) uint16 {
	s := addrSum(src) + addrSum(dst) + uint64(proto) + uint64(length)
	return foldSum(s)
}

// addrSum is the sum of an address's 32 bit words in network order.
func addrSum(a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		return uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	return hi>>32 + hi&0xffffffff + lo>>32 + lo&0xffffffff
}

// UpdateChecksum returns what checksum becomes when the 16 bit word from of
// the data is replaced by to. RFC 1624 section 3, equation 3.
func UpdateChecksum(checksum, from, to uint16) uint16 {
	return ^addSums(addSums(^checksum, ^from), to)
}
