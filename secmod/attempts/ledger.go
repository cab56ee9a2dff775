package attempts

import (
	"container/heap"
	"time"
)

// ledger has for each key the moment at which it is forgotten. It holds at most
// so many.
type ledger[K comparable] struct {
	most int
	of   map[K]*entry[K]
	heap byUntil[K]
}

type entry[K comparable] struct {
	key   K
	until time.Time
	place int // in the heap
}

func newLedger[K comparable](most int) ledger[K] {
	return ledger[K]{most: most, of: map[K]*entry[K]{}}
}

// has says whether a key is not forgotten yet.
func (l *ledger[K]) has(k K, now time.Time) bool {
	e := l.of[k]
	return e != nil && e.until.After(now)
}

// left is how long a key has until it is forgotten: that of the first one if a
// full ledger does not have it, since it may have made room for others.
func (l *ledger[K]) left(k K, now time.Time) time.Duration {
	e := l.of[k]
	if e == nil && len(l.heap) >= l.most {
		e = l.heap[0]
	}
	if e == nil {
		return 0
	}
	return max(0, e.until.Sub(now))
}

// add lets a key be forgotten so much later. A new key in a full ledger begins
// with what the one had that makes room for it.
func (l *ledger[K]) add(k K, d time.Duration, now time.Time) {
	if d == 0 {
		return
	}
	until := now
	if e := l.of[k]; e != nil {
		until = e.until
	} else if room := l.room(now); room != nil {
		until = room.until
	}
	if until.Before(now) {
		until = now
	}
	l.put(k, until.Add(d))
}

// keep lets a key be forgotten then.
func (l *ledger[K]) keep(k K, until, now time.Time) {
	if l.of[k] == nil {
		l.room(now)
	}
	l.put(k, until)
}

// drop forgets a key.
func (l *ledger[K]) drop(k K) {
	if e := l.of[k]; e != nil {
		heap.Remove(&l.heap, e.place)
		delete(l.of, k)
	}
}

// put enters a key. There is room for it.
func (l *ledger[K]) put(k K, until time.Time) {
	e := l.of[k]
	if e == nil {
		e = &entry[K]{key: k, until: until}
		l.of[k] = e
		heap.Push(&l.heap, e)
		return
	}
	e.until = until
	heap.Fix(&l.heap, e.place)
}

// room forgets what is due, and one more if that is not enough, which it returns.
func (l *ledger[K]) room(now time.Time) *entry[K] {
	for len(l.heap) > 0 && !l.heap[0].until.After(now) {
		l.drop(l.heap[0].key)
	}
	if len(l.heap) < l.most {
		return nil
	}
	first := l.heap[0]
	l.drop(first.key)
	return first
}

// byUntil implements heap.Interface: what is forgotten first is first.
type byUntil[K comparable] []*entry[K]

func (h byUntil[K]) Len() int           { return len(h) }
func (h byUntil[K]) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h byUntil[K]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *byUntil[K]) Push(x any) {
	e := x.(*entry[K])
	e.place = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *byUntil[K]) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}
