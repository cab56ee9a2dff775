package recovery

import (
	"encoding/binary"
	"math"
	"sync"
	"time"
)

// Owner is what keeps a segment's memory valid.
type Owner interface{ DecRef() }

// Segment is one packet or super-segment as the stack hands it out.
type Segment struct {
	Head    []byte   // IP and TCP header, checksums not computed
	TCP     int      // where the TCP header begins in Head
	Payload [][]byte // in order
	Size    int      // bytes of Payload
	MSS     int      // payload of each packet it is cut into; 0: it is one packet
	Owner   Owner    // released when the client has acknowledged it
}

// Resend is packets First to First+Count-1 of a segment, to be sent again.
type Resend struct {
	Segment Segment
	First   int
	Count   int

	hold  *source
	reply reply
}

// Flow names a TCP connection: the client's address and port, and the host's.
type Flow struct {
	Addrs [32]byte // client, host; IPv4 addresses leave the rest zero
	Ports [4]byte  // client, host; big endian
}

// FlowOf returns the name of a flow from the addresses (source, destination) of
// one of its packets and the ports before its TCP header. down says that the
// packet is going to the client.
func FlowOf(addrs, ports []byte, down bool) (f Flow) {
	if !down {
		copy(f.Addrs[:], addrs)
		copy(f.Ports[:], ports[:4])
		return f
	}
	n := len(addrs) / 2
	copy(f.Addrs[:], addrs[n:])
	copy(f.Addrs[n:], addrs[:n])
	copy(f.Ports[:2], ports[2:4])
	copy(f.Ports[2:], ports[:2])
	return f
}

// Config is what a Path needs.
type Config struct {
	// Now is a monotonic clock.
	Now func() time.Duration
	// AfterFunc calls f once, in a goroutine of its own, after d; stop prevents
	// that if it can.
	AfterFunc func(d time.Duration, f func()) (stop func())
	// Wake tells that Take has something to give. It must not wait.
	Wake func()
}

// Path is what is known of the way to one client, and of every flow on it.
type Path struct {
	cfg Config

	mu     sync.Mutex
	flows  map[Flow]*flow
	last   *flow // the flow looked up last
	model  model
	since  int64 // when model.lossless changed
	waited int64 // when a flow was last seen to wait for its window
	closed bool
	due    []*flow // with packets to send again
	busy   *flow   // list of flows with something outstanding
	active int     // their number
	timer  timer
	spare  spare
	stats  Stats
}

// timer is the only one, for all flows.
type timer struct {
	at   int64  // when it fires, ns; 0: it does not
	stop func() // nil: there has been none
}

// Stats only grow, but for Window, MinRTT and Rate.
type Stats struct {
	Lost     uint64 // packets found lost
	Resent   uint64 // packets sent again
	Spurious uint64 // of those the client had already
	Probes   uint64 // tail loss probes
	Timeouts uint64
	Held     uint64 // segments the stack repeated while they were in our care
	Given    uint64 // flows given back to the stack

	Window int64         // bytes that may be in flight
	MinRTT time.Duration // 0: not known
	Rate   float64       // bytes per second; 0: not known
}

// New makes a path of which nothing is known yet.
func New(cfg Config) *Path {
	p := &Path{cfg: cfg, flows: make(map[Flow]*flow)}
	p.model.reset()
	return p
}

// Stats returns the counters.
func (p *Path) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Window, s.MinRTT, s.Rate = p.model.window, time.Duration(p.model.trip.least), p.model.rate()*1e9
	return s
}

// SetLossless says whether the channel in use loses nothing and has a window of
// its own (CSTP): then more may be under way, and timeouts are longer. A change
// forgets what was known of the way.
func (p *Path) SetLossless(lossless bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.model.lossless != lossless {
		p.model.lossless, p.since = lossless, p.now()
		p.restart()
	}
}

// Moved says that the client is reached by another way from now on.
func (p *Path) Moved() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.flows {
		f.srtt, f.rttvar = 0, 0
	}
	p.restart()
}

// restart begins anew on another way: the old one may have carried nothing for long,
// and a timeout that was backed off there would come late here.
func (p *Path) restart() {
	now := p.now()
	p.model.restart(now)
	for f := p.busy; f != nil; f = f.next {
		f.backoff, f.probed = 0, false
		p.setDeadline(f, now)
	}
}

// Open begins to care for a flow, from the client's SYN: scale is its window
// scale (RFC 7323 section 2), or negative if it offered none. A flow without
// selective acknowledgements is left to the stack.
func (p *Path) Open(name Flow, scale int, sack bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.forget(name)
	f := &flow{name: name, shift: uint8(min(max(scale, 0), 14))}
	f.reoMult = 1
	if !sack {
		f.state = unmanaged
	}
	p.flows[name] = f
}

// Acknowledged is up to where the stack has acknowledged what the client sent;
// false if the flow is not known, or has not begun.
func (p *Path) Acknowledged(name Flow) (seq uint32, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.flows[name]
	if f == nil || !f.reply.said {
		return 0, false
	}
	return f.reply.ack, true
}

// Forget ends the care for a flow.
func (p *Path) Forget(name Flow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(name)
}

func (p *Path) forget(name Flow) {
	f := p.flows[name]
	if f == nil {
		return
	}
	p.letGo(f)
	f.awake()
	delete(p.flows, name)
	if p.last == f {
		p.last = nil
	}
}

// letGo leaves a flow to the stack.
func (p *Path) letGo(f *flow) {
	for _, r := range f.sent {
		p.release(r)
	}
	f.sent = nil
	p.model.pipe -= f.pipe
	f.pipe, f.lost = 0, 0
	f.state = unmanaged
	p.setBusy(f)
}

// Close forgets everything.
func (p *Path) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for name := range p.flows {
		p.forget(name)
	}
	p.due, p.spare = nil, spare{}
	if p.timer.stop != nil {
		p.timer.stop()
	}
}

// Trim gives back memory that only traffic needs.
func (p *Path) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spare = spare{}
	for _, f := range p.flows {
		if len(f.sent) == 0 {
			f.sent = nil
		}
	}
}

func (p *Path) find(name *Flow) *flow {
	if p.last != nil && p.last.name == *name {
		return p.last
	}
	f := p.flows[*name]
	if f != nil {
		p.last = f
	}
	return f
}

func (p *Path) now() int64 { return int64(p.cfg.Now()) }

// setBusy keeps the list of flows with something outstanding.
func (p *Path) setBusy(f *flow) {
	busy := len(f.sent) > 0
	if busy == f.busy {
		return
	}
	f.busy = busy
	if busy {
		p.active++
		f.next, f.prev = p.busy, nil
		if p.busy != nil {
			p.busy.prev = f
		}
		p.busy = f
		return
	}
	p.active--
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		p.busy = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	}
	f.next, f.prev = nil, nil
}

// arm lets the timer fire at when or earlier.
func (p *Path) arm(when int64) {
	if when == math.MaxInt64 || p.closed || p.timer.at != 0 && p.timer.at <= when {
		return
	}
	if p.timer.stop != nil {
		p.timer.stop()
	}
	p.timer.at = when
	p.timer.stop = p.cfg.AfterFunc(time.Duration(max(when-p.now(), 0)), func() { p.fired(when) })
}

// fired looks after every flow whose time has come. A timer is not moved by each
// acknowledgement: one that fires too early is armed again.
func (p *Path) fired(when int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer.at != when {
		return // another took its place
	}
	p.timer.at = 0
	now := p.now()
	next := int64(math.MaxInt64)
	for f := p.busy; f != nil; f = f.next {
		if f.deadline <= now {
			p.expired(f, now)
		}
		next = min(next, f.deadline)
	}
	p.arm(next)
	p.wake()
}

// wake tells the resender that there is something it may send.
func (p *Path) wake() {
	for _, f := range p.due {
		if f.pipe < p.share(f) {
			p.cfg.Wake()
			return
		}
	}
}

// before says whether a comes before b (RFC 9293 section 3.4).
func before(a, b uint32) bool { return int32(a-b) < 0 }

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
