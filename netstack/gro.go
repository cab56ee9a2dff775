package netstack

import (
	"bytes"
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"rocserv/internal/packet"
)

const (
	groSlots = 8
	// groMax is the most payload in one super-segment, in bytes: with headers
	// it must fit the 16 bit length of IP.
	groMax = 65000
	// minMSS is the least a client's MSS option is believed: eight-byte segments
	// would cost more to make than they carry.
	minMSS = 256
)

// gro merges the segments of a receive batch, so that the stack is woken once
// for many. It holds references to the batch and copies each byte once, when a
// slot is flushed and its size is known: headers to a View of their own, the
// payload to another. (gVisor pulls headers up in place; in a shared chunk that
// would copy the payload once more. And one View of payload is one write(2) to
// the host.)
//
// What may be merged: segments of one flow that follow each other, with equal
// acknowledgement, window and options and no flags but ACK and PSH (of timestamps
// the first remain, which is what a receiver that acknowledges them all at once
// would echo: RFC 7323 section 4.3); and pure
// acknowledgements, of which the last says it all, if each advances the first
// and has no options but timestamps. Duplicate acknowledgements and SACKs are
// signals and stay. Lengths need not be equal: nobody cuts these segments again.
type gro struct {
	link  *link
	slots [groSlots]groSlot
	next  int    // slot to evict when all are taken
	parts []part // payloads of the batch, linked into lists
	head  [header.IPv6MinimumSize + header.TCPHeaderMaximumSize]byte
	inUse int // slots
}

type part struct {
	b    []byte
	next int // index + 1 into parts, 0 at the end
}

// groSlot is a super-segment in the making.
type groSlot struct {
	used        bool
	v6          bool
	addrs       []byte // source and destination address of the first packet
	tcp         []byte // TCP header with options; its PSH is that of all
	seq         uint32 // that would continue it
	size        int    // bytes of payload; 0: a pure acknowledgement
	first, last int    // index + 1 into parts
	psh         bool
	repeated    bool // acknowledges what the segment before it did
}

// addresses returns the source and destination address of an IP packet, which
// together with the ports name a flow.
func addresses(h *packet.Header, b []byte) []byte {
	if h.V6() {
		return b[8:40]
	}
	return b[12:20]
}

// add takes the TCP segment t of packet b. It is kept for a merger or
// delivered, never before what came earlier of the same flow.
func (g *gro) add(h *packet.Header, b []byte, t header.TCP) {
	off := int(t.DataOffset())
	payload := t[off:]
	addrs := addresses(h, b)
	slot, repeated := g.find(addrs, t), false
	if slot != nil {
		if slot.merge(g, t[:off], payload) {
			return
		}
		repeated = len(payload) == 0 && bytes.Equal(t[8:12], slot.tcp[8:12])
		g.deliver(slot)
	} else {
		slot = g.free()
	}
	*slot = groSlot{used: true, v6: h.V6(), addrs: addrs, tcp: t[:off], seq: t.SequenceNumber(), repeated: repeated}
	g.inUse++
	slot.append(g, payload)
	slot.psh = t.Flags().Contains(header.TCPFlagPsh)
	if t.Flags()&^(header.TCPFlagAck|header.TCPFlagPsh) != 0 || t[12]&0xf != 0 {
		g.deliver(slot) // SYN, FIN, RST, URG, ECN: as it is, at once
	}
}

// find returns the slot of a flow.
func (g *gro) find(addrs []byte, t header.TCP) *groSlot {
	if g.inUse == 0 {
		return nil
	}
	for i := range g.slots {
		s := &g.slots[i]
		if s.used && bytes.Equal(s.tcp[:4], t[:4]) && bytes.Equal(s.addrs, addrs) {
			return s
		}
	}
	return nil
}

// free returns a slot for another flow.
func (g *gro) free() *groSlot {
	for i := range g.slots {
		if !g.slots[i].used {
			return &g.slots[i]
		}
	}
	s := &g.slots[g.next]
	g.next = (g.next + 1) % groSlots
	g.deliver(s)
	return s
}

// merge adds a segment to what the slot holds, if the two make one.
func (s *groSlot) merge(g *gro, head header.TCP, payload []byte) bool {
	flags := head.Flags()
	if flags&^header.TCPFlagPsh != header.TCPFlagAck || head.SequenceNumber() != s.seq || head[12] != s.tcp[12] {
		return false
	}
	if s.size == 0 && len(payload) == 0 {
		return s.mergeAck(head)
	}
	if s.size == 0 || len(payload) == 0 || s.size+len(payload) > groMax ||
		!bytes.Equal(head[8:12], s.tcp[8:12]) || // acknowledgement
		!bytes.Equal(head[14:16], s.tcp[14:16]) || // window
		!continues(s.tcp[header.TCPMinimumSize:], head[header.TCPMinimumSize:]) {
		return false
	}
	s.append(g, payload)
	s.psh = s.psh || flags.Contains(header.TCPFlagPsh)
	return true
}

// mergeAck replaces a pure acknowledgement by a later one.
func (s *groSlot) mergeAck(head header.TCP) bool {
	if s.psh || s.repeated || head.Flags() != header.TCPFlagAck {
		return false
	}
	if int32(head.AckNumber()-header.TCP(s.tcp).AckNumber()) <= 0 {
		return false
	}
	if !onlyTimestamps(s.tcp[header.TCPMinimumSize:]) || !onlyTimestamps(head[header.TCPMinimumSize:]) {
		return false
	}
	s.tcp = head
	return true
}

// continues says whether a segment of data with options b may be merged into one
// with options a: they are the same, or timestamps of which b's are not older.
func continues(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	return len(a) == tsOptionLen && onlyTimestamps(a) && onlyTimestamps(b) && len(b) == tsOptionLen &&
		int32(binary.BigEndian.Uint32(b[4:])-binary.BigEndian.Uint32(a[4:])) >= 0
}

// onlyTimestamps says whether options are none, or timestamps as every stack
// lays them out (RFC 7323 appendix A).
func onlyTimestamps(opts []byte) bool {
	if len(opts) == 0 {
		return true
	}
	const layout = header.TCPOptionNOP<<24 | header.TCPOptionNOP<<16 | header.TCPOptionTS<<8 | header.TCPOptionTSLength
	return len(opts) == tsOptionLen && binary.BigEndian.Uint32(opts) == layout
}

func (s *groSlot) append(g *gro, payload []byte) {
	if len(payload) == 0 {
		return
	}
	g.parts = append(g.parts, part{b: payload})
	i := len(g.parts)
	if s.last != 0 {
		g.parts[s.last-1].next = i
	} else {
		s.first = i
	}
	s.last = i
	s.size += len(payload)
	s.seq += uint32(len(payload))
}

// flush delivers everything; the batch ends.
func (g *gro) flush() {
	for i := range g.slots {
		if g.inUse == 0 {
			break
		}
		if g.slots[i].used {
			g.deliver(&g.slots[i])
		}
	}
	clear(g.parts)
	g.parts = g.parts[:0]
}

// deliver gives a slot's segment to the stack and frees the slot.
func (g *gro) deliver(s *groSlot) {
	n := g.putHead(s)
	data := buffer.MakeWithView(buffer.NewViewWithData(g.head[:n]))
	if s.size > 0 {
		v := buffer.NewViewSize(s.size)
		b := v.AsSlice() // ours alone until it is delivered
		for i := s.first; i != 0; i = g.parts[i-1].next {
			b = b[copy(b, g.parts[i-1].b):]
		}
		payload := buffer.MakeWithView(v)
		data.Merge(&payload)
	}
	var proto tcpip.NetworkProtocolNumber = header.IPv4ProtocolNumber
	if s.v6 {
		proto = header.IPv6ProtocolNumber
	}
	*s = groSlot{}
	g.inUse--
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: data})
	g.link.dispatcher.DeliverNetworkPacket(proto, pkt)
	pkt.DecRef()
}

// putHead writes the headers of a slot's segment. The IP header is a plain one
// of ours: gVisor sees no options and no extension headers of the client, and
// checks no sums.
func (g *gro) putHead(s *groSlot) int {
	b := g.head[:]
	var n int
	if s.v6 {
		n = header.IPv6MinimumSize
		clear(b[:8])
		b[0] = 6 << 4
		binary.BigEndian.PutUint16(b[4:], uint16(len(s.tcp)+s.size))
		b[6], b[7] = packet.TCP, ttl
		copy(b[8:n], s.addrs)
	} else {
		n = header.IPv4MinimumSize
		clear(b[:12])
		b[0] = 0x45
		binary.BigEndian.PutUint16(b[2:], uint16(n+len(s.tcp)+s.size))
		b[8], b[9] = ttl, packet.TCP
		copy(b[12:n], s.addrs)
	}
	t := header.TCP(b[n : n+copy(b[n:], s.tcp)])
	if s.psh {
		t[13] |= uint8(header.TCPFlagPsh)
	}
	if t.Flags().Contains(header.TCPFlagSyn) {
		raiseMSS(t[header.TCPMinimumSize:])
	}
	return n + len(t)
}

func (g *gro) trim() { g.parts = nil }
