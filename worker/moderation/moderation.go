package dtls

import (
	"runtime"
	"time"
)

const (
	busyRate = 20_000 // packets a second above which the reading goroutine naps
	rateSpan = 5 * time.Millisecond
	napBatch = 32 // packets that make a batch large enough
	minNap   = 50 * time.Microsecond
	maxNap   = 100 * time.Microsecond
)

// moderation decides when to let datagrams gather before they are read. With
// one processor a nap of the reading goroutine is a nap of the process, and
// what it saves are wake-ups and system calls: the largest single cost of
// receiving. At low rates it never naps, so that it costs no latency.
type moderation struct {
	on   bool
	rate float64 // packets per nanosecond, smoothed over about rateSpan
	last time.Time
}

// init switches it on where it pays: with more processors the others work on
// while this one naps.
func (m *moderation) init(now time.Time) {
	m.on = runtime.GOMAXPROCS(0) == 1
	m.last = now
}

// add notes that n packets were received since the last call.
func (m *moderation) add(n int, now time.Time) {
	if !m.on {
		return
	}
	since := float64(max(now.Sub(m.last), 0))
	m.last = now
	m.rate = (m.rate*float64(rateSpan) + float64(n)) / (float64(rateSpan) + since)
}

// busy says that the rate is high enough for naps.
func (m *moderation) busy() bool { return m.rate*float64(time.Second) > busyRate }

// nap is how long to wait before the next batch, after one of n packets: about
// until napBatch packets are there, and not at all if that many were.
func (m *moderation) nap(n int) time.Duration {
	if !m.busy() || n >= napBatch {
		return 0
	}
	return min(max(time.Duration(float64(napBatch-n)/m.rate), minNap), maxNap)
}
