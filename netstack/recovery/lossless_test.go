package recovery

import (
	"testing"
	"time"

	"rocserv/test/relay"
)

// TestLossless: over a channel that loses nothing what the client itself loses is
// repaired, the last packet too.
func TestLossless(t *testing.T) {
	r := newRig(t, 1)
	r.p.SetLossless(true)
	r.both(relay.Path{Rate: 100 * mbit, Queue: time.Hour, Delay: 10 * time.Millisecond})
	c := r.dial(8<<20, true)
	r.w.run(600 * time.Millisecond)
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
	if d.timeouts > 0 || r.p.stats.Probes == 0 {
		t.Errorf("the stack timed out %d times, we probed %d times", d.timeouts, r.p.stats.Probes)
	}
	r.p.check(t)
}

// TestShortQueue: a client that drops what its kernel answers while it is busy with
// what arrives (the newest acknowledgements, that is) holds nobody up: no more is
// under way than keeps it busy, and it is soon asked for what it dropped.
func TestShortQueue(t *testing.T) {
	const size = 32 << 20
	for _, queue := range []int{500, 100, 20} {
		r := newRig(t, 1)
		r.p.SetLossless(true)
		r.both(relay.Path{Rate: 10_000 * mbit, Queue: time.Hour, Delay: 50 * time.Microsecond})
		r.client = &client{w: r.w, each: 10 * time.Microsecond, queue: queue}
		c := r.dial(size, true)
		most := uint32(0)
		for c.una-c.iss < size && r.w.now < 10*time.Second {
			r.w.run(r.w.now + time.Millisecond)
			most = max(most, c.nxt-c.una)
		}
		if r.client.dropped == 0 && queue < 500 {
			t.Errorf("queue of %d: nothing was dropped", queue)
		}
		// 32 MB take the client 243 ms.
		if r.w.now > 500*time.Millisecond || r.p.stats.Timeouts > 0 || most > 3<<20 {
			t.Errorf("queue of %d: took %v, with up to %d bytes under way, %+v", queue, r.w.now, most, r.p.stats)
		}
		r.p.check(t)
	}
}

// TestHeldBack: while TCP below repairs a loss nothing arrives; what is under way is
// enough for it to be busy meanwhile.
func TestHeldBack(t *testing.T) {
	r := newRig(t, 7)
	r.p.SetLossless(true)
	r.both(relay.Path{
		Rate: 200 * mbit, Queue: time.Hour, Delay: 20 * time.Millisecond,
		Pause: 60 * time.Millisecond, Every: 100 * time.Millisecond,
	})
	_, got := r.download(2*time.Second, 6*time.Second)
	if s := r.p.Stats(); got < 180 || s.Timeouts > 0 {
		t.Errorf("%.1f Mbit/s, %+v", got, s)
	}
}
