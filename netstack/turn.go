package netstack

import (
	"math"

	"rocserv/netstack/shape"
)

// turn is a raw mover's turn at a limiter, which it waits for without the
// descriptor and gives up wherever it would wait for something else.
type turn struct {
	limit  *shape.Limiter // nil: none, and all that follows means nothing
	has    bool
	wanted bool // why the mover stopped
	used   int  // bytes
}

// wait waits for the turn. False: stop was closed.
func (t *turn) wait(stop <-chan struct{}) bool {
	t.wanted = false
	if t.limit == nil {
		return true
	}
	t.has = t.limit.Wait(stop)
	t.used = 0
	return t.has
}

// needed says that the mover has to wait for a turn.
func (t *turn) needed() bool {
	t.wanted = t.limit != nil && !t.has
	return t.wanted
}

// most is how many of n bytes may be moved in this turn. Zero: a new one is
// needed.
func (t *turn) most(n int) int {
	if t.limit == nil {
		return n
	}
	left := t.limit.Quantum(math.MaxInt) - t.used
	t.wanted = left < n
	return min(n, left)
}

// moved counts bytes that were; n may be negative, of a call that failed.
func (t *turn) moved(n int) { t.used += max(n, 0) }

// end gives the turn up, if there is one.
func (t *turn) end() {
	if t.has {
		t.has = false
		t.limit.Done(t.used)
	}
}
