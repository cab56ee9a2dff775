package netstack

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// lone is a link with recovery and without a stack, which carries one flow.
type lone struct {
	*link
	*repairer
	sink  *pages
	clock *faketime.ManualClock
}

const (
	loneISS = 1000 // of the host
	loneAck = 500  // what the client has sent when the flow begins
)

func newLone(t *testing.T) *lone {
	n := &lone{sink: new(pages), clock: faketime.NewManualClock()}
	n.link = &link{sink: n.sink, stats: new(counters), tunnel: tunnelOf(1400)}
	n.repairer = newRepairer(n.link, n.clock)
	t.Cleanup(n.repairer.path.Close)
	n.link.path, n.link.late.due = n.repairer.path, func() { nudge(n.repairer.late) }
	n.repairer.path.Open(recoveryName(Flow{Src: netip.AddrPortFrom(lease4, 1000), Dst: netip.AddrPortFrom(host4, 80)}), 7, true)
	n.write(header.TCPFlagSyn|header.TCPFlagAck, loneISS-1, loneAck, 1, 0)
	n.write(header.TCPFlagAck, loneISS, loneAck, 1, 0)
	return n
}

// tunnelOf is what a link knows of a tunnel with that MTU.
func tunnelOf(mtu int64) *atomic.Int64 {
	t := new(atomic.Int64)
	t.Store(mtu)
	return t
}

// write has the stack send a segment with a timestamp.
func (n *lone) write(flags header.TCPFlags, seq, ack, stamp uint32, size int) {
	pkt := superSegment(size, 0)
	defer pkt.DecRef()
	pkt.GSOOptions = stack.GSO{}
	t := header.TCP(pkt.TransportHeader().Slice())
	t.SetSequenceNumber(seq)
	t.SetAckNumber(ack)
	t.SetFlags(uint8(flags))
	t.SetWindowSize(100)
	opts := t[header.TCPMinimumSize:]
	opts[0], opts[1] = header.TCPOptionNOP, header.TCPOptionNOP
	header.EncodeTSOption(stamp, stamp, opts[2:])
	n.WritePacket(pkt)
}

// sent is what went to the client since the last call.
func (n *lone) sent() (list []header.TCP) {
	for _, p := range n.sink.packets {
		list = append(list, header.TCP(p[header.IPv4MinimumSize:]))
	}
	n.sink.packets = nil
	return list
}

// TestWaits: an acknowledgement of a little is not sent with the segments of the
// stack but later, and not at all if another of them says as much before.
func TestWaits(t *testing.T) {
	for _, tt := range []struct {
		name string
		then func(n *lone)
		sent int // segments by then
		late int // and then
	}{
		{"nothing else", func(*lone) {}, 0, 1},
		{"an answer", func(n *lone) { n.write(header.TCPFlagAck|header.TCPFlagPsh, loneISS, loneAck+64, 2, 64) }, 1, 0},
		{"the same again", func(n *lone) { n.write(header.TCPFlagAck, loneISS, loneAck+64, 2, 0) }, 1, 0},
	} {
		n := newLone(t)
		if got := n.sent(); len(got) != 2 {
			t.Fatalf("%d segments begin the flow, want 2", len(got))
		}
		n.write(header.TCPFlagAck, loneISS, loneAck+64, 2, 0)
		tt.then(n)
		if got := n.sent(); len(got) != tt.sent {
			t.Errorf("%s: %d segments at once, want %d", tt.name, len(got), tt.sent)
		}
		if len(n.repairer.late) != 1 {
			t.Errorf("%s: nobody is to send it later", tt.name)
		}
		if n.sendLate(); len(n.sink.packets) != tt.late {
			t.Errorf("%s: %d segments late, want %d", tt.name, len(n.sink.packets), tt.late)
		}
		for _, s := range n.sent() {
			if s.AckNumber() != loneAck+64 {
				t.Errorf("%s: it acknowledges %d", tt.name, s.AckNumber())
			}
		}
	}
}

// TestSentAgain: a segment that is sent again says what the stack said last.
func TestSentAgain(t *testing.T) {
	n := newLone(t)
	n.write(header.TCPFlagAck|header.TCPFlagPsh, loneISS, loneAck, 2, 100)
	n.write(header.TCPFlagAck, loneISS+100, loneAck+5000, 77, 0)
	n.sent()
	n.clock.Advance(5 * time.Second)
	list := n.repairer.path.Take(nil, repairBatch)
	if len(list) == 0 {
		t.Fatal("nothing is to be sent again")
	}
	n.repairer.send(list)
	n.repairer.path.Done(list)
	got := n.sent()
	if len(got) != 1 {
		t.Fatalf("%d segments, want 1", len(got))
	}
	s := got[0]
	if s.SequenceNumber() != loneISS || s.AckNumber() != loneAck+5000 || s.ParsedOptions().TSVal != 77 {
		t.Errorf("at %d, acknowledges %d, timestamp %d", s.SequenceNumber(), s.AckNumber(), s.ParsedOptions().TSVal)
	}
}
