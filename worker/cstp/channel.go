package cstp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"

	"rocserv/internal/moderation"
	"rocserv/internal/wire"
)

const (
	smallBatch = 20 << 10  // bytes of one batch without traffic: a record and a bit
	largeBatch = 160 << 10 // and with
	batchSlack = 16384     // room a further record needs
)

// ErrFrame is returned by Serve for bytes that are no frame; there is no way to find the next one.
var ErrFrame = errors.New("cstp: bad frame")

// Receiver is told what the client sends: the packets of one wake-up, valid
// until Packets returns. Called from Serve's goroutine.
type Receiver interface {
	Packets(p []wire.Packet)
}

// Channel sends and receives frames on an established TLS connection.
type Channel struct {
	tls   *tls.Conn
	conn  *Conn
	meter moderation.Meter // of what is received; Serve's
	hold  hold             // Serve's

	// Sending; the caller serialises.
	frame   []byte // header and payload of the packet being built
	started bool   // a batch is open
	err     error  // of a write: everything later is discarded
}

// New makes the channel of a connection on which nothing but frames will
// follow. conn is what t reads from and writes to.
func New(t *tls.Conn, conn *Conn) *Channel {
	return &Channel{tls: t, conn: conn, frame: make([]byte, 2048)}
}

// Next returns room for one packet of n bytes.
func (c *Channel) Next(n int) []byte {
	if wire.HeaderLen+n > len(c.frame) {
		c.frame = make([]byte, wire.HeaderLen+n)
	}
	return c.frame[wire.HeaderLen : wire.HeaderLen+n]
}

// Add makes the first n bytes of the room Next gave a packet of type typ.
func (c *Channel) Add(typ wire.PacketType, n int) {
	if c.err != nil {
		return
	}
	if n > wire.MaxPayload {
		panic(fmt.Sprintf("cstp: internal error: packet of %d bytes", n))
	}
	if !c.started {
		c.started = true
		c.conn.gather()
	}
	wire.PutHeader(c.frame, typ, n)
	_, c.err = c.tls.Write(c.frame[:wire.HeaderLen+n]) // one frame, one record
}

// Flush sends what was added. It blocks while the client takes nothing, and
// returns at once when the connection is closed.
func (c *Channel) Flush() {
	if !c.started {
		return
	}
	c.started = false
	if err := c.conn.flushBatch(); c.err == nil {
		c.err = err
	}
}

// Busy is part of what the tunnel asks of a channel: whether flushes are better
// put off for a moment. Here they never are: the gathered batch is what the
// stack handed out at once.
func (c *Channel) Busy() bool { return false }

// Serve reads frames until the connection ends and gives them to r. It returns
// the error that ended it: io.EOF for an orderly or abrupt end by the client
// (openconnect closes without close_notify), ErrFrame, net.ErrClosed.
func (c *Channel) Serve(r Receiver) error {
	b := batch{buf: make([]byte, smallBatch)}
	c.hold.since = time.Now()
	c.meter.Start(c.hold.since, moderation.OfStream)
	for {
		n, err := c.tls.Read(b.buf[b.w:])
		b.w += n
		if errors.Is(err, os.ErrDeadlineExceeded) { // Trim woke us
			c.tls.SetReadDeadline(time.Time{})
			c.conn.trim()
			b.trim()
			continue
		}
		if perr := b.parse(); perr != nil {
			b.deliver(r)
			return perr
		}
		if err == nil && b.room() && c.conn.More() {
			continue
		}
		n, length := b.deliver(r)
		if err != nil {
			return eof(err)
		}
		runtime.Gosched() // let the stack work on the batch before the next is read
		c.rest(n, length, time.Now())
	}
}

// rest lets packets gather after a batch of n of them, of length bytes together.
func (c *Channel) rest(n, length int, now time.Time) {
	c.meter.Add(n, length, now)
	if !c.meter.On() {
		return
	}
	switch c.hold.add(length, now, c.conn.near) {
	case narrow:
		if !c.conn.narrow() {
			c.hold.free(now.Add(holdFor))
		}
	case widen:
		c.conn.widen()
	}
	if c.hold.small() {
		c.meter.Gather(c.conn.unread)
	} else {
		c.meter.Nap()
	}
}

// Trim gives back buffers that traffic has made grow. For an idle connection;
// harmless for a busy one.
func (c *Channel) Trim() { c.tls.SetReadDeadline(time.Unix(1, 0)) }

// Close closes the connection at once and wakes who is parked in Flush or Serve.
func (c *Channel) Close() { c.conn.Conn.Close() }

// eof makes the ends a client can bring about one: openconnect does not send close_notify.
func eof(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return net.ErrClosed
	}
	return err
}
