package netstack

import (
	"container/list"
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"rocserv/egress"
	"rocserv/internal/packet"
)

// Flow names a TCP connection as the client sees it.
type Flow struct {
	Src, Dst netip.AddrPort
}

func (f Flow) String() string { return fmt.Sprintf("tcp %v > %v", f.Src, f.Dst) }

// flowState is where a flow is in its life. It only ever grows.
//
//	        SYN            dialled           ACK of SYN-ACK        FIN both ways
//	(none) ────▶ dialing ──────────▶ handshake ──────────▶ open ───────────────▶ closing ──▶ (none)
//	               │ refused, timed out,  │ RST, silence     │ RST either way
//	               ▼ given up             ▼                  ▼
//	             (none)                 (none)             (none)
//
// A flow leaves the table when nothing of it is left: no goroutine and no
// endpoint that packets could reach.
type flowState uint8

const (
	// dialing: the way out is being dialled; the client has no answer yet.
	// There is no endpoint: Inject looks at the client's repeated SYN and RST.
	dialing flowState = iota
	// handshake: the host has accepted; SYN-ACK has gone to the client. gVisor
	// has an endpoint, we cannot name it yet (CreateEndpoint has not returned).
	handshake
	// open: bytes are moved.
	open
	// closing: nothing of ours is left but the endpoint, which is exchanging
	// its FIN or sits in TIME-WAIT.
	closing
)

// flow is one TCP connection through the stack: the client's half is a gVisor
// endpoint, the network's half a Stream. table.mu guards what says so; the
// rest is written before the goroutines that read it are started.
type flow struct {
	Flow
	stack *Stack
	state flowState           // table.mu
	dial  *dial               // table.mu; nil once open
	place *list.Element       // table.mu; in table.closing
	since tcpip.MonotonicTime // table.mu; when it became closing

	ep     *tcp.Endpoint // table.mu until open, then constant
	queue  waiter.Queue  // of ep
	conn   egress.Stream
	events waiter.Entry // in queue: bytes from the client, and the endpoint's end

	mover      mover
	directions atomic.Int32 // that have not ended
	aborted    atomic.Bool
	finSent    atomic.Bool // our FIN to the client is queued
	half       halfClosed
}

// dial is what a flow has while the client waits for its SYN-ACK.
type dial struct {
	header  packet.Header // of the client's SYN
	syn     []byte        // its first bytes, for the ICMP message that may answer it
	seq     uint32
	connect connector
	ctx     context.Context
	cancel  context.CancelCauseFunc

	started   tcpip.MonotonicTime
	lastSYN   tcpip.MonotonicTime // table.mu
	gap       time.Duration       // table.mu; between the last two SYNs
	connected tcpip.MonotonicTime // table.mu; when the handshake began
	limit     tcpip.Timer         // runs while there is a dial or a handshake
}

// halfClosed bounds the life of a flow of which one direction has ended and
// the other is silent.
type halfClosed struct {
	on       atomic.Bool
	lastMove atomic.Int64 // Stack.now
	mu       sync.Mutex
	timer    tcpip.Timer
	stopped  bool
}

// arm starts the bound. It is called when the first direction ends.
func (h *halfClosed) arm(f *flow) {
	h.lastMove.Store(f.stack.now())
	h.on.Store(true)
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stopped && h.timer == nil {
		h.timer = f.stack.clock.AfterFunc(halfClosedIdle, func() { h.check(f) })
	}
}

func (h *halfClosed) check(f *flow) {
	idle := time.Duration(f.stack.now() - h.lastMove.Load())
	if idle >= halfClosedIdle {
		f.stack.stats.halfClosedIdle.Add(1)
		f.stack.table.spawn(f.abort) // takes the endpoint's lock: not in a timer's goroutine
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.stopped {
		h.timer.Reset(halfClosedIdle - idle)
	}
}

// moved notes that bytes went through.
func (h *halfClosed) moved(s *Stack) {
	if h.on.Load() {
		h.lastMove.Store(s.now())
	}
}

func (h *halfClosed) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	if h.timer != nil {
		h.timer.Stop()
	}
}
