package recovery

import (
	"fmt"
	"testing"
	"time"

	"rocserv/test/relay"
)

// TestShallow: where the bottleneck holds less than the window would have wait
// there, as the socket of a client on a LAN does (a hundred packets), what is
// found by losing packets is not lost again each round trip: of UDP and echo beside
// the flow nobody sends that again.
func TestShallow(t *testing.T) {
	for i, x := range []struct {
		rate       float64       // Mbit/s
		rtt, queue time.Duration // µs
	}{
		{1000, 300, 1100}, {1000, 1000, 1100}, {200, 300, 2000}, {200, 20000, 5000}, {200, 40000, 5000},
	} {
		if testing.Short() && i != 3 {
			continue
		}
		t.Run(fmt.Sprintf("%v Mbit/s, %d µs, queue %d µs", x.rate, x.rtt, x.queue), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 8)
			r.both(relay.Path{Rate: x.rate * mbit, Queue: x.queue * time.Microsecond, Delay: x.rtt * time.Microsecond / 2})
			c := r.dial(-1, false)
			r.w.run(2 * time.Second)
			before, counts := c.read, r.down.Counts
			r.w.run(7 * time.Second)
			got := float64(c.read-before) / mbit / 5
			n := r.down.Since(counts)
			part := 100 * float64(n.Dropped) / float64(n.Passed+n.Dropped)
			s := r.p.Stats()
			t.Logf("%.1f Mbit/s, window %d KB, %.2f %% of %d dropped; found %d, spurious %d, timeouts %d, round trip %v", got, s.Window/1000, part, n.Passed+n.Dropped, s.Lost, s.Spurious, s.Timeouts, s.MinRTT)
			if got < .9*x.rate {
				t.Errorf("%.1f of %v Mbit/s", got, x.rate)
			}
			if part > 2 {
				t.Errorf("%.2f %% dropped", part)
			}
		})
	}
}
