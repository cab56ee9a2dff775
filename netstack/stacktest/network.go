package stacktest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"rocserv/egress"
)

// Conn is a connection as a host sees it.
type Conn interface {
	net.Conn
	CloseWrite() error
	SetLinger(sec int) error // 0: Close resets
}

// Network is an egress.Network of scripted hosts. What is not scripted refuses
// connections and swallows datagrams.
type Network struct {
	// Sockets makes streams pairs of TCP sockets on the loopback interface
	// instead of memory. Set it before the first dial.
	Sockets bool

	mu         sync.Mutex
	hosts      map[netip.AddrPort]host
	udp        map[netip.AddrPort]func([]byte) []byte
	pingable   map[netip.Addr]bool
	prohibited []netip.Prefix
	dials      int
	dialing    int
	closed     bool

	running sync.WaitGroup
	conns   map[net.Conn]struct{}
	inbox   chan delivery
	done    chan struct{}
}

// host is one address and port of TCP.
type host struct {
	err   error         // of the dial
	black bool          // no answer at all
	delay time.Duration // before the answer
	serve func(Conn)
}

var _ egress.Network = (*Network)(nil)

// NewNetwork returns a network without hosts. Close ends it.
func NewNetwork() *Network {
	n := &Network{
		hosts:    make(map[netip.AddrPort]host),
		udp:      make(map[netip.AddrPort]func([]byte) []byte),
		pingable: make(map[netip.Addr]bool),
		conns:    make(map[net.Conn]struct{}),
		inbox:    make(chan delivery, 1024),
		done:     make(chan struct{}),
	}
	n.running.Go(n.deliver)
	return n
}

// Close resets all connections and waits for the hosts' functions.
func (n *Network) Close() {
	n.mu.Lock()
	if !n.closed {
		n.closed = true
		close(n.done)
	}
	for c := range n.conns {
		c.Close()
	}
	n.mu.Unlock()
	n.running.Wait()
}

func (n *Network) set(dst netip.AddrPort, h host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[dst] = h
}

// Serve lets fn be the host at dst: it is called for each connection, in a
// goroutine of its own; the connection is closed when it returns.
func (n *Network) Serve(dst netip.AddrPort, fn func(Conn)) { n.set(dst, host{serve: fn}) }

// ServeSlowly is Serve with a delay before connections are accepted.
func (n *Network) ServeSlowly(dst netip.AddrPort, delay time.Duration, fn func(Conn)) {
	n.set(dst, host{serve: fn, delay: delay})
}

// Fail lets dials to dst end with err. For errors of the network use a syscall.Errno.
func (n *Network) Fail(dst netip.AddrPort, err error) { n.set(dst, host{err: err}) }

// BlackHole lets dials to dst wait until they are given up.
func (n *Network) BlackHole(dst netip.AddrPort) { n.set(dst, host{black: true}) }

// Prohibit lets the policy refuse a prefix.
func (n *Network) Prohibit(p netip.Prefix) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.prohibited = append(n.prohibited, p)
}

// Dials returns how many TCP dials have begun and how many are under way.
func (n *Network) Dials() (total, now int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials, n.dialing
}

// Check implements egress.Network.
func (n *Network) Check(_ egress.Proto, dst netip.AddrPort) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.prohibited {
		if p.Contains(dst.Addr()) {
			return fmt.Errorf("stacktest: %v: %w", dst, egress.ErrProhibited)
		}
	}
	return nil
}

// DialTCP implements egress.Network.
func (n *Network) DialTCP(ctx context.Context, _, dst netip.AddrPort) (egress.Stream, error) {
	if err := n.Check(egress.TCP, dst); err != nil {
		return nil, err
	}
	h := n.begin(dst)
	defer n.end()
	if h.black {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if h.delay > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(h.delay):
		}
	}
	if h.err != nil {
		return nil, h.err
	}
	ours, theirs, err := n.pair()
	if err != nil {
		return nil, err
	}
	if !n.track(theirs) {
		ours.Close()
		theirs.Close()
		return nil, net.ErrClosed
	}
	go func() {
		defer n.running.Done()
		defer n.untrack(theirs)
		h.serve(theirs)
	}()
	return ours, nil
}

// begin counts a dial and finds its host.
func (n *Network) begin(dst netip.AddrPort) host {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials++
	n.dialing++
	h, ok := n.hosts[dst]
	if !ok {
		h.err = syscall.ECONNREFUSED
	}
	return h
}

func (n *Network) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialing--
}

func (n *Network) track(c net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.conns[c] = struct{}{}
	n.running.Add(1)
	return true
}

func (n *Network) untrack(c net.Conn) {
	c.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}

// pair returns the two ends of a connection.
func (n *Network) pair() (ours, theirs Conn, err error) {
	if !n.Sockets {
		a, b := newPipe()
		return a, b, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	b, err := l.Accept()
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	return a.(*net.TCPConn), b.(*net.TCPConn), nil
}
