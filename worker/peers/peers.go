package peers

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"
	"golang.org/x/time/rate"

	"rocserv/internal/ipc"
	"rocserv/internal/packet"
	"rocserv/netstack/shape"
)

const (
	// MaxPairs is how many other clients this one can exchange packets with at
	// a time; each takes a descriptor and a goroutine.
	MaxPairs = 64

	maxAsked = 256      // destinations without a pair that are remembered
	maxHeld  = 64 << 10 // bytes that wait for an answer or a note, together
	maxSaid  = 32       // ICMP errors that wait for the end of a batch

	answerTime = 2 * time.Second  // main answers in no time; then it is asked again
	noTime     = 2 * time.Second  // for which a no is remembered
	nobodyTime = 10 * time.Second // and that an address is no client's
	noteTime   = 5 * time.Second  // for the other worker's note
	unusedTime = 2 * time.Minute  // after which a pair is closed
	shunTime   = time.Minute      // for a client whose worker sends in other names
	keepUnused = time.Second      // a pair unused for that long gives its place to another

	errorRate  = 100 // ICMP errors a second, RFC 1812 section 4.3.2.8
	errorBurst = 50
)

// Config is what Peers works with.
type Config struct {
	Addrs              []netip.Addr   // the client's
	Behind             []netip.Prefix // networks behind the client
	Gateway4, Gateway6 netip.Addr     // who says that something cannot be delivered
	MTU                int            // of the tunnel
	Sink               packet.Sink    // to the client
	Frozen             func() bool    // the client is away: Sink would wait
	// Permit says whether the client's user may send there; nil: anywhere.
	Permit func(proto uint8, dst netip.AddrPort) bool
	// Up and Down keep packets within a rate, and count those beyond, which go
	// nowhere; nil: they do not.
	Up, Down *shape.Limiter

	Ask    func(netip.Addr)    // asks main; the answer is given to Answered; may wait
	Return func(pkts [][]byte) // takes back what is for nobody here; may wait
	Now    func() time.Time
	Log    *slog.Logger
}

// Peers is a client's way to other clients. A nil one knows of no others.
type Peers struct {
	cfg  Config
	nets atomic.Pointer[bart.Table[bool]] // true: of clients' addresses, false: behind a client

	mu       sync.Mutex
	closed   bool
	mtu      int
	pairs    map[netip.Addr]*pair // by the other client's first address
	to       map[netip.Prefix]*pair
	asked    map[netip.Prefix]*question
	shunned  map[netip.Addr]time.Time // until when
	held     int                      // bytes
	mayAsk   *rate.Limiter
	batch    batch
	begun    map[netip.Addr]*begun // by other clients; nil: the client is not restricted
	counters Counters
}

// batch is what Take has gathered for Flush.
type batch struct {
	asked   []netip.Addr // of main
	pairs   []*pair
	said    [][]byte // ICMP errors
	saying  bool
	mayTell *rate.Limiter
}

// Peer is another client, by main's word.
type Peer struct {
	Addrs  []netip.Addr // the first names it
	Behind []netip.Prefix
	Serial uint64 // of the pair
}

// Counters only grow.
type Counters struct {
	Up, Down, Refused, Dropped, Forged, Pairs, Broken uint64
}

// New makes a client's way to other clients. Until SetNets there are none.
func New(cfg Config) *Peers {
	p := &Peers{
		cfg: cfg, mtu: cfg.MTU,
		pairs: make(map[netip.Addr]*pair), to: make(map[netip.Prefix]*pair),
		asked: make(map[netip.Prefix]*question), shunned: make(map[netip.Addr]time.Time),
		mayAsk: rate.NewLimiter(ipc.PeerRate, ipc.PeerBurst),
		batch:  batch{mayTell: rate.NewLimiter(errorRate, errorBurst)},
	}
	if cfg.Permit != nil {
		p.begun = make(map[netip.Addr]*begun)
	}
	return p
}

// SetNets takes main's word where other clients are.
func (p *Peers) SetNets(pools, behind []netip.Prefix) {
	t := new(bart.Table[bool])
	for _, n := range pools {
		t.Insert(n, true)
	}
	for _, n := range behind {
		if pool, ok := t.LookupPrefix(n); !ok || !pool { // not within a pool
			t.Insert(n, false)
		}
	}
	p.nets.Store(t)
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, q := range p.asked {
		if q.answered { // it may be otherwise now
			delete(p.asked, key)
		}
	}
}

// SetMTU takes a new MTU of the tunnel. The others learn it with the next pair,
// which comes soon if it is smaller than they know.
func (p *Peers) SetMTU(mtu int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if mtu < p.mtu {
		p.endPairs()
	}
	p.mtu = mtu
}

// Close ends all pairs. It may be called twice.
func (p *Peers) Close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.endPairs()
	clear(p.asked)
}

func (p *Peers) endPairs() {
	for _, c := range p.pairs {
		p.end(c)
	}
}

// Stats are the counters at the moment.
func (p *Peers) Stats() Counters {
	if p == nil {
		return Counters{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.counters
	for _, c := range p.pairs {
		n.Dropped += c.pipe.Dropped()
	}
	return n
}

// Tick does what is due.
func (p *Peers) Tick() {
	if p == nil {
		return
	}
	now := p.cfg.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.pairs {
		switch c.usedBy(now); {
		case now.Sub(c.used) > unusedTime, !c.ready && now.Sub(c.opened) > noteTime:
			p.end(c)
		case c.used != now:
			c.pipe.Trim()
		}
	}
	p.sweepBegun(now)
	for key, q := range p.asked {
		if now.After(q.until) {
			p.forget(key, q)
		}
	}
	for a, until := range p.shunned {
		if now.After(until) {
			delete(p.shunned, a)
		}
	}
}

// Behind says whether an address is of a network behind this client.
func (p *Peers) Behind(a netip.Addr) bool {
	if p == nil {
		return false
	}
	for _, n := range p.cfg.Behind {
		if n.Contains(a) {
			return !p.isPool(a)
		}
	}
	return false
}

// isPool says whether an address is of a network of clients' addresses.
func (p *Peers) isPool(a netip.Addr) bool {
	t := p.nets.Load()
	if t == nil {
		return false
	}
	pool, ok := t.Lookup(a)
	return ok && pool
}

// Reaches says whether a destination may be another client's.
func (p *Peers) Reaches(dst netip.Addr) bool {
	if p == nil || dst == p.cfg.Gateway4 || dst == p.cfg.Gateway6 {
		return false
	}
	t := p.nets.Load()
	if t == nil {
		return false
	}
	_, ok := t.Lookup(dst)
	return ok
}

// destination is what stands for dst in the tables.
func (p *Peers) destination(dst netip.Addr) (key netip.Prefix, ok bool) {
	t, one := p.nets.Load(), netip.PrefixFrom(dst, dst.BitLen())
	if t == nil {
		return key, false
	}
	key, pool, ok := t.LookupPrefixLPM(one)
	if pool {
		return one, ok
	}
	return key, ok
}

// Take takes a packet of the client if it is for another client, or is to be
// answered in that one's place. The packet stays valid until Flush has returned.
func (p *Peers) Take(h *packet.Header, pkt []byte) bool {
	if !p.Reaches(h.Dst) || h.ToMany() {
		return false
	}
	key, ok := p.destination(h.Dst)
	if !ok {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if c := p.to[key]; c != nil {
		c.forward(h, pkt)
		return true
	}
	q := p.ask(key, h.Dst)
	switch {
	case q == nil:
		p.counters.Dropped++
	case q.answered, q.again:
		return p.deny(q.verdict, h, pkt)
	default:
		p.hold(&q.waiting, pkt[:h.Length])
	}
	return true
}

// Refuse answers a packet that the client may not send at all.
func (p *Peers) Refuse(h *packet.Header, pkt []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell(packet.Prohibited, h, pkt, 0)
}

// tell has an ICMP error about a packet leave with Flush.
func (p *Peers) tell(what packet.Problem, h *packet.Header, pkt []byte, mtu int) {
	p.counters.Refused++
	if len(p.batch.said) >= maxSaid || !packet.MayAnswer(h, pkt) || !p.router(h).IsValid() || !p.batch.mayTell.AllowN(p.cfg.Now(), 1) {
		return
	}
	b := make([]byte, packet.ErrorLen(h))
	packet.PutError(b, p.router(h), what.Error(h, pkt, mtu), h, pkt)
	p.batch.said = append(p.batch.said, b)
}

func (p *Peers) router(h *packet.Header) netip.Addr {
	if h.V6() {
		return p.cfg.Gateway6
	}
	return p.cfg.Gateway4
}

// Flush ends a batch of Take.
func (p *Peers) Flush() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.flush()
	asked := p.batch.asked
	p.batch.asked = nil
	p.mu.Unlock()
	for _, dst := range asked { // which may wait, as p.mu may not
		p.cfg.Ask(dst)
	}
}

// flush sends what was gathered. p.mu is held.
func (p *Peers) flush() {
	for i, c := range p.batch.pairs {
		c.flush()
		p.batch.pairs[i] = nil
	}
	p.batch.pairs = p.batch.pairs[:0]
	if len(p.batch.said) > 0 && !p.batch.saying {
		p.batch.saying = true
		go p.sayAll()
	}
}

// sayAll gives ICMP errors to the client as long as there are any. It is a
// goroutine of its own because it may wait for the client, who may wait for us to
// take what it sends.
func (p *Peers) sayAll() {
	for {
		p.mu.Lock()
		said := p.batch.said
		p.batch.said = nil
		p.batch.saying = len(said) > 0
		p.mu.Unlock()
		if len(said) == 0 {
			return
		}
		p.say(said)
	}
}

func (p *Peers) say(said [][]byte) {
	if p.cfg.Frozen() {
		return
	}
	p.cfg.Sink.Begin()
	defer p.cfg.Sink.End()
	for _, b := range said {
		copy(p.cfg.Sink.Next(len(b)), b)
		p.cfg.Sink.Add(len(b))
	}
}
