package dtls

import (
	"runtime"
	"testing"
	"time"

	"rocserv/internal/wire"
)

func TestModeration(t *testing.T) {
	tests := []struct {
		name   string
		n      int           // packets of a batch
		every  time.Duration // one such batch
		busy   bool
		lo, hi time.Duration // nap after such a batch
	}{
		{"ping", 1, time.Second, false, 0, 0},
		{"10 kpps, one by one", 1, 100 * time.Microsecond, false, 0, 0},
		{"19 kpps in batches", 19, time.Millisecond, false, 0, 0},
		{"25 kpps, one by one", 1, 40 * time.Microsecond, true, maxNap, maxNap},
		{"100 kpps, ten at a time", 10, 100 * time.Microsecond, true, maxNap, maxNap},
		{"400 kpps, ten at a time", 10, 25 * time.Microsecond, true, minNap, 56 * time.Microsecond},
		{"1 Mpps, ten at a time", 10, 10 * time.Microsecond, true, minNap, minNap},
		{"300 kpps, full batches", 64, 213 * time.Microsecond, true, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			m := moderation{on: true, last: now}
			for range 2000 {
				now = now.Add(tt.every)
				m.add(tt.n, now)
			}
			if m.busy() != tt.busy {
				t.Errorf("busy %v at %.0f/s", m.busy(), m.rate*1e9)
			}
			if d := m.nap(tt.n); d < tt.lo || d > tt.hi {
				t.Errorf("nap of %v, want %v to %v", d, tt.lo, tt.hi)
			}
			m.add(1, now.Add(time.Second)) // it forgets
			if m.busy() {
				t.Error("busy after a second of silence")
			}
		})
	}
}

func TestModerationNeedsOneProcessor(t *testing.T) {
	for _, procs := range []int{1, 2} {
		old := runtime.GOMAXPROCS(procs)
		var m moderation
		m.init(time.Unix(0, 0))
		runtime.GOMAXPROCS(old)
		for i := range 1000 {
			m.add(64, time.Unix(0, int64(i)*10_000))
		}
		if m.busy() != (procs == 1) {
			t.Errorf("with %d processors busy is %v", procs, m.busy())
		}
	}
	var m moderation // time may stand still or go back
	m.on = true
	m.add(1, time.Unix(5, 0))
	m.add(1, time.Unix(4, 0))
	if m.rate < 0 {
		t.Error("negative rate")
	}
}

// Under load the reading goroutine says so, and takes it back when the load ends.
func TestBusy(t *testing.T) {
	checkLeaks(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	seen := false
	p.rec.onPackets = func(c *Channel, _ []wire.Packet) { seen = seen || c.Busy() }
	p.serve(t)
	for end := time.Now().Add(testWait); time.Now().Before(end) && !p.c.Busy(); {
		for range 200 {
			p.write(t, p.data(t, "\x00x"))
		}
		runtime.Gosched()
	}
	if !p.c.Busy() && !seen {
		t.Skip("this machine does not reach the rate")
	}
	for end := time.Now().Add(testWait); p.c.Busy(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("busy for ever")
		}
	}
}
