package stacktest

import (
	"hash/crc64"
	"io"
	"math/rand/v2"
)

// Echo is a host that sends back what it gets and ends when the client ends.
func Echo(c Conn) {
	io.Copy(writer{c}, c)
	c.CloseWrite()
	io.Copy(io.Discard, c)
}

// Discard is a host that reads everything and says nothing.
func Discard(c Conn) { io.Copy(io.Discard, c) }

// Silent returns a host that neither reads nor writes until release is closed.
func Silent(release <-chan struct{}) func(Conn) {
	return func(Conn) { <-release }
}

// Reset is a host that accepts and resets at the first byte.
func Reset(c Conn) {
	var b [1]byte
	c.Read(b[:])
	c.SetLinger(0)
	c.Close()
}

// Source returns a host that sends the n bytes of Stream(seed) and ends.
func Source(seed uint64, n int64) func(Conn) {
	return func(c Conn) {
		io.Copy(writer{c}, io.LimitReader(Stream(seed), n))
		c.CloseWrite()
		io.Copy(io.Discard, c)
	}
}

// Sum returns a host that answers a half-closed stream with the eight bytes of
// its checksum, as Checksum has it.
func Sum(c Conn) {
	h := crc64.New(crcTable())
	io.Copy(h, c)
	c.Write(h.Sum(nil))
	c.CloseWrite()
}

// Checksum is the sum of a stream's bytes until its end.
func Checksum(r io.Reader) (sum [8]byte, n int64, err error) {
	h := crc64.New(crcTable())
	n, err = io.Copy(h, r)
	h.Sum(sum[:0])
	return sum, n, err
}

func crcTable() *crc64.Table { return crc64.MakeTable(crc64.ECMA) }

// Stream is an endless stream of bytes that depend on seed only.
func Stream(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(key)
}

// writer hides all methods but Write, so that io.Copy takes buffers of 32 KiB.
type writer struct{ io.Writer }
