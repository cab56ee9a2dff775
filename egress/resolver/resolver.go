package resolver

import (
	"errors"
	"slices"
	"sync"
	"time"

	"rocserv/egress"
)

const (
	tryTimeout     = 1500 * time.Millisecond // after which the next server is asked too
	maxTries       = 3                       // 4.5 s in all: before a client's own 5 s are over
	maxOutstanding = 256                     // queries of the client waiting for servers
)

// Config sets up a Resolver.
type Config struct {
	// Servers are the DNS servers in order of preference, at most eight. They
	// come from the configuration or the host, never from a client, and are
	// exempt from the policy.
	Servers []Server

	// Zones are names that other servers are asked for.
	Zones []Zone

	// AAAAFilter answers AAAA queries with an empty answer: for a host without a
	// way out for IPv6, whose clients would else try it first and wait.
	AAAAFilter bool

	Rules Rules

	// Cache is how much is remembered of what servers have answered, in bytes;
	// 0: nothing.
	Cache int

	// Names is told what the client is told; nil: nobody is.
	Names *egress.Names

	// Dial makes connections to servers; nil: d's own. With it all servers are
	// asked by connections, because it is a way that datagrams may not take.
	Dial Dial

	// Lookup finds the addresses of servers that have a name. It must not ask
	// the servers of this resolver. Not used with Dial.
	Lookup Lookup

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

// Stats counts what a Resolver did.
type Stats struct {
	Queries  uint64 // asked by the client
	Answered uint64 // by a server
	Local    uint64 // answered without one: malformed, filtered
	Cached   uint64 // answered from memory
	Blocked  uint64 // by the list of names
	Withheld uint64 // answers of a public name that named a private address
	Failed   uint64 // SERVFAIL of ours: no server, no answer, too many at once
	Retries  uint64 // tries after a query's first
	Strays   uint64 // what came from servers and answers nothing: late, forged, garbage
}

// Resolver forwards one client's DNS queries to servers. It is safe for
// concurrent use.
type Resolver struct {
	open  opener
	now   func() time.Time
	names *egress.Names
	rules Rules
	long  bool // all servers are asked by connections

	mu      sync.Mutex // protects the rest; never held while a reply is delivered
	servers servers
	filter  bool
	cache   cache
	flight  flight
	sockets int // open
	alarm   alarm
	clients clients
	stats   Stats
	closed  bool
}

// query is a query of the client on its way.
type query struct {
	dnsQuery // of a copy of the client's message, which has the id of the last try
	id       uint16
	own      bool // asked by us, not by the client
	rule     *error
	whole    bool // no answer is cut that limit has room for
	long     bool // to be asked by a connection: the answer does not fit a datagram
	limit    int  // of the answer, in bytes
	reply    func([]byte)
	group    []*upstream // who may be asked
	first    int         // index of the one asked first
	sent     int         // tries made
	tries    []*try      // of them those an answer may still come to
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

// New makes a resolver whose sockets are d's. Close it before d.
func New(d *egress.Direct, cfg Config) *Resolver {
	return newResolver((&outside{d, cfg.Dial, cfg.Lookup}).open, cfg)
}

func newResolver(open opener, cfg Config) *Resolver {
	r := &Resolver{
		open: open, now: cfg.Now, names: cfg.Names, rules: cfg.Rules, long: cfg.Dial != nil,
		filter: cfg.AAAAFilter, flight: newFlight(), cache: newCache(cfg.Cache),
	}
	if r.now == nil {
		r.now = time.Now
	}
	if cfg.NewTimer == nil {
		cfg.NewTimer = newStoppedTimer
	}
	r.alarm.timer = cfg.NewTimer(r.tick)
	r.clients = clients{open: map[*stream]struct{}{}, timer: cfg.NewTimer}
	r.servers.zones = zonesOf(cfg.Zones)
	r.SetServers(cfg.Servers)
	return r
}

func newStoppedTimer(f func()) Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

// SetServers replaces the servers that are asked where no zone says otherwise.
// Queries on their way stay there.
func (r *Resolver) SetServers(list []Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list = list[:min(len(list), maxServers)]
	same := func(u *upstream, s Server) bool { return u.server.same(&s) }
	if r.closed || slices.EqualFunc(r.servers.rest, list, same) {
		return
	}
	for _, u := range r.servers.rest {
		u.gone = true
		r.retire(u)
	}
	r.servers.rest = upstreams(list)
	r.cache.clear()
}

// SetAAAAFilter says whether AAAA queries get an empty answer.
func (r *Resolver) SetAAAAFilter(on bool) {
	r.mu.Lock()
	r.filter = on
	r.mu.Unlock()
}

// Stats returns the counters.
func (r *Resolver) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Close closes the sockets and the client's connections. Queries on their way
// get no answer.
func (r *Resolver) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errClosed
	}
	r.closed = true
	r.alarm.timer.Stop()
	for u := range r.servers.all() {
		r.retire(u)
	}
	for _, t := range r.flight.byID {
		r.drop(t)
	}
	for s := range r.clients.open {
		s.end(errClosed)
	}
	return nil
}

// Query forwards a client's query. It does not block and keeps nothing of msg.
// limit is how long an answer the client's transport can carry, in bytes; what
// is longer, or longer than the client says it takes, comes truncated.
//
// reply is called at most once: before Query returns, or on a goroutine of the
// resolver's. It may block; the answer is its own only until it returns.
// What is no query at all gets no answer.
func (r *Resolver) Query(msg []byte, limit int, reply func(answer []byte)) {
	r.query(msg, request{limit: limit, reply: reply}).deliver()
}

// request is how a query came.
type request struct {
	limit int
	whole bool // limit is what is taken, whatever EDNS says, as by a connection
	own   bool
	rule  *error // where the operator's rule that decides is noted before the reply; may be nil
	reply func([]byte)
}

func (r *Resolver) query(msg []byte, req request) outcome {
	dq, err := parseDNSQuery(msg)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || errors.Is(err, errNotQuery) {
		return outcome{}
	}
	r.stats.Queries++
	q := &query{dnsQuery: dq, id: dnsID(msg), own: req.own, rule: req.rule, whole: req.whole, limit: req.limit, reply: req.reply}
	most := ourDNSUDP // what servers may send by a datagram
	if !q.whole && err == nil {
		q.limit = dq.limit(req.limit)
		most = q.limit
	}
	if o, done := r.local(q, err); done {
		return o
	}
	if r.flight.queries == maxOutstanding {
		r.stats.Failed++
		return outcome{q.reply, dq.answer(rcodeServFail)}
	}
	q.group = r.servers.of(dq.text())
	q.first = preferred(q.group, r.now())
	q.msg = slices.Clone(msg)
	q.capSize(most)
	r.flight.queries++
	return r.advance(q)
}

// local answers what nobody needs to be asked for.
func (r *Resolver) local(q *query, err error) (o outcome, done bool) {
	own := func(count *uint64, rcode uint16, rule error) (outcome, bool) {
		*count++
		q.ruled(rule)
		return outcome{q.reply, q.dnsQuery.answer(rcode)}, true
	}
	switch {
	case errors.Is(err, errDNSOpcode):
		return own(&r.stats.Local, rcodeNotImpl, nil)
	case err != nil:
		return own(&r.stats.Local, rcodeFormat, nil)
	case q.own:
		return o, false
	case r.rules.blocks(&q.dnsQuery):
		return own(&r.stats.Blocked, r.rules.blockCode(), errBlocked)
	case r.filter && q.qtype() == typeAAAA && q.qclass() == classIN:
		return own(&r.stats.Local, rcodeSuccess, errNoIPv6)
	}
	if msg := r.cache.get(&q.dnsQuery, r.now()); msg != nil {
		r.stats.Cached++
		return r.tell(q, msg), true
	}
	return o, false
}

// advance asks the next server. If all tries are made, or no server can be
// reached, the query ends.
func (r *Resolver) advance(q *query) outcome {
	if len(q.group) > 0 && q.group[0].gone {
		q.group = r.servers.of(q.text())
	}
	for q.sent < maxTries && len(q.group) > 0 {
		u := q.group[(q.first+q.sent)%len(q.group)]
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
	l, err := r.linkTo(u, q.long || r.long || u.server.Kind != Plain, now)
	if err != nil {
		u.missed(now)
		return false
	}
	if t := q.on(l); t != nil && l.long { // what a connection has taken is not lost
		t.deadline = now.Add(tryTimeout)
		r.flight.await(t)
		r.arm(now)
		return true
	}
	t := &try{q: q, link: l, deadline: now.Add(tryTimeout)}
	r.flight.add(t)
	setDNSID(q.msg, t.id)
	l.uses++
	l.used = now
	l.outstanding++
	q.tries = append(q.tries, t)
	if _, err := l.sock.Send([]egress.Message{{Addr: u.server.Addr, Payload: q.msg}}); err != nil {
		r.forget(t)
		u.missed(now)
		return false
	}
	r.arm(now)
	return true
}

// on is the try that the query has on a link.
func (q *query) on(l *link) *try {
	for _, t := range q.tries {
		if t.link == l {
			return t
		}
	}
	return nil
}

// answer takes what came from a server. Of datagrams the kernel has compared
// addresses and ports; here the id, the socket and the question must fit (RFC
// 5452 section 9.1).
func (r *Resolver) answer(l *link, msg []byte) outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	var t *try
	if len(msg) >= dnsHeaderLen {
		t = r.flight.byID[dnsID(msg)]
	}
	if t == nil || t.link != l || !t.q.answers(msg) {
		r.stats.Strays++
		return outcome{}
	}
	q := t.q
	l.u.answered()
	l.answered = true
	late := t.elem == nil // then another try waits
	if dnsFlags(msg)&dnsTC != 0 && q.whole && !l.long {
		// The rest comes by a connection (RFC 2181 section 9, RFC 7766 section 5).
		q.long = true
		r.forget(t)
		if late || !l.u.gone && r.try(q, l.u) {
			return outcome{}
		}
		return r.advance(q)
	}
	if rcode := dnsFlags(msg) & dnsRcode; rcode == rcodeServFail || rcode == rcodeRefused {
		switch { // another server may know better
		case late:
			r.forget(t)
			return outcome{}
		case q.sent < min(maxTries, len(q.group)):
			r.forget(t)
			return r.advance(q)
		}
	}
	r.stats.Answered++
	r.finish(q)
	return r.judge(q, msg, l.u)
}

// judge decides what becomes of a server's answer: is it told, and remembered?
func (r *Resolver) judge(q *query, msg []byte, from *upstream) outcome {
	setDNSID(q.msg, q.id)
	setDNSID(msg, q.id)
	if q.own {
		return outcome{q.reply, msg}
	}
	if r.rules.guards(&q.dnsQuery) {
		if dnsFlags(msg)&dnsTC != 0 { // its last record may be cut: the client comes by TCP
			msg = q.truncated(msg)
		}
		if leads(msg) {
			r.stats.Withheld++
			q.ruled(errWithheld)
			return outcome{q.reply, q.dnsQuery.answer(rcodeSuccess)}
		}
	}
	if !from.gone { // else it is what others are asked for now
		r.cache.put(&q.dnsQuery, msg, r.now())
	}
	return r.tell(q, msg)
}

// tell gives the client an answer, as much of it as it takes, and notes what it
// learns by it.
func (r *Resolver) tell(q *query, msg []byte) outcome {
	if r.names != nil {
		q.teach(r.names, msg)
	}
	if len(msg) > q.limit {
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
	t.link.outstanding--
	r.closeIfDone(t.link)
}
