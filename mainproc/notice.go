package mainproc

import (
	"sync"
	"time"
)

// notice makes one log line out of many equal events.
type notice struct {
	every time.Duration

	mu    sync.Mutex
	last  time.Time
	count int
}

// due counts an event. Now and then it returns how many there were since it
// last did; otherwise 0.
func (n *notice) due(now time.Time) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.count++
	if !n.last.IsZero() && now.Sub(n.last) < n.every {
		return 0
	}
	n.last = now
	count := n.count
	n.count = 0
	return count
}
