package way

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"rocserv/egress"
	"rocserv/egress/httpproxy"
	"rocserv/egress/resolver"
	"rocserv/egress/tlsclient"
)

// Kind is what a way is.
type Kind string

// The kinds.
const (
	Direct    Kind = "direct"
	Blackhole Kind = "blackhole"
	SOCKS5    Kind = "socks5"
	HTTP      Kind = "http"
	HTTPS     Kind = "https"
)

// Definition is a way as the operator defines it.
type Definition struct {
	Name    string
	Kind    Kind
	Host    string // of a proxy: address or name
	Port    uint16
	Login   httpproxy.Login // of any proxy
	TLS     tlsclient.Config
	Check   string // host:port that a probe connects to; empty: the proxy itself will do
	Binding egress.Binding
	Timeout time.Duration // to reach the proxy; 0: five seconds
}

const defaultTimeout = 5 * time.Second

// target is a destination.
type target struct {
	addr netip.AddrPort
	name string // by which the client asked for it; empty: unknown

	// configured is what the operator names, not a client; it may have a name and
	// no address.
	configured bool
}

// authority is the target as HTTP writes it.
func (t target) authority() string {
	host := t.name
	if host == "" {
		host = t.addr.Addr().Unmap().WithZone("").String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(t.addr.Port())))
}

// carrier is a kind of way at work.
type carrier interface {
	carries(egress.Proto) bool
	dial(context.Context, target) (egress.Stream, error)
	open(p egress.Proto, v6 bool, r egress.Receiver) (egress.PacketSocket, error)
	probe(context.Context) error
	close()
}

// Failure is an error of a way itself, whatever the destination. To the client
// it is a router's: host unreachable.
type Failure struct {
	Way string
	Err error
}

func (f *Failure) Error() string { return fmt.Sprintf("way %s: %v", f.Way, f.Err) }

// Unwrap does not give Err away: that the proxy refused us is not that the
// destination refused the client.
func (f *Failure) Unwrap() error { return syscall.EHOSTUNREACH }

// errCannot is a list without a way for a protocol.
var errCannot = fmt.Errorf("no way out carries this protocol: %w", egress.ErrProhibited)

// direct is the host's own sockets.
type direct struct {
	net    *egress.Direct
	lookup resolver.Lookup
}

func (direct) carries(egress.Proto) bool { return true }

func (d direct) dial(ctx context.Context, t target) (egress.Stream, error) {
	switch {
	case t.configured && t.name != "":
		return resolver.DialService(ctx, d.net, d.lookup, t.name, t.addr.Port())
	case t.configured:
		return d.net.DialConfigured(ctx, t.addr)
	}
	return d.net.DialTCP(ctx, netip.AddrPort{}, t.addr)
}

func (d direct) open(p egress.Proto, v6 bool, r egress.Receiver) (egress.PacketSocket, error) {
	if p == egress.UDP {
		return d.net.OpenUDP(v6, r)
	}
	return d.net.OpenPing(v6, r)
}

func (direct) probe(context.Context) error { return nil }
func (direct) close()                      {}

// blackhole takes everything and is silent.
type blackhole struct{}

func (blackhole) carries(egress.Proto) bool { return true }

func (blackhole) dial(context.Context, target) (egress.Stream, error) {
	return nil, fmt.Errorf("blackhole: %w", context.DeadlineExceeded) // to the client: silence
}

func (blackhole) open(egress.Proto, bool, egress.Receiver) (egress.PacketSocket, error) {
	return silence{}, nil
}

func (blackhole) probe(context.Context) error { return nil }
func (blackhole) close()                      {}

type silence struct{}

func (silence) Send(msgs []egress.Message) (int, error) { return len(msgs), nil }
func (silence) Close() error                            { return nil }

// server is a proxy as one connects to it.
type server struct {
	Definition
	net    *egress.Direct
	lookup resolver.Lookup
}

// connect makes a connection to the proxy within the way's time.
func (s *server) connect(ctx context.Context) (egress.Stream, error) {
	addrs, err := s.addrs(ctx)
	if err != nil {
		return nil, err
	}
	ctx = egress.WithTTL(ctx, 0) // a client's tracing is not of the way to the proxy
	for _, a := range addrs {
		var c egress.Stream
		if c, err = s.net.DialConfigured(ctx, netip.AddrPortFrom(a, s.Port)); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func (s *server) addrs(ctx context.Context) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(s.Host); err == nil {
		return []netip.Addr{a}, nil
	}
	addrs, err := s.lookup(ctx, s.Host)
	if err == nil && len(addrs) == 0 {
		err = errors.New("no address")
	}
	if err != nil {
		return nil, fmt.Errorf("name of the proxy: %w", err)
	}
	return addrs, nil
}

// reach runs what comes before a destination is asked for, within the way's
// time. Its error is the way's, unless the caller has given up.
func (s *server) reach(ctx context.Context, f func(context.Context) error) error {
	limit := s.Timeout
	if limit <= 0 {
		limit = defaultTimeout
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := f(within)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if within.Err() != nil {
		err = fmt.Errorf("no answer for %v", limit)
	}
	return &Failure{s.Name, err}
}

// long ago: a deadline that wakes whoever waits on a connection.
var longAgo = time.Unix(1, 0)

// guarded runs f, which reads and writes c, until ctx is done.
func guarded(ctx context.Context, c net.Conn, f func() error) error {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(longAgo) })
	err := f()
	if !stop() && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// checkTarget is what a probe connects to, if the operator names something.
func (s *server) checkTarget() (target, bool) {
	if s.Check == "" {
		return target{}, false
	}
	host, port, err := net.SplitHostPort(s.Check)
	n, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil {
		return target{}, false
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return target{addr: netip.AddrPortFrom(a, uint16(n))}, true
	}
	return target{name: host, addr: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(n))}, true
}
