package httpproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	streamWindow  = 1 << 20  // unread bytes of one stream: 10 MB/s at 100 ms
	sessionWindow = 16 << 20 // and of all of them
	sessionIdle   = 30 * time.Second
	askAfter      = 15 * time.Second // of silence a PING is sent
	askWait       = 10 * time.Second // for its answer
	lastWords     = 30 * time.Second // for what is still on its way when a stream is closed
)

// Session is a connection to a proxy that speaks HTTP/2.
type Session struct {
	cc   *http.ClientConn
	idle *time.Timer // closes it
}

// NewSession begins HTTP/2 on a connection, which is closed with the session or
// when it has had no stream for a while.
func NewSession(conn net.Conn) (*Session, error) {
	t := &http.Transport{
		// The connection has its TLS already.
		DialContext: func(context.Context, string, string) (net.Conn, error) { return withReason(conn), nil },
		Protocols:   new(http.Protocols), DisableCompression: true,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream: streamWindow, MaxReceiveBufferPerConnection: sessionWindow,
			SendPingTimeout: askAfter, PingTimeout: askWait,
		},
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	cc, err := t.NewClientConn(context.Background(), "http", "proxy:80")
	if err != nil {
		conn.Close()
		return nil, err
	}
	s := &Session{cc: cc}
	s.idle = time.AfterFunc(sessionIdle, func() {
		if cc.InFlight() == 0 {
			cc.Close()
		}
	})
	cc.SetStateHook(func(*http.ClientConn) { s.idle.Reset(sessionIdle) }) // a stream has ended
	return s, nil
}

// Usable says whether Open may succeed.
func (s *Session) Usable() bool { return s.cc.Available() > 0 }

// Closed says whether nothing is left of the session.
func (s *Session) Closed() bool { return s.cc.Err() != nil && s.cc.InFlight() == 0 }

// Close ends the session and its streams.
func (s *Session) Close() error {
	s.cc.SetStateHook(nil)
	s.idle.Stop()
	return s.cc.Close()
}

// Open asks for a connection to authority. ctx bounds the asking only.
func (s *Session) Open(ctx context.Context, authority string, l Login) (*Stream, error) {
	life, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, cancel)
	up, down := io.Pipe()
	req := (&http.Request{
		Method: http.MethodConnect, URL: &url.URL{Scheme: "http", Host: authority}, Host: authority,
		Header: http.Header{"User-Agent": nil}, Body: up, ContentLength: -1,
	}).WithContext(life)
	if h := l.header(); h != "" {
		req.Header.Set("Proxy-Authorization", h)
	}
	resp, err := s.cc.RoundTrip(req)
	if !stop() && ctx.Err() != nil {
		if err == nil {
			resp.Body.Close()
		}
		cancel()
		return nil, ctx.Err()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		cancel()
		resp.Body.Close()
		return nil, &Status{Code: resp.StatusCode, ProxyStatus: resp.Header.Get("Proxy-Status"), Squid: resp.Header.Get("X-Squid-Error")}
	}
	return &Stream{body: resp.Body, up: down, cancel: cancel}, nil
}

// Stream is a connection through a session.
type Stream struct {
	body   io.ReadCloser
	up     *io.PipeWriter
	cancel context.CancelFunc

	mu    sync.Mutex
	ended bool // CloseWrite was called
	reset bool // the end is to be a RST_STREAM
}

func (s *Stream) Read(b []byte) (int, error) {
	n, err := s.body.Read(b)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("HTTP/2 stream: %w", err)
	}
	return n, err
}

func (s *Stream) Write(b []byte) (int, error) { return s.up.Write(b) }

// CloseWrite ends what is sent. RFC 9113 section 8.5: as a FIN.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	return s.up.Close()
}

// SetLinger is as net.TCPConn's: with 0 Close resets.
func (s *Stream) SetLinger(seconds int) error {
	s.mu.Lock()
	s.reset = seconds == 0
	s.mu.Unlock()
	return nil
}

// Close ends the stream. What was written before CloseWrite may still be on its
// way, and has some time for it.
func (s *Stream) Close() error {
	s.mu.Lock()
	wait := s.ended && !s.reset
	s.mu.Unlock()
	if wait {
		time.AfterFunc(lastWords, s.cancel)
	} else {
		s.cancel()
	}
	s.up.CloseWithError(net.ErrClosed)
	if !wait {
		return s.body.Close()
	}
	return nil
}

var errNoDeadline = errors.New("httpproxy: a stream has no deadlines")

// A stream has no addresses of its own, and no deadlines: Close ends a wait.
func (s *Stream) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *Stream) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *Stream) SetDeadline(time.Time) error      { return errNoDeadline }
func (s *Stream) SetReadDeadline(time.Time) error  { return errNoDeadline }
func (s *Stream) SetWriteDeadline(time.Time) error { return errNoDeadline }
