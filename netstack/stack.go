package netstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"rocserv/egress"
	"rocserv/internal/packet"
	"rocserv/netstack/shape"
)

// Config is what a Stack needs.
type Config struct {
	// Addrs is the client's lease. Its families are the ones the stack speaks.
	Addrs []netip.Addr
	// Gateway4 and Gateway6 are our own addresses in the tunnel: where
	// GatewayTCP listens and ICMP errors come from. Either may be invalid.
	Gateway4, Gateway6 netip.Addr
	// MTU of the tunnel: the longest inner packet in bytes. See SetMTU.
	MTU  int
	Sink packet.Sink // towards the client
	Net  egress.Network

	Limits Limits

	// GatewayTCP says how to reach a service on the gateway's address; !ok
	// means that nothing listens there. It must not wait. Nil: nothing listens.
	GatewayTCP func(port uint16) (dial func(context.Context) (egress.Stream, error), ok bool)

	// InterceptDNS gives connections to port 53 of any other host to GatewayTCP.
	InterceptDNS bool

	// Datagram takes whole UDP and ICMP packets that came to Inject: put
	// together from fragments, or with IP options. It is called by Inject, must
	// not wait or call Inject, and may keep nothing of pkt. Nil: the client is
	// told that we do not speak the protocol.
	Datagram func(h packet.Header, pkt []byte)

	// Up and Down keep the bytes of all flows within a rate; nil: they do not.
	Up, Down *shape.Limiter

	// Lossless says that the channel in use loses nothing (CSTP). See SetLossless.
	Lossless bool

	Clock tcpip.Clock  // nil: the real one
	Log   *slog.Logger // nil: nothing is logged
}

// Limits bound what one client can make of its stack. Zero means the default.
type Limits struct {
	// Flows is how many TCP connections there may be, established or on the way
	// there; as many more may be in their last exchange or in TIME-WAIT. Default
	// 2048.
	Flows int
	// Dials is how many may be dialing or waiting for the client's ACK; half of
	// them to the same address. Default 512.
	Dials int
	// NewPerSecond is how many connections may be begun in a second, and at once.
	// Default 2000.
	NewPerSecond int
	// Buffers is how many bytes the send and receive buffers of all flows may
	// hold together, apart from 16 KiB that each buffer gets in any case.
	// Default 32 MiB.
	Buffers int
	// DialTimeout is how long the network has to accept. Default 10 s.
	DialTimeout time.Duration
}

func (l *Limits) setDefaults() {
	if l.Flows <= 0 {
		l.Flows = 2048
	}
	if l.Dials <= 0 {
		l.Dials = 512
	}
	if l.NewPerSecond <= 0 {
		l.NewPerSecond = 2000
	}
	if l.Buffers <= 0 {
		l.Buffers = 32 << 20
	}
	if l.DialTimeout <= 0 {
		l.DialTimeout = 10 * time.Second
	}
}

// dialsPerHost is what one destination may have of Dials.
func (l *Limits) dialsPerHost() int { return max(1, l.Dials/2) }

const (
	nicID = 1
	ttl   = 64

	minMTU = 576   // RFC 791 section 3.2: what every host takes
	maxMTU = 16000 // less than packet.MaxPacket

	// Options of gVisor's TCP that differ from its defaults.
	timeWait = 5 * time.Second // the only path is the tunnel
	// maxRTO is the least RFC 6298 section 2.4 allows: a client that comes back
	// after a while without network must not wait two minutes.
	maxRTO = 60 * time.Second
	// minRTO leaves the repair of losses to netstack/recovery; the stack's own
	// retransmission is for what that gives up.
	minRTO = 3 * time.Second
	// retries is after how many repetitions in vain the client is gone: beginning
	// with minRTO, seven and a half minutes (RFC 9293 section 3.8.3: at least 100 s).
	retries = 11
	// A client that is gone is noticed after 120 + 4 × 30 s of silence.
	keepaliveIdle     = 120 * time.Second
	keepaliveInterval = 30 * time.Second
	keepaliveCount    = 4
	// finWait2 and orphanTimeout end endpoints nobody here waits for any more.
	finWait2      = 30 * time.Second
	orphanTimeout = 60 * time.Second

	// halfClosedIdle is RFC 5382 REQ-5's least for a connection that is partly
	// closed.
	halfClosedIdle = 4 * time.Minute
)

// Stack is the end of one client's TCP, and the way between its packets and
// the streams of an egress.Network.
type Stack struct {
	cfg    Config
	clock  tcpip.Clock
	ctx    context.Context // of all dials
	cancel context.CancelCauseFunc

	gv        *stack.Stack
	link      *link
	forwarder *tcp.Forwarder
	mtu       atomic.Int64 // as given; link.MTU is more (setMTU)
	retired   atomic.Bool

	repair  *repairer
	begin   sync.Once // of the repairer's goroutine, with the first flow
	in      injector
	answers answers
	table   table
	budget  budget
	buffers buffers
	stats   counters
}

// New makes a stack. It has no goroutine of its own but gVisor's, one per
// GOMAXPROCS. Close ends it.
func New(cfg Config) (*Stack, error) {
	if len(cfg.Addrs) == 0 {
		return nil, errors.New("netstack: no client address")
	}
	cfg.Limits.setDefaults()
	if cfg.Clock == nil {
		cfg.Clock = tcpip.NewStdClock()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Stack{cfg: cfg, clock: cfg.Clock}
	s.stats.log = cfg.Log
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.gv = stack.New(stack.Options{
		NetworkProtocols:   families(cfg.Addrs),
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocolCUBIC},
		Clock:              cfg.Clock,
	})
	s.link = &link{sink: cfg.Sink, stats: &s.stats, tunnel: &s.mtu}
	s.repair = newRepairer(s.link, cfg.Clock)
	s.link.path, s.link.late.due = s.repair.path, func() { nudge(s.repair.late) }
	s.setMTU(cfg.MTU)
	s.budget.init(s.gv, cfg.Limits.Buffers)
	s.table.init(cfg.Limits, &s.budget)
	s.answers = answers{
		table: &s.table, sink: cfg.Sink, clock: cfg.Clock, stats: &s.stats,
		tokens: icmpBurst, counted: cfg.Clock.NowMonotonic(),
	}
	s.in.gro.link = s.link
	s.in.fragments.stats = &s.stats
	s.setStackOptions()
	if err := s.attach(); err != nil {
		s.gv.Destroy()
		return nil, err
	}
	return s, nil
}

// families returns the network protocols of a lease. Loopback addresses are
// left to the egress policy, like all others.
func families(addrs []netip.Addr) (f []stack.NetworkProtocolFactory) {
	var v4, v6 bool
	for _, a := range addrs {
		v4 = v4 || a.Is4()
		v6 = v6 || a.Is6()
	}
	if v4 {
		f = append(f, ipv4.NewProtocolWithOptions(ipv4.Options{AllowExternalLoopbackTraffic: true}))
	}
	if v6 {
		f = append(f, ipv6.NewProtocolWithOptions(ipv6.Options{AllowExternalLoopbackTraffic: true}))
	}
	return f
}

// attach makes the only interface, which accepts packets for every address
// (promiscuous) and sends from every address (spoofing).
func (s *Stack) attach() error {
	s.forwarder = tcp.NewForwarder(s.gv, min(defaultBuffer, s.budget.share()), math.MaxInt, s.forward)
	s.gv.SetTransportProtocolHandler(tcp.ProtocolNumber, s.unclaimed)
	for _, step := range []func() tcpip.Error{
		func() tcpip.Error { return s.gv.CreateNICWithOptions(nicID, s.link, stack.NICOptions{QDisc: s.link}) },
		func() tcpip.Error { return s.gv.SetPromiscuousMode(nicID, true) },
		func() tcpip.Error { return s.gv.SetSpoofing(nicID, true) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("netstack: interface: %v", err)
		}
	}
	s.gv.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nicID},
		{Destination: header.IPv6EmptySubnet, NIC: nicID},
	})
	return nil
}

// setStackOptions sets what differs from gVisor's defaults, and what must not
// change with them.
func (s *Stack) setStackOptions() {
	var (
		sack       = tcpip.TCPSACKEnabled(true)
		recovery   = tcpip.TCPRecovery(0) // no RACK: its recoveries were spurious and did not end
		nagle      = tcpip.TCPDelayEnabled(false)
		moderate   = tcpip.TCPModerateReceiveBufferOption(true)
		twTimeout  = tcpip.TCPTimeWaitTimeoutOption(timeWait)
		finTimeout = tcpip.TCPLingerTimeoutOption(finWait2)
		rto        = tcpip.TCPMaxRTOOption(maxRTO)
		leastRTO   = tcpip.TCPMinRTOOption(minRTO)
		maxRetries = tcpip.TCPMaxRetriesOption(retries)
		// Reno's slow start ends with the first loss, and it sees none.
		reno = tcpip.CongestionControlOption("reno")
	)
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&sack, &recovery, &nagle, &moderate, &twTimeout, &finTimeout, &rto, &leastRTO, &maxRetries, &reno,
	} {
		must(s.gv.SetTransportProtocolOption(tcp.ProtocolNumber, o))
	}
	s.SetLossless(s.cfg.Lossless)
}

// must panics if gVisor refuses what it documents to take.
func must(err tcpip.Error) {
	if err != nil {
		panic("netstack: internal error: " + err.String())
	}
}

// SetLossless says whether the channel in use loses nothing (CSTP): then more may
// be under way, and timeouts are longer (netstack/recovery).
func (s *Stack) SetLossless(lossless bool) { s.repair.path.SetLossless(lossless) }

// Moved says that the client is reached by another way: what was known of it is
// forgotten.
func (s *Stack) Moved() { s.repair.path.Moved() }

// established returns the flows that have an endpoint.
func (s *Stack) established() (list []*flow) {
	s.table.each(func(f *flow) {
		if f.ep != nil {
			list = append(list, f)
		}
	})
	return list
}

// now is the clock in ns.
func (s *Stack) now() int64 { return int64(s.clock.NowMonotonic().Sub(tcpip.MonotonicTime{})) }

// Flows is how many flows there are, in any state: as long as it is not zero,
// packets for them must come to Inject.
func (s *Stack) Flows() int {
	n, _, _ := s.table.sizes()
	return n
}

// Unfinished is how many flows would be missed if the stack ended now: a flow
// that is only closing counts as long as the client may lack something of it and
// would be waited for otherwise. Like Flows it takes no endpoint's lock.
func (s *Stack) Unfinished() (n int) {
	now := s.clock.NowMonotonic()
	s.table.each(func(f *flow) {
		if f.state == closing {
			switch tcp.EndpointState(f.ep.State()) {
			case tcp.StateFinWait2, tcp.StateTimeWait, tcp.StateClose, tcp.StateError:
				return
			}
			if now.Sub(f.since) >= orphanTimeout {
				return
			}
		}
		n++
	})
	return n
}

// AppendFlows appends the names of all flows. Like Flows it takes no
// endpoint's lock.
func (s *Stack) AppendFlows(dst []Flow) []Flow {
	s.table.each(func(f *flow) { dst = append(dst, f.Flow) })
	return dst
}

// Retire lets no new flow begin: SYNs of flows that are not here get no answer.
// The flows that there are go on.
func (s *Stack) Retire() { s.retired.Store(true) }

// Trim gives back memory that only traffic needs. What it frees,
// runtime/debug.FreeOSMemory returns to the system.
func (s *Stack) Trim() {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	s.in.gro.trim()
	s.in.fragments.expire(s.clock.NowMonotonic())
	s.answers.trim()
	s.repair.path.Trim()
	s.table.trim()
}

// Close ends everything: flows (their hosts get a RST: a FIN would say that the
// data was complete), dials, goroutines. It waits for all of them. Writers that
// wait for the tunnel wake when the Sink is closed, so close that first.
// Nothing is sent to the client any more, and Inject does nothing. Close may be
// called once, not from Datagram or GatewayTCP.
func (s *Stack) Close() {
	s.link.closed.Store(true)
	s.in.mu.Lock() // until an Inject that has begun is done
	s.table.close()
	s.in.mu.Unlock()
	s.cancel(errClosed)
	done := make(chan struct{})
	go func() {
		s.table.running.Wait()
		close(done)
	}()
	for {
		s.abortAll()
		// Endpoints that are still shaking hands can be named by gVisor only, and
		// one may be made while we look.
		for _, ep := range s.gv.RegisteredEndpoints() {
			ep.Abort()
		}
		select {
		case <-done:
			s.repair.path.Close()
			s.gv.Destroy()
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// abortAll resets all flows, at the same time: closing a stream may take a
// while if it has to say goodbye to a proxy.
func (s *Stack) abortAll() {
	var all sync.WaitGroup
	for _, f := range s.established() {
		if !f.aborted.Load() {
			all.Go(f.abort)
		}
	}
	all.Wait()
}
