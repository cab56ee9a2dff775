package netstack

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"rocserv/egress"
	"rocserv/internal/packet"
)

// connector dials a flow's other half.
type connector func(context.Context) (egress.Stream, error)

// Why a dial was ended before it had a result. To the client all of them are
// silence.
var (
	errDialTimeout = errors.New("netstack: dial timed out")
	errGaveUp      = errors.New("netstack: client gave up")
	errCrowdedOut  = errors.New("netstack: dial gave way to others")
	errClosed      = errors.New("netstack: closed")
)

const (
	// dialGrace is how long a dial keeps its place when others want it.
	dialGrace = 3 * time.Second
	// patience is how long a client's first SYN counts; hosts repeat it after
	// one second (RFC 6298 section 2.1) or three. Later ones count two and a
	// half times the interval before, which doubles each time.
	patience = 4 * time.Second
	// A SYN that would leave with this TTL or more leaves with the host's
	// default: nobody looks for a router that far away.
	usualTTL = 60
	// handshakeLimit is how long the client's ACK of our SYN-ACK may take.
	// gVisor repeats the SYN-ACK after 1, 2, 4, 8 s and would go on for two minutes.
	handshakeLimit = 30 * time.Second
)

// flowOf names the flow of a segment from the client.
func flowOf(h *packet.Header, t header.TCP) Flow {
	return Flow{
		Src: netip.AddrPortFrom(h.Src, t.SourcePort()),
		Dst: netip.AddrPortFrom(h.Dst, t.DestinationPort()),
	}
}

// flowOfID is flowOf in gVisor's terms.
func flowOfID(id stack.TransportEndpointID) Flow {
	return Flow{
		Src: netip.AddrPortFrom(toNetip(id.RemoteAddress), id.RemotePort),
		Dst: netip.AddrPortFrom(toNetip(id.LocalAddress), id.LocalPort),
	}
}

func toNetip(a tcpip.Address) netip.Addr {
	if a.BitLen() == 32 {
		return netip.AddrFrom4(a.As4())
	}
	return netip.AddrFrom16(a.As16())
}

const dnsPort = 53

// admit judges a SYN, before anything is allocated for it. True: gVisor gets
// it, either for an endpoint of its own or, through the hook, as a new flow.
func (s *Stack) admit(key Flow, h *packet.Header, b []byte, t header.TCP) bool {
	now := s.clock.NowMonotonic()
	if v, known := s.table.repeated(key, t.SequenceNumber(), now); known {
		return v == pass
	}
	if s.retired.Load() {
		return false // the client repeats it, and then it goes where new flows go
	}
	dst := key.Dst.Addr()
	if dst == s.cfg.Gateway4 || dst == s.cfg.Gateway6 {
		return s.admitGateway(key, h, b, t)
	}
	if h.TTL <= 1 { // we are a router to everything else
		s.stats.packet.hops.Add(1)
		s.problem(packet.TimeExceeded, h, b)
		return false
	}
	if s.cfg.InterceptDNS && key.Dst.Port() == dnsPort && dst.IsGlobalUnicast() {
		return s.admitGateway(key, h, b, t)
	}
	if err := s.cfg.Net.Check(egress.TCP, key.Dst); err != nil {
		s.stats.dial.prohibited.Add(1)
		s.problem(packet.Prohibited, h, b)
		return false
	}
	if !s.room(dst, now) {
		return false
	}
	hops := int(h.TTL) - 1
	s.in.syn = candidate{flow: key, header: *h, packet: b, connect: func(ctx context.Context) (egress.Stream, error) {
		if hops < usualTTL {
			ctx = egress.WithTTL(ctx, hops)
		}
		return s.cfg.Net.DialTCP(ctx, key.Src, key.Dst)
	}}
	return true
}

// room asks the table for a place. A SYN without one is dropped: the client
// repeats it.
func (s *Stack) room(dst netip.Addr, now tcpip.MonotonicTime) bool {
	c, l := &s.stats, s.cfg.Limits
	switch s.table.room(dst, now) {
	case roomy:
		return true
	case atFlows:
		c.first(&c.dial.atLimitFlows, "client at its limit of TCP connections", "limit", l.Flows)
	case atHost:
		c.first(&c.dial.atLimitDials, "client at its limit of dials to one address", "limit", l.dialsPerHost())
	case atDials:
		c.first(&c.dial.atLimitDials, "client at its limit of dials", "limit", l.Dials)
	case atRate:
		c.first(&c.dial.atLimitRate, "client at its limit of new connections in a second", "limit", l.NewPerSecond)
	}
	return false
}

func (s *Stack) admitGateway(key Flow, h *packet.Header, b []byte, t header.TCP) bool {
	if s.cfg.GatewayTCP != nil {
		if connect, ok := s.cfg.GatewayTCP(key.Dst.Port()); ok {
			if !s.room(key.Dst.Addr(), s.clock.NowMonotonic()) {
				return false
			}
			s.in.syn = candidate{flow: key, header: *h, packet: b, connect: connect}
			return true
		}
	}
	s.reset(key, t, len(t.Payload()))
	return false
}

// unclaimed is gVisor's hook for segments that no endpoint wants. It runs in
// the goroutine that injects and therefore answers through the ring.
func (s *Stack) unclaimed(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	t := header.TCP(pkt.TransportHeader().Slice())
	key := flowOfID(id)
	switch flags := t.Flags(); {
	case flags.Contains(header.TCPFlagRst):
	case !flags.Contains(header.TCPFlagSyn) || flags.Contains(header.TCPFlagAck):
		s.reset(key, t, pkt.Data().Size())
	case s.in.syn.connect != nil && s.in.syn.flow == key:
		s.open(s.in.syn, t.SequenceNumber(), id, pkt)
	}
	// Else a SYN for a flow that is still in the table though its endpoint has
	// just gone. The client repeats it.
	return true
}

// open enters an admitted flow and has gVisor's forwarder start its goroutine.
// The forwarder refuses nothing: its own limit is out of reach, the limits are
// those of admit.
func (s *Stack) open(c candidate, seq uint32, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	now := s.clock.NowMonotonic()
	f := &flow{Flow: c.flow, stack: s, dial: &dial{
		header: c.header, syn: append([]byte(nil), c.packet[:min(c.header.Length, answerSize)]...),
		seq: seq, connect: c.connect, started: now, lastSYN: now,
	}}
	f.dial.ctx, f.dial.cancel = context.WithCancelCause(s.ctx)
	if !s.table.add(f) {
		f.dial.cancel(errClosed)
		return
	}
	s.stats.dial.begun.Add(1)
	s.begin.Do(func() { s.table.spawn(func() { s.repair.run(s.ctx.Done()) }) })
	scale, sack := synOptions(header.TCP(c.header.Payload(c.packet)))
	s.repair.path.Open(recoveryName(c.flow), scale, sack)
	if !s.forwarder.HandlePacket(id, pkt) {
		s.table.remove(f)
		s.table.running.Done()
		f.dial.cancel(errClosed)
	}
}

// forward is the forwarder's goroutine for one SYN: dial, then answer. A flow
// that comes of it goes on in goroutines of its own, which leaves the stack of
// this one and what the dial needed behind.
func (s *Stack) forward(req *tcp.ForwarderRequest) {
	f := s.table.lookup(flowOfID(req.ID()))
	d := f.dial
	defer d.cancel(nil)
	s.startLimit(f, d)
	defer d.limit.Stop()

	conn, err := d.connect(d.ctx)
	if err == nil && !s.table.setHandshake(f, conn, s.clock.NowMonotonic()) {
		resetConn(conn)
		err = errClosed // or what refuse finds in the context
	}
	if err != nil {
		s.refuse(f, d, req, err)
		s.table.running.Done()
		return
	}
	if !s.establish(f, d, req) {
		s.table.running.Done()
		return
	}
	f.run() // and at last Done
}

// startLimit starts the timer of a dial. Under the table's lock, because watch
// may run before AfterFunc has returned.
func (s *Stack) startLimit(f *flow, d *dial) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	d.limit = s.clock.AfterFunc(min(s.cfg.Limits.DialTimeout, patience), func() { s.watch(f, d) })
}

// watch ends a dial at its limit, or when the client has stopped asking, and a
// handshake at its.
func (s *Stack) watch(f *flow, d *dial) {
	next, cause := s.table.deadline(f, d, s.clock.NowMonotonic(), s.cfg.Limits.DialTimeout)
	switch {
	case next > 0:
		d.limit.Reset(next)
	case cause != nil:
		d.cancel(cause)
	}
}

// refuse tells the client the truth about a dial that failed.
func (s *Stack) refuse(f *flow, d *dial, req *tcp.ForwarderRequest, err error) {
	class := egress.Classify(err)
	if cause := context.Cause(d.ctx); cause != nil {
		err = cause
	}
	switch err {
	case errDialTimeout, errGaveUp, errCrowdedOut, errClosed:
		class = egress.TimedOut
	}
	s.stats.dialFailed(class, err)
	var reported *egress.ReportError
	icmp := class != egress.TimedOut && errors.As(err, &reported)
	rst := !icmp && (class == egress.Refused || class == egress.Unknown || class == egress.TooBig)
	req.Complete(rst) // before remove: a SYN that finds no flow must find no request either
	s.table.remove(f)
	if icmp {
		s.passOn(&reported.Report, d)
		return
	}
	switch class {
	case egress.NetUnreachable:
		s.answerSYN(packet.NetUnreachable, d)
	case egress.HostUnreachable:
		s.answerSYN(packet.HostUnreachable, d)
	case egress.Prohibited:
		s.answerSYN(packet.Prohibited, d)
	}
}

// answerSYN answers a SYN kept in a dial with what we say as the router.
func (s *Stack) answerSYN(p packet.Problem, d *dial) {
	s.sayAbout(d, p.Error(&d.header, d.syn, 0), s.reporter(&d.header))
}

// passOn answers a SYN kept in a dial with what the network said about ours.
func (s *Stack) passOn(rep *egress.Report, d *dial) {
	from := rep.From.Unmap()
	if !from.IsValid() || from.Is6() != d.header.V6() || from.Is6() && from.IsLinkLocalUnicast() {
		from = s.reporter(&d.header)
	}
	s.sayAbout(d, packet.ICMPError{Type: rep.Type, Code: rep.Code, Info: rep.Info}, from)
}

// sayAbout sends an ICMP error about a SYN kept in a dial. Unlike problem it may
// wait for the tunnel, and nothing is lost.
func (s *Stack) sayAbout(d *dial, e packet.ICMPError, from netip.Addr) {
	if !packet.MayAnswer(&d.header, d.syn) || s.link.closed.Load() {
		return
	}
	var b [answerSize]byte
	n := putError(b[:], e, from, &d.header, d.syn)
	s.cfg.Sink.Begin()
	copy(s.cfg.Sink.Next(n), b[:n])
	s.cfg.Sink.Add(n)
	s.cfg.Sink.End()
}

// establish completes the client's handshake. False: it did not, and the
// host's connection is reset.
func (s *Stack) establish(f *flow, d *dial, req *tcp.ForwarderRequest) bool {
	ep, terr := req.CreateEndpoint(&f.queue)
	req.Complete(false)
	if terr != nil {
		s.stats.dial.handshakesFailed.Add(1)
		s.table.remove(f)
		resetConn(f.conn)
		return false
	}
	s.setOptions(ep)
	f.directions.Store(2)
	if !s.table.setOpen(f, ep.(*tcp.Endpoint)) {
		f.abort()
		s.table.remove(f)
		return false
	}
	s.stats.dial.opened.Add(1)
	s.budget.limit(f.ep)
	f.shrinkTo(int(s.mtu.Load()))
	return true
}

// setOptions sets what gVisor keeps per endpoint. Keepalive finds clients that
// are gone while nothing is to be sent to them.
func (s *Stack) setOptions(ep tcpip.Endpoint) {
	idle := tcpip.KeepaliveIdleOption(keepaliveIdle)
	interval := tcpip.KeepaliveIntervalOption(keepaliveInterval)
	must(ep.SetSockOpt(&idle))
	must(ep.SetSockOpt(&interval))
	must(ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepaliveCount))
	ep.SocketOptions().SetKeepAlive(true)
}

// shrinkTo tells the flow's endpoint that packets of at most mtu bytes get
// through, as an ICMP "packet too big" would. RFC 1191, RFC 8201.
func (f *flow) shrinkTo(mtu int) {
	f.ep.HandleError(tooBig(f.payloadOf(mtu)+f.setAside()), nil)
}

// payloadOf is what an IP packet of mtu bytes carries for the flow.
func (f *flow) payloadOf(mtu int) int {
	if f.Src.Addr().Is6() {
		return max(mtu, header.IPv6MinimumMTU) - header.IPv6MinimumSize // RFC 8201 section 4
	}
	return mtu - header.IPv4MinimumSize
}

// tooBig is a stack.TransportError: the payload an IP packet may have, in bytes.
type tooBig uint32

func (tooBig) Origin() tcpip.SockErrOrigin    { return tcpip.SockExtErrorOriginNone }
func (tooBig) Type() uint8                    { return 0 }
func (tooBig) Code() uint8                    { return 0 }
func (t tooBig) Info() uint32                 { return uint32(t) }
func (tooBig) Kind() stack.TransportErrorKind { return stack.PacketTooBigTransportError }
