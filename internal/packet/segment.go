package packet

import "encoding/binary"

const tcpLen = 20

// TCP flags, RFC 9293 section 3.1.
const (
	flagFIN = 0x01
	flagPSH = 0x08
	flagCWR = 0x80
)

// maxHead is the longest header a Segmenter takes: IPv4 and TCP with all
// options, which is more than IPv6 and TCP.
const maxHead = 60 + 60

// Segmenter cuts a TCP super-segment into packets (GSO). For its use see the
// package's theory of operation. The zero value is ready for Reset; one can be
// used again and again.
//
// Sums that are equal for all packets of a super-segment are made once; each
// packet costs one copy of its header and payload and one sum over the payload.
type Segmenter struct {
	head  [maxHead]byte // IP and TCP header; sequence number and flags move on
	n     int           // bytes of head
	tcp   int           // offset of the TCP header
	mss   int           // bytes of payload in a packet but the last
	left  int           // bytes of payload not yet in a packet
	done  bool
	flags uint8 // of the super-segment

	bufs [][]byte // payload not yet in a packet; bufs[0] from off
	off  int

	ipSum  uint16 // IPv4 header without length, id and checksum
	tcpSum uint16 // addresses, protocol and TCP header without length, sequence number, flags and checksum
}

// Reset begins with a super-segment: head is its IP and TCP header, payload
// what follows in any number of slices (referenced until the last Put), mss
// the bytes of payload in one packet, 0 for all in one. The IP length and all
// checksums of head are ignored. False means that head is not what a Segmenter can cut: anything
// but IPv4 or IPv6 directly followed by exactly one TCP header, or packets
// longer than IP allows.
func (s *Segmenter) Reset(head []byte, payload [][]byte, mss int) bool {
	s.done = true
	if len(head) > maxHead || len(head) < ipv4Len+tcpLen {
		return false
	}
	switch head[0] >> 4 {
	case 4:
		s.tcp = int(head[0]&15) * 4
		if s.tcp < ipv4Len || head[9] != TCP {
			return false
		}
	case 6:
		s.tcp = ipv6Len
		if head[6] != TCP {
			return false
		}
	default:
		return false
	}
	if len(head) < s.tcp+tcpLen || s.tcp+int(head[s.tcp+12]>>4)*4 != len(head) {
		return false
	}
	s.left = 0
	for _, p := range payload {
		s.left += len(p)
	}
	if mss <= 0 {
		mss = s.left
	}
	if len(head)+min(mss, s.left) > 0xffff {
		return false
	}
	s.n = copy(s.head[:], head)
	s.mss, s.done = mss, false
	s.bufs, s.off = payload, 0
	s.flags = head[s.tcp+13]
	s.sumHead()
	return true
}

// sumHead makes the sums that do not change from packet to packet. In head,
// the fields they leave out are zeroed.
func (s *Segmenter) sumHead() {
	h, t := s.head[:s.tcp], s.head[s.tcp:s.n]
	addrs := h[8:] // IPv6
	if s.v4() {
		id := binary.BigEndian.Uint16(h[4:])
		h[2], h[3], h[4], h[5], h[10], h[11] = 0, 0, 0, 0, 0, 0
		s.ipSum = Sum(h, 0)
		binary.BigEndian.PutUint16(h[4:], id)
		addrs = h[12:20]
	}
	seq := binary.BigEndian.Uint32(t[4:])
	binary.BigEndian.PutUint32(t[4:], 0)
	t[13], t[16], t[17] = 0, 0, 0
	s.tcpSum = addSums(Sum(addrs, TCP), Sum(t, 0))
	binary.BigEndian.PutUint32(t[4:], seq)
}

func (s *Segmenter) v4() bool { return s.head[0]>>4 == 4 }

// Len is the length of the next packet in bytes; 0 when there is none. A
// super-segment without payload is one packet.
func (s *Segmenter) Len() int {
	if s.done {
		return 0
	}
	return s.n + min(s.left, s.mss)
}

// Put writes the next packet into b, at least Len bytes, and returns its length.
func (s *Segmenter) Put(b []byte) int {
	be := binary.BigEndian
	n := s.Len()
	b = b[:n]
	copy(b, s.head[:s.n])
	if s.v4() {
		sum := addSums(s.ipSum, addSums(uint16(n), be.Uint16(b[4:])))
		be.PutUint16(b[2:], uint16(n))
		be.PutUint16(b[10:], ^sum)
		be.PutUint16(s.head[4:], be.Uint16(b[4:])+1)
	} else {
		be.PutUint16(b[4:], uint16(n-ipv6Len))
	}
	s.left -= n - s.n
	s.done = s.left == 0
	t := b[s.tcp:]
	t[13] = s.flags
	if !s.done {
		t[13] &^= flagFIN | flagPSH
	}
	s.flags &^= flagCWR // RFC 3168 section 6.1.2: said once
	seq := be.Uint32(t[4:])
	be.PutUint32(s.head[s.tcp+4:], seq+uint32(n-s.n))

	sum := addSums(s.tcpSum, addSums(uint16(seq>>16), uint16(seq)))
	sum = addSums(sum, addSums(uint16(t[13]), uint16(n-s.tcp)))
	be.PutUint16(t[16:], ^Sum(s.fill(b[s.n:]), sum))
	if s.done {
		s.bufs = nil
	}
	return n
}

// fill copies payload until b is full and returns b.
func (s *Segmenter) fill(b []byte) []byte {
	for rest := b; len(rest) > 0; {
		n := copy(rest, s.bufs[0][s.off:])
		rest = rest[n:]
		s.off += n
		if s.off == len(s.bufs[0]) {
			s.bufs, s.off = s.bufs[1:], 0
		}
	}
	return b
}
