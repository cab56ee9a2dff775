package attempts

import (
	"net/netip"
	"sync"
	"time"

	"rocserv/internal/ban"
)

// Pace bounds how often each source does something. It is safe for use by several
// goroutines.
type Pace struct {
	most int           // at once, and again in each span
	span time.Duration // in which a full count leaks away

	mu      sync.Mutex
	sources ledger[netip.Prefix]
}

// NewPace returns one that lets each source do it so many times at once, and as many
// again in each span.
func NewPace(most int, span time.Duration) *Pace {
	return &Pace{most: most, span: span, sources: newLedger[netip.Prefix](maxKeys)}
}

// Allow counts one more time, if there is room for it.
func (p *Pace) Allow(from netip.Addr, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, cost := ban.Source(from), p.span/time.Duration(p.most)
	if p.sources.left(k, now)+cost > p.span {
		return false
	}
	p.sources.add(k, cost, now)
	return true
}

// Share bounds what each source has under way at a time. It is safe for use by
// several goroutines.
type Share struct {
	most int

	mu  sync.Mutex
	now map[netip.Prefix]int
}

// NewShare returns one that lets each source have so many.
func NewShare(most int) *Share { return &Share{most: most, now: map[netip.Prefix]int{}} }

// Enter counts one more, if there is room for it; Leave takes it back.
func (s *Share) Enter(from netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := ban.Source(from)
	if s.now[k] >= s.most {
		return false
	}
	s.now[k]++
	return true
}

// Leave is called once for each Enter that was true.
func (s *Share) Leave(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := ban.Source(from)
	if s.now[k]--; s.now[k] <= 0 {
		delete(s.now, k)
	}
}
