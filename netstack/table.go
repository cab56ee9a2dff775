package netstack

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"rocserv/egress"
	"rocserv/nat"
)

// table holds every flow, from its first SYN until nothing of it is left.
// Its mutex is never held while something waits: not for the client, not for
// the network, not for an endpoint's lock.
type table struct {
	limits Limits
	budget *budget

	mu      sync.Mutex
	closed  bool
	flows   map[Flow]*flow
	dials   []*flow            // dialing or handshake, oldest first
	perHost map[netip.Addr]int // of dials, by destination
	closing list.List          // of *flow, oldest first
	begun   nat.Bucket         // bounds how fast dials begin
	running sync.WaitGroup     // every goroutine of the stack's own
}

func (t *table) init(l Limits, b *budget) {
	t.limits, t.budget = l, b
	t.flows = make(map[Flow]*flow)
	t.perHost = make(map[netip.Addr]int)
}

// spawn runs fn in a goroutine that Close waits for. False: it is too late.
func (t *table) spawn(fn func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.spawnLocked(fn)
}

func (t *table) spawnLocked(fn func()) bool {
	if t.closed {
		return false
	}
	t.running.Go(fn)
	return true
}

// verdict is what to do with a SYN.
type verdict uint8

const (
	pass    verdict = iota // to gVisor: a new flow, or its endpoint's affair
	swallow                // nothing more to do
)

// repeated deals with a SYN of a flow that is already known. seq is its
// sequence number.
func (t *table) repeated(key Flow, seq uint32, now tcpip.MonotonicTime) (v verdict, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return swallow, true
	}
	f, ok := t.flows[key]
	if !ok {
		return pass, false
	}
	switch f.state {
	case dialing:
		if f.dial.seq != seq {
			// A new attempt from the same port. Its next SYN finds the flow gone.
			f.dial.cancel(errGaveUp)
			return swallow, true
		}
		f.dial.gap = now.Sub(f.dial.lastSYN)
		f.dial.lastSYN = now
		return swallow, true
	case closing:
		if tcp.EndpointState(f.ep.State()) == tcp.StateTimeWait {
			// RFC 9293 section 3.10.7.4 allows a new SYN to end TIME-WAIT. gVisor
			// does that for listeners only; the client's next SYN gets through.
			t.spawnLocked(f.ep.Abort)
			return swallow, true
		}
	}
	return pass, true
}

// crowd is why there is no room for one more dial.
type crowd uint8

const (
	roomy crowd = iota
	atFlows
	atHost
	atDials
	atRate
	shut
)

// room says whether one more dial to dst fits. When all places are taken, the
// oldest dial gives its place up once it has had its time: a client that knocks
// at many silent hosts must not wait for all of them.
func (t *table) room(dst netip.Addr, now tcpip.MonotonicTime) crowd {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return shut
	case len(t.flows)-t.closing.Len() >= t.limits.Flows:
		return atFlows
	case t.perHost[dst] >= t.limits.dialsPerHost():
		return atHost
	case len(t.dials) < t.limits.Dials:
		return t.rate(now)
	}
	oldest := t.dials[0]
	if now.Sub(oldest.dial.started) < dialGrace {
		return atDials
	}
	if t.rate(now) != roomy {
		return atRate
	}
	t.dropDial(oldest)
	oldest.dial.cancel(errCrowdedOut)
	oldest.queue.Notify(waiter.WritableEvents) // ends a handshake
	return roomy
}

// rate takes one of the connections that may be begun in a second.
func (t *table) rate(now tcpip.MonotonicTime) crowd {
	if !t.begun.Take(now.Sub(tcpip.MonotonicTime{}), t.limits.NewPerSecond) {
		return atRate
	}
	return roomy
}

// add enters a new flow in state dialing.
func (t *table) add(f *flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.flows[f.Flow] = f
	t.dials = append(t.dials, f)
	t.perHost[f.Dst.Addr()]++
	t.running.Add(1) // for the forwarder's goroutine
	return true
}

func (t *table) lookup(key Flow) *flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flows[key]
}

// reset is a RST of the client for a flow that has no endpoint yet.
func (t *table) reset(key Flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f, ok := t.flows[key]; ok && f.state == dialing {
		f.dial.cancel(errGaveUp)
	}
}

// deadline is called when the timer of a dial fires: next is when to look
// again, cause why to end the dial instead. Neither: there is no dial any more.
func (t *table) deadline(f *flow, d *dial, now tcpip.MonotonicTime, timeout time.Duration) (next time.Duration, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows[f.Flow] != f {
		return 0, nil
	}
	switch f.state {
	case dialing:
		if next = timeout - now.Sub(d.started); next <= 0 {
			return 0, errDialTimeout
		}
		wait := max(patience, d.gap*5/2) - now.Sub(d.lastSYN)
		if wait <= 0 {
			return 0, errGaveUp
		}
		return min(next, wait), nil
	case handshake:
		if next = handshakeLimit - now.Sub(d.connected); next <= 0 {
			// This ends gVisor's wait. It is repeated, for the wait may only be about
			// to begin.
			f.queue.Notify(waiter.WritableEvents)
			next = time.Second
		}
		return next, nil
	}
	return 0, nil
}

// setHandshake says that the host is connected. False: nobody wants it any more.
func (t *table) setHandshake(f *flow, conn egress.Stream, now tcpip.MonotonicTime) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || f.dial.ctx.Err() != nil {
		return false
	}
	f.state, f.conn = handshake, conn
	f.dial.connected = now
	return true
}

// setOpen says that the client has completed its handshake with ep.
func (t *table) setOpen(f *flow, ep *tcp.Endpoint) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.ep = ep
	f.state = open
	f.dial.limit.Stop()
	t.dropDial(f)
	f.dial = nil
	t.shareLocked()
	return !t.closed
}

// setClosing says that only the endpoint is left. There are at most as many of
// these as of the others; beyond that the oldest is reset.
func (t *table) setClosing(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flows[f.Flow] != f {
		return
	}
	f.state, f.since = closing, f.stack.clock.NowMonotonic()
	f.place = t.closing.PushBack(f)
	t.shareLocked()
	if t.closing.Len() > t.limits.Flows {
		oldest := t.closing.Front().Value.(*flow)
		t.removeLocked(oldest)
		t.spawnLocked(oldest.ep.Abort)
	}
}

// remove takes a flow out of the table, if it still is in it.
func (t *table) remove(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(f)
}

func (t *table) removeLocked(f *flow) {
	if t.flows[f.Flow] != f {
		return
	}
	delete(t.flows, f.Flow)
	f.stack.repair.path.Forget(recoveryName(f.Flow))
	t.dropDial(f)
	if f.place != nil {
		t.closing.Remove(f.place)
		f.place = nil
	}
	t.shareLocked()
}

func (t *table) dropDial(f *flow) {
	i := slices.Index(t.dials, f)
	if i < 0 {
		return
	}
	t.dials = slices.Delete(t.dials, i, i+1)
	dst := f.Dst.Addr()
	if t.perHost[dst]--; t.perHost[dst] == 0 {
		delete(t.perHost, dst)
	}
}

// shareLocked gives the flows their share of the buffers.
func (t *table) shareLocked() {
	live := len(t.flows) - len(t.dials) - t.closing.Len()
	if !t.budget.setFlows(live) {
		return
	}
	for _, f := range t.flows {
		if f.state == open {
			t.budget.limit(f.ep)
		}
	}
}

// each calls fn for every flow, with the table's mutex held.
func (t *table) each(fn func(*flow)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.flows {
		fn(f)
	}
}

// sizes counts the flows: all, those without a completed handshake, and those
// of which only the endpoint is left.
func (t *table) sizes() (flows, dials, closing int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.flows), len(t.dials), t.closing.Len()
}

// close lets nothing new begin.
func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// trim gives back what maps keep when they are empty.
func (t *table) trim() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.flows) == 0 {
		t.flows = make(map[Flow]*flow)
		t.perHost = make(map[netip.Addr]int)
		t.dials = nil
	}
}
