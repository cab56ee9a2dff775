package way

import (
	"context"
	"errors"
	"net"
	"sync"

	"rocserv/egress"
	"rocserv/egress/httpproxy"
	"rocserv/egress/tlsclient"
)

// web is an HTTP proxy, over TLS or not.
type web struct {
	server

	mu       sync.Mutex // protects the rest
	sessions []*httpproxy.Session
	making   chan struct{} // closed when the first connection has shown what is spoken; nil: nobody makes one
	old      bool          // the proxy speaks HTTP/1.1: each needs a connection of its own
	closed   bool
}

func (*web) carries(p egress.Proto) bool { return p == egress.TCP }

func (*web) open(egress.Proto, bool, egress.Receiver) (egress.PacketSocket, error) {
	return nil, errCannot
}

// dial asks for a connection. A session that was there before may have ended
// meanwhile without our knowing, so then a fresh one is tried as well.
func (w *web) dial(ctx context.Context, t target) (egress.Stream, error) {
	for {
		session, conn, fresh, err := w.acquire(ctx)
		if err != nil {
			return nil, err
		}
		if session == nil {
			return w.connectOn(ctx, conn, t)
		}
		s, err := session.Open(ctx, t.authority(), w.Login)
		if err == nil {
			return s, nil
		}
		if err = w.blame(ctx, err); fresh || !isFailure(err) || !w.lost(session) {
			return nil, err
		}
	}
}

// lost closes and forgets a session that failed, once.
func (w *web) lost(s *httpproxy.Session) bool {
	s.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, other := range w.sessions {
		if other == s {
			w.sessions = append(w.sessions[:i], w.sessions[i+1:]...)
			return true
		}
	}
	return false
}

// blame says whose fault it is that an asked proxy gave no connection.
func (w *web) blame(ctx context.Context, err error) error {
	var s *httpproxy.Status
	if ctx.Err() != nil || errors.As(err, &s) && !s.Own() {
		return err
	}
	return &Failure{w.Name, err}
}

// acquire gives a session of HTTP/2, or a connection for HTTP/1.1.
func (w *web) acquire(ctx context.Context) (s *httpproxy.Session, c egress.Stream, fresh bool, err error) {
	for {
		s, wait, begin := w.state()
		switch {
		case s != nil:
			return s, nil, false, nil
		case !begin:
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return nil, nil, false, ctx.Err()
			}
		}
		c, err = w.fresh(ctx)
		s, err = w.made(c, err, wait)
		return s, c, true, err
	}
}

// state is a usable session, or whether to make a connection, or what to wait
// for: until it is known what the proxy speaks, only one connection is made.
func (w *web) state() (s *httpproxy.Session, wait chan struct{}, begin bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sessions {
		if s.Usable() {
			return s, nil, false
		}
	}
	switch {
	case w.Kind == HTTP || w.old:
		return nil, nil, true
	case w.making != nil:
		return nil, w.making, false
	}
	w.making = make(chan struct{})
	return nil, w.making, true
}

// made takes a new connection: if it speaks HTTP/2, as a session.
func (w *web) made(c egress.Stream, err error, wait chan struct{}) (*httpproxy.Session, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if wait != nil {
		w.making = nil
		close(wait)
	}
	if err != nil {
		return nil, err
	}
	if w.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	t, ok := c.(tlsclient.Conn)
	if !ok || t.Protocol() != "h2" {
		w.old = true
		return nil, nil
	}
	s, err := httpproxy.NewSession(c)
	if err != nil {
		return nil, &Failure{w.Name, err}
	}
	w.old = false
	live := w.sessions[:0]
	for _, other := range w.sessions {
		if !other.Closed() {
			live = append(live, other)
		}
	}
	clear(w.sessions[len(live):])
	w.sessions = append(live, s)
	return s, nil
}

// fresh makes a connection to the proxy, with TLS if it is to have it.
func (w *web) fresh(ctx context.Context) (c egress.Stream, err error) {
	err = w.reach(ctx, func(ctx context.Context) error {
		c, err = w.secured(ctx)
		return err
	})
	return c, err
}

func (w *web) secured(ctx context.Context) (egress.Stream, error) {
	c, err := w.connect(ctx)
	if err != nil || w.Kind == HTTP {
		return c, err
	}
	return tlsclient.Client(ctx, c, &w.TLS)
}

// connectOn asks by HTTP/1.1.
func (w *web) connectOn(ctx context.Context, c egress.Stream, t target) (egress.Stream, error) {
	var rest []byte
	err := guarded(ctx, c, func() (err error) {
		rest, err = httpproxy.Connect(c, t.authority(), w.Login)
		return err
	})
	if err != nil {
		c.Close()
		return nil, w.blame(ctx, err)
	}
	if len(rest) > 0 {
		return &started{Stream: c, rest: rest}, nil
	}
	return c, nil
}

// started is a stream whose first bytes are there already.
type started struct {
	egress.Stream
	rest []byte // read by one goroutine
}

func (s *started) Read(b []byte) (int, error) {
	if len(s.rest) == 0 {
		return s.Stream.Read(b)
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// SetLinger is the stream's, if it has one.
func (s *started) SetLinger(seconds int) error {
	if l, ok := s.Stream.(interface{ SetLinger(int) error }); ok {
		return l.SetLinger(seconds)
	}
	return nil
}

func (w *web) probe(ctx context.Context) error {
	if t, ok := w.checkTarget(); ok {
		c, err := w.dial(ctx, t)
		if err == nil {
			c.Close()
		}
		return err
	}
	return w.reach(ctx, func(ctx context.Context) error {
		c, err := w.secured(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		if t, ok := c.(tlsclient.Conn); ok && t.Protocol() == "h2" {
			return nil
		}
		return guarded(ctx, c, func() error { return httpproxy.Probe(c, w.Login) })
	})
}

func (w *web) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, s := range w.sessions {
		s.Close()
	}
	w.sessions = nil
}
