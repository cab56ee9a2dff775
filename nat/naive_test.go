package nat

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// naive is a Table as simple as can be: one slice, scanned for everything, in
// the order of refreshment. It has no limit on the rate of new mappings.
type naive struct {
	limits     Limits
	all        []*naiveMapping
	young, old []peer
	turned     time.Duration
	serial     uint64
	stats      Stats
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

func (n *naive) evict(k Kind, now time.Duration) *naiveMapping {
	better := func(m, than *naiveMapping) bool { return m.refreshed < than.refreshed }
	idle := func(m *naiveMapping) bool { return m.class == answered || now-m.refreshed >= 500*time.Millisecond }
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

func (n *naive) add(k Key, port uint16, now time.Duration) (m, evicted *naiveMapping) {
	limit := n.limits.UDP
	if k.Kind == Echo {
		limit = n.limits.Echo
	}
	if n.count(k.Kind) >= limit {
		evicted = n.evict(k.Kind, now)
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
	return m, evicted
}

func (n *naive) refresh(m *naiveMapping, now time.Duration) {
	n.drop(m)
	n.all = append(n.all, m)
	m.refreshed = now
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
	if slices.Contains(m.first, to.Addr()) {
		return
	}
	if len(m.first) < 2 {
		m.first = append(m.first, to.Addr())
		return
	}
	p := peer{m.serial, to.Addr()}
	if slices.Contains(n.young, p) {
		return
	}
	if len(n.young) == n.limits.Peers/2 {
		n.stats.Forgotten += uint64(len(n.old))
		n.old, n.young = n.young, nil
	}
	n.young = append(n.young, p)
}

func (n *naive) inbound(m *naiveMapping, from netip.Addr, now time.Duration) bool {
	p := peer{m.serial, from}
	if !slices.Contains(m.first, from) && !slices.Contains(n.young, p) && !slices.Contains(n.old, p) {
		n.stats.Filtered++
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

// both is a Table and its oracle, driven by the same random operations.
type both struct {
	t   *testing.T
	r   *rand.Rand
	tab *Table[int]
	nai *naive
	at  time.Duration
	val map[Key]int // what the caller keeps
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
	o, oEvicted := b.nai.add(k, to.Port(), b.at)
	if err != nil || (evicted == nil) != (oEvicted == nil) || evicted != nil && evicted.Key() != oEvicted.key {
		b.t.Fatalf("Add: %v, %v evicted; naive %v", err, evicted, oEvicted)
	}
	if evicted != nil && evicted.Value != b.val[evicted.Key()] {
		b.t.Fatalf("%v evicted with value %d, want %d", evicted.Key(), evicted.Value, b.val[evicted.Key()])
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
	got := b.tab.Inbound(b.tab.Lookup(o.key), from, b.now())
	if want := b.nai.inbound(o, from, b.at); got != want {
		b.t.Fatalf("%v from %v: %v, naive %v", o.key, from, got, want)
	}
}

func (b *both) expire() {
	var gone []Key
	b.tab.Expire(b.now(), func(m *Mapping[int]) { gone = append(gone, m.Key()) })
	want := b.nai.expire(b.at)
	less := func(a, b Key) int { return a.Client.Compare(b.Client)*2 + int(a.Kind) - int(b.Kind) }
	slices.SortFunc(gone, less)
	slices.SortFunc(want, less)
	if !slices.Equal(gone, want) {
		b.t.Fatalf("expired %v, naive %v", gone, want)
	}
}

func (b *both) remove() {
	k := Kind(b.r.IntN(2))
	if b.r.IntN(2) == 0 {
		m, o := b.tab.Evict(k), b.nai.evict(k, b.tab.now)
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
	if b.tab.Stats() != b.nai.stats || b.tab.Len() != len(b.nai.all) {
		b.t.Fatalf("%d mappings, %+v\nnaive %d, %+v", b.tab.Len(), b.tab.Stats(), len(b.nai.all), b.nai.stats)
	}
	for _, o := range b.nai.all {
		m := b.tab.Lookup(o.key)
		if m == nil || m.class != o.class || m.refreshed != o.refreshed || m.Value != b.val[o.key] {
			b.t.Fatalf("%v: %+v, naive %+v", o.key, m, o)
		}
	}
	queued := 0
	for c := range b.tab.queues {
		var last time.Duration
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

func TestAgainstNaive(t *testing.T) {
	for seed := range uint64(20) {
		limits := Limits{UDP: 12, Echo: 4, NewPerSecond: 1e6, Peers: 20}.withDefaults()
		limits.Timeouts.TwoWay += time.Duration(seed) * time.Second
		b := &both{
			t: t, r: rand.New(rand.NewPCG(seed, 0)), val: make(map[Key]int),
			tab: New[int](limits, AddressDependent, epoch), nai: &naive{limits: limits},
		}
		for range 3000 {
			switch n := b.r.IntN(100); {
			case n < 45:
				b.up()
			case n < 85:
				b.down()
			case n < 96:
				b.expire()
			default:
				b.remove()
			}
			if b.r.IntN(3) == 0 {
				b.at += time.Duration(b.r.IntN(1000)) * time.Duration(b.r.IntN(20)) * time.Millisecond
			}
			b.compare()
		}
		if s := b.tab.Stats(); s.Evicted == 0 || s.Expired == 0 || s.Filtered == 0 || s.Forgotten == 0 {
			t.Errorf("seed %d: the operations miss something: %+v", seed, s)
		}
	}
}
