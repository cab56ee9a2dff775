package lab

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
)

// blockSize is the unit of a stream.
const blockSize = 64 << 10

// stream is n bytes that look random, are the same each time, and have no two
// equal blocks, so that nothing lost, doubled or moved goes unnoticed.
type stream struct {
	block []byte
	index uint64 // of the block
	at    int    // in the block
	left  int64
}

func newStream(n int64) io.Reader { return aStream(n) }

// newText is a stream that says the same all the time, but for where it is.
func newText(n int64) io.Reader {
	s := aStream(n)
	const line = 200
	for i := 8; i < len(s.block)-line; i++ { // the number of the block stays
		s.block[i+line] = s.block[i]
	}
	return s
}

func aStream(n int64) *stream {
	s := &stream{block: make([]byte, blockSize), left: n}
	rand.NewChaCha8([32]byte{'l', 'a', 'b'}).Read(s.block)
	binary.BigEndian.PutUint64(s.block, 0)
	return s
}

func (s *stream) Read(b []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	if s.at == len(s.block) {
		s.index++
		s.at = 0
		binary.BigEndian.PutUint64(s.block, s.index)
	}
	n := copy(b[:min(int64(len(b)), s.left)], s.block[s.at:])
	s.at += n
	s.left -= int64(n)
	return n, nil
}
