package mainproc

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// slots are places that strangers may take, so many at once and so many of one
// source prefix. Where there is no room the oldest goes, of the same prefix if
// that has its share already. Nothing younger than grace is put out: under a
// rush of honest clients the ones nearest to being done would lose their place,
// and none would ever be done.
type slots struct {
	grace time.Duration
	freed chan struct{} // holds a token when a slot became free

	mu   sync.Mutex
	all  list.List // of *slot, oldest first
	from map[netip.Prefix]*list.List
}

// slot is a place taken. Its fields are of slots.mu.
type slot struct {
	source netip.Prefix
	since  time.Time
	evict  func() // called once, without the lock, if the slot is taken away
	held   bool
	inAll  *list.Element
	inFrom *list.Element
}

func newSlots(grace time.Duration) *slots {
	return &slots{grace: grace, freed: make(chan struct{}, 1), from: make(map[netip.Prefix]*list.List)}
}

// bound is how many slots there are, and how many of them for one prefix.
type bound struct{ limit, share int }

// fair gives a prefix a quarter, and all of it where that is next to nothing:
// many clients behind one translator are one prefix.
func fair(limit int) bound { return bound{limit, max(limit/4, min(limit, 8))} }

// sourcePrefix is whom an address is counted with: an IPv4 /24, an IPv6 /64.
func sourcePrefix(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// enter takes a slot, putting out an older one if it must and may.
func (s *slots) enter(b bound, source netip.Prefix, now time.Time, evict func()) (*slot, bool) {
	s.mu.Lock()
	own := s.from[source]
	var victim *slot
	switch {
	case own != nil && own.Len() >= b.share:
		victim = own.Front().Value.(*slot)
	case s.all.Len() >= b.limit:
		if s.all.Len() == 0 {
			s.mu.Unlock()
			return nil, false
		}
		victim = s.all.Front().Value.(*slot)
	}
	if victim != nil {
		if now.Sub(victim.since) < s.grace {
			s.mu.Unlock()
			return nil, false
		}
		s.remove(victim)
	}
	n := s.add(source, now, evict)
	s.mu.Unlock()
	if victim != nil {
		victim.evict()
	}
	return n, true
}

func (s *slots) add(source netip.Prefix, now time.Time, evict func()) *slot {
	own := s.from[source]
	if own == nil {
		own = new(list.List)
		s.from[source] = own
	}
	n := &slot{source: source, since: now, evict: evict, held: true}
	n.inAll, n.inFrom = s.all.PushBack(n), own.PushBack(n)
	return n
}

func (s *slots) remove(n *slot) {
	own := s.from[n.source]
	s.all.Remove(n.inAll)
	own.Remove(n.inFrom)
	if own.Len() == 0 {
		delete(s.from, n.source)
	}
	n.held = false
}

// leave gives a slot back. It may be called again, or after an eviction.
func (s *slots) leave(n *slot) {
	if n == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !n.held {
		return
	}
	s.remove(n)
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

func (s *slots) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Len()
}
