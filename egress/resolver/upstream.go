package resolver

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"rocserv/egress"
)

const (
	// A socket, and with it a port, serves so many queries or so long. A single
	// query now and then has a port of its own; in a burst they share a few.
	socketUses = 128
	socketLife = 10 * time.Second

	// longIdle is how long a connection without a query is kept: servers close
	// theirs after some seconds (RFC 7766 section 6.2.3).
	longIdle = 30 * time.Second

	// maxSockets bounds the sockets of all servers together, but each server
	// can have one of a kind.
	maxSockets = 8

	missesToRest = 3                // unanswered tries in a row until a server is passed over
	restTime     = 30 * time.Second // for how long
)

// upstream is a DNS server at work.
type upstream struct {
	server Server
	short  *link     // for new tries by datagrams; nil: none open
	long   *link     // for new tries by a connection; nil: none open
	misses int       // tries in a row without an answer
	rested time.Time // until when others are asked first
	gone   bool      // replaced by others
}

func upstreams(list []Server) []*upstream {
	group := make([]*upstream, len(list))
	for i, s := range list {
		group[i] = &upstream{server: s}
	}
	return group
}

func (u *upstream) missed(now time.Time) {
	if u.misses++; u.misses >= missesToRest {
		u.rested = now.Add(restTime)
	}
}

func (u *upstream) answered() {
	u.misses, u.rested = 0, time.Time{}
}

// current is where the link for new tries stands.
func (u *upstream) current(long bool) **link {
	if long {
		return &u.long
	}
	return &u.short
}

// preferred is the index of the server to ask first.
func preferred(group []*upstream, now time.Time) int {
	for i, u := range group {
		if !now.Before(u.rested) {
			return i
		}
	}
	return 0
}

// link is what queries to a server travel by: a UDP socket connected to it, so
// that the kernel lets nothing else in and tells when nobody listens there, or a
// connection, whose messages come like datagrams.
type link struct {
	r    *Resolver
	u    *upstream
	sock egress.PacketSocket
	long bool // a connection

	opened      time.Time
	used        time.Time
	uses        int  // tries sent
	outstanding int  // tries an answer may still come to
	answered    bool // something came by it
	retired     bool
}

// opener makes what is below a link.
type opener func(l *link) (egress.PacketSocket, error)

// linkTo is the link for the next try: the one in use, or a new one. Of a
// socket the kernel picks a random port (RFC 5452 section 9.2).
func (r *Resolver) linkTo(u *upstream, long bool, now time.Time) (*link, error) {
	at := u.current(long)
	l := *at
	if l != nil && (long || !l.spent(now) || r.sockets >= maxSockets) {
		return l, nil
	}
	fresh := &link{r: r, u: u, long: long, opened: now, used: now}
	sock, err := r.open(fresh)
	if err != nil {
		if l != nil {
			return l, nil // better an old port than none
		}
		return nil, err
	}
	r.retireLink(l)
	fresh.sock = sock
	*at = fresh
	r.sockets++
	return fresh, nil
}

// spent says whether the link is to be closed when nothing is awaited by it.
func (l *link) spent(now time.Time) bool {
	if l.long {
		return now.Sub(l.used) >= longIdle
	}
	return l.uses >= socketUses || now.Sub(l.opened) >= socketLife
}

// retire takes the links of a server out of use.
func (r *Resolver) retire(u *upstream) {
	r.retireLink(u.short)
	r.retireLink(u.long)
}

// retireLink takes a link out of use. It stays open as long as an answer may
// come.
func (r *Resolver) retireLink(l *link) {
	if l == nil || l.retired {
		return
	}
	if at := l.u.current(l.long); *at == l {
		*at = nil
	}
	l.retired = true
	r.closeIfDone(l)
}

func (r *Resolver) closeIfDone(l *link) {
	if l.retired && l.outstanding == 0 {
		l.sock.Close()
		r.sockets--
	}
}

// Receive implements egress.Receiver.
func (l *link) Receive(msgs []egress.Message) {
	for i := range msgs {
		l.r.answer(l, msgs[i].Payload).deliver()
	}
}

// Report implements egress.Receiver. A connected socket's errors come by failed.
func (l *link) Report(*egress.Report) {}

// failed is told that the link has an error: nobody listens at the server,
// there is no way to it, or the connection has ended. Its tries move on at once.
func (l *link) failed(err error) {
	r := l.r
	r.mu.Lock()
	now := r.now()
	if errors.Is(err, syscall.ECONNREFUSED) {
		l.u.misses = missesToRest - 1
	}
	if !l.long || !l.answered { // servers close connections that have served (RFC 7766 section 6.2.4)
		l.u.missed(now)
	}
	var outs []outcome
	waiting := r.flight.of(l)
	if l.long {
		r.retireLink(l)
		for _, t := range slices.Clone(r.flight.on(l)) {
			r.forget(t) // nothing can come any more
		}
	}
	for _, t := range waiting {
		r.flight.expire(t)
		outs = append(outs, r.advance(t.q))
	}
	r.mu.Unlock()
	for _, o := range outs {
		o.deliver()
	}
}

// lost is told that a try has no answer though the link goes on: its query moves
// on at once. A server that refused it is not asked again.
func (l *link) lost(id uint16, refused bool) {
	r := l.r
	var o outcome
	r.mu.Lock()
	if t := r.flight.byID[id]; t != nil && t.link == l {
		late := t.elem == nil
		r.forget(t)
		if !late { // else another try waits
			l.u.missed(r.now())
			if refused && t.q.sent >= len(t.q.group) {
				t.q.sent = maxTries
			}
			o = r.advance(t.q)
		}
	}
	r.mu.Unlock()
	o.deliver()
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
		u := t.link.u
		if u.missed(now); t.link.long && u.misses >= missesToRest {
			r.retireLink(t.link) // it may hang; another may not
		}
		outs = append(outs, r.advance(t.q))
	}
	for u := range r.servers.all() {
		for _, l := range []*link{u.short, u.long} {
			if l != nil && l.outstanding == 0 && l.spent(now) {
				r.retireLink(l)
			}
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
