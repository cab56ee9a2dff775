package netstack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"rocserv/internal/packet"
)

// injector is the way up from the tunnel: what Inject has at hand.
type injector struct {
	mu        sync.Mutex // held by Inject and Trim; Close waits for it
	gro       gro
	fragments fragments
	syn       candidate
}

// candidate is the SYN that is just on its way into gVisor, admitted as the
// first of a new flow. The forwarder's hook, which gVisor calls when no
// endpoint wants the segment, takes it; the call is synchronous.
type candidate struct {
	flow    Flow
	header  packet.Header
	packet  []byte
	connect connector // nil: there is no candidate
}

// Inject takes one receive batch of the client's packets: IP packets whose
// source is the lease. It is for TCP and whatever is not a whole UDP or ICMP
// packet without options; those have their own relay beside the stack. The
// slices are used during the call only; what is kept is copied once. Calls
// exclude each other, but order within a flow is the caller's: one goroutine
// per channel.
//
// Inject never waits for the tunnel, for the network or for an endpoint's
// lock, so the goroutine that reads the tunnel cannot be stopped by one that
// writes it.
func (s *Stack) Inject(pkts [][]byte) {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	if s.link.closed.Load() {
		return
	}
	for _, b := range pkts {
		h, ok := packet.Parse(b)
		switch {
		case !ok || h.SourceRouted: // RFC 7126 section 4.3, RFC 5095
			s.stats.packet.malformed.Add(1)
		case h.Fragment:
			s.injectFragment(&h, b)
		default:
			s.injectWhole(&h, b)
		}
	}
	s.in.gro.flush()
}

// injectFragment gives a fragment to the reassembler and the packet that it
// may complete its way.
func (s *Stack) injectFragment(h *packet.Header, b []byte) {
	whole := s.in.fragments.add(h, b, s.clock.NowMonotonic())
	if whole == nil {
		return
	}
	wh, ok := packet.Parse(whole)
	if !ok || wh.Fragment || wh.SourceRouted {
		s.stats.packet.malformed.Add(1)
		return
	}
	wh.DF = false // IPv6 too: who sent it in pieces lets us do the same
	s.injectWhole(&wh, whole)
}

func (s *Stack) injectWhole(h *packet.Header, b []byte) {
	switch {
	case h.Proto == packet.TCP:
		s.injectTCP(h, b)
	case s.cfg.Datagram != nil && (h.Proto == packet.UDP || h.IsICMP()):
		s.cfg.Datagram(*h, b)
	default:
		s.stats.packet.unknownProtocol.Add(1)
		s.problem(packet.ProtocolUnreachable, h, b)
	}
}

// injectTCP gives a segment to GRO. SYNs are judged before anything is spent
// on them; RSTs may be for a flow that gVisor does not know yet.
func (s *Stack) injectTCP(h *packet.Header, b []byte) {
	t := header.TCP(h.Payload(b))
	// IPv4-mapped addresses are for programs, not for packets: RFC 6890 table 20.
	if len(t) < header.TCPMinimumSize || h.Dst.Is4In6() {
		s.stats.packet.malformed.Add(1)
		return
	}
	if n := int(t.DataOffset()); n < header.TCPMinimumSize || n > len(t) {
		s.stats.packet.malformed.Add(1)
		return
	}
	switch flags := t.Flags(); {
	case flags.Contains(header.TCPFlagRst):
		s.table.reset(flowOf(h, t))
	case flags.Contains(header.TCPFlagSyn) && !flags.Contains(header.TCPFlagAck):
		if flags.Contains(header.TCPFlagFin) { // RFC 9293 section 3.10.7.2: no such segment begins anything
			s.stats.packet.malformed.Add(1)
			return
		}
		if !s.admit(flowOf(h, t), h, b, t) {
			return
		}
	}
	if !s.repair.path.Received(addresses(h, b), t, len(t)-int(t.DataOffset())) {
		return // it told recovery something, and the stack nothing
	}
	s.in.gro.add(h, b, t) // a SYN goes to the hook at once
	s.in.syn = candidate{}
}
