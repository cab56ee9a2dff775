package stacktest

import (
	"sync"

	"rocserv/internal/packet"
)

// Sink is a packet.Sink in memory: batches go to a function, in order and from
// one goroutine. It blocks as a slow tunnel does when more than its limit is
// waiting.
type Sink struct {
	deliver func(pkts [][]byte)
	limit   int // bytes that may wait

	batch sync.Mutex // held from Begin to End
	open  []byte     // the slice Next gave

	mu      sync.Mutex
	changed sync.Cond
	waiting [][]byte
	bytes   int
	paused  bool
	closed  bool
	done    chan struct{}

	packets, batches int
}

var _ packet.Sink = (*Sink)(nil)

// NewSink returns a Sink that lets limit bytes wait for deliver. Close ends it.
func NewSink(limit int, deliver func(pkts [][]byte)) *Sink {
	s := &Sink{deliver: deliver, limit: limit, done: make(chan struct{})}
	s.changed.L = &s.mu
	go s.pump()
	return s
}

// Begin implements packet.Sink.
func (s *Sink) Begin() {
	s.batch.Lock()
	s.mu.Lock()
	s.batches++
	s.mu.Unlock()
}

// Next implements packet.Sink.
func (s *Sink) Next(n int) []byte {
	if n > packet.MaxPacket {
		panic("stacktest: packet longer than packet.MaxPacket")
	}
	s.open = make([]byte, n)
	return s.open
}

// Add implements packet.Sink. It waits while the limit is exceeded.
func (s *Sink) Add(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.bytes > s.limit && !s.closed {
		s.changed.Wait()
	}
	if s.closed {
		return
	}
	s.packets++
	s.waiting = append(s.waiting, s.open[:n])
	s.bytes += n
}

// End implements packet.Sink.
func (s *Sink) End() {
	s.changed.Broadcast()
	s.batch.Unlock()
}

// Pause stops delivery, so that writers soon wait; Pause(false) goes on.
func (s *Sink) Pause(paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = paused
	s.changed.Broadcast()
}

// Counts returns how many packets and batches there have been.
func (s *Sink) Counts() (packets, batches int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.packets, s.batches
}

// Close wakes all writers, drops what waits and ends the Sink's goroutine.
func (s *Sink) Close() {
	s.mu.Lock()
	s.closed = true
	s.changed.Broadcast()
	s.mu.Unlock()
	<-s.done
}

func (s *Sink) pump() {
	defer close(s.done)
	for {
		pkts := s.take()
		if pkts == nil {
			return
		}
		s.deliver(pkts)
	}
}

// take waits for packets; nil when the Sink is closed.
func (s *Sink) take() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for (len(s.waiting) == 0 || s.paused) && !s.closed {
		s.changed.Wait()
	}
	if s.closed {
		return nil
	}
	pkts := s.waiting
	s.waiting, s.bytes = nil, 0
	s.changed.Broadcast()
	return pkts
}
