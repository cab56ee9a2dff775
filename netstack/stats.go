package netstack

import (
	"log/slog"
	"sync/atomic"

	"rocserv/egress"
	"rocserv/netstack/recovery"
)

// Stats are the state of a stack and counters since New.
type Stats struct {
	Flows   int // everything in the table
	Dialing int // of these, dialing or waiting for the client's ACK
	Closing int // of these, in their FIN exchange or TIME-WAIT

	Dial   DialStats
	Packet PacketStats
	TCP    TCPStats
}

// DialStats counts what became of SYNs.
type DialStats struct {
	Begun            uint64
	Opened           uint64 // the client's handshake completed
	Refused          uint64 // by the host
	Unreachable      uint64 // host or network
	Prohibited       uint64 // by policy, at the SYN or at the dial
	TimedOut         uint64
	Exhausted        uint64 // no port, descriptor or buffer of ours left
	GivenUp          uint64 // the client stopped asking, or others needed the place
	HandshakesFailed uint64 // the client did not complete them
	AtLimitFlows     uint64 // SYNs dropped
	AtLimitDials     uint64 // SYNs dropped
	AtLimitRate      uint64 // SYNs dropped
}

// PacketStats counts packets beside the ordinary.
type PacketStats struct {
	Malformed        uint64 // dropped
	UnknownProtocol  uint64 // answered "protocol unreachable"
	Unclaimed        uint64 // segments of no connection, answered with RST
	Hops             uint64 // SYNs whose time to live was used up
	AnswersLost      uint64 // RST and ICMP not said: rate limit, or the tunnel was busy
	Reassembled      uint64
	FragmentsDropped uint64 // packets given up for want of room or time
	InternalErrors   uint64 // packets of the stack we could not write: a defect
}

// TCPStats are counters of gVisor's, but for the first and netstack/recovery's.
type TCPStats struct {
	Recovery recovery.Stats

	HalfClosedIdle                     uint64 // flows reset because the open half was silent
	SegmentsReceived, SegmentsSent     uint64
	Retransmits, Timeouts              uint64 // of both
	FlowsTimedOut                      uint64 // keepalive or retransmission without an answer
	InvalidSegments, ResetsFromClients uint64
}

// counters are the ones of our own.
type counters struct {
	log    *slog.Logger
	dial   dialCounters
	packet packetCounters

	halfClosedIdle atomic.Uint64
}

type dialCounters struct {
	begun, opened, refused, unreachable, prohibited atomic.Uint64
	timedOut, exhausted, givenUp, handshakesFailed  atomic.Uint64
	atLimitFlows, atLimitDials, atLimitRate         atomic.Uint64
}

type packetCounters struct {
	malformed, unknownProtocol, unclaimed, hops, answersLost atomic.Uint64
	reassembled, fragmentsDropped, internalErrors            atomic.Uint64
}

// first logs a message with the first event that a counter counts. The rest is
// in the statistics.
func (c *counters) first(n *atomic.Uint64, msg string, args ...any) {
	if n.Add(1) == 1 {
		c.log.Warn(msg+"; further ones are only counted", args...)
	}
}

// dialFailed counts a failed dial by what it means, and by err where that is
// a decision of ours.
func (c *counters) dialFailed(class egress.Class, err error) {
	d := &c.dial
	switch {
	case err == errGaveUp || err == errCrowdedOut || err == errClosed:
		d.givenUp.Add(1)
	case class == egress.TimedOut:
		d.timedOut.Add(1)
	case class == egress.Exhausted:
		c.first(&d.exhausted, "no socket for a client's connection", "err", err)
	case class == egress.HostUnreachable || class == egress.NetUnreachable:
		d.unreachable.Add(1)
	case class == egress.Prohibited:
		d.prohibited.Add(1)
	default:
		d.refused.Add(1)
	}
}

// Stats returns the counters. It takes no endpoint's lock.
func (s *Stack) Stats() Stats {
	flows, dialing, closing := s.table.sizes()
	return Stats{
		Flows: flows, Dialing: dialing, Closing: closing,
		Dial: s.stats.dial.load(), Packet: s.stats.packet.load(), TCP: s.tcpStats(),
	}
}

func (d *dialCounters) load() DialStats {
	return DialStats{
		Begun:            d.begun.Load(),
		Opened:           d.opened.Load(),
		Refused:          d.refused.Load(),
		Unreachable:      d.unreachable.Load(),
		Prohibited:       d.prohibited.Load(),
		TimedOut:         d.timedOut.Load(),
		Exhausted:        d.exhausted.Load(),
		GivenUp:          d.givenUp.Load(),
		HandshakesFailed: d.handshakesFailed.Load(),
		AtLimitFlows:     d.atLimitFlows.Load(),
		AtLimitDials:     d.atLimitDials.Load(),
		AtLimitRate:      d.atLimitRate.Load(),
	}
}

func (p *packetCounters) load() PacketStats {
	return PacketStats{
		Malformed:        p.malformed.Load(),
		UnknownProtocol:  p.unknownProtocol.Load(),
		Unclaimed:        p.unclaimed.Load(),
		Hops:             p.hops.Load(),
		AnswersLost:      p.answersLost.Load(),
		Reassembled:      p.reassembled.Load(),
		FragmentsDropped: p.fragmentsDropped.Load(),
		InternalErrors:   p.internalErrors.Load(),
	}
}

func (s *Stack) tcpStats() TCPStats {
	g, r := s.gv.Stats().TCP, s.repair.path.Stats()
	return TCPStats{
		Recovery:          r,
		HalfClosedIdle:    s.stats.halfClosedIdle.Load(),
		SegmentsReceived:  g.ValidSegmentsReceived.Value(),
		SegmentsSent:      g.SegmentsSent.Value(),
		Retransmits:       g.Retransmits.Value() - r.Held + r.Resent,
		Timeouts:          g.Timeouts.Value() + r.Timeouts,
		FlowsTimedOut:     g.EstablishedTimedout.Value(),
		InvalidSegments:   g.InvalidSegmentsReceived.Value(),
		ResetsFromClients: g.ResetsReceived.Value(),
	}
}
