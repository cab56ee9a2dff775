package compress

import (
	"encoding/binary"
	"errors"
	"strings"
)

// Algorithm is a way to compress, by the name that it has on the wire; empty: none.
type Algorithm string

// The algorithms.
const (
	LZ4 Algorithm = "oc-lz4"
	LZS Algorithm = "lzs"
)

// Choose returns the first of those allowed that the client offers.
func Choose(allowed, offered []string) Algorithm {
	for _, a := range allowed {
		for _, o := range offered {
			if strings.EqualFold(a, o) && (a == string(LZ4) || a == string(LZS)) {
				return Algorithm(a)
			}
		}
	}
	return ""
}

// ErrMalformed is returned for what is no compressed packet, and for one that
// would be longer than its room.
var ErrMalformed = errors.New("compress: malformed packet")

// Decompress writes the packet that src stands for to dst and returns its length.
func (a Algorithm) Decompress(dst, src []byte) (int, error) {
	n, ok := 0, false
	switch a {
	case LZ4:
		n, ok = decodeLZ4(dst, src)
	case LZS:
		n, ok = decodeLZS(dst, src)
	}
	if !ok {
		return 0, ErrMalformed
	}
	return n, nil
}

const (
	hashBits = 11
	// MaxPacket is the longest packet that is compressed: places are 16 bits.
	MaxPacket = 1<<16 - 1

	patience = 4  // packets in a row that do not become shorter
	rest     = 32 // packets that are not looked at then
)

// Compressor compresses packets, one at a time.
type Compressor struct {
	alg   Algorithm
	last  [1 << hashBits]uint16 // place after which bytes of that hash were seen last
	vain  int                   // packets in a row
	sleep int                   // packets to let go by
}

// NewCompressor makes one.
func NewCompressor(a Algorithm) *Compressor { return &Compressor{alg: a} }

// Compress writes src to dst, shorter than it is, and returns how long it has
// become; 0: it would not become shorter, or was not looked at. dst has room for
// len(src) bytes.
func (c *Compressor) Compress(dst, src []byte) int {
	if c.sleep > 0 {
		c.sleep--
		return 0
	}
	n := 0
	if len(src) > 1 && len(src) <= MaxPacket {
		clear(c.last[:])
		if room := dst[:len(src)-1]; c.alg == LZ4 {
			n = c.encodeLZ4(room, src)
		} else {
			n = c.encodeLZS(room, src)
		}
	}
	if n > 0 {
		c.vain = 0
	} else if c.vain++; c.vain >= patience {
		c.vain, c.sleep = patience-1, rest // one more in vain, and it rests again
	}
	return n
}

// find returns the place where the bytes at i may have been before, -1 if there is
// none, and remembers i. Of the bytes the first n count, 3 or 4.
func (c *Compressor) find(src []byte, i, n int) int {
	v := binary.LittleEndian.Uint32(src[i:]) << (32 - 8*n)
	h := v * 2654435761 >> (32 - hashBits)
	at := int(c.last[h]) - 1
	c.last[h] = uint16(i + 1)
	return at
}

// common is how many bytes at a and b are the same, b being the later one and not
// going beyond end.
func common(src []byte, a, b, end int) (n int) {
	for b+n < end && src[a+n] == src[b+n] {
		n++
	}
	return n
}
