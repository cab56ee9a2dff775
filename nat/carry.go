package nat

import (
	"net/netip"
	"time"
)

// Saved is a mapping on its way to another Table of the same client.
type Saved struct {
	Key            Key
	Class          uint8
	Heard          bool
	Asked, Pending uint8
	Idle           time.Duration // since it was refreshed
	Peers          []netip.Addr
}

// Carry takes everything out of the table and gives it to fn, which must not
// call the table: first what was refreshed longest ago, class by class.
func (t *Table[V]) Carry(now time.Time, fn func(Saved, *Mapping[V])) {
	t.clock(now)
	for c := range t.queues {
		for m := t.queues[c].head; m != nil; m = t.queues[c].head {
			s := t.save(m)
			t.Remove(m)
			fn(s, m)
		}
	}
}

func (t *Table[V]) save(m *Mapping[V]) Saved {
	s := Saved{
		Key: m.key, Class: uint8(m.class), Heard: m.heard, Asked: m.asked, Pending: m.pending,
		Idle: t.now - m.refreshed,
	}
	for _, a := range m.peers {
		if a.IsValid() {
			s.Peers = append(s.Peers, a)
		}
	}
	for _, generation := range []map[peer]struct{}{t.peers.old, t.peers.young} {
		for p := range generation {
			if p.serial == m.serial {
				s.Peers = append(s.Peers, p.addr)
			}
		}
	}
	return s
}

// Restore makes the mapping again that another table has saved. It has the time
// left that it had there, counts as none of NewPerSecond, and none makes room
// for it: false if there is none, if its key is taken, or if it makes no sense.
func (t *Table[V]) Restore(s Saved, v V, now time.Time) (m *Mapping[V], ok bool) {
	t.clock(now)
	limit, n := t.bound(s.Key.Kind)
	if *n >= limit || t.byKey[s.Key] != nil || !s.sane() {
		return nil, false
	}
	t.serial++
	*n++
	m = &Mapping[V]{
		Value: v, key: s.Key, serial: t.serial, class: class(s.Class), refreshed: t.now - s.Idle,
		heard: s.Heard, asked: s.Asked, pending: s.Pending,
	}
	t.byKey[s.Key] = m
	t.queues[m.class].insert(m)
	for _, a := range s.Peers {
		t.admit(m, a)
	}
	return m, true
}

// sane says whether a mapping can be as it was saved.
func (s *Saved) sane() bool {
	c := class(s.Class)
	if s.Key.Kind > Echo || c >= classes || (c == echo) != (s.Key.Kind == Echo) || s.Idle < 0 || s.Pending > s.Asked {
		return false
	}
	return c != oneShot || s.Pending > 0 // else the first answer would count below none
}

// insert puts m where it belongs by the time of its refreshment.
func (q *queue[V]) insert(m *Mapping[V]) {
	after := q.tail
	for after != nil && after.refreshed > m.refreshed {
		after = after.prev
	}
	switch {
	case after == q.tail:
		q.push(m)
		return
	case after == nil:
		m.prev, m.next = nil, q.head
		q.head = m
	default:
		m.prev, m.next = after, after.next
		after.next = m
	}
	m.next.prev = m
}
