package packet

import "encoding/binary"

// Hop takes one from the time to live of a packet that Parse accepted, which a
// router does that passes it on (RFC 1812 section 5.3.1, RFC 8200 section 3). It
// must be above 1: what would become 0 is not passed on.
func Hop(b []byte) {
	if b[0]>>4 == 6 {
		b[7]--
		return
	}
	from := binary.BigEndian.Uint16(b[8:])
	b[8]--
	binary.BigEndian.PutUint16(b[10:], UpdateChecksum(binary.BigEndian.Uint16(b[10:]), from, binary.BigEndian.Uint16(b[8:])))
}

// Splitter makes an IPv4 packet that may be fragmented (no DF) into fragments
// no longer than the MTU; RFC 791 section 3.2. IPv6 has hosts do that. Used as a
// Fragmenter.
type Splitter struct {
	head   []byte // IP header of the packet
	data   []byte // what is left
	offset int    // of data in the original datagram, in units of eight bytes
	last   bool   // the packet has the datagram's end
	max    int    // bytes of data in one fragment
	later  bool   // the next fragment is not the first one of this packet
}

// Reset begins with a packet that Parse accepted, which is referenced until the
// last Put. Nothing comes out (Len is 0) for an MTU that can carry nothing, or of
// a fragment that reaches beyond the longest datagram: what is there would have
// an offset near its begin again.
func (s *Splitter) Reset(h *Header, pkt []byte, mtu int) {
	frag := int(binary.BigEndian.Uint16(pkt[6:]))
	*s = Splitter{
		head: pkt[:h.L4], data: pkt[h.L4:h.Length],
		offset: frag & 0x1fff, last: frag&0x2000 == 0, max: max(mtu-h.L4, 0) &^ 7,
	}
	if s.max == 0 || ipv4Len+8*s.offset+len(s.data) > 0xffff {
		s.data = nil
	}
}

// Len is the length of the next packet in bytes; 0 when there is none.
func (s *Splitter) Len() int {
	if len(s.data) == 0 {
		return 0
	}
	return len(s.head) + min(len(s.data), s.max)
}

// Put writes the next packet into b, at least Len bytes, and returns its length.
func (s *Splitter) Put(b []byte) int {
	const moreFragments = 0x2000
	n := s.Len()
	b = b[:n]
	copy(b, s.head)
	if s.later {
		blankOptions(b[ipv4Len:len(s.head)])
	}
	took := copy(b[len(s.head):], s.data)
	s.data = s.data[took:]
	flags := s.offset & 0x1fff
	if len(s.data) > 0 || !s.last {
		flags |= moreFragments
	}
	s.offset += took / 8
	s.later = true
	be := binary.BigEndian
	be.PutUint16(b[2:], uint16(n))
	be.PutUint16(b[6:], uint16(flags))
	be.PutUint16(b[10:], 0)
	be.PutUint16(b[10:], ^Sum(b[:len(s.head)], 0))
	return n
}

// blankOptions makes those IPv4 options no-operations that stand in the first
// fragment only (RFC 791 section 3.1, copied flag).
func blankOptions(opts []byte) {
	const (
		end, nop = 0, 1
		copied   = 0x80
	)
	for len(opts) > 0 && opts[0] != end {
		n := 1
		if opts[0] != nop {
			if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
				return
			}
			n = int(opts[1])
			if opts[0]&copied == 0 {
				for i := range n {
					opts[i] = nop
				}
			}
		}
		opts = opts[n:]
	}
}

// IsICMPError says whether a packet is an ICMP message about another packet
// (RFC 792, RFC 4443 section 2.1: of those numbers these are assigned).
func IsICMPError(h *Header, b []byte) bool {
	p := h.Payload(b)
	if !h.IsICMP() || h.Fragment || len(p) < icmpLen {
		return false
	}
	if h.V6() {
		return p[0] >= unreachable6 && p[0] <= parameter6
	}
	switch p[0] {
	case unreachable4, 4, timeExceeded4, 12: // 4: source quench, 12: parameter problem
		return true
	}
	return false
}

// Quoted reads the header of the packet that an ICMP error is about, as far as
// that is quoted. ok is false if b is no ICMP error, or quotes no packet.
func Quoted(h *Header, b []byte) (q Header, quote []byte, ok bool) {
	if !IsICMPError(h, b) {
		return q, nil, false
	}
	quote = h.Payload(b)[icmpLen:]
	if q, ok = Parse(quote); !ok { // not quoted whole
		q, ok = ParseCut(quote)
	}
	return q, quote, ok
}
