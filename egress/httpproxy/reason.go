package httpproxy

import (
	"cmp"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// reasonWait is how long a Write that failed waits for the proxy's reason, which is here
// already if there is one.
const reasonWait = time.Second

// reasoned is a connection whose Write fails with what the proxy has said before it
// ceased to listen, if it did: in TLS 1.3 a client's certificate is refused by an alert
// after the client's handshake (RFC 8446 section 4.4.2.4), and what the client has
// written by then meets a closed connection. The same as in ask, where reads and writes
// take turns.
type reasoned struct {
	net.Conn
	read  atomic.Bool // somebody reads, and will learn of the end
	once  sync.Once
	ended chan struct{} // closed when reading has come to its end
	why   error         // by then
}

func withReason(c net.Conn) *reasoned { return &reasoned{Conn: c, ended: make(chan struct{})} }

func (c *reasoned) Read(b []byte) (int, error) {
	c.read.Store(true)
	n, err := c.Conn.Read(b)
	if err != nil {
		c.once.Do(func() {
			c.why = err
			close(c.ended)
		})
	}
	return n, err
}

func (c *reasoned) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		err = cmp.Or(c.reason(), err)
	}
	return n, err
}

// reason is the error that ended reading, unless that says no more than that it ended.
func (c *reasoned) reason() error {
	if !c.read.Load() {
		c.Conn.SetReadDeadline(time.Now().Add(reasonWait))
		c.Read(make([]byte, 1)) // of what comes instead nothing can be made any more
	}
	select {
	case <-c.ended:
	case <-time.After(reasonWait):
		return nil
	}
	var timeout net.Error
	if c.why == io.EOF || errors.Is(c.why, net.ErrClosed) || errors.As(c.why, &timeout) && timeout.Timeout() {
		return nil
	}
	return c.why
}
