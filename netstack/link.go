package netstack

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"rocserv/internal/packet"
	"rocserv/netstack/recovery"
)

// gsoMax is the longest super-segment TCP hands out, in bytes with its
// headers. 60000 bytes are at most 44 packets of a 1434 byte tunnel, which
// encrypted still fit one UDP_SEGMENT send (64 segments, 65000 bytes).
const gsoMax = 60000

// link is the only network interface of the stack: a stack.LinkEndpoint whose
// other end is the tunnel. Up, Inject delivers to its dispatcher. Down, it cuts
// super-segments into packets in the tunnel's own memory.
//
// It is its own queueing discipline, that is, none: packets come one by one to
// WritePacket, and not in lists made for each of them.
type link struct {
	sink       packet.Sink
	mtu        atomic.Uint32 // of the interface: more than the tunnel's (setMTU)
	tunnel     *atomic.Int64 // Stack.mtu
	closed     atomic.Bool
	dispatcher stack.NetworkDispatcher
	stats      *counters
	path       *recovery.Path

	// writer is whose batch is open. It is the Sink's own rule that there is one
	// at a time; this also holds when the tunnel is closed and waits for nobody.
	writer    sync.Mutex
	segmenter packet.Segmenter // writer
	payload   [][]byte         // writer
	late      late             // writer
}

var (
	_ stack.GSOEndpoint        = (*link)(nil)
	_ stack.QueueingDiscipline = (*link)(nil)
)

// WritePacket implements stack.QueueingDiscipline. A super-segment becomes one
// batch of the Sink. It waits while the tunnel takes no more, often with an
// endpoint's lock held: that is the backpressure. After close it returns at
// once.
func (l *link) WritePacket(pkt *stack.PacketBuffer) tcpip.Error {
	if l.closed.Load() {
		return &tcpip.ErrClosedForSend{}
	}
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber {
		// The stack sees nothing but TCP and has nothing else to say. Were it to,
		// it could be in the goroutine that injects, which must not wait.
		l.stats.first(&l.stats.packet.internalErrors, "netstack: internal error: the stack sent a packet of another protocol",
			"protocol", pkt.TransportProtocolNumber)
		return nil
	}
	l.writer.Lock()
	l.writeTCP(pkt)
	l.writer.Unlock()
	return nil
}

// WritePackets implements stack.LinkWriter.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for i, pkt := range pkts.AsSlice() {
		if err := l.WritePacket(pkt); err != nil {
			return i, err
		}
	}
	return pkts.Len(), nil
}

// writeTCP makes a packet or super-segment a batch of the Sink.
func (l *link) writeTCP(pkt *stack.PacketBuffer) {
	views, offset := pkt.AsViewList()
	headLen := pkt.HeaderSize()
	v := views.Front()
	head := v.AsSlice()[offset:]
	l.payload = l.payload[:0]
	if len(head) > headLen {
		l.payload = append(l.payload, head[headLen:])
		head = head[:headLen]
	}
	for v = v.Next(); v != nil; v = v.Next() {
		if v.Size() > 0 {
			l.payload = append(l.payload, v.AsSlice())
		}
	}
	if len(l.payload) == 0 {
		l.writeBare(pkt, head)
		return
	}
	l.sink.Begin() // may wait: recovery is to know when it was sent
	mss := l.longest(pkt, head)
	if l.take(pkt, head, mss) != recovery.Held {
		l.late.drop(head)
		l.cut(head, l.payload, mss)
	}
	l.sink.End()
	clear(l.payload) // the views go back to their pools
}

// writeBare makes a segment without data a batch, unless it may be late.
func (l *link) writeBare(pkt *stack.PacketBuffer, head []byte) {
	verdict := l.take(pkt, head, 0)
	if verdict == recovery.Held {
		return
	}
	l.late.drop(head)
	if verdict == recovery.Late && l.putOff(head) {
		return
	}
	if t := header.TCP(head[len(pkt.NetworkHeader().Slice()):]); len(t) > header.TCPMinimumSize && t.Flags().Contains(header.TCPFlagSyn) {
		l.clampMSS(t, len(head)-len(t))
	}
	l.sink.Begin()
	l.cut(head, nil, 0)
	l.sink.End()
}

// longest is how much payload a packet of the stack's segment may have: what the
// client can take and the tunnel carries, less the options that are there.
func (l *link) longest(pkt *stack.PacketBuffer, head []byte) int {
	t := header.TCP(head[len(pkt.NetworkHeader().Slice()):])
	return min(int(pkt.GSOOptions.MSS)-sackLen(t), l.room(head))
}

// room is the payload of the longest packet with such a header that the tunnel carries.
func (l *link) room(head []byte) int {
	mtu := int(l.tunnel.Load())
	if head[0]>>4 == 6 {
		mtu = max(mtu, header.IPv6MinimumMTU) // RFC 8201 section 4
	}
	return mtu - len(head)
}

// cut gives packets to the open batch of the Sink. With GSO the stack computes no
// checksums, for packets that need no cutting either; the Segmenter makes them all.
func (l *link) cut(head []byte, payload [][]byte, mss int) {
	if !l.segmenter.Reset(head, payload, mss) {
		l.stats.first(&l.stats.packet.internalErrors, "netstack: internal error: packet that cannot be segmented", "header", len(head))
		return
	}
	for n := l.segmenter.Len(); n > 0; n = l.segmenter.Len() {
		l.sink.Add(l.segmenter.Put(l.sink.Next(n)))
	}
}

// clampMSS has a SYN ask for no longer packets than the tunnel carries. The stack
// asks for those of its interface, whose MTU is never less than what IPv6 wants.
// RFC 6691; the checksum is not made yet.
func (l *link) clampMSS(t header.TCP, networkHeader int) {
	most := int(l.tunnel.Load())
	if networkHeader >= header.IPv6MinimumSize {
		most = max(most, header.IPv6MinimumMTU)
	}
	most -= networkHeader + header.TCPMinimumSize
	for opts := t.Options(); len(opts) >= header.TCPOptionMSSLength; {
		switch n := int(opts[1]); {
		case opts[0] == header.TCPOptionEOL:
			return
		case opts[0] == header.TCPOptionNOP:
			opts = opts[1:]
		case opts[0] == header.TCPOptionMSS && n == header.TCPOptionMSSLength:
			if int(binary.BigEndian.Uint16(opts[2:])) > most {
				binary.BigEndian.PutUint16(opts[2:], uint16(most))
			}
			return
		case n < 2 || n > len(opts):
			return
		default:
			opts = opts[n:]
		}
	}
}

// take shows a packet to recovery, which may keep it, to be cut into packets with
// mss bytes of payload; what is Held must not be sent, because it has been.
func (l *link) take(pkt *stack.PacketBuffer, head []byte, mss int) recovery.Verdict {
	size := 0
	for _, b := range l.payload {
		size += len(b)
	}
	pkt.IncRef() // recovery's, which may release it at once
	verdict := l.path.Sent(recovery.Segment{
		Head: head, TCP: len(pkt.NetworkHeader().Slice()), Payload: l.payload, Size: size,
		MSS: mss, Owner: (*owner)(pkt),
	})
	if verdict != recovery.Kept {
		pkt.DecRef()
	}
	return verdict
}

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 { return l.mtu.Load() }

// SetMTU implements stack.LinkEndpoint.
func (l *link) SetMTU(mtu uint32) { l.mtu.Store(mtu) }

// Capabilities implements stack.LinkEndpoint. Received checksums are not
// verified: what comes through the tunnel is authenticated byte by byte, and
// TCP ends here, so that a client could only harm itself. (It also skips the
// IPv4 header checksum; Inject checks lengths.) There is no transmit offload:
// the client's kernel verifies what we send.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// SupportedGSO implements stack.GSOEndpoint.
func (l *link) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// GSOMaxSize implements stack.GSOEndpoint.
func (l *link) GSOMaxSize() uint32 { return gsoMax }

// Attach implements stack.LinkEndpoint.
func (l *link) Attach(d stack.NetworkDispatcher) { l.dispatcher = d }

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool { return l.dispatcher != nil }

// MaxHeaderLength implements stack.LinkEndpoint.
func (*link) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.LinkEndpoint.
func (*link) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements stack.LinkEndpoint.
func (*link) SetLinkAddress(tcpip.LinkAddress) {}

// Wait implements stack.LinkEndpoint.
func (*link) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (*link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements stack.LinkEndpoint.
func (*link) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.LinkEndpoint.
func (*link) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements stack.LinkEndpoint and stack.QueueingDiscipline.
func (*link) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (*link) SetOnCloseAction(func()) {}
