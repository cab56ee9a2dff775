package shape

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

const (
	// step is how long a quantum takes, unless that is less than minQuantum or
	// more than maxQuantum: short beside what people notice, long beside what a
	// timer is late.
	step       = 20 * time.Millisecond
	minQuantum = 1400 // bytes: less would make short segments
	maxQuantum = 64 << 10

	// datagramDebt is how far datagrams may be ahead of the rate, beside two
	// quanta of streams.
	datagramDebt = 100 * time.Millisecond
)

// Limiter keeps bytes within a rate. A nil one does not.
type Limiter struct {
	clock     tcpip.Clock
	perSecond uint64
	quantum   int
	credit    time.Duration // most that is kept
	debt      time.Duration // most that datagrams may meet

	turn chan struct{} // of capacity 1; senders wait in order

	mu      sync.Mutex
	free    tcpip.MonotonicTime
	dropped atomic.Uint64
}

// New makes a limiter; with a rate of 0, none.
func New(bytesPerSecond uint64, clock tcpip.Clock) *Limiter {
	if bytesPerSecond == 0 {
		return nil
	}
	l := &Limiter{clock: clock, perSecond: bytesPerSecond, turn: make(chan struct{}, 1), free: clock.NowMonotonic()}
	l.quantum = int(min(max(bytesPerSecond/uint64(time.Second/step), minQuantum), maxQuantum))
	l.credit = max(l.time(l.quantum), step) // a timer's lateness costs nothing
	l.debt = datagramDebt + 2*l.time(l.quantum)
	return l
}

// time is how long n bytes take, at most a day.
func (l *Limiter) time(n int) time.Duration {
	const most = 24 * time.Hour
	return time.Duration(min(float64(n)/float64(l.perSecond)*float64(time.Second), float64(most)))
}

// Quantum is the most that may be moved in one turn; n if that is less, or if
// there is no limit.
func (l *Limiter) Quantum(n int) int {
	if l == nil {
		return n
	}
	return min(n, l.quantum)
}

// Wait waits for the turn and until bytes may pass. True: the caller has the
// turn, and must call Done. False: stop was closed first. Of a nil Limiter there
// is nothing to wait for, and Done does nothing.
func (l *Limiter) Wait(stop <-chan struct{}) bool {
	if l == nil {
		return true
	}
	select {
	case l.turn <- struct{}{}:
	case <-stop:
		return false
	}
	wait := l.owed()
	if wait <= 0 {
		return true
	}
	over := make(chan struct{})
	t := l.clock.AfterFunc(wait, func() { close(over) })
	select {
	case <-over: // whatever datagrams have booked meanwhile
		return true
	case <-stop:
		t.Stop()
		<-l.turn
		return false
	}
}

// Done books the n bytes that were moved, perhaps none, and gives up the turn.
func (l *Limiter) Done(n int) {
	if l == nil {
		return
	}
	if n > 0 {
		l.mu.Lock()
		l.book(n)
		l.mu.Unlock()
	}
	<-l.turn
}

// Admit books a packet of n bytes that cannot wait. False: it is to be dropped.
func (l *Limiter) Admit(n int) bool {
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Sub(l.clock.NowMonotonic()) > l.debt {
		l.dropped.Add(1)
		return false
	}
	l.book(n)
	return true
}

// Dropped is how many packets were not admitted.
func (l *Limiter) Dropped() uint64 {
	if l == nil {
		return 0
	}
	return l.dropped.Load()
}

// owed is for how long nothing may pass.
func (l *Limiter) owed() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.free.Sub(l.clock.NowMonotonic())
}

// book moves free on by n bytes. l.mu is held.
func (l *Limiter) book(n int) {
	if earliest := l.clock.NowMonotonic().Add(-l.credit); l.free.Before(earliest) {
		l.free = earliest
	}
	l.free = l.free.Add(l.time(n))
}
