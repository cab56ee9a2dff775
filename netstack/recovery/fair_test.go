package recovery

import (
	"math"
	"testing"
	"time"

	"rocserv/test/relay"
)

// stranger is somebody else's flow through the same bottleneck: a host's TCP,
// endless, that is told of each packet what became of it a round trip later.
// It is a model of its congestion control and of nothing else.
type stranger struct {
	r      *rig
	cwnd   float64 // packets
	flying int
	got    int // packets that arrived
	cubic  *cubic
	paced  time.Duration // BBR: when the next packet may leave
	waits  bool          // for that
	best   [10]float64   // BBR: packets a second, of the last rounds
	round  int
	since  time.Duration // when the round began
	count  int
	rtt    time.Duration
}

// cubic is RFC 9438 without its Reno region.
type cubic struct {
	most  float64       // window at the last loss
	since time.Duration // when that was
	slow  bool          // slow start is over
}

func (r *rig) stranger(bbr bool) *stranger {
	s := &stranger{r: r, cwnd: 10}
	if !bbr {
		s.cubic = new(cubic)
	}
	s.send()
	return s
}

func (s *stranger) trip() time.Duration { return s.r.down.Delay + s.r.up.Delay }

func (s *stranger) send() {
	w := s.r.w
	for s.flying < int(s.cwnd) {
		if s.cubic == nil && s.paced > w.now {
			if !s.waits {
				s.waits = true
				w.at(s.paced, func() { s.waits = false; s.send() })
			}
			return
		}
		s.flying++
		sent := w.now
		if s.cubic == nil {
			s.paced = max(s.paced, w.now) + s.gap()
		}
		at, n := s.r.down.Send(w.now, 1442)
		if n == 0 {
			w.at(w.now+s.trip()+20*time.Millisecond, func() { s.flying--; s.lost(sent) })
			continue
		}
		w.at(at[0]+s.r.up.Delay, func() { s.flying--; s.arrived(w.now - sent) })
	}
}

// gap is BBR's pacing: of eight rounds one a quarter faster, one slower.
func (s *stranger) gap() time.Duration {
	rate := s.rate()
	if rate == 0 {
		return 0
	}
	gain := 1.0
	switch s.round % 8 {
	case 0:
		gain = 1.25
	case 1:
		gain = 0.75
	}
	return time.Duration(1e9 / (rate * gain))
}

func (s *stranger) rate() (most float64) {
	for _, r := range s.best {
		most = max(most, r)
	}
	return most
}

func (s *stranger) arrived(rtt time.Duration) {
	s.got++
	if c := s.cubic; c != nil {
		if !c.slow {
			s.cwnd++
		} else {
			t := (s.r.w.now - c.since).Seconds()
			k := math.Cbrt(c.most * 0.3 / 0.4)
			if target := 0.4*math.Pow(t-k, 3) + c.most; target > s.cwnd {
				s.cwnd += (target - s.cwnd) / s.cwnd
			} else {
				s.cwnd += 0.01 / s.cwnd
			}
		}
		s.send()
		return
	}
	if s.rtt == 0 || rtt < s.rtt {
		s.rtt = rtt
	}
	s.count++
	if d := s.r.w.now - s.since; d >= rtt {
		s.best[s.round%10] = float64(s.count) / d.Seconds()
		s.round++
		s.since, s.count = s.r.w.now, 0
	}
	s.cwnd = max(2*s.rate()*s.rtt.Seconds(), 10)
	s.send()
}

func (s *stranger) lost(sent time.Duration) {
	if c := s.cubic; c != nil && (!c.slow || sent > c.since) {
		c.most, c.since, c.slow = s.cwnd, s.r.w.now, true
		s.cwnd = max(s.cwnd*0.7, 2)
	}
	s.send()
}

// TestFair: beside a flow of somebody else through the same bottleneck neither
// starves, whoever was there first.
func TestFair(t *testing.T) {
	if testing.Short() {
		t.Skip("some minutes of virtual time are long under the race detector")
	}
	for _, x := range []struct {
		name  string
		bbr   bool
		queue time.Duration
		first bool // the stranger
	}{
		{"cubic, 100 ms", false, 100 * time.Millisecond, false}, {"cubic, 100 ms, first", false, 100 * time.Millisecond, true},
		{"cubic, 20 ms", false, 20 * time.Millisecond, true},
		{"BBR, 100 ms", true, 100 * time.Millisecond, false}, {"BBR, 100 ms, first", true, 100 * time.Millisecond, true},
		{"BBR, 20 ms", true, 20 * time.Millisecond, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1)
			r.both(relay.Path{Rate: 50 * mbit, Queue: x.queue, Delay: 20 * time.Millisecond})
			var s *stranger
			var c *conn
			if x.first {
				s = r.stranger(x.bbr)
				r.w.run(10 * time.Second)
				c = r.dial(-1, false)
			} else {
				c = r.dial(-1, false)
				r.w.run(10 * time.Second)
				s = r.stranger(x.bbr)
			}
			r.w.run(30 * time.Second) // they find their shares
			read, got, counts := c.read, s.got, r.down.Counts
			r.w.run(90 * time.Second)
			ours := float64(c.read-read) / mbit / 60
			theirs := float64(s.got-got) * 1382 / mbit / 60
			t.Logf("we %.1f, they %.1f of 50 Mbit/s; queue %v, dropped %.2f %%", ours, theirs, r.down.Since(counts).Wait(),
				100*float64(r.down.Since(counts).Dropped)/float64(r.down.Since(counts).Passed))
			least := 5.0
			if x.bbr {
				least = min(least, besideBBR(t, x.queue))
			}
			if ours < least || theirs < 5 {
				t.Errorf("we have %.1f, they %.1f of 50 Mbit/s: one starves", ours, theirs)
			}
		})
	}
}

// TestFairStart: a flow that begins with somebody else's has a part of the way from the
// start, for the clients' units of both kinds.
func TestFairStart(t *testing.T) {
	const from, to = 4, 13 // s, as the rows path-fair-* of test/bench
	for _, scale := range []int{simScale, kibScale} {
		for seed := range uint64(6) {
			r := newRig(t, seed)
			r.scale = scale
			r.both(relay.Path{Rate: 50 * mbit, Queue: 100 * time.Millisecond, Delay: 20 * time.Millisecond})
			c := r.dial(-1, false)
			r.w.run(time.Duration(seed) * 50 * time.Millisecond)
			s := r.stranger(false)
			r.w.run(from * time.Second)
			read, got := c.read, s.got
			r.w.run(to * time.Second)
			ours := float64(c.read-read) / mbit / (to - from)
			theirs := float64(s.got-got) * 1382 / mbit / (to - from)
			t.Logf("units of %d: we %.1f, they %.1f of 50 Mbit/s", 1<<scale, ours, theirs)
			if ours < 10 || theirs < 10 {
				t.Errorf("units of %d, seed %d: we have %.1f, they %.1f of 50 Mbit/s", 1<<scale, seed, ours, theirs)
			}
		}
	}
}

// besideBBR is what a flow with CUBIC has where we are to live: BBR's first
// version leaves little in a short queue, whoever is beside it.
func besideBBR(t *testing.T, queue time.Duration) float64 {
	r := newRig(t, 2)
	r.both(relay.Path{Rate: 50 * mbit, Queue: queue, Delay: 20 * time.Millisecond})
	r.stranger(true)
	r.w.run(10 * time.Second)
	s := r.stranger(false)
	r.w.run(30 * time.Second)
	got := s.got
	r.w.run(90 * time.Second)
	cubic := float64(s.got-got) * 1382 / mbit / 60
	t.Logf("CUBIC beside it: %.1f of 50 Mbit/s", cubic)
	return cubic
}
