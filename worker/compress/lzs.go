package compress

// LZS (RFC 1967 appendix; protocol.md of the client's maker) is a stream of bits,
// the highest of a byte first:
//
//	0 and 8 bits                  a byte
//	1 1 and 7 bits, then length   a match, from 1 to 127 bytes before
//	1 0 and 11 bits, then length  a match, from 1 to 2047 bytes before
//	1 1 0000000                   the end; zeros up to a whole byte
//
// A length is 00, 01, 10 for 2, 3, 4; 1100, 1101, 1110 for 5, 6, 7; 1111 and
// groups of four bits for 8 and their sum, the last group being less than 15.
const (
	minMatchS = 3 // two bytes from afar would be shorter as they are
	nearS     = 1<<7 - 1
	farS      = 1<<11 - 1
)

// bitWriter writes bits to dst. What does not fit is noted and left out.
type bitWriter struct {
	dst  []byte
	w    int
	bits uint64 // not written yet, the latest ones lowest
	n    uint   // how many
	full bool
}

// put appends the n lowest bits of v, at most 32.
func (b *bitWriter) put(v uint32, n uint) {
	b.bits = b.bits<<n | uint64(v)
	for b.n += n; b.n >= 8; b.n -= 8 {
		if b.w == len(b.dst) {
			b.full = true
			b.w-- // it is of no use any more
		}
		b.dst[b.w] = byte(b.bits >> (b.n - 8))
		b.w++
	}
}

func (b *bitWriter) putMatch(distance, n int) {
	if distance <= nearS {
		b.put(0b11<<7|uint32(distance), 9)
	} else {
		b.put(0b10<<11|uint32(distance), 13)
	}
	switch {
	case n < 5:
		b.put(uint32(n-2), 2)
	case n < 8:
		b.put(0b1100|uint32(n-5), 4)
	default:
		b.put(0b1111, 4)
		for n -= 8; n >= 15; n -= 15 {
			b.put(15, 4)
		}
		b.put(uint32(n), 4)
	}
}

// encodeLZS returns 0 if dst is too short.
func (c *Compressor) encodeLZS(dst, src []byte) int {
	b := bitWriter{dst: dst}
	if len(dst) == 0 {
		return 0
	}
	for i := 0; i < len(src) && !b.full; {
		if i+4 <= len(src) {
			if at := c.find(src, i, 3); at >= 0 && i-at <= farS {
				if n := common(src, at, i, len(src)); n >= minMatchS {
					b.putMatch(i-at, n)
					i += n
					continue
				}
			}
		}
		b.put(uint32(src[i]), 9)
		i++
	}
	b.put(0b110000000, 9)
	b.put(0, 7) // at least up to a whole byte
	if b.full {
		return 0
	}
	return b.w
}

// bitReader reads bits of src.
type bitReader struct {
	src  []byte
	r    int
	bits uint64 // not used yet, the latest ones lowest
	n    uint   // how many
}

// get returns the next n bits, at most 32. False: there are no more so many.
func (b *bitReader) get(n uint) (v uint32, ok bool) {
	for b.n < n {
		if b.r == len(b.src) {
			return 0, false
		}
		b.bits = b.bits<<8 | uint64(b.src[b.r])
		b.r++
		b.n += 8
	}
	b.n -= n
	return uint32(b.bits>>b.n) & (1<<n - 1), true
}

func decodeLZS(dst, src []byte) (w int, ok bool) {
	b := bitReader{src: src}
	for {
		kind, ok := b.get(1)
		if !ok {
			return 0, false // without an end
		}
		if kind == 0 {
			v, ok := b.get(8)
			if !ok || w == len(dst) {
				return 0, false
			}
			dst[w] = byte(v)
			w++
			continue
		}
		distance, ok := b.distance()
		if !ok {
			return 0, false
		}
		if distance == 0 {
			return w, true
		}
		n, ok := b.length(len(dst) - w)
		if !ok || distance > w {
			return 0, false
		}
		repeat(dst, w, distance, n)
		w += n
	}
}

// distance reads that of a match; 0 is the end.
func (b *bitReader) distance() (int, bool) {
	near, ok := b.get(1)
	if !ok {
		return 0, false
	}
	if near == 1 {
		v, ok := b.get(7)
		return int(v), ok
	}
	v, ok := b.get(11)
	return int(v), ok && v > 0
}

// length reads that of a match, at most most.
func (b *bitReader) length(most int) (n int, ok bool) {
	v, ok := b.get(2)
	if v < 3 {
		return int(v) + 2, ok && int(v)+2 <= most
	}
	if v, ok = b.get(2); v < 3 {
		return int(v) + 5, ok && int(v)+5 <= most
	}
	for n = 8; ok && n <= most; {
		if v, ok = b.get(4); v < 15 {
			n += int(v)
			return n, ok && n <= most
		}
		n += 15
	}
	return 0, false
}
