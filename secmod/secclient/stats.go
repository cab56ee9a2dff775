package secclient

import (
	"fmt"
	"sync"

	"rocserv/internal/ipc"
)

// stats is what is to be sent of the counters.
type stats struct {
	mu      sync.Mutex
	next    *ipc.CliStats // waits for the sender; nil: nothing does
	sending bool          // the sender runs
}

// Stats reports the worker's counters, in bytes of inner packets since its
// start. It never blocks and never fails: what cannot be sent is lost.
func (c *Client) Stats(up, down uint64) {
	s := &c.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = &ipc.CliStats{BytesUp: up, BytesDown: down}
	if !s.sending {
		s.sending = true
		go c.sendStats()
	}
}

// sendStats sends until nothing waits, or the channel is closed.
func (c *Client) sendStats() {
	s := &c.stats
	for {
		s.mu.Lock()
		m := s.next
		s.next = nil
		s.sending = m != nil
		s.mu.Unlock()
		if m == nil {
			return
		}
		c.conn.Load().Send(ipc.CliStatsT, 0, m) // an error shows at the next request
	}
}

// FinalStats reports the last counters and why the tunnel ended. It returns
// once they are on their way: after it the worker may exit.
func (c *Client) FinalStats(up, down uint64, why ipc.Reason) error {
	c.stats.mu.Lock()
	c.stats.next = nil
	c.stats.mu.Unlock()
	err := c.conn.Load().Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: up, BytesDown: down, Reason: why, Final: true})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return nil
}
