package resolver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"rocserv/egress"
	"rocserv/egress/tlsclient"
)

const (
	askTimeout = maxTries * tryTimeout // for the answer to one request
	askAfter   = 15 * time.Second      // of silence a PING is sent
	askWait    = 5 * time.Second       // for its answer
	mediaType  = "application/dns-message"
)

// overHTTPS is DNS over HTTPS to a server (RFC 8484), as a socket whose
// datagrams are messages. Requests share one connection of HTTP/2, which is
// made with the first and ends with an error.
type overHTTPS struct {
	server *Server
	dial   func(context.Context, *Server) (net.Conn, error)
	l      *link
	ctx    context.Context // of its life
	cancel context.CancelFunc

	once sync.Once
	made chan struct{}    // closed when cc or err is there
	cc   *http.ClientConn // set before made is closed, as is err
	err  error

	mu     sync.Mutex // protects the rest
	closed bool
	failed bool
}

var _ egress.PacketSocket = (*overHTTPS)(nil)

func newHTTPS(s *Server, dial func(context.Context, *Server) (net.Conn, error), l *link) *overHTTPS {
	h := &overHTTPS{server: s, dial: dial, l: l, made: make(chan struct{})}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
}

// Send implements egress.PacketSocket. How many requests there can be is the
// resolver's bound on queries.
func (h *overHTTPS) Send(msgs []egress.Message) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return 0, errClosed
	}
	h.once.Do(func() { go h.connect() })
	for i := range msgs {
		msg := bytes.Clone(msgs[i].Payload)
		go h.ask(msg)
	}
	return len(msgs), nil
}

var (
	errNoHTTP2 = errors.New("resolver: the server does not speak HTTP/2")
	errNotMade = errors.New("resolver: no connection") // which the link has been told
)

func (h *overHTTPS) connect() {
	h.cc, h.err = h.session()
	close(h.made)
	if h.err != nil {
		h.end(h.err)
	}
}

func (h *overHTTPS) session() (*http.ClientConn, error) {
	ctx, cancel := context.WithTimeout(h.ctx, dialTimeout)
	defer cancel()
	conn, err := h.dial(ctx, h.server)
	if err != nil {
		return nil, err
	}
	if c, ok := conn.(tlsclient.Conn); !ok || c.Protocol() != "h2" {
		conn.Close()
		return nil, errNoHTTP2
	}
	t := &http.Transport{
		// The connection has its TLS already.
		DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		Protocols:   new(http.Protocols), DisableCompression: true,
		HTTP2: &http.HTTP2Config{SendPingTimeout: askAfter, PingTimeout: askWait},
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	cc, err := t.NewClientConn(ctx, "http", "resolver:80")
	if err != nil {
		conn.Close()
	}
	return cc, err
}

// ask makes one request. The id is 0 on the way, so that caches between are of
// use (RFC 8484 section 4.1).
func (h *overHTTPS) ask(msg []byte) {
	id := dnsID(msg)
	setDNSID(msg, 0)
	answer, err := h.roundTrip(msg)
	var status statusError
	var reset streamError
	switch {
	case err == nil && len(answer) >= dnsHeaderLen:
		setDNSID(answer, id)
		h.l.Receive([]egress.Message{{Payload: answer}})
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errNotMade):
		// This request has no answer; the resolver waits no longer than for others.
	case err == nil, errors.As(err, &status):
		h.l.lost(id, true)
	case (errors.Is(err, errAnswer) || errors.As(err, &reset)) && h.cc.Err() == nil:
		h.l.lost(id, false) // which the other requests of the connection are not
	default:
		h.end(err)
	}
}

// streamError is how an error of one stream looks (RFC 9113 section 5.4.2):
// errors of net/http become what has the fields of golang.org/x/net/http2's.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (s streamError) Error() string { return fmt.Sprintf("resolver: HTTP/2 stream error %d", s.Code) }

// errAnswer is of an answer that has begun.
var errAnswer = errors.New("resolver: no whole answer")

// statusError is a server's refusal of a request.
type statusError int

func (s statusError) Error() string { return "resolver: HTTP status " + strconv.Itoa(int(s)) }

func (h *overHTTPS) roundTrip(msg []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(h.ctx, askTimeout)
	defer cancel()
	select {
	case <-h.made:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if h.err != nil {
		return nil, errNotMade
	}
	req := (&http.Request{
		Method: http.MethodPost, URL: h.url(), Body: io.NopCloser(bytes.NewReader(msg)), ContentLength: int64(len(msg)),
		Header: http.Header{"Accept": {mediaType}, "Content-Type": {mediaType}, "User-Agent": nil},
	}).WithContext(ctx)
	resp, err := h.cc.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != mediaType {
		return nil, statusError(resp.StatusCode)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, wholeAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errAnswer, err)
	case len(answer) > wholeAnswer:
		return nil, fmt.Errorf("%w: more than %d bytes", errAnswer, wholeAnswer)
	}
	return answer, nil
}

// url has the name that the certificate is for. The path is in percent-encoding.
func (h *overHTTPS) url() *url.URL {
	host := h.server.Host
	if host == "" {
		host = h.server.Addr.Addr().String()
	}
	if h.server.TLS.ServerName != "" {
		host = h.server.TLS.ServerName
	}
	if port := h.server.Addr.Port(); port != 443 {
		host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	u := &url.URL{Scheme: "https", Host: host, RawPath: h.server.Path}
	u.Path, _ = url.PathUnescape(h.server.Path)
	return u
}

// end tells the link, once, that there is no connection any more.
func (h *overHTTPS) end(err error) {
	h.mu.Lock()
	first := !h.closed && !h.failed
	h.failed = true
	h.mu.Unlock()
	if first {
		h.l.failed(err) // which closes
	}
}

// Close implements egress.PacketSocket.
func (h *overHTTPS) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errClosed
	}
	h.closed = true
	h.cancel()
	h.once.Do(func() { h.err = errClosed; close(h.made) })
	go func() {
		<-h.made
		if h.cc != nil {
			h.cc.Close()
		}
	}()
	return nil
}
