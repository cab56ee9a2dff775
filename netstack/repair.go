package netstack

import (
	"encoding/binary"
	"runtime"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"rocserv/internal/packet"
	"rocserv/netstack/recovery"
)

// repairBatch is how many packets are sent again in one batch of the Sink.
const repairBatch = 64

// repairer sends again what netstack/recovery finds lost, in a goroutine of its
// own: who finds it, Inject or a timer, must not wait for the tunnel.
type repairer struct {
	link *link
	path *recovery.Path
	due  chan struct{} // capacity 1: something is to be sent again
	late chan struct{} // capacity 1: acknowledgements wait (late.go)

	segmenter packet.Segmenter
	head      [header.IPv6MinimumSize + header.TCPHeaderMaximumSize]byte
	payload   [][]byte
}

func newRepairer(l *link, clock tcpip.Clock) *repairer {
	r := &repairer{link: l, due: make(chan struct{}, 1), late: make(chan struct{}, 1)}
	begun := clock.NowMonotonic()
	r.path = recovery.New(recovery.Config{
		Now: func() time.Duration { return clock.NowMonotonic().Sub(begun) },
		AfterFunc: func(d time.Duration, f func()) func() {
			t := clock.AfterFunc(d, f)
			return func() { t.Stop() }
		},
		Wake: func() { nudge(r.due) },
	})
	return r
}

// nudge wakes who waits on a channel of capacity 1, or will.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run sends until stop is closed.
func (r *repairer) run(stop <-chan struct{}) {
	var list []recovery.Resend
	for {
		select {
		case <-stop:
			return
		case <-r.late:
			runtime.Gosched() // what is acknowledged goes to the host meanwhile
			r.link.sendLate()
			continue
		case <-r.due:
		}
		for {
			if list = r.path.Take(list[:0], repairBatch); len(list) == 0 {
				break
			}
			r.send(list)
			r.path.Done(list)
		}
	}
}

func (r *repairer) send(list []recovery.Resend) {
	l := r.link
	l.writer.Lock()
	defer l.writer.Unlock()
	if l.closed.Load() {
		return
	}
	l.sink.Begin()
	for i := range list {
		if r.cut(&list[i]) {
			for n := r.segmenter.Len(); n > 0; n = r.segmenter.Len() {
				l.sink.Add(r.segmenter.Put(l.sink.Next(n)))
			}
		}
	}
	clear(r.payload)
	l.sink.End()
}

// cut makes the segmenter give the packets that x asks for. They say what the
// stack says now.
func (r *repairer) cut(x *recovery.Resend) bool {
	mss := x.Segment.MSS
	if mss == 0 {
		mss = x.Segment.Size
	}
	skip := x.First * mss
	size := min(x.Count*mss, x.Segment.Size-skip)
	head := r.head[:copy(r.head[:], x.Segment.Head)]
	t := header.TCP(head[x.Segment.TCP:])
	t.SetSequenceNumber(t.SequenceNumber() + uint32(skip))
	x.Say(t)
	if skip+size < x.Segment.Size {
		t[13] &^= uint8(header.TCPFlagPsh | header.TCPFlagFin)
	}
	clear(r.payload)
	r.payload = r.payload[:0]
	for _, b := range x.Segment.Payload {
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		b = b[skip:]
		skip = 0
		if b = b[:min(len(b), size)]; len(b) > 0 {
			r.payload = append(r.payload, b)
		}
		size -= len(b)
	}
	return r.segmenter.Reset(head, r.payload, min(mss, r.link.room(head)))
}

// owner holds a packet buffer for recovery.
type owner stack.PacketBuffer

func (o *owner) DecRef() { (*stack.PacketBuffer)(o).DecRef() }

// recoveryName is a flow's name for recovery.
func recoveryName(f Flow) recovery.Flow {
	src, dst := f.Src.Addr().AsSlice(), f.Dst.Addr().AsSlice()
	var ports [4]byte
	binary.BigEndian.PutUint16(ports[:], f.Src.Port())
	binary.BigEndian.PutUint16(ports[2:], f.Dst.Port())
	return recovery.FlowOf(append(src, dst...), ports[:], false)
}

// synOptions reads what recovery wants to know of a client's SYN: its window
// scale, or -1, and whether it acknowledges selectively.
func synOptions(t header.TCP) (scale int, sack bool) {
	o := header.ParseSynOptions(t.Options(), false)
	return o.WS, o.SACKPermitted
}
