package worker

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"rocserv/egress"
	"rocserv/internal/ipc"
)

const (
	whyAddresses = 8                // of a destination
	whyLookup    = 5 * time.Second  // for its name
	whyDial      = 10 * time.Second // for all its addresses
)

// why says what would become of the client's traffic to a destination: by the
// same policy and the same ways, at this moment.
func (s *session) why(q *ipc.Why) *ipc.WhyAnswer {
	a := new(ipc.WhyAnswer)
	addrs, err := s.destination(q.Host)
	if err != nil {
		a.Error = err.Error()
		return a
	}
	ctx, cancel := context.WithTimeout(context.Background(), whyDial)
	defer cancel()
	for _, addr := range addrs[:min(len(addrs), whyAddresses)] {
		w := s.explain(egress.Proto(q.Proto), netip.AddrPortFrom(addr, uint16(q.Port)))
		if q.Dial && egress.Proto(q.Proto) == egress.TCP && w.Denied == "" {
			s.try(ctx, netip.AddrPortFrom(addr, uint16(q.Port)), w)
		}
		a.Addresses = append(a.Addresses, w)
	}
	return a
}

// destination is the addresses that the client is told for a name, or the
// address itself.
func (s *session) destination(host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if s.outside.Ask == nil {
		return nil, errors.New("there is no resolver")
	}
	ctx, cancel := context.WithTimeout(context.Background(), whyLookup)
	defer cancel()
	return s.outside.Ask(ctx, strings.TrimSuffix(strings.ToLower(host), "."))
}

func (s *session) explain(p egress.Proto, dst netip.AddrPort) *ipc.WhyAddress {
	w := &ipc.WhyAddress{Addr: ipc.PutAddr(dst.Addr())}
	rule, err := s.policy.Explain(p, dst)
	w.Rule = s.policy.Line(rule)
	if d := egress.Denied(0); errors.As(err, &d) {
		w.Denied = d.String()
		return w
	}
	if s.outside.Ways == nil {
		w.Ways = []*ipc.WhyWay{{Name: "direct", Up: true, Carries: true}}
		return w
	}
	e := s.outside.Ways.Explain(p, dst)
	w.Line, w.Told = e.Line, e.Name
	for _, h := range e.Ways {
		way := &ipc.WhyWay{Name: h.Name, Up: h.Up, Carries: h.Carries}
		if h.Err != nil {
			way.Error = h.Err.Error()
		}
		w.Ways = append(w.Ways, way)
	}
	if err := s.outside.Net.Check(p, dst); err != nil {
		w.Denied = err.Error() // no way of the list carries it
	}
	return w
}

// try connects as the client would, and ends the connection at once.
func (s *session) try(ctx context.Context, dst netip.AddrPort, w *ipc.WhyAddress) {
	began := time.Now()
	src := s.offer.lease.ipv4
	if dst.Addr().Is6() {
		src = s.offer.lease.ipv6
	}
	c, err := s.outside.Net.DialTCP(ctx, netip.AddrPortFrom(src, 0), dst)
	w.Dialled, w.DialUs = true, uint64(time.Since(began)/time.Microsecond)
	if err != nil {
		w.Failure = err.Error()
		return
	}
	c.Close()
}
