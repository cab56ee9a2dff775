package nat

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

// naive is a Table as simple as can be: one slice, scanned for everything, in
// the order of refreshment.
type naive struct {
	limits     Limits
	filtering  Filtering
	all        []*naiveMapping
	young, old []peer
	turned     time.Duration
	serial     uint64
	stats      Stats
	now        time.Duration // the latest seen
	saved      time.Duration // of the rate: time in which nothing was made, up to a second
	counted    time.Duration // when saved was
	ports      *naivePorts   // nil: not limited
}

type naiveMapping struct {
	key       Key
	serial    uint64
	class     class
	refreshed time.Duration
	asked     int // without answer
	queries   int
	heard     bool
	first     []netip.Addr // at most two
}

func (n *naive) find(k Key) *naiveMapping {
	i := slices.IndexFunc(n.all, func(m *naiveMapping) bool { return m.key == k })
	if i < 0 {
		return nil
	}
	return n.all[i]
}

func (n *naive) drop(m *naiveMapping) {
	n.all = slices.DeleteFunc(n.all, func(o *naiveMapping) bool { return o == m })
}

func (n *naive) timeout(c class) time.Duration {
	t := n.limits.Timeouts
	return []time.Duration{t.Answered, t.OneShot, t.OneWay, t.TwoWay, t.Echo}[c]
}

func (n *naive) count(k Kind) (c int) {
	for _, m := range n.all {
		if m.key.Kind == k {
			c++
		}
	}
	return c
}

func (n *naive) evict(k Kind) *naiveMapping {
	better := func(m, than *naiveMapping) bool { return m.refreshed < than.refreshed }
	idle := func(m *naiveMapping) bool { return m.class == answered || n.now-m.refreshed >= 500*time.Millisecond }
	if slices.ContainsFunc(n.all, func(m *naiveMapping) bool { return m.key.Kind == k && idle(m) }) {
		better = func(m, than *naiveMapping) bool {
			return idle(m) && (!idle(than) || m.refreshed+n.timeout(m.class) < than.refreshed+n.timeout(than.class))
		}
	}
	var victim *naiveMapping
	for c := answered; c < classes; c++ { // of equals, the class that is named first
		for _, m := range n.all {
			if m.key.Kind == k && m.class == c && (victim == nil || better(m, victim)) {
				victim = m
			}
		}
	}
	if victim != nil {
		n.drop(victim)
		n.stats.Evicted++
	}
	return victim
}

// rate says whether one more mapping may be made.
func (n *naive) rate() bool {
	n.saved = min(time.Second, n.saved+n.now-n.counted)
	n.counted = n.now
	each := time.Second / time.Duration(n.limits.NewPerSecond)
	if n.saved < each {
		n.stats.RateLimited++
		return false
	}
	n.saved -= each
	return true
}

func (n *naive) limit(k Kind) int {
	if k == Echo {
		return n.limits.Echo
	}
	if p := n.ports; p != nil && (p.asked == 0 || p.refused) {
		return min(n.limits.UDP, p.held)
	}
	return n.limits.UDP
}

func (n *naive) add(k Key, port uint16, now time.Duration) (m, evicted *naiveMapping, ok bool) {
	n.now = max(n.now, now)
	if !n.rate() {
		return nil, nil, false
	}
	if n.count(k.Kind) >= n.limit(k.Kind) {
		if k.Kind == UDP && n.limit(UDP) < n.limits.UDP {
			n.stats.OutOfPorts++
		}
		if evicted = n.evict(k.Kind); evicted == nil {
			return nil, nil, false
		}
	}
	n.serial++
	n.stats.Created++
	m = &naiveMapping{key: k, serial: n.serial, class: oneWay}
	if k.Kind == Echo {
		m.class = echo
	} else if port == 53 || port == 123 {
		m.class = oneShot
	}
	n.all = append(n.all, m)
	return m, evicted, true
}

func (n *naive) refresh(m *naiveMapping, now time.Duration) {
	n.now = max(n.now, now)
	n.drop(m)
	n.all = append(n.all, m)
	m.refreshed = n.now
}

func (n *naive) outbound(m *naiveMapping, to netip.AddrPort, now time.Duration) {
	short := to.Port() == 53 || to.Port() == 123
	if m.class == answered || m.class == oneShot {
		switch {
		case short && m.queries < 32:
			m.class = oneShot
			m.asked++
			m.queries++
		case m.heard:
			m.class = twoWay
		default:
			m.class = oneWay
		}
	}
	n.refresh(m, now)
	n.admit(m, to.Addr())
}

func (n *naive) admit(m *naiveMapping, a netip.Addr) {
	if n.filtering == EndpointIndependent || slices.Contains(m.first, a) {
		return
	}
	if len(m.first) < 2 {
		m.first = append(m.first, a)
		return
	}
	p := peer{m.serial, a}
	if slices.Contains(n.young, p) {
		return
	}
	if len(n.young) == n.limits.Peers/2 {
		n.stats.Forgotten += uint64(len(n.old))
		n.old, n.young = n.young, nil
	}
	n.young = append(n.young, p)
}

// reported: may this be heard?
func (n *naive) reported(m *naiveMapping, from netip.Addr) bool {
	known := slices.Contains(n.peers(m), from) || n.filtering == EndpointIndependent
	if !known || !from.IsValid() {
		n.stats.Filtered++
		return false
	}
	return true
}

// peers are the addresses that m has sent to and that are remembered.
func (n *naive) peers(m *naiveMapping) (list []netip.Addr) {
	list = slices.Clone(m.first)
	for _, p := range slices.Concat(n.old, n.young) {
		if p.serial == m.serial {
			list = append(list, p.addr)
		}
	}
	return list
}

func (n *naive) inbound(m *naiveMapping, from netip.Addr, now time.Duration) bool {
	if !n.reported(m, from) {
		return false
	}
	m.heard = true
	if m.class == oneWay {
		m.class = twoWay
		n.refresh(m, now)
	}
	if m.class == oneShot {
		if m.asked--; m.asked == 0 {
			m.class = answered
			n.refresh(m, now)
		}
	}
	return true
}

func (n *naive) expire(now time.Duration) (gone []Key) {
	n.now = max(n.now, now)
	now = n.now
	for _, m := range slices.Clone(n.all) {
		if now-m.refreshed >= n.timeout(m.class) {
			n.drop(m)
			n.stats.Expired++
			gone = append(gone, m.key)
		}
	}
	if now-n.turned >= n.limits.Timeouts.TwoWay {
		n.turned = now
		n.old, n.young = n.young, nil
	}
	return gone
}

// order is the mappings as Carry gives them.
func (n *naive) order() (list []*naiveMapping) {
	for c := range classes {
		for _, m := range n.all {
			if m.class == c {
				list = append(list, m)
			}
		}
	}
	return list
}

// restore takes over a mapping of another naive; false if there is no room.
func (n *naive) restore(m naiveMapping, peers []netip.Addr) bool {
	if n.count(m.key.Kind) >= n.limit(m.key.Kind) || n.find(m.key) != nil {
		return false
	}
	n.serial++
	m.serial, m.first = n.serial, nil
	later := slices.IndexFunc(n.all, func(o *naiveMapping) bool { return o.refreshed > m.refreshed })
	if later < 0 {
		later = len(n.all)
	}
	n.all = slices.Insert(n.all, later, &m)
	for _, a := range peers {
		n.admit(&m, a)
	}
	return true
}

// both is a Table and its oracle, driven by the same random operations.
type both struct {
	t      *testing.T
	r      *rand.Rand
	tab    *Table[int]
	nai    *naive
	at     time.Duration
	origin time.Duration // when tab was made
	val    map[Key]int   // what the caller keeps
	seen   Stats         // of all tables there were
	lost   int           // mappings that found no room in the next table
	late   int           // operations at a time before the latest
	back   int           // ports given back
}

// renew makes an empty table and an empty oracle.
func (b *both) renew(l Limits) {
	filtering, now := AddressDependent, time.Duration(0)
	if b.nai != nil {
		filtering, now = b.nai.filtering, b.nai.now
	} else if b.r.IntN(4) == 0 {
		filtering = EndpointIndependent
	}
	b.origin = now
	b.tab = New[int](l, filtering, epoch.Add(now))
	b.nai = &naive{limits: l, filtering: filtering, now: now, turned: now, counted: now, saved: time.Second}
	if b.r.IntN(3) > 0 {
		b.nai.ports = &naivePorts{held: b.r.IntN(2 * l.UDP)}
		b.tab.LimitPorts(b.nai.ports.held)
	}
}

func (b *both) limits() Limits {
	l := Limits{UDP: 6 + b.r.IntN(8), Echo: 2 + b.r.IntN(3), NewPerSecond: 2, Peers: 8}.withDefaults()
	l.Timeouts.TwoWay += time.Duration(b.r.IntN(20)) * time.Second
	return l
}

func (b *both) now() time.Time { return epoch.Add(b.at) }

func (b *both) up() {
	k := Key{UDP, netip.AddrPortFrom(client, uint16(1000+b.r.IntN(30)))}
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(b.r.IntN(12))}), []uint16{53, 123, 443, 443, 5000}[b.r.IntN(5)])
	if b.r.IntN(4) == 0 {
		k.Kind, to = Echo, netip.AddrPortFrom(to.Addr(), 0)
	}
	m, o := b.tab.Lookup(k), b.nai.find(k)
	if (m == nil) != (o == nil) {
		b.t.Fatalf("%v: Lookup %v, naive %v", k, m, o)
	}
	if m != nil {
		b.tab.Outbound(m, to, b.now())
		b.nai.outbound(o, to, b.at)
		return
	}
	v := b.r.Int()
	m, evicted, err := b.tab.Add(k, to, v, b.now())
	o, oEvicted, ok := b.nai.add(k, to.Port(), b.at)
	if (err == nil) != ok || (evicted == nil) != (oEvicted == nil) || evicted != nil && evicted.Key() != oEvicted.key {
		b.t.Fatalf("Add: %v, %v evicted; naive %v", err, evicted, oEvicted)
	}
	if evicted != nil && evicted.Value != b.val[evicted.Key()] {
		b.t.Fatalf("%v evicted with value %d, want %d", evicted.Key(), evicted.Value, b.val[evicted.Key()])
	}
	if !ok {
		return
	}
	b.val[m.Key()] = v
	b.nai.outbound(o, to, b.at)
}

func (b *both) down() {
	if len(b.nai.all) == 0 {
		return
	}
	o := b.nai.all[b.r.IntN(len(b.nai.all))]
	from := netip.AddrFrom4([4]byte{192, 0, 2, byte(b.r.IntN(13))})
	if b.r.IntN(50) == 0 {
		from = netip.Addr{}
	}
	if b.r.IntN(4) == 0 {
		if got, want := b.tab.Reported(b.tab.Lookup(o.key), from), b.nai.reported(o, from); got != want {
			b.t.Fatalf("%v, error about %v: %v, naive %v", o.key, from, got, want)
		}
		return
	}
	got := b.tab.Inbound(b.tab.Lookup(o.key), from, b.now())
	if want := b.nai.inbound(o, from, b.at); got != want {
		b.t.Fatalf("%v from %v: %v, naive %v", o.key, from, got, want)
	}
}

func (b *both) expire() {
	var gone []Key
	b.tab.Expire(b.now(), func(m *Mapping[int]) { gone = append(gone, m.Key()) })
	b.sameKeys("expired", gone, b.nai.expire(b.at))
}

func (b *both) sameKeys(what string, got, want []Key) {
	less := func(a, b Key) int { return a.Client.Compare(b.Client)*2 + int(a.Kind) - int(b.Kind) }
	slices.SortFunc(got, less)
	slices.SortFunc(want, less)
	if !slices.Equal(got, want) {
		b.t.Fatalf("%s %v, naive %v", what, got, want)
	}
}

func (b *both) clear() {
	var gone, want []Key
	b.tab.Clear(func(m *Mapping[int]) { gone = append(gone, m.Key()) })
	for _, o := range b.nai.all {
		want = append(want, o.key)
	}
	b.nai.all = nil
	b.sameKeys("cleared", gone, want)
}

// carry moves everything to another table, which may have less room.
func (b *both) carry() {
	b.nai.now = max(b.nai.now, b.at)
	var list []Saved
	order := b.nai.order()
	b.tab.Carry(b.now(), func(s Saved, m *Mapping[int]) {
		if len(list) == len(order) {
			b.t.Fatalf("%v is carried, naive has no more than %d", s.Key, len(order))
		}
		o := order[len(list)]
		want := Saved{o.key, uint8(o.class), o.heard, uint8(o.queries), uint8(o.asked), b.nai.now - o.refreshed, s.Peers}
		if !reflect.DeepEqual(s, want) || m.Value != b.val[s.Key] {
			b.t.Fatalf("carried %+v\nnaive   %+v", s, want)
		}
		b.samePeers(s.Peers, b.nai.peers(o))
		list = append(list, s)
	})
	if len(list) != len(order) || b.tab.Len() != 0 {
		b.t.Fatalf("carried %d of %d, %d left", len(list), len(order), b.tab.Len())
	}
	b.count()
	b.renew(b.limits())
	for i, s := range list {
		_, ok := b.tab.Restore(s, b.val[s.Key], b.now())
		if want := b.nai.restore(*order[i], s.Peers); ok != want {
			b.t.Fatalf("restored %+v: %v, naive %v", s, ok, want)
		}
		if !ok {
			b.lost++
		}
		if _, again := b.tab.Restore(s, 0, b.now()); again {
			b.t.Fatalf("restored twice: %+v", s)
		}
	}
}

func (b *both) samePeers(got, want []netip.Addr) {
	set := func(l []netip.Addr) []netip.Addr {
		l = slices.Clone(l)
		slices.SortFunc(l, netip.Addr.Compare)
		return slices.Compact(l)
	}
	if !slices.Equal(set(got), set(want)) {
		b.t.Fatalf("peers %v, naive %v", got, want)
	}
}

// count adds the counters of a table that is left.
func (b *both) count() {
	s := b.tab.Stats()
	b.seen.Evicted += s.Evicted
	b.seen.Expired += s.Expired
	b.seen.Filtered += s.Filtered
	b.seen.Forgotten += s.Forgotten
	b.seen.RateLimited += s.RateLimited
	b.seen.OutOfPorts += s.OutOfPorts
}

func (b *both) remove() {
	k := Kind(b.r.IntN(2))
	if b.r.IntN(2) == 0 {
		m, o := b.tab.Evict(k), b.nai.evict(k)
		if (m == nil) != (o == nil) || m != nil && m.Key() != o.key {
			b.t.Fatalf("Evict: %v, naive %v", m, o)
		}
	} else if len(b.nai.all) > 0 {
		o := b.nai.all[b.r.IntN(len(b.nai.all))]
		b.tab.Remove(b.tab.Lookup(o.key))
		b.nai.drop(o)
	}
}

func (b *both) compare() {
	b.nai.stats.UDP, b.nai.stats.Echo = b.nai.count(UDP), b.nai.count(Echo)
	if b.nai.ports != nil {
		b.nai.stats.Ports = b.nai.ports.held
	}
	if b.tab.Stats() != b.nai.stats || b.tab.Len() != len(b.nai.all) {
		b.t.Fatalf("%d mappings, %+v\nnaive %d, %+v", b.tab.Len(), b.tab.Stats(), len(b.nai.all), b.nai.stats)
	}
	for _, o := range b.nai.all {
		m := b.tab.Lookup(o.key)
		if m == nil || m.class != o.class || m.refreshed+b.origin != o.refreshed || m.Value != b.val[o.key] {
			b.t.Fatalf("%v: %+v, naive %+v", o.key, m, o)
		}
	}
	queued := 0
	for c := range b.tab.queues {
		last := -b.origin
		for m := b.tab.queues[c].head; m != nil; m = m.next {
			if m.class != class(c) || m.refreshed < last {
				b.t.Fatalf("queue %d: %+v after %v", c, m, last)
			}
			last = m.refreshed
			queued++
		}
	}
	if queued != b.tab.Len() {
		b.t.Fatalf("%d mappings queued of %d", queued, b.tab.Len())
	}
}

func (b *both) step() {
	now := b.at
	if b.r.IntN(20) == 0 { // clocks of different goroutines
		b.at -= time.Duration(b.r.IntN(3000)) * time.Millisecond
		b.late++
	}
	switch n := b.r.IntN(1000); {
	case n < 450:
		b.up()
	case n < 850:
		b.down()
	case n < 900:
		b.ports()
	case n < 950:
		b.expire()
	case n < 995:
		b.remove()
	case n < 999:
		b.carry()
	default:
		b.clear()
	}
	b.at = now
	if b.r.IntN(3) == 0 {
		b.at += time.Duration(b.r.IntN(1000)) * time.Duration(b.r.IntN(20)) * time.Millisecond
	}
	b.compare()
}

// Every operation of the Table, at random times, against the oracle.
func TestAgainstNaive(t *testing.T) {
	var all Stats
	lost, late, back := 0, 0, 0
	for seed := range uint64(40) {
		b := &both{t: t, r: rand.New(rand.NewPCG(seed, 0)), val: make(map[Key]int)}
		b.renew(b.limits())
		for range 3000 {
			b.step()
		}
		b.count()
		s := b.seen
		all.RateLimited += s.RateLimited
		lost += b.lost
		late += b.late
		back += b.back
		all.OutOfPorts += s.OutOfPorts
		if s.Evicted == 0 || s.Expired == 0 || s.Filtered == 0 || s.Forgotten == 0 && b.nai.filtering == AddressDependent {
			t.Errorf("seed %d: the operations miss something: %+v", seed, s)
		}
	}
	if all.RateLimited == 0 || lost == 0 || late == 0 || back == 0 || all.OutOfPorts == 0 {
		t.Errorf("the operations miss something: %d times the rate, %d times no room, %d times the past, %d ports back, %d times no port",
			all.RateLimited, lost, late, back, all.OutOfPorts)
	}
}
