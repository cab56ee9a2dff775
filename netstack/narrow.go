package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"rocserv/internal/packet"
)

// SetMTU tells the length of the longest inner packet in bytes. When it
// shrinks, established flows learn it at both ends. It does not wait.
func (s *Stack) SetMTU(mtu int) {
	old := s.mtu.Load()
	s.setMTU(mtu)
	if s.mtu.Load() < old {
		s.table.spawn(func() { s.narrow(int(old)) })
	}
}

func (s *Stack) setMTU(mtu int) {
	mtu = min(max(mtu, minMTU), maxMTU)
	s.mtu.Store(int64(mtu))
	for _, a := range s.cfg.Addrs {
		if a.Is6() { // RFC 8200 section 5. IPv4 flows learn theirs in establish.
			mtu = max(mtu, header.IPv6MinimumMTU)
		}
	}
	s.link.mtu.Store(uint32(mtu + sackRoom))
}

// narrow takes the Sink and the endpoints' locks, and so waits while the tunnel
// does.
func (s *Stack) narrow(old int) {
	flows := s.established()
	s.tellNarrow(flows, old)
	for _, f := range flows {
		f.shrinkTo(int(s.mtu.Load()))
	}
}

// tellNarrow tells the client's end of flows: what it sends may be lost on the
// way without a word, and then nothing comes of which the stack could say that it
// is too long. So the gateway says it of a packet of the old length that begins
// where the client's sending stands: a host believes it of nothing else (RFC 5927
// section 4.1).
func (s *Stack) tellNarrow(flows []*flow, old int) {
	b := make([]byte, old)
	var answer [answerSize]byte
	open := false
	for _, f := range flows {
		seq, ok := s.repair.path.Acknowledged(recoveryName(f.Flow))
		mtu := int(s.mtu.Load())
		if f.Src.Addr().Is6() {
			mtu = max(mtu, header.IPv6MinimumMTU) // RFC 8201 section 4
		}
		if !ok || mtu >= old {
			continue
		}
		clear(b[:header.IPv6MinimumSize+header.TCPMinimumSize])
		n := packet.PutIP(b, packet.IP{Src: f.Src.Addr(), Dst: f.Dst.Addr(), Proto: packet.TCP, TTL: ttl})
		binary.BigEndian.PutUint16(b[n:], f.Src.Port())
		binary.BigEndian.PutUint16(b[n+2:], f.Dst.Port())
		binary.BigEndian.PutUint32(b[n+4:], seq)
		b[n+12] = header.TCPMinimumSize << 2
		if f.Src.Addr().Is4() { // it must not be cut
			v4 := header.IPv4(b)
			v4.SetFlagsFragmentOffset(header.IPv4FlagDontFragment, 0)
			v4.SetChecksum(0)
			v4.SetChecksum(^packet.Sum(b[:n], 0))
		}
		h, ok := packet.Parse(b)
		if !ok {
			continue
		}
		h.Length = n + header.TCPMinimumSize // the quote: of the rest nothing is known
		if !open {
			open = true
			s.cfg.Sink.Begin()
		}
		n = putError(answer[:], packet.TooBig.Error(&h, b, mtu), s.reporter(&h), &h, b)
		copy(s.cfg.Sink.Next(n), answer[:n])
		s.cfg.Sink.Add(n)
	}
	if open {
		s.cfg.Sink.End()
	}
}
