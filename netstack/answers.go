package netstack

import (
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"rocserv/internal/packet"
)

const (
	// answerSlots and answerSize bound what waits to be said, in answers and in
	// bytes of each: an ICMP error that quotes a SYN with all options.
	answerSlots = 32
	answerSize  = 192

	// icmpRate and icmpBurst limit ICMP errors (per second, at once) as RFC 1812
	// section 4.3.2.8 asks for.
	icmpRate  = 1000
	icmpBurst = 50
)

// answers are the short packets that Inject itself has to say: RST and ICMP.
// Inject must not wait for the tunnel, so they go to a ring that a goroutine
// empties; it exists while there is something in the ring. What does not fit
// is lost, as on a wire.
type answers struct {
	table *table
	sink  packet.Sink
	clock tcpip.Clock
	stats *counters

	mu      sync.Mutex
	ring    [][]byte // answerSlots slices of one allocation; nil until needed
	first   int
	used    int
	busy    bool    // a goroutine empties the ring
	tokens  float64 // ICMP errors that may be said now
	counted tcpip.MonotonicTime
}

// put enters what build writes into the slice it is given.
func (a *answers) put(build func(b []byte) int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ring == nil {
		all := make([]byte, answerSlots*answerSize)
		for i := range answerSlots {
			a.ring = append(a.ring, all[i*answerSize:][:0:answerSize])
		}
	}
	if a.used == len(a.ring) {
		a.stats.packet.answersLost.Add(1)
		return
	}
	slot := &a.ring[(a.first+a.used)%len(a.ring)]
	*slot = (*slot)[:build((*slot)[:answerSize])]
	a.used++
	if !a.busy {
		a.busy = a.table.spawn(a.empty)
	}
}

// allowICMP takes a token of the rate limit.
func (a *answers) allowICMP() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.NowMonotonic()
	a.tokens = min(icmpBurst, a.tokens+icmpRate*now.Sub(a.counted).Seconds())
	a.counted = now
	if a.tokens < 1 {
		a.stats.packet.answersLost.Add(1)
		return false
	}
	a.tokens--
	return true
}

// empty writes what is in the ring to the tunnel. The tunnel is waited for
// without the lock.
func (a *answers) empty() {
	var b [answerSize]byte
	for n := a.take(b[:], true); n > 0; n = a.take(b[:], true) {
		a.sink.Begin()
		for ; n > 0; n = a.take(b[:], false) {
			copy(a.sink.Next(n), b[:n])
			a.sink.Add(n)
		}
		a.sink.End()
	}
}

// take moves the oldest answer to b and returns its length. When there is none,
// it returns 0; with leave set, the calling goroutine is then no longer the one
// that empties the ring.
func (a *answers) take(b []byte, leave bool) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.used == 0 {
		a.busy = a.busy && !leave
		return 0
	}
	n := copy(b, a.ring[a.first])
	a.first = (a.first + 1) % len(a.ring)
	a.used--
	return n
}

func (a *answers) trim() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.used == 0 {
		a.ring, a.first = nil, 0
	}
}

// problem answers the client's packet b with an ICMP error from the gateway's
// address, if there is one: we are a router to it, and the address is what a
// traceroute shows. Otherwise from where the packet was going.
func (s *Stack) problem(p packet.Problem, h *packet.Header, b []byte) {
	if !packet.MayAnswer(h, b) || !s.answers.allowICMP() {
		return
	}
	s.answers.put(func(dst []byte) int { return s.putProblem(dst, p, h, b) })
}

// putProblem writes an ICMP error about b to dst, whose length bounds the quote.
func (s *Stack) putProblem(dst []byte, p packet.Problem, h *packet.Header, b []byte) int {
	return putError(dst, p.Error(h, b, 0), s.reporter(h), h, b)
}

func putError(dst []byte, e packet.ICMPError, from netip.Addr, h *packet.Header, b []byte) int {
	quoted := *h
	quoted.Length = min(h.Length, answerSize-header.IPv6MinimumSize-header.ICMPv6MinimumSize)
	return packet.PutError(dst, from, e, &quoted, b)
}

func (s *Stack) reporter(h *packet.Header) netip.Addr {
	gateway := s.cfg.Gateway4
	if h.V6() {
		gateway = s.cfg.Gateway6
	}
	if gateway.IsValid() {
		return gateway
	}
	return h.Dst
}

// reset answers the TCP segment t of the flow key with a RST, as a host does
// that has no such connection. RFC 9293 section 3.10.7.1.
func (s *Stack) reset(key Flow, t header.TCP, payload int) {
	s.stats.packet.unclaimed.Add(1)
	s.answers.put(func(b []byte) int { return putReset(b, key, t, payload) })
}

func putReset(b []byte, key Flow, t header.TCP, payload int) int {
	f := header.TCPFields{
		SrcPort:    key.Dst.Port(),
		DstPort:    key.Src.Port(),
		DataOffset: header.TCPMinimumSize,
		Flags:      header.TCPFlagRst,
	}
	if flags := t.Flags(); flags.Contains(header.TCPFlagAck) {
		f.SeqNum = t.AckNumber()
	} else {
		f.Flags |= header.TCPFlagAck
		f.AckNum = t.SequenceNumber() + uint32(payload)
		if flags.Contains(header.TCPFlagSyn) {
			f.AckNum++
		}
		if flags.Contains(header.TCPFlagFin) {
			f.AckNum++
		}
	}
	ip := packet.IP{Src: key.Dst.Addr(), Dst: key.Src.Addr(), Proto: packet.TCP, TTL: ttl}
	n := header.IPv4MinimumSize
	if ip.Src.Is6() {
		n = header.IPv6MinimumSize
	}
	b = b[:n+header.TCPMinimumSize]
	out := header.TCP(b[packet.PutIP(b, ip):])
	out.Encode(&f)
	out.SetChecksum(0)
	out.SetChecksum(^packet.Sum(out, packet.PseudoSum(ip.Src, ip.Dst, packet.TCP, len(out))))
	return len(b)
}
