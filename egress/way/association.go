package way

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"rocserv/egress"
	"rocserv/egress/socks5"
)

const (
	maxEarly      = 16 // datagrams that wait for an association
	maxEarlyBytes = 64 << 10
)

// association is a socket of a SOCKS proxy: datagrams go to the proxy's relay
// while the connection they were asked for on is open. It is asked for with the
// first datagrams, which wait for it; nobody else does.
type association struct {
	way    *socks
	v6     bool
	r      egress.Receiver
	result func(error) // told, once, what came of asking; nil: nobody

	mu      sync.Mutex // protects the rest
	state   associationState
	early   [][]byte
	size    int // of early, in bytes
	control egress.Stream
	sock    egress.PacketSocket
	relay   netip.AddrPort
	buf     []byte           // of one Send
	out     []egress.Message // of one Send

	in []egress.Message // of one Receive; its goroutine's
}

type associationState uint8

const (
	unasked associationState = iota
	asking
	relaying
	ended
)

func newAssociation(s *socks, v6 bool, r egress.Receiver) *association {
	return &association{way: s, v6: v6, r: r}
}

// dead says whether it is good for nothing more.
func (a *association) dead() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state == ended
}

// Send implements egress.PacketSocket.
func (a *association) Send(msgs []egress.Message) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case ended:
		return len(msgs), nil // lost, as on a wire
	case relaying:
		return a.send(msgs)
	case unasked:
		a.state = asking
		go a.run()
	}
	for i := range msgs {
		n := len(msgs[i].Payload)
		if len(a.early) == maxEarly || a.size+n > maxEarlyBytes {
			break
		}
		a.early = append(a.early, append(socks5.AppendHeader(nil, msgs[i].Addr), msgs[i].Payload...))
		a.size += n
	}
	return len(msgs), nil
}

// send writes the headers and payloads one behind the other and sends them at
// once. The lock is held.
func (a *association) send(msgs []egress.Message) (int, error) {
	size := 0
	for i := range msgs {
		size += socks5.MaxHeader + len(msgs[i].Payload)
	}
	if cap(a.buf) < size {
		a.buf = make([]byte, 0, size)
	}
	b := a.buf[:0]
	for i := range msgs {
		start := len(b)
		b = append(socks5.AppendHeader(b, msgs[i].Addr), msgs[i].Payload...)
		a.out = append(a.out, egress.Message{Addr: a.relay, Payload: b[start:]})
	}
	n, err := a.sock.Send(a.out)
	clear(a.out)
	a.out = a.out[:0]
	return n, err
}

// run asks for the association and waits until the proxy ends it.
func (a *association) run() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*defaultTimeout)
	c, err := a.ask(ctx)
	cancel()
	if a.result != nil && !errors.Is(err, net.ErrClosed) {
		a.result(err)
	}
	var b [1]byte
	for err == nil {
		_, err = c.Read(b[:])
	}
	a.finish() // who sends after this asks again
}

func (a *association) ask(ctx context.Context) (egress.Stream, error) {
	c, err := a.way.greeted(ctx)
	if err != nil {
		return nil, err
	}
	var bound netip.AddrPort
	err = guarded(ctx, c, func() error {
		bound, err = socks5.Associate(c, a.v6)
		return err
	})
	if err == nil {
		bound, err = a.way.relay(bound, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
	}
	if err == nil {
		err = a.begin(c, bound)
	}
	if err != nil {
		c.Close()
		return nil, a.blame(err)
	}
	return c, nil
}

// blame says whose fault it is that an asked proxy gave no association.
func (a *association) blame(err error) error {
	var reply socks5.Reply
	if errors.As(err, &reply) || err == errRelay {
		a.way.refusesUDP(err)
		return err
	}
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	return &Failure{a.way.Name, fmt.Errorf("UDP: %w", err)}
}

// begin opens the socket to the relay and sends what has waited.
func (a *association) begin(c egress.Stream, relay netip.AddrPort) error {
	sock, err := a.way.net.OpenConfigured(relay, a, nil)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == ended {
		sock.Close()
		return net.ErrClosed
	}
	a.state, a.control, a.sock, a.relay = relaying, c, sock, relay
	for _, b := range a.early {
		sock.Send([]egress.Message{{Addr: relay, Payload: b}})
	}
	a.early = nil
	return nil
}

// finish frees everything; false: that was done before.
func (a *association) finish() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == ended {
		return false
	}
	a.state = ended
	a.early, a.buf = nil, nil
	if a.control != nil {
		a.control.Close()
		a.sock.Close()
	}
	return true
}

// Close implements egress.PacketSocket.
func (a *association) Close() error {
	a.finish()
	return nil
}

// Report implements egress.Receiver. What is said of the relay says nothing of
// who the client speaks to.
func (a *association) Report(*egress.Report) {}

// Receive implements egress.Receiver for what the relay sends.
func (a *association) Receive(msgs []egress.Message) {
	for i := range msgs {
		if from, payload, ok := socks5.ParseDatagram(msgs[i].Payload); ok {
			a.in = append(a.in, egress.Message{Addr: from, Payload: payload})
		}
	}
	if len(a.in) > 0 {
		a.r.Receive(a.in)
	}
	clear(a.in)
	a.in = a.in[:0]
}
