package egress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

const (
	tryTimeout     = 1500 * time.Millisecond // after which the next upstream is asked too
	maxTries       = 3                       // 4.5 s in all: before a client's own 5 s are over
	maxOutstanding = 256                     // queries of the client waiting for upstreams
	maxUpstreams   = 8
	tcpTryTimeout  = 3 * time.Second // to connect to any upstream but the last
)

// ResolverConfig sets up a Resolver.
type ResolverConfig struct {
	// Upstreams are the DNS servers in order of preference, at most eight. They
	// come from the configuration or the host, never from a client, and are
	// exempt from the policy.
	Upstreams []netip.AddrPort

	// AAAAFilter answers AAAA queries with an empty answer: for a host without a
	// way out for IPv6, whose clients would else try it first and wait.
	AAAAFilter bool

	// Names is told what the client is told; nil: nobody is.
	Names *Names

	// Now and NewTimer are the clock; nil: package time's. NewTimer makes a
	// timer that is not running and calls f, on any goroutine, when it ends.
	Now      func() time.Time
	NewTimer func(f func()) Timer
}

// Timer is what a Resolver needs of a time.Timer.
type Timer interface {
	Reset(d time.Duration) bool
	Stop() bool
}

// ResolverStats counts what a Resolver did.
type ResolverStats struct {
	Queries  uint64 // asked by the client
	Answered uint64 // by an upstream
	Local    uint64 // answered without one: malformed, filtered
	Failed   uint64 // SERVFAIL of ours: no upstream, no answer, too many at once
	Retries  uint64 // tries after a query's first
	Strays   uint64 // datagrams on upstream sockets that answer nothing: late, forged, garbage
}

// Resolver forwards one client's DNS queries to the upstreams. It keeps no
// cache: the upstreams have one. It is safe for concurrent use.
type Resolver struct {
	open  func(netip.AddrPort, *upstreamSocket) (PacketSocket, error)
	dial  func(context.Context, netip.AddrPort) (Stream, error)
	now   func() time.Time
	names *Names

	mu        sync.Mutex // protects the rest; never held while a reply is delivered
	upstreams []*upstream
	filter    bool
	flight    flight
	sockets   int // open
	alarm     alarm
	stats     ResolverStats
	closed    bool
}

// query is a query of the client on its way.
type query struct {
	dnsQuery // of a copy of the client's message, which has the id of the last try
	id       uint16
	own      bool // asked by us, not by the client
	limit    int  // of the answer, in bytes
	reply    func([]byte)
	first    int    // index of the upstream asked first
	sent     int    // tries made
	tries    []*try // of them those an answer may still come to
}

// outcome is a reply to deliver once the lock is given back; none if reply is nil.
type outcome struct {
	reply func([]byte)
	msg   []byte
}

func (o outcome) deliver() {
	if o.reply != nil {
		o.reply(o.msg)
	}
}

// NewResolver makes a resolver whose sockets are d's. Close it before d.
func NewResolver(d *Direct, cfg ResolverConfig) *Resolver {
	return newResolver(d.openUpstream, d.DialConfigured, cfg)
}

func newResolver(open func(netip.AddrPort, *upstreamSocket) (PacketSocket, error),
	dial func(context.Context, netip.AddrPort) (Stream, error), cfg ResolverConfig) *Resolver {
	r := &Resolver{open: open, dial: dial, now: cfg.Now, names: cfg.Names, filter: cfg.AAAAFilter, flight: newFlight()}
	if r.now == nil {
		r.now = time.Now
	}
	if cfg.NewTimer == nil {
		cfg.NewTimer = newStoppedTimer
	}
	r.alarm.timer = cfg.NewTimer(r.tick)
	r.SetUpstreams(cfg.Upstreams)
	return r
}

func newStoppedTimer(f func()) Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

// SetUpstreams replaces the upstreams. Queries on their way stay there.
func (r *Resolver) SetUpstreams(addrs []netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	addrs = addrs[:min(len(addrs), maxUpstreams)]
	same := func(u *upstream, a netip.AddrPort) bool { return u.addr == a }
	if r.closed || slices.EqualFunc(r.upstreams, addrs, same) {
		return
	}
	for _, u := range r.upstreams {
		r.retire(u)
	}
	r.upstreams = nil
	for _, a := range addrs {
		r.upstreams = append(r.upstreams, &upstream{addr: a})
	}
}

// SetAAAAFilter says whether AAAA queries get an empty answer.
func (r *Resolver) SetAAAAFilter(on bool) {
	r.mu.Lock()
	r.filter = on
	r.mu.Unlock()
}

// Stats returns the counters.
func (r *Resolver) Stats() ResolverStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Close closes the sockets. Queries on their way get no answer.
func (r *Resolver) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed
	}
	r.closed = true
	r.alarm.timer.Stop()
	for _, u := range r.upstreams {
		r.retire(u)
	}
	for _, t := range r.flight.byID {
		r.drop(t)
	}
	return nil
}

// Query forwards a client's query. It does not block and keeps nothing of msg.
// limit is how long an answer the client's transport can carry, in bytes; what
// is longer, or longer than the client says it takes, comes truncated.
//
// reply is called at most once: before Query returns, on the poller's goroutine
// or on a timer's. It may block; the answer is its own only until it returns.
// What is no query at all gets no answer.
func (r *Resolver) Query(msg []byte, limit int, reply func(answer []byte)) {
	r.query(msg, limit, false, reply).deliver()
}

func (r *Resolver) query(msg []byte, limit int, own bool, reply func([]byte)) outcome {
	dq, err := parseDNSQuery(msg)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || errors.Is(err, errNotQuery) {
		return outcome{}
	}
	r.stats.Queries++
	if rcode, local := r.local(&dq, err); local {
		r.stats.Local++
		return outcome{reply, dq.answer(rcode)}
	}
	if r.flight.queries == maxOutstanding {
		r.stats.Failed++
		return outcome{reply, dq.answer(rcodeServFail)}
	}
	q := &query{dnsQuery: dq, id: dnsID(msg), own: own, limit: dq.limit(limit), reply: reply, first: r.preferred()}
	q.msg = slices.Clone(msg)
	q.capSize(q.limit)
	r.flight.queries++
	return r.advance(q)
}

// local says what is answered without asking anybody.
func (r *Resolver) local(q *dnsQuery, err error) (rcode uint16, ok bool) {
	switch {
	case errors.Is(err, errDNSOpcode):
		return rcodeNotImpl, true
	case err != nil:
		return rcodeFormat, true
	}
	return rcodeSuccess, r.filter && q.qtype() == typeAAAA && q.qclass() == classIN
}

// advance asks the next upstream. If all tries are made, or no upstream can be
// reached, the query ends.
func (r *Resolver) advance(q *query) outcome {
	for q.sent < maxTries && len(r.upstreams) > 0 {
		u := r.upstreams[(q.first+q.sent)%len(r.upstreams)]
		if q.sent++; q.sent > 1 {
			r.stats.Retries++
		}
		if r.try(q, u) {
			return outcome{}
		}
	}
	r.stats.Failed++
	r.finish(q)
	setDNSID(q.msg, q.id)
	return outcome{q.reply, q.dnsQuery.answer(rcodeServFail)}
}

// try sends the query to u under a fresh id. An error of the socket is as good
// as silence, only sooner.
func (r *Resolver) try(q *query, u *upstream) bool {
	now := r.now()
	s, err := r.socketFor(u, now)
	if err != nil {
		u.missed(now)
		return false
	}
	t := &try{q: q, socket: s, deadline: now.Add(tryTimeout)}
	r.flight.add(t)
	setDNSID(q.msg, t.id)
	s.uses++
	s.outstanding++
	q.tries = append(q.tries, t)
	if _, err := s.sock.Send([]Message{{Addr: u.addr, Payload: q.msg}}); err != nil {
		r.forget(t)
		u.missed(now)
		return false
	}
	r.arm(now)
	return true
}

// answer takes a datagram from an upstream. The kernel has compared addresses
// and ports; here the id, the socket and the question must fit (RFC 5452
// section 9.1).
func (r *Resolver) answer(s *upstreamSocket, msg []byte) outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	var t *try
	if len(msg) >= dnsHeaderLen {
		t = r.flight.byID[dnsID(msg)]
	}
	if t == nil || t.socket != s || !t.q.answers(msg) {
		r.stats.Strays++
		return outcome{}
	}
	q := t.q
	s.u.answered()
	if rcode := dnsFlags(msg) & dnsRcode; (rcode == rcodeServFail || rcode == rcodeRefused) && q.sent < min(maxTries, len(r.upstreams)) {
		// Another upstream may know better.
		r.forget(t)
		return r.advance(q)
	}
	r.stats.Answered++
	r.finish(q)
	if r.names != nil && !q.own {
		q.teach(r.names, msg)
	}
	setDNSID(msg, q.id)
	if len(msg) > q.limit {
		setDNSID(q.msg, q.id)
		msg = q.truncated(msg)
	}
	return outcome{q.reply, msg}
}

// finish ends a query.
func (r *Resolver) finish(q *query) {
	for _, t := range q.tries {
		r.drop(t)
	}
	q.tries = nil
	r.flight.queries--
}

// forget ends one try of a query that goes on.
func (r *Resolver) forget(t *try) {
	t.q.tries = slices.DeleteFunc(t.q.tries, func(o *try) bool { return o == t })
	r.drop(t)
}

func (r *Resolver) drop(t *try) {
	r.flight.remove(t)
	t.socket.outstanding--
	r.closeIfDone(t.socket)
}

// DialTCP connects to an upstream for DNS over TCP (RFC 7766), the first that
// takes the connection.
func (r *Resolver) DialTCP(ctx context.Context) (Stream, error) {
	err := fmt.Errorf("egress: no DNS upstream: %w", syscall.ECONNREFUSED)
	addrs := r.inOrder()
	for i, a := range addrs {
		var s Stream
		if s, err = dialOne(ctx, r.dial, a, i == len(addrs)-1); err == nil || ctx.Err() != nil {
			return s, err
		}
	}
	return nil, err
}

// dialOne does not wait for an address longer than leaves time for the next.
func dialOne(ctx context.Context, dial func(context.Context, netip.AddrPort) (Stream, error), a netip.AddrPort, last bool) (Stream, error) {
	if !last {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, tcpTryTimeout)
		defer cancel()
	}
	return dial(ctx, a)
}
