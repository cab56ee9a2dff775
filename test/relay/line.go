package relay

import (
	"math/rand/v2"
	"time"
)

// Path is what a Line does to packets. The zero value is a wire.
type Path struct {
	Rate   float64       // bytes per second; 0: any
	Queue  time.Duration // the longest a packet waits for the rate; a longer wait drops it
	Delay  time.Duration
	Jitter time.Duration // up to so much more, evenly distributed: reorders
	Loss   float64       // part of the packets
	Burst  time.Duration // for how long all are lost after one that is
	Late   float64       // part of the packets that arrives By later
	By     time.Duration
	Twice  float64 // part of the packets that arrives again a millisecond later
	// Pause is up to how long nothing arrives now and then, every Every on
	// average: what comes meanwhile arrives together at its end. Radios that
	// listen elsewhere do it, and hosts that are busy.
	Pause, Every time.Duration
}

// Line is one direction of a path. It is for one goroutine.
type Line struct {
	Path
	Rand *rand.Rand

	free time.Duration    // when the rate has room for the next packet
	deaf time.Duration    // until then all are lost
	rest [2]time.Duration // the pause that comes next or lasts: its begin and end
	Counts
}

// Counts are what has become of the packets.
type Counts struct {
	Passed  int           // into the path, the lost ones included
	Dropped int           // for want of room in the queue
	Lost    int           // on the way
	Waited  time.Duration // in the queue, all together
}

// Wait is how long packets wait in the queue on average.
func (c Counts) Wait() time.Duration { return c.Waited / time.Duration(max(c.Passed, 1)) }

// Since is what was counted after before was.
func (c Counts) Since(before Counts) Counts {
	return Counts{c.Passed - before.Passed, c.Dropped - before.Dropped, c.Lost - before.Lost, c.Waited - before.Waited}
}

// Send says when a packet of n bytes that is sent now arrives: not at all, once
// or twice.
func (l *Line) Send(now time.Duration, n int) (arrivals [2]time.Duration, count int) {
	wait := max(l.free-now, 0)
	if l.Rate > 0 {
		if wait > l.Queue {
			l.Dropped++
			return arrivals, 0
		}
		l.free = now + wait + time.Duration(float64(n)/l.Rate*1e9)
		l.Waited += wait
		wait = l.free - now
	}
	l.Passed++
	switch {
	case now < l.deaf:
		l.Lost++
		return arrivals, 0
	case l.Rand.Float64() < l.Loss:
		l.deaf = now + l.Burst
		l.Lost++
		return arrivals, 0
	}
	at := now + wait + l.Delay
	if l.Jitter > 0 {
		at += time.Duration(l.Rand.Int64N(int64(l.Jitter)))
	}
	if l.Rand.Float64() < l.Late {
		at += l.By
	}
	at = l.pause(at)
	arrivals[0], count = at, 1
	if l.Rand.Float64() < l.Twice {
		arrivals[1], count = at+time.Millisecond, 2
	}
	return arrivals, count
}

// pause says when arrives what would arrive at.
func (l *Line) pause(at time.Duration) time.Duration {
	if l.Pause <= 0 || l.Every <= 0 {
		return at
	}
	for l.rest[1] <= at {
		from := max(l.rest[1], at-l.Every) + time.Duration(l.Rand.ExpFloat64()*float64(l.Every))
		l.rest = [2]time.Duration{from, from + time.Duration(l.Rand.Int64N(int64(l.Pause)))}
	}
	if l.rest[0] <= at {
		return l.rest[1]
	}
	return at
}
