package resolver

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"rocserv/egress"
)

const (
	dialTimeout = 10 * time.Second
	maxQueued   = 256 << 10 // bytes of queries that a server has not taken
)

// connection is DNS over TCP or TLS to a server (RFC 7766, RFC 7858), as a
// socket whose datagrams are messages. All queries share it; their answers come
// in any order. It is made with the first query, and ends with an error.
type connection struct {
	dial   func(context.Context) (net.Conn, error)
	l      *link
	ctx    context.Context // of its life
	cancel context.CancelFunc

	mu      sync.Mutex // protects the rest
	conn    net.Conn   // nil: not yet
	queue   []byte     // messages with their lengths, not yet written
	begun   bool
	writing bool // a goroutine writes
	closed  bool
}

var _ egress.PacketSocket = (*connection)(nil)

func newConnection(dial func(context.Context) (net.Conn, error), l *link) *connection {
	c := &connection{dial: dial, l: l}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

var errFull = errors.New("resolver: the server takes no more queries")

// Send implements egress.PacketSocket.
func (c *connection) Send(msgs []egress.Message) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range msgs {
		b := msgs[i].Payload
		switch {
		case c.closed:
			return i, errClosed
		case len(c.queue)+2+len(b) > maxQueued:
			return i, errFull
		}
		c.queue = binary.BigEndian.AppendUint16(c.queue, uint16(len(b)))
		c.queue = append(c.queue, b...)
	}
	switch {
	case !c.begun:
		c.begun = true
		go c.run()
	case c.conn != nil:
		c.write()
	}
	return len(msgs), nil
}

// run connects and reads until the connection ends.
func (c *connection) run() {
	ctx, cancel := context.WithTimeout(c.ctx, dialTimeout)
	conn, err := c.dial(ctx)
	cancel()
	if err != nil {
		c.ended(err)
		return
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		conn.Close()
		return
	}
	c.conn = conn
	c.write()
	c.mu.Unlock()
	c.ended(c.read(conn))
}

// read takes messages: two bytes of length, then as many.
func (c *connection) read(conn net.Conn) error {
	r := bufio.NewReader(conn)
	var length [2]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(r, length[:]); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if n > len(buf) {
			buf = make([]byte, max(n, 2*ourDNSUDP))
		}
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return err
		}
		c.l.Receive([]egress.Message{{Payload: buf[:n]}})
	}
}

// write sees to it that the queue is written. The lock is held.
func (c *connection) write() {
	if !c.writing && len(c.queue) > 0 {
		c.writing = true
		go c.empty(c.conn)
	}
}

// empty writes until the queue is empty. An error is the reader's to tell: to
// close makes it come.
func (c *connection) empty(conn net.Conn) {
	var b []byte
	for {
		c.mu.Lock()
		b, c.queue = c.queue, b[:0]
		if len(b) == 0 || c.closed {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if _, err := conn.Write(b); err != nil {
			conn.Close()
			return // writing stays set: nobody else is to try
		}
	}
}

// ended tells the link, unless it has closed the connection itself.
func (c *connection) ended(err error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if !closed {
		c.l.failed(err) // which closes
	}
}

// Close implements egress.PacketSocket. It does not wait for the goodbye of TLS.
func (c *connection) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.closed = true
	c.queue = nil
	c.cancel()
	if c.conn != nil {
		go c.conn.Close()
	}
	return nil
}
