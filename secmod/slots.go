package secmod

import "sync/atomic"

// maxHashQueue is how many logins may wait for a place to hash a password in.
const maxHashQueue = 64

// behindAt is how many may wait for a place before main is told that sec-mod is
// behind: half of the queue, as in ocserv (rate-limit-ms).
const behindAt = maxHashQueue / 2

// slots bounds how many do something at once, and how many wait for it.
type slots struct {
	places  chan struct{}
	waiting atomic.Int64
	queue   int64  // 0: everybody may wait
	behind  func() // called when more than behindAt wait; may be nil
}

func newSlots(places, queue int) *slots {
	return &slots{places: make(chan struct{}, places), queue: int64(queue)}
}

// enter takes a place, after waiting for one; it fails at once if the queue is full.
func (s *slots) enter() bool {
	select {
	case s.places <- struct{}{}:
		return true
	default:
	}
	n := s.waiting.Add(1)
	if n > behindAt && s.behind != nil {
		s.behind()
	}
	if s.queue > 0 && n > s.queue {
		s.waiting.Add(-1)
		return false
	}
	defer s.waiting.Add(-1)
	s.places <- struct{}{}
	return true
}

func (s *slots) leave() { <-s.places }
