package recovery

import (
	"fmt"
	"testing"
	"time"

	"rocserv/test/relay"
)

const mbit = 1e6 / 8

// both makes both directions of a path equal.
func (r *rig) both(p relay.Path) { r.down.Path, r.up.Path = p, p }

// download begins a flow that does not end, and returns what it carries between
// two moments, in Mbit/s.
func (r *rig) download(from, until time.Duration) (*conn, float64) {
	c := r.dial(-1, false)
	r.w.run(from)
	before := c.read
	r.w.run(until)
	return c, float64(c.read-before) / mbit / (until - from).Seconds()
}

// rates are what a download has of a path of 200 Mbit/s with a queue of 100 ms:
// at least so many Mbit/s of payload in the second half of ten seconds. A
// kernel's cubic has 184 without loss, and 10, 4, 2 with 0.1, 0.5, 1 % at 40 ms
// (BBR: 180). Filled to the brim and then to half of 4 MiB, the stack's send buffer
// would leave 168 at 100 ms, and 156 at 40 ms with 1 %.
var rates = []struct {
	rtt        time.Duration // ms
	loss, late float64       // late: by 3 ms
	least      float64
}{
	{1, 0, 0, 185}, {40, 0, 0, 185}, {100, 0, 0, 185}, {300, 0, 0, 120},
	{40, .001, 0, 180}, {40, .005, 0, 180}, {40, .01, 0, 180}, {40, .02, 0, 170},
	{100, .001, 0, 180}, {100, .01, 0, 120}, {300, .01, 0, 35},
	{40, 0, .01, 185}, {100, 0, .01, 185}, {10, .01, .02, 180},
}

func TestRates(t *testing.T) {
	for i, x := range rates {
		if testing.Short() && i%4 != 2 {
			continue
		}
		t.Run(fmt.Sprintf("%d ms, loss %v, late %v", x.rtt, x.loss, x.late), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1)
			r.both(relay.Path{
				Rate: 200 * mbit, Queue: 100 * time.Millisecond, Delay: x.rtt * time.Millisecond / 2,
				Loss: x.loss, Late: x.late, By: 3 * time.Millisecond,
			})
			c, got := r.download(5*time.Second, 10*time.Second)
			s := r.p.Stats()
			wait := r.down.Wait()
			t.Logf("%.1f Mbit/s, window %d KB, queue %v; lost %d, dropped %d; found %d, spurious %d", got, s.Window/1000, wait, r.down.Lost, r.down.Dropped, s.Lost, s.Spurious)
			if got < x.least {
				t.Errorf("%.1f Mbit/s, at least %.0f expected", got, x.least)
			}
			if c.timeouts > 0 {
				t.Errorf("the stack timed out %d times", c.timeouts)
			}
			if most := 10*time.Millisecond + x.rtt*time.Millisecond/3; wait > most+2*time.Millisecond {
				t.Errorf("packets wait %v, more than %v", wait, most)
			}
			r.p.check(t)
		})
	}
}

// TestWholePackets: what the stack sends ends with a whole packet, though the client's
// window counts in units that no packet is a multiple of.
func TestWholePackets(t *testing.T) {
	r := newRig(t, 1)
	r.scale = kibScale
	r.both(relay.Path{Rate: 50 * mbit, Queue: 100 * time.Millisecond, Delay: 20 * time.Millisecond})
	c, _ := r.download(0, 3*time.Second)
	if c.short > c.packets/100 {
		t.Errorf("%d of %d packets are short", c.short, c.packets)
	}
}

// TestShares: flows of one client share its path, also when they begin at
// different times.
func TestShares(t *testing.T) {
	r := newRig(t, 3)
	r.both(relay.Path{Rate: 100 * mbit, Queue: 100 * time.Millisecond, Delay: 20 * time.Millisecond, Loss: .003})
	var conns []*conn
	for range 4 {
		conns = append(conns, r.dial(-1, false))
		r.w.run(r.w.now + 2*time.Second)
	}
	var before [4]uint64
	for i, c := range conns {
		before[i] = c.read
	}
	r.w.run(r.w.now + 10*time.Second)
	var sum float64
	for i, c := range conns {
		got := float64(c.read-before[i]) / mbit / 10
		sum += got
		t.Logf("flow %d: %.1f Mbit/s", i, got)
		if got < 12 || got > 40 {
			t.Errorf("flow %d has %.1f of 100 Mbit/s, four share them", i, got)
		}
	}
	if sum < 85 {
		t.Errorf("together %.1f of 100 Mbit/s", sum)
	}
}

// TestChanges: the path gets faster, slower, longer; the rate follows within
// seconds, and the queue is not filled for longer.
func TestChanges(t *testing.T) {
	r := newRig(t, 4)
	r.both(relay.Path{Rate: 20 * mbit, Queue: 200 * time.Millisecond, Delay: 20 * time.Millisecond})
	c := r.dial(-1, false)
	for _, x := range []struct {
		rate  float64
		delay time.Duration
	}{{20, 20}, {100, 20}, {5, 20}, {50, 20}, {50, 80}, {50, 10}} {
		r.down.Rate, r.down.Delay, r.up.Delay = x.rate*mbit, x.delay*time.Millisecond, x.delay*time.Millisecond
		r.w.run(r.w.now + 13*time.Second) // a change to a longer way shows when the old round-trip time is ten seconds old
		read, counts := c.read, r.down.Counts
		r.w.run(r.w.now + 5*time.Second)
		got := float64(c.read-read) / mbit / 5
		wait := r.down.Since(counts).Wait()
		t.Logf("%v Mbit/s, %v ms: %.1f Mbit/s, queue %v", x.rate, 2*x.delay, got, wait)
		if got < .8*x.rate {
			t.Errorf("%.1f of %v Mbit/s", got, x.rate)
		}
		if wait > 60*time.Millisecond {
			t.Errorf("packets wait %v", wait)
		}
	}
}

// TestSpell: a path that loses everything for a while is taken up again.
func TestSpell(t *testing.T) {
	for _, spell := range []time.Duration{300 * time.Millisecond, 2 * time.Second, 20 * time.Second} {
		r := newRig(t, 5)
		r.both(relay.Path{Rate: 50 * mbit, Queue: 100 * time.Millisecond, Delay: 20 * time.Millisecond})
		c := r.dial(-1, false)
		r.w.run(3 * time.Second)
		r.down.Loss, r.up.Loss = 1, 1
		r.w.run(r.w.now + spell)
		r.down.Loss, r.up.Loss = 0, 0
		read := c.read
		r.w.run(r.w.now + spell + 3*time.Second)
		got := float64(c.read-read) / mbit / (spell + 3*time.Second).Seconds()
		t.Logf("after %v: %.1f Mbit/s, %+v", spell, got, r.p.stats)
		if got < 10 {
			t.Errorf("after a spell of %v: %.1f Mbit/s", spell, got)
		}
		r.p.check(t)
	}
}

// TestMoved: after a change of network to a slower and longer way the rate is the
// new one's at once, and nothing waits for what was known of the old one to age.
func TestMoved(t *testing.T) {
	for _, tell := range []bool{true, false} {
		r := newRig(t, 6)
		r.both(relay.Path{Rate: 100 * mbit, Queue: time.Second, Delay: 5 * time.Millisecond})
		c := r.dial(-1, false)
		r.w.run(3 * time.Second)
		r.both(relay.Path{Rate: 10 * mbit, Queue: time.Second, Delay: 50 * time.Millisecond})
		if tell {
			r.p.Moved()
		}
		r.w.run(4 * time.Second)
		if s := r.p.Stats(); tell != (s.MinRTT >= 100*time.Millisecond) {
			t.Errorf("told %v: a second later %v is the round-trip time", tell, s.MinRTT)
		}
		r.w.run(5 * time.Second)
		read, counts := c.read, r.down.Counts
		r.w.run(8 * time.Second)
		got, wait := float64(c.read-read)/mbit/3, r.down.Since(counts).Wait()
		t.Logf("told %v: %.1f of 10 Mbit/s, queue %v", tell, got, wait)
		if tell && (got < 8 || wait > 60*time.Millisecond) {
			t.Errorf("%.1f of 10 Mbit/s, queue %v", got, wait)
		}
	}
}

// TestPauses: a path on which nothing arrives now and then, as over a radio or on a
// busy host, has no queue, and is not taken for one that has.
func TestPauses(t *testing.T) {
	for i, x := range []struct {
		rtt, pause, every time.Duration // ms
		least             float64
	}{
		{100, 60, 60, 120}, {100, 30, 60, 120}, {40, 30, 40, 120}, {40, 100, 200, 100}, {5, 20, 20, 100}, {20, 50, 100, 100}, {100, 150, 60, 50}, {40, 100, 30, 50}, {20, 100, 50, 50},
	} {
		if testing.Short() && i != 4 {
			continue
		}
		t.Run(fmt.Sprintf("%d ms, %d ms every %d ms", x.rtt, x.pause, x.every), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 7)
			r.both(relay.Path{
				Rate: 200 * mbit, Queue: 100 * time.Millisecond, Delay: x.rtt * time.Millisecond / 2,
				Pause: x.pause * time.Millisecond, Every: x.every * time.Millisecond,
			})
			_, got := r.download(5*time.Second, 15*time.Second)
			s := r.p.Stats()
			wait := r.down.Wait()
			t.Logf("%.1f Mbit/s, window %d KB, queue %v; dropped %d; found %d, spurious %d", got, s.Window/1000, wait, r.down.Dropped, s.Lost, s.Spurious)
			if got < x.least {
				t.Errorf("%.1f Mbit/s, at least %.0f expected", got, x.least)
			}
		})
	}
}
