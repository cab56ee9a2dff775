package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Kind is what a mapping translates.
type Kind uint8

const (
	UDP Kind = iota
	Echo
)

// Key names a mapping: the client's endpoint, with the echo identifier for a port.
type Key struct {
	Kind   Kind
	Client netip.AddrPort
}

// Filtering is who may send through a mapping, RFC 4787 section 5.
type Filtering uint8

const (
	AddressDependent    Filtering = iota // the addresses the client has sent to
	EndpointIndependent                  // everybody ("full cone")
)

// class decides how long a mapping lives.
type class uint8

const (
	answered class = iota
	oneShot
	oneWay
	twoWay
	echo
	classes
)

// Mapping is one entry of a Table. Value is the caller's; the rest belongs to
// the table.
type Mapping[V any] struct {
	Value V

	key        Key
	serial     uint64        // names the mapping in the set of peers
	refreshed  time.Duration // since the table's start
	next, prev *Mapping[V]   // queue of its class
	class      class
	heard      bool          // something came back
	asked      uint8         // one-shot queries, ever
	pending    uint8         // and those without an answer
	peers      [2]netip.Addr // the first two addresses it sent to
}

// Key names the mapping.
func (m *Mapping[V]) Key() Key { return m.key }

// Table holds the mappings of one client; V is what the caller keeps with each.
type Table[V any] struct {
	limits    Limits
	filtering Filtering
	start     time.Time
	now       time.Duration // the latest time seen, since start
	byKey     map[Key]*Mapping[V]
	queues    [classes]queue[V]
	timeouts  [classes]time.Duration
	peers     peerSet
	turned    time.Duration // when peers had its last turn
	bucket    Bucket
	credit    credit
	serial    uint64
	stats     Stats
}

// ErrRate is returned by Add when mappings are made faster than Limits allow.
var ErrRate = errors.New("nat: too many new mappings")

// New makes an empty table. now is the earliest time that will be passed in.
func New[V any](l Limits, f Filtering, now time.Time) *Table[V] {
	l = l.withDefaults()
	t := &Table[V]{limits: l, filtering: f, start: now, byKey: make(map[Key]*Mapping[V])}
	t.peers.max = max(l.Peers/2, 1)
	t.timeouts = [classes]time.Duration{
		answered: l.Timeouts.Answered, oneShot: l.Timeouts.OneShot,
		oneWay: l.Timeouts.OneWay, twoWay: l.Timeouts.TwoWay, echo: l.Timeouts.Echo,
	}
	return t
}

// clock takes the time of a call.
func (t *Table[V]) clock(now time.Time) {
	t.now = max(t.now, now.Sub(t.start))
}

// Lookup returns the mapping of k, nil if there is none.
func (t *Table[V]) Lookup(k Key) *Mapping[V] { return t.byKey[k] }

// Add makes the mapping of k, which has none, for a packet to peer. If a bound
// was reached, evicted is the mapping that is gone for it. The error is ErrRate
// or ErrPorts.
func (t *Table[V]) Add(k Key, peer netip.AddrPort, v V, now time.Time) (m, evicted *Mapping[V], err error) {
	t.clock(now)
	if t.byKey[k] != nil {
		panic("nat: internal error: second mapping for " + k.Client.String())
	}
	if !t.bucket.Take(t.now, t.limits.NewPerSecond) {
		t.stats.RateLimited++
		return nil, nil, ErrRate
	}
	if bound, n := t.bound(k.Kind); *n >= bound {
		if bound < t.limits.UDP && k.Kind == UDP {
			t.stats.OutOfPorts++
		}
		if evicted = t.Evict(k.Kind); evicted == nil {
			return nil, nil, ErrPorts
		}
	}
	t.serial++
	t.stats.Created++
	_, n := t.bound(k.Kind)
	*n++
	m = &Mapping[V]{Value: v, key: k, serial: t.serial, class: firstClass(k.Kind, peer.Port())}
	t.byKey[k] = m
	t.queues[m.class].push(m)
	t.Outbound(m, peer, now)
	return m, evicted, nil
}

// bound is the limit for a kind and the number of its mappings.
func (t *Table[V]) bound(k Kind) (limit int, n *int) {
	if k == Echo {
		return t.limits.Echo, &t.stats.Echo
	}
	return min(t.limits.UDP, t.credit.bound()), &t.stats.UDP
}

func firstClass(k Kind, port uint16) class {
	switch {
	case k == Echo:
		return echo
	case isOneShot(port):
		return oneShot
	}
	return oneWay
}

// isOneShot: DNS and NTP are one packet each way. Only ports below 1024 may be
// treated so, RFC 4787 REQ-5a.
func isOneShot(port uint16) bool { return port == 53 || port == 123 }

// maxAsked is how many queries one mapping may send before it is taken for a
// conversation that happens to use such a port.
const maxAsked = 32

// Outbound refreshes a mapping for a packet that leaves through it to peer,
// who may answer from then on. RFC 4787 REQ-6.
func (t *Table[V]) Outbound(m *Mapping[V], peer netip.AddrPort, now time.Time) {
	t.clock(now)
	t.admit(m, peer.Addr())
	to := m.class
	switch m.class {
	case answered, oneShot:
		switch {
		case isOneShot(peer.Port()) && m.asked < maxAsked:
			to = oneShot
			m.asked++
			m.pending++
		case m.heard:
			to = twoWay
		default:
			to = oneWay
		}
	}
	t.refresh(m, to)
}

// refresh starts m's time anew in class to.
func (t *Table[V]) refresh(m *Mapping[V], to class) {
	m.refreshed = t.now
	if m.class == to && m.next == nil {
		return // the last in its queue already
	}
	t.queues[m.class].remove(m)
	m.class = to
	t.queues[to].push(m)
}

// admit remembers that m has sent to a.
func (t *Table[V]) admit(m *Mapping[V], a netip.Addr) {
	if t.filtering == EndpointIndependent || a == m.peers[0] || a == m.peers[1] {
		return
	}
	for i := range m.peers {
		if !m.peers[i].IsValid() {
			m.peers[i] = a
			return
		}
	}
	t.stats.Forgotten += uint64(t.peers.add(peer{m.serial, a}))
}

// Inbound says whether a packet from the address from may pass to the client.
// An answer that the mapping waited for changes its class.
func (t *Table[V]) Inbound(m *Mapping[V], from netip.Addr, now time.Time) bool {
	if !t.knows(m, from) {
		t.stats.Filtered++
		return false
	}
	switch m.class {
	case oneWay:
		t.clock(now)
		t.refresh(m, twoWay)
	case oneShot:
		if m.pending--; m.pending == 0 {
			t.clock(now)
			t.refresh(m, answered)
		}
	}
	m.heard = true
	return true
}

// Reported says whether an ICMP error about a packet to the address to may pass
// to the client: has m sent there? It changes nothing, RFC 4787 REQ-12 and RFC
// 5508 REQ-6.
func (t *Table[V]) Reported(m *Mapping[V], to netip.Addr) bool {
	if !t.knows(m, to) {
		t.stats.Filtered++
		return false
	}
	return true
}

// knows says whether a may be heard through m.
func (t *Table[V]) knows(m *Mapping[V], a netip.Addr) bool {
	return a.IsValid() && (t.filtering == EndpointIndependent || a == m.peers[0] || a == m.peers[1] || t.peers.has(peer{m.serial, a}))
}

// Remove takes m out of the table.
func (t *Table[V]) Remove(m *Mapping[V]) {
	if t.byKey[m.key] != m {
		panic(fmt.Sprintf("nat: internal error: mapping of %v removed twice", m.key.Client))
	}
	delete(t.byKey, m.key)
	t.queues[m.class].remove(m)
	_, n := t.bound(m.key.Kind)
	*n--
}

// grace is how long a mapping is spared after it was used: a query may wait
// for its answer although conversations that have been idle for long have more
// time left. By default new mappings fill half the table in this time, so that
// a scan of many ports uses itself up and spares that many conversations.
const grace = 500 * time.Millisecond

// Evict removes the mapping of a kind that can best be spared and returns it,
// nil if there is none. That is the one with the least time left of those that
// are answered or have not been used for a moment; without such, the least
// recently used.
func (t *Table[V]) Evict(k Kind) *Mapping[V] {
	first, end := answered, echo
	if k == Echo {
		first, end = echo, classes
	}
	var spare, oldest *Mapping[V]
	for c := first; c < end; c++ {
		m := t.queues[c].head
		if m == nil {
			continue
		}
		if oldest == nil || m.refreshed < oldest.refreshed {
			oldest = m
		}
		if idle := t.now-m.refreshed >= grace || c == answered; idle && (spare == nil || t.deadline(m) < t.deadline(spare)) {
			spare = m
		}
	}
	if spare == nil {
		spare = oldest
	}
	if spare != nil {
		t.Remove(spare)
		t.stats.Evicted++
	}
	return spare
}

// deadline is when m expires if nothing happens.
func (t *Table[V]) deadline(m *Mapping[V]) time.Duration { return m.refreshed + t.timeouts[m.class] }

// Expire removes what has not been used for its time-out, and gives it to gone,
// which must not call the table.
func (t *Table[V]) Expire(now time.Time, gone func(*Mapping[V])) {
	t.clock(now)
	for c := range t.queues {
		for m := t.queues[c].head; m != nil && t.deadline(m) <= t.now; m = t.queues[c].head {
			t.Remove(m)
			t.stats.Expired++
			gone(m)
		}
	}
	if t.now-t.turned >= t.timeouts[twoWay] {
		t.turned = t.now
		t.peers.turn()
	}
}

// Clear removes everything and gives it to gone, which must not call the table.
func (t *Table[V]) Clear(gone func(*Mapping[V])) {
	for c := range t.queues {
		for m := t.queues[c].head; m != nil; m = t.queues[c].head {
			t.Remove(m)
			gone(m)
		}
	}
}

// Len is the number of mappings of all kinds.
func (t *Table[V]) Len() int { return len(t.byKey) }

// Stats returns the counters.
func (t *Table[V]) Stats() Stats {
	s := t.stats
	s.Ports = t.credit.held
	return s
}

// queue is a list of mappings, the least recently refreshed first.
type queue[V any] struct {
	head, tail *Mapping[V]
}

func (q *queue[V]) push(m *Mapping[V]) {
	m.prev, m.next = q.tail, nil
	if q.tail == nil {
		q.head = m
	} else {
		q.tail.next = m
	}
	q.tail = m
}

func (q *queue[V]) remove(m *Mapping[V]) {
	if m.prev == nil {
		q.head = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next == nil {
		q.tail = m.prev
	} else {
		m.next.prev = m.prev
	}
	m.prev, m.next = nil, nil
}
