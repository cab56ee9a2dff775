package recovery

import (
	"container/heap"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"rocserv/test/relay"
)

// world is virtual time: things happen in order, in no time.
type world struct {
	now  time.Duration
	todo todo
	n    int
	rng  *rand.Rand
}

type event struct {
	at time.Duration
	n  int
	f  func()
}

type todo []event

func (h todo) Len() int { return len(h) }
func (h todo) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].n < h[j].n
}
func (h todo) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *todo) Push(x any)   { *h = append(*h, x.(event)) }
func (h *todo) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*h = old[:len(old)-1]
	return e
}

func (w *world) at(t time.Duration, f func()) {
	w.n++
	heap.Push(&w.todo, event{max(t, w.now), w.n, f})
}

func (w *world) after(d time.Duration, f func()) func() {
	stopped := false
	w.at(w.now+d, func() {
		if !stopped {
			f()
		}
	})
	return func() { stopped = true }
}

// run lets happen what happens until t.
func (w *world) run(t time.Duration) {
	for len(w.todo) > 0 && w.todo[0].at <= t {
		e := heap.Pop(&w.todo).(event)
		w.now = e.at
		e.f()
	}
	w.now = t
}

// way is one direction of a path in virtual time.
type way struct {
	relay.Line
	w *world
}

func newWay(w *world) *way { return &way{relay.Line{Rand: w.rng}, w} }

func (y *way) send(n int, arrive func()) {
	at, count := y.Send(y.w.now, n)
	for _, t := range at[:count] {
		y.w.at(t, arrive)
	}
}

const simMSS = 1382

// simScale is that of a client's window: of Linux with a receive buffer of at most 6 MB.
const simScale = 7

// kibScale is that of one which counts in KiB: of Linux with one of at most 32 MiB.
const kibScale = 10

// rig is a client behind a path, and stacks that send to it.
type rig struct {
	t        testing.TB
	w        *world
	p        *Path
	down, up *way
	client   *client // nil: it takes what arrives at once
	woken    bool
	held     int // segments in our care, or in theirs
	conns    []*conn
	scale    int // of the clients' windows
}

func newRig(t testing.TB, seed uint64) *rig {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1))}
	r := &rig{t: t, w: w, down: newWay(w), up: newWay(w), scale: simScale}
	r.p = New(Config{
		Now:       func() time.Duration { return w.now },
		AfterFunc: w.after,
		Wake: func() {
			if !r.woken {
				r.woken = true
				w.at(w.now, r.resend)
			}
		},
	})
	return r
}

func (r *rig) resend() {
	r.woken = false
	for {
		list := r.p.Take(nil, 64)
		if len(list) == 0 {
			return
		}
		for _, x := range list {
			c := x.hold.Owner.(*owner).c
			c.transmit(x.Segment, x.First, x.Count)
		}
		r.p.Done(list)
	}
}

type owner struct{ c *conn }

func (o *owner) DecRef() { o.c.r.held-- }

// sendBuffer is that of the stack, as in netstack/budget.go.
const sendBuffer = 16 << 20

// conn is a connection: a stack that sends (window, slow start and send buffer,
// nothing else, as gVisor over a way that loses nothing), and a client that
// receives.
type conn struct {
	r    *rig
	name Flow
	iss  uint32
	todo int64 // bytes the application has yet to give to the stack; negative: endless
	fin  bool  // after that

	// The stack.
	given          uint32 // end of what the application gave it
	buffer         uint32 // how much of that may not be acknowledged
	full           bool   // until half of the buffer is free, as in gVisor
	una, nxt, edge uint32
	cwnd           int // packets
	sentFIN        bool
	pumping        bool
	packets, short int // sent, and of those not whole
	rto            func()
	timeouts       int

	// The client.
	rcv      uint32
	ooo      [][2]uint32 // oldest first in time of change
	dup      *[2]uint32
	pending  int
	ackTimer func()
	window   uint32
	scale    int    // of its window
	read     uint64 // bytes in order
}

func (r *rig) dial(n int64, fin bool) *conn {
	c := &conn{r: r, todo: n, fin: fin, iss: r.w.rng.Uint32(), cwnd: 10, window: 6 << 20, scale: r.scale}
	c.name.Addrs[0], c.name.Ports[0], c.name.Ports[1] = 10, byte(len(r.conns)>>8), byte(len(r.conns))
	r.conns = append(r.conns, c)
	r.p.Open(c.name, c.scale, true)
	c.una, c.nxt, c.rcv = c.iss+1, c.iss+1, c.iss+1
	c.edge = c.nxt + 65535
	c.given, c.buffer = c.nxt, sendBuffer
	r.p.Sent(c.segment(c.iss, flagSYN|flagACK, 0))
	c.supply()
	c.pump()
	return c
}

// supply is the application giving the stack what it takes.
func (c *conn) supply() {
	if used := c.given - c.una; c.full && used < c.buffer/2 {
		c.full = false
	}
	for !c.full && c.todo != 0 {
		if c.r.p.Ahead(c.name, c.given-c.iss-1, c.wake) {
			return
		}
		room := max(int32(c.buffer-(c.given-c.una)), 0)
		if room == 0 {
			c.full = true
			return
		}
		n := min(room, 60000)
		if c.todo > 0 {
			n = int32(min(int64(n), c.todo))
			c.todo -= int64(n)
		}
		c.given += uint32(n)
	}
}

func (c *conn) wake() { c.r.w.at(c.r.w.now, func() { c.supply(); c.pump() }) }

// client is a VPN client with one thread, as openconnect: it reads from its channel
// until there is nothing more, gives all of that to the kernel, and only then turns
// to what the kernel has to say to it. The queue for that is short, and what finds
// it full is dropped.
type client struct {
	w       *world
	each    time.Duration // how long one packet keeps it
	queue   int           // packets from the kernel that wait at most
	arrived []func()
	batch   []func() // read, not given to the kernel yet
	answers []func()
	busy    bool
	dropped int
}

func (x *client) take(f func()) {
	if x == nil {
		f()
		return
	}
	x.arrived = append(x.arrived, f)
	x.begin()
}

func (x *client) answer(f func()) {
	switch {
	case x == nil:
		f()
		return
	case len(x.answers) == x.queue:
		x.dropped++
	default:
		x.answers = append(x.answers, f)
	}
	x.begin()
}

func (x *client) begin() {
	if !x.busy {
		x.busy = true
		x.w.at(x.w.now, x.read)
	}
}

// read is the client reading until there is nothing more.
func (x *client) read() {
	if len(x.arrived) == 0 {
		x.pass()
		return
	}
	x.w.after(x.each, func() {
		x.batch = append(x.batch, x.arrived[0])
		x.arrived = x.arrived[1:]
		x.read()
	})
}

// pass is the kernel being given what was read, and answering.
func (x *client) pass() {
	for _, f := range x.batch {
		f()
	}
	for _, f := range x.answers {
		f()
	}
	x.batch, x.answers, x.busy = nil, nil, false
	if len(x.arrived) > 0 {
		x.begin()
	}
}

// content is byte i of what the stack sends.
func content(i uint32) byte { return byte(i ^ i>>8 ^ i>>16) }

func (c *conn) segment(seq uint32, flags byte, size int) Segment {
	head := make([]byte, 40)
	head[0] = 0x45
	copy(head[12:16], c.name.Addrs[4:8])
	copy(head[16:20], c.name.Addrs[:4])
	copy(head[20:22], c.name.Ports[2:])
	copy(head[22:24], c.name.Ports[:2])
	binary.BigEndian.PutUint32(head[24:], seq)
	head[32], head[33] = 5<<4, flags
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = content(seq - c.iss - 1 + uint32(i))
	}
	return Segment{Head: head, TCP: 20, Payload: [][]byte{payload}, Size: size, MSS: simMSS, Owner: &owner{c}}
}

// pump is the stack sending what it may.
func (c *conn) pump() {
	for {
		may := int64(int32(c.edge - c.nxt))
		flying := (int(c.nxt-c.una) + simMSS - 1) / simMSS
		may = min(may, int64(c.cwnd-flying)*simMSS, 43*simMSS)
		waiting := int64(int32(c.given - c.nxt)) // negative after the FIN
		n := min(may, waiting)
		if n > 0 && n < simMSS && c.todo >= 0 && n < waiting && c.una != c.nxt {
			return
		}
		flags := byte(flagACK)
		if n <= 0 {
			if c.todo != 0 || waiting > 0 || !c.fin || c.sentFIN || may <= 0 {
				return
			}
			flags |= flagFIN
			c.sentFIN = true
			n = 0
		}
		s := c.segment(c.nxt, flags, int(n))
		c.nxt += uint32(n)
		if flags&flagFIN != 0 {
			c.nxt++
		}
		if c.rto == nil {
			c.arm()
		}
		switch v := c.r.p.Sent(s); v {
		case Kept:
			c.r.held++
		case Held:
			c.r.t.Fatal("new data was held")
		}
		c.transmit(s, 0, max((int(n)+simMSS-1)/simMSS, 1))
	}
}

func (c *conn) arm() {
	c.rto = c.r.w.after(3*time.Second, func() {
		c.timeouts++
		c.rto = nil
		c.cwnd = 1
		c.arm()
	})
}

// transmit sends packets of a segment to the client.
func (c *conn) transmit(s Segment, first, count int) {
	seq := be32(s.Head[s.TCP+4:])
	for i := first; i < first+count; i++ {
		from := min(i*simMSS, s.Size)
		b := s.Payload[0][from:min(from+simMSS, s.Size)]
		if c.packets++; len(b) < simMSS {
			c.short++
		}
		fin := s.Head[s.TCP+13]&flagFIN != 0
		at := seq + uint32(from)
		c.r.down.send(len(b)+60, func() { c.r.client.take(func() { c.receive(at, b, fin) }) })
	}
}

// receive is the client's kernel.
func (c *conn) receive(seq uint32, b []byte, fin bool) {
	for i, x := range b {
		if i&63 == 0 && x != content(seq-c.iss-1+uint32(i)) {
			c.r.t.Fatalf("byte %d of the stream is wrong", seq-c.iss-1+uint32(i))
		}
	}
	end := seq + uint32(len(b))
	if fin {
		end++
	}
	if !before(c.rcv, end) {
		c.dup = &[2]uint32{seq, end}
		c.acknowledge()
		return
	}
	if before(c.rcv, seq) {
		c.insert(seq, end)
		c.acknowledge()
		return
	}
	c.rcv = end
	hole := len(c.ooo) > 0
	for again := true; again; {
		again = false
		for i, o := range c.ooo {
			if !before(c.rcv, o[0]) {
				if before(c.rcv, o[1]) {
					c.rcv = o[1]
				}
				c.ooo = append(c.ooo[:i], c.ooo[i+1:]...)
				again = true
				break
			}
		}
	}
	c.read = uint64(c.rcv - c.iss - 1) // fewer than 4 GB are sent
	if c.pending++; c.pending >= 2 || hole || fin {
		c.acknowledge()
	} else if c.ackTimer == nil {
		c.ackTimer = c.r.w.after(40*time.Millisecond, c.acknowledge)
	}
}

func (c *conn) insert(from, to uint32) {
	block := [2]uint32{from, to}
	for again := true; again; {
		again = false
		for i, o := range c.ooo {
			if before(block[1], o[0]) || before(o[1], block[0]) {
				continue
			}
			if !before(from, o[0]) && !before(o[1], to) {
				c.dup = &[2]uint32{from, to}
			}
			if before(o[0], block[0]) {
				block[0] = o[0]
			}
			if before(block[1], o[1]) {
				block[1] = o[1]
			}
			c.ooo = append(c.ooo[:i], c.ooo[i+1:]...)
			again = true
			break
		}
	}
	c.ooo = append(c.ooo, block)
}

// acknowledge sends an acknowledgement, with up to three blocks, newest first.
func (c *conn) acknowledge() {
	if c.ackTimer != nil {
		c.ackTimer()
		c.ackTimer = nil
	}
	c.pending = 0
	opts := []byte{1, 1, 5, 2}
	add := func(b [2]uint32) {
		if len(opts) < 4+24 {
			opts = binary.BigEndian.AppendUint32(opts, b[0])
			opts = binary.BigEndian.AppendUint32(opts, b[1])
		}
	}
	if c.dup != nil {
		add(*c.dup)
		c.dup = nil
	}
	for i := len(c.ooo) - 1; i >= 0; i-- {
		add(c.ooo[i])
	}
	if opts[3] = byte(len(opts) - 2); len(opts) == 4 {
		opts = nil
	}
	tcp := make([]byte, 20, 60)
	copy(tcp[:4], c.name.Ports[:])
	binary.BigEndian.PutUint32(tcp[8:], c.rcv)
	tcp = append(tcp, opts...)
	tcp[12], tcp[13] = byte(len(tcp)/4)<<4, flagACK
	binary.BigEndian.PutUint16(tcp[14:], uint16(c.window>>c.scale))
	c.r.client.answer(func() { c.r.up.send(len(tcp)+40, func() { c.acked(tcp) }) })
}

// acked is the acknowledgement arriving at the server.
func (c *conn) acked(tcp []byte) {
	if !c.r.p.Received(c.name.Addrs[:8], tcp, 0) {
		return
	}
	for i := 20; i < len(tcp); i++ {
		if tcp[i] != optionNOP {
			c.r.t.Fatalf("the stack sees options: %v", tcp[20:])
		}
	}
	ack := be32(tcp[8:])
	if before(c.una, ack) {
		c.cwnd += (int(ack-c.una) + simMSS - 1) / simMSS
		c.una = ack
		c.rto()
		c.rto = nil
		if c.una != c.nxt {
			c.arm()
		}
	}
	c.edge = ack + uint32(binary.BigEndian.Uint16(tcp[14:]))<<c.scale
	// The stack comes to it when all that has arrived together is handed in.
	if !c.pumping {
		c.pumping = true
		c.r.w.at(c.r.w.now, func() {
			c.pumping = false
			c.supply()
			c.pump()
		})
	}
}
