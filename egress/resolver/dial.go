package resolver

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"rocserv/egress"
	"rocserv/egress/tlsclient"
)

// Dial makes a connection to a server by a way of the operator's; host is a name
// or an address.
type Dial func(ctx context.Context, host string, port uint16) (egress.Stream, error)

// Lookup finds the addresses of a name.
type Lookup func(ctx context.Context, name string) ([]netip.Addr, error)

// outside is how servers are reached.
type outside struct {
	direct *egress.Direct
	dial   Dial // nil: direct
	lookup Lookup
}

// open is the opener of links on host sockets.
func (o *outside) open(l *link) (egress.PacketSocket, error) {
	s := &l.u.server
	switch {
	case s.Kind == HTTPS:
		return newHTTPS(s, o.connectTLS, l), nil
	case s.Kind == TLS:
		return newConnection(func(ctx context.Context) (net.Conn, error) { return o.connectTLS(ctx, s) }, l), nil
	case l.long:
		return newConnection(func(ctx context.Context) (net.Conn, error) { return o.connect(ctx, s) }, l), nil
	}
	return o.direct.OpenConfigured(s.Addr, l, l.failed)
}

// connect makes a connection to a server.
func (o *outside) connect(ctx context.Context, s *Server) (egress.Stream, error) {
	host := s.Host
	if host == "" {
		host = s.Addr.Addr().String()
	}
	if o.dial != nil {
		return o.dial(ctx, host, s.Addr.Port())
	}
	if s.Host == "" {
		return o.direct.DialConfigured(ctx, s.Addr)
	}
	if o.lookup == nil {
		return nil, fmt.Errorf("resolver: %s: nobody to ask for its address", s.Host)
	}
	return dialName(ctx, o.direct, o.lookup, s.Host, s.Addr.Port())
}

// connectTLS makes a connection with TLS, whose certificate is verified.
func (o *outside) connectTLS(ctx context.Context, s *Server) (net.Conn, error) {
	c, err := o.connect(ctx, s)
	if err != nil {
		return nil, err
	}
	return tlsclient.Client(ctx, c, s.TLS)
}
