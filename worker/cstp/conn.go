package cstp

import (
	"encoding/binary"
	"net"
	"sync"
)

const (
	recordHeader = 5               // RFC 8446 section 5.1
	maxRecord    = 16384 + 256 + 5 // with header; TLS 1.2 allows 2048 of expansion, nobody uses them
	smallBuffer  = 4 << 10         // of a connection without traffic
	largeBuffer  = 128 << 10       // of one with
)

// Conn is what crypto/tls reads from and writes to. Reads come from one
// goroutine, writes from any.
type Conn struct {
	net.Conn

	// Owned by the reading goroutine.
	in   []byte // from the socket: in[r:w] is not handed out yet
	r, w int
	left int // bytes of the current record not handed out yet

	erasing bool
	given   [][]byte // while erasing: where the current record was handed out to

	mu        sync.Mutex // protects the rest
	out       []byte     // whole records that wait for the end of the batch
	gathering bool
	err       error // of a write, kept
}

// NewConn wraps the client's TCP connection.
func NewConn(c net.Conn) *Conn {
	return &Conn{Conn: newSocket(c), in: make([]byte, smallBuffer)}
}

// Read gives at most the rest of the current TLS record. Bytes that are no
// record are given too, for crypto/tls to refuse in its own words.
func (c *Conn) Read(p []byte) (int, error) {
	room := len(p)
	if c.left == 0 {
		c.erase()
		if c.erasing {
			// crypto/tls makes room for the rest once it has seen the header, and
			// moves no byte of it.
			room = min(room, recordHeader)
		}
		for c.w-c.r < recordHeader {
			if err := c.fill(); err != nil {
				return 0, err
			}
		}
		c.left = c.recordLen()
	}
	if c.w == c.r {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := min(room, c.w-c.r, c.left)
	copy(p, c.in[c.r:c.r+n])
	c.r += n
	c.left -= n
	if c.erasing {
		c.given = append(c.given, p[:n])
	}
	return n, nil
}

// Erase says whether a record is erased once the next one is asked for. The
// slices it is handed out in are crypto/tls's own buffer, in which it decrypts,
// and who asks for another record has taken all of the one before; without
// this a password stays there until a longer record comes. Only from the
// reading goroutine.
func (c *Conn) Erase(on bool) { c.erasing, c.given = on, nil }

func (c *Conn) erase() {
	for i, b := range c.given {
		clear(b)
		c.given[i] = nil
	}
	c.given = c.given[:0]
}

// More says that another whole record has been received already.
func (c *Conn) More() bool {
	return c.w-c.r >= recordHeader && c.w-c.r >= c.recordLen()
}

func (c *Conn) recordLen() int {
	return recordHeader + int(binary.BigEndian.Uint16(c.in[c.r+3:]))
}

// fill reads from the socket once. A read that fills the buffer makes the next
// one larger. There is always room: what is kept is less than a header, or nothing.
func (c *Conn) fill() error {
	kept := copy(c.in, c.in[c.r:c.w])
	c.r, c.w = 0, kept
	n, err := c.Conn.Read(c.in[c.w:])
	c.w += n
	if c.w == len(c.in) && len(c.in) < largeBuffer {
		in := make([]byte, largeBuffer)
		copy(in, c.in[:c.w])
		c.in = in
	}
	if n > 0 {
		return nil
	}
	return err
}

// Write takes one record from crypto/tls.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if !c.gathering {
		n, err := c.Conn.Write(p)
		c.err = err
		return n, err
	}
	if len(c.out)+len(p) > largeBuffer {
		if err := c.flush(); err != nil {
			return 0, err
		}
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

// gather starts a batch: records wait for Flush.
func (c *Conn) gather() {
	c.mu.Lock()
	c.gathering = true
	c.mu.Unlock()
}

// flushBatch ends a batch.
func (c *Conn) flushBatch() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathering = false
	return c.flush()
}

// flush writes what was gathered; c.mu is held, also while the socket blocks,
// so that no other record can come in between.
func (c *Conn) flush() error {
	if c.err != nil || len(c.out) == 0 {
		return c.err
	}
	_, c.err = c.Conn.Write(c.out)
	c.out = c.out[:0]
	return c.err
}

// trim gives large buffers back. Only from the reading goroutine.
func (c *Conn) trim() {
	if c.r == c.w && len(c.in) > smallBuffer {
		c.in, c.r, c.w = make([]byte, smallBuffer), 0, 0
	}
	c.mu.Lock()
	if len(c.out) == 0 {
		c.out = nil
	}
	c.mu.Unlock()
}
