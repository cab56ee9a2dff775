package nat

import (
	"errors"
	"math"
	"time"
)

// PortBlock is how many local ports are asked for, or given back, at a time.
const PortBlock = 32

const (
	askAgain  = time.Second      // after there were fewer ports than were asked for
	spareLong = 10 * time.Second // until spare blocks are given back
)

// ErrPorts is returned by Add when there is no local port for a mapping, and no
// other mapping to take one from.
var ErrPorts = errors.New("nat: no local port")

// credit is how many local ports UDP mappings may use. While an answer is awaited
// nobody waits for it: as many ports are used as the other Limits allow, and if
// the answer is less, the mappings that can best be spared go. Not so when the
// answer before was less already.
type credit struct {
	on    bool
	held  int           // granted
	asked int           // an answer is due to this
	short bool          // the last answer was less than was asked for
	again time.Duration // not to be asked before
	spare int           // how many there were at least to give back, since
	since time.Duration
}

func (c *credit) bound() int {
	if !c.on || c.asked > 0 && !c.short {
		return math.MaxInt
	}
	return c.held
}

// blocks is n, filled up to whole blocks.
func blocks(n int) int { return (n + PortBlock - 1) / PortBlock * PortBlock }

// LimitPorts bounds how many local ports UDP mappings use, to held at first.
func (t *Table[V]) LimitPorts(held int) { t.credit.on, t.credit.held = true, held }

// NeedPorts is how many more ports are to be asked for now, to which Granted must
// be the answer; mostly none. With each answer there are twice as many at least.
func (t *Table[V]) NeedPorts(now time.Time) int {
	t.clock(now)
	c, used := &t.credit, t.stats.UDP
	if !c.on || c.asked > 0 || t.now < c.again || c.held >= t.limits.UDP || c.held-used >= PortBlock/2 {
		return 0
	}
	c.asked = blocks(min(max(PortBlock, used), t.limits.UDP-c.held))
	return c.asked
}

// Granted is the answer to NeedPorts. If it is less, what it is not enough for is
// evicted and given to gone, which must not call the table.
func (t *Table[V]) Granted(n int, now time.Time, gone func(*Mapping[V])) {
	t.clock(now)
	c := &t.credit
	c.short = n < c.asked
	if c.short {
		c.again = t.now + askAgain
	}
	c.held, c.asked = c.held+n, 0
	for c.short && t.stats.UDP > c.held {
		t.stats.OutOfPorts++
		gone(t.Evict(UDP))
	}
}

// SparePorts is how many ports are to be given back now; mostly none.
func (t *Table[V]) SparePorts(now time.Time) int {
	t.clock(now)
	c, used := &t.credit, t.stats.UDP
	n := (c.held - blocks(used+max(PortBlock, used/2))) / PortBlock * PortBlock
	switch {
	case !c.on || n <= 0 || c.asked > 0:
		c.spare = 0
		return 0
	case c.spare == 0:
		c.spare, c.since = n, t.now
		return 0
	}
	if c.spare = min(c.spare, n); t.now-c.since < spareLong {
		return 0
	}
	n, c.spare = c.spare, 0
	c.held -= n
	return n
}
