package way

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"rocserv/egress"
	"rocserv/egress/socks5"
)

// socks is a SOCKS5 proxy.
type socks struct {
	server
	policy *egress.Policy
	now    func() time.Time
	log    *slog.Logger

	noUDP atomic.Int64 // until when, in Unix nanoseconds, it is known to relay none
}

// udpAgain is when a proxy that relays no UDP is asked once more.
const udpAgain = 5 * time.Minute

func (s *socks) carries(p egress.Proto) bool {
	return p == egress.TCP || p == egress.UDP && s.now().UnixNano() >= s.noUDP.Load()
}

// refusesUDP takes note that the proxy relays no datagrams. That says nothing
// of its connections, so the way is not down.
func (s *socks) refusesUDP(err error) {
	if s.noUDP.Swap(s.now().Add(udpAgain).UnixNano()) == 0 {
		s.log.Warn("way out carries no UDP", "way", s.Name, "err", err)
	}
}

// greeted is a connection to the proxy that is logged in.
func (s *socks) greeted(ctx context.Context) (c egress.Stream, err error) {
	err = s.reach(ctx, func(ctx context.Context) error {
		if c, err = s.connect(ctx); err != nil {
			return err
		}
		return guarded(ctx, c, func() error {
			return socks5.Greet(c, socks5.Login{User: s.Login.User, Password: s.Login.Password})
		})
	})
	if err != nil && c != nil {
		c.Close()
	}
	return c, err
}

// dial returns the proxy's own connection: its bytes are the destination's.
func (s *socks) dial(ctx context.Context, t target) (egress.Stream, error) {
	c, err := s.greeted(ctx)
	if err != nil {
		return nil, err
	}
	err = guarded(ctx, c, func() error { return socks5.Connect(c, t.name, t.addr) })
	if err != nil {
		c.Close()
		return nil, s.blame(ctx, err)
	}
	return c, nil
}

// blame says whose fault it is that an asked proxy gave no connection.
func (s *socks) blame(ctx context.Context, err error) error {
	var reply socks5.Reply
	if ctx.Err() != nil || errors.As(err, &reply) && reply != socks5.NoCommand {
		return err
	}
	return &Failure{s.Name, err}
}

func (s *socks) open(_ egress.Proto, v6 bool, r egress.Receiver) (egress.PacketSocket, error) {
	return newAssociation(s, v6, r), nil
}

func (s *socks) probe(ctx context.Context) error {
	t, ok := s.checkTarget()
	if ok {
		c, err := s.dial(ctx, t)
		if err == nil {
			c.Close()
		}
		return err
	}
	c, err := s.greeted(ctx)
	if err == nil {
		c.Close()
	}
	return err
}

func (*socks) close() {}

// errRelay is a relay that we do not send to.
var errRelay = errors.New("the proxy names a relay that clients may not reach")

// relay judges where the proxy wants datagrams: at its own address, or where a
// client may send to anyway.
func (s *socks) relay(bound netip.AddrPort, proxy netip.Addr) (netip.AddrPort, error) {
	a := bound.Addr().Unmap()
	if !a.IsValid() || a.IsUnspecified() || a == proxy {
		return netip.AddrPortFrom(proxy, bound.Port()), nil
	}
	if s.policy.Check(egress.UDP, bound) != nil {
		return netip.AddrPort{}, errRelay
	}
	return bound, nil
}
