package recovery

import (
	"testing"
	"time"

	"rocserv/test/relay"
)

// TestLossless: over a channel that loses nothing the window is the client's, and
// yet what the client itself loses is repaired, the last packet too.
func TestLossless(t *testing.T) {
	r := newRig(t, 1)
	r.p.SetLossless(true)
	r.both(relay.Path{Rate: 100 * mbit, Queue: time.Hour, Delay: 10 * time.Millisecond})
	c := r.dial(8<<20, true)
	r.w.run(600 * time.Millisecond)
	if waiting := int64(c.nxt - c.una); waiting < 2<<20 {
		t.Errorf("%d bytes under way: the window is narrowed", waiting)
	}
	r.down.Loss = .05
	r.w.run(r.w.now + 200*time.Millisecond)
	r.down.Loss = 0
	r.w.run(4 * time.Second)
	if c.una != c.nxt || !c.sentFIN {
		t.Errorf("at %d of %d bytes", c.una-c.iss, c.nxt-c.iss)
	}
	r.down.Loss = 1 // and the end of another
	d := r.dial(1000, true)
	r.w.run(r.w.now + 50*time.Millisecond)
	r.down.Loss = 0
	r.w.run(r.w.now + 5*time.Second)
	if d.una != d.nxt || !d.sentFIN {
		t.Errorf("at %d of %d bytes, %+v", d.una-d.iss, d.nxt-d.iss, r.p.stats)
	}
	if d.timeouts > 0 || r.p.stats.Timeouts == 0 {
		t.Errorf("the stack timed out %d times, we %d", d.timeouts, r.p.stats.Timeouts)
	}
	r.p.check(t)
}
