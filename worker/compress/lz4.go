package compress

import "encoding/binary"

// An LZ4 block (lz4_Block_format.md of LZ4 1.9) is a list of sequences: a token
// with two lengths of four bits, which 15 continues in further bytes; literals; a
// distance of 16 bits; and from there back a match of at least four bytes. The
// last sequence is literals only.
const (
	minMatch4 = 4
	lastMatch = 12 // no match begins later than so many bytes before the end
	lastBytes = 5  // which are always literals
	distance4 = 1<<16 - 1
)

// encodeLZ4 returns 0 if dst is too short.
func (c *Compressor) encodeLZ4(dst, src []byte) int {
	w, done := 0, 0 // literals begin at done
	for i := 0; i <= len(src)-lastMatch; {
		at := c.find(src, i, 4)
		if at < 0 || i-at > distance4 {
			i++
			continue
		}
		n := common(src, at, i, len(src)-lastBytes)
		if n < minMatch4 {
			i++
			continue
		}
		if w = putSequence(dst, w, src[done:i], i-at, n); w < 0 {
			return 0
		}
		i += n
		done = i
	}
	return max(putSequence(dst, w, src[done:], 0, 0), 0)
}

// putSequence writes a sequence at dst[w:] and returns where it ends; -1: there is
// no room. Without a distance it is the last one.
func putSequence(dst []byte, w int, literals []byte, distance, match int) int {
	need := 1 + continued(len(literals)) + len(literals)
	if distance > 0 {
		need += 2 + continued(match-minMatch4)
	}
	if need > len(dst)-w {
		return -1
	}
	token := w
	w++
	dst[token] = byte(min(len(literals), 15)) << 4
	w = putLength(dst, w, len(literals))
	w += copy(dst[w:], literals)
	if distance == 0 {
		return w
	}
	binary.LittleEndian.PutUint16(dst[w:], uint16(distance))
	dst[token] |= byte(min(match-minMatch4, 15))
	return putLength(dst, w+2, match-minMatch4)
}

// continued is how many bytes continue a length.
func continued(n int) int {
	if n < 15 {
		return 0
	}
	return (n-15)/255 + 1
}

// putLength continues a length of 15 and more.
func putLength(dst []byte, w, n int) int {
	if n < 15 {
		return w
	}
	for n -= 15; n >= 255; n -= 255 {
		dst[w] = 255
		w++
	}
	dst[w] = byte(n)
	return w + 1
}

func decodeLZ4(dst, src []byte) (w int, ok bool) {
	r := 0
	for r < len(src) {
		token := src[r]
		n, next, ok := getLength(src, r+1, int(token>>4))
		if !ok || n > len(src)-next || n > len(dst)-w {
			return 0, false
		}
		r = next + n
		w += copy(dst[w:], src[next:r])
		if r == len(src) {
			return w, true // the last sequence has no match
		}
		if r+2 > len(src) {
			return 0, false
		}
		distance := int(binary.LittleEndian.Uint16(src[r:]))
		n, r, ok = getLength(src, r+2, int(token&15))
		n += minMatch4
		if !ok || distance == 0 || distance > w || n > len(dst)-w {
			return 0, false
		}
		repeat(dst, w, distance, n)
		w += n
	}
	return 0, false // it ends with a match, or is empty
}

// getLength reads what continues a length of 15. One that is longer than any
// packet is refused, so that it cannot overflow.
func getLength(src []byte, r, n int) (length, next int, ok bool) {
	if n < 15 {
		return n, r, true
	}
	for r < len(src) && n <= MaxPacket {
		b := src[r]
		r++
		n += int(b)
		if b < 255 {
			return n, r, true
		}
	}
	return 0, 0, false
}

// repeat writes n bytes at dst[w:] that are those from distance before on. They may
// be among them.
func repeat(dst []byte, w, distance, n int) {
	from := w - distance
	for end := w + n; w < end; { // each time twice as many as before
		w += copy(dst[w:end], dst[from:w])
	}
}
