package egress

import (
	"container/list"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"time"
)

const (
	// A socket, and with it a port, serves so many queries or so long. A single
	// query now and then has a port of its own; in a burst they share a few.
	socketUses = 128
	socketLife = 10 * time.Second

	// maxSockets bounds the sockets of all upstreams together, but each upstream
	// can have one.
	maxSockets = 8

	missesToRest = 3                // unanswered tries in a row until an upstream is passed over
	restTime     = 30 * time.Second // for how long
)

// upstream is a DNS server.
type upstream struct {
	addr   netip.AddrPort
	socket *upstreamSocket // for new tries; nil: none open
	misses int             // tries in a row without an answer
	rested time.Time       // until when others are asked first
}

func (u *upstream) missed(now time.Time) {
	if u.misses++; u.misses >= missesToRest {
		u.rested = now.Add(restTime)
	}
}

func (u *upstream) answered() {
	u.misses, u.rested = 0, time.Time{}
}

// preferred is the index of the upstream to ask first.
func (r *Resolver) preferred() int {
	now := r.now()
	for i, u := range r.upstreams {
		if !now.Before(u.rested) {
			return i
		}
	}
	return 0
}

// inOrder gives the addresses of the upstreams, the preferred one first.
func (r *Resolver) inOrder() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs := make([]netip.AddrPort, len(r.upstreams))
	first := r.preferred()
	for i := range addrs {
		addrs[i] = r.upstreams[(first+i)%len(addrs)].addr
	}
	return addrs
}

// upstreamSocket is a UDP socket connected to an upstream: the kernel lets
// nothing else in, and tells when nobody listens there.
type upstreamSocket struct {
	r    *Resolver
	u    *upstream
	sock PacketSocket

	opened      time.Time
	uses        int // tries sent
	outstanding int // tries an answer may still come to
	retired     bool
}

// openUpstream is Resolver.open on host sockets.
func (d *Direct) openUpstream(addr netip.AddrPort, s *upstreamSocket) (PacketSocket, error) {
	return d.OpenConfigured(addr, s, s.failed)
}

// socketFor is the socket for the next try: the one in use, or a new one, whose
// random port the kernel picks (RFC 5452 section 9.2).
func (r *Resolver) socketFor(u *upstream, now time.Time) (*upstreamSocket, error) {
	s := u.socket
	if s != nil && (!s.spent(now) || r.sockets >= maxSockets) {
		return s, nil
	}
	fresh := &upstreamSocket{r: r, u: u, opened: now}
	sock, err := r.open(u.addr, fresh)
	if err != nil {
		if s != nil {
			return s, nil // better an old port than none
		}
		return nil, err
	}
	r.retire(u)
	fresh.sock = sock
	u.socket = fresh
	r.sockets++
	return fresh, nil
}

func (s *upstreamSocket) spent(now time.Time) bool {
	return s.uses >= socketUses || now.Sub(s.opened) >= socketLife
}

// retire takes the upstream's socket out of use. It stays open as long as an
// answer may come.
func (r *Resolver) retire(u *upstream) {
	if s := u.socket; s != nil {
		u.socket = nil
		s.retired = true
		r.closeIfDone(s)
	}
}

func (r *Resolver) closeIfDone(s *upstreamSocket) {
	if s.retired && s.outstanding == 0 {
		s.sock.Close()
		r.sockets--
	}
}

// Receive implements Receiver.
func (s *upstreamSocket) Receive(msgs []Message) {
	for i := range msgs {
		s.r.answer(s, msgs[i].Payload).deliver()
	}
}

// Report implements Receiver. A connected socket's errors come by failed.
func (s *upstreamSocket) Report(*Report) {}

// failed is told that the socket has an error: nobody listens at the upstream,
// or there is no way to it. Its tries move on at once.
func (s *upstreamSocket) failed(err error) {
	r := s.r
	r.mu.Lock()
	now := r.now()
	if errors.Is(err, syscall.ECONNREFUSED) {
		s.u.misses = missesToRest - 1
	}
	s.u.missed(now)
	var outs []outcome
	for _, t := range r.flight.of(s) {
		r.flight.expire(t)
		outs = append(outs, r.advance(t.q))
	}
	r.mu.Unlock()
	for _, o := range outs {
		o.deliver()
	}
}

// tick is the timer's: tries that have had no answer move on, sockets that
// nobody uses are closed.
func (r *Resolver) tick() {
	var outs []outcome
	r.mu.Lock()
	now := r.now()
	r.alarm.at = time.Time{}
	for t := r.flight.next(); !r.closed && t != nil && !now.Before(t.deadline); t = r.flight.next() {
		r.flight.expire(t)
		t.socket.u.missed(now)
		outs = append(outs, r.advance(t.q))
	}
	for _, u := range r.upstreams {
		if s := u.socket; s != nil && s.outstanding == 0 && s.spent(now) {
			r.retire(u)
		}
	}
	r.arm(now)
	r.mu.Unlock()
	for _, o := range outs {
		o.deliver()
	}
}

// alarm is the resolver's timer and when it will end; zero: it does not run.
type alarm struct {
	timer Timer
	at    time.Time
}

// arm sets the timer for what comes next. It is moved only to be earlier.
func (r *Resolver) arm(now time.Time) {
	var at time.Time
	switch t := r.flight.next(); {
	case r.closed:
		return
	case t != nil:
		at = t.deadline
	case r.sockets > 0:
		at = now.Add(socketLife)
	default:
		return
	}
	if r.alarm.at.IsZero() || at.Before(r.alarm.at) {
		r.alarm.at = at
		r.alarm.timer.Reset(at.Sub(now))
	}
}

// try is one datagram to one upstream.
type try struct {
	q        *query
	socket   *upstreamSocket
	id       uint16 // transaction id
	deadline time.Time
	elem     *list.Element // nil: timed out, though a late answer is still welcome
}

// flight holds the tries an answer may come to.
type flight struct {
	byID    map[uint16]*try
	waiting list.List // of *try that have not timed out, the next to do so first
	queries int
	random  [128]byte // not used yet: the first left bytes
	left    int
}

func newFlight() flight { return flight{byID: make(map[uint16]*try)} }

// add gives t an id that cannot be guessed and is not in use (RFC 5452 section
// 9.2) and notes it. All tries wait equally long, so its place is the last.
func (f *flight) add(t *try) {
	for {
		t.id = f.draw()
		if _, used := f.byID[t.id]; !used {
			break
		}
	}
	f.byID[t.id] = t
	t.elem = f.waiting.PushBack(t)
}

func (f *flight) draw() uint16 {
	if f.left == 0 {
		rand.Read(f.random[:])
		f.left = len(f.random)
	}
	f.left -= 2
	return binary.NativeEndian.Uint16(f.random[f.left:])
}

// next is the try that times out next, nil if none waits.
func (f *flight) next() *try {
	if e := f.waiting.Front(); e != nil {
		return e.Value.(*try)
	}
	return nil
}

// expire takes t out of those that wait; its late answer is still taken.
func (f *flight) expire(t *try) {
	if t.elem != nil {
		f.waiting.Remove(t.elem)
		t.elem = nil
	}
}

func (f *flight) remove(t *try) {
	f.expire(t)
	delete(f.byID, t.id)
}

// of gives the waiting tries of a socket.
func (f *flight) of(s *upstreamSocket) []*try {
	var ts []*try
	for e := f.waiting.Front(); e != nil; e = e.Next() {
		if t := e.Value.(*try); t.socket == s {
			ts = append(ts, t)
		}
	}
	return ts
}
