package moderation

import (
	"runtime"
	"testing"
	"time"
)

func TestNap(t *testing.T) {
	const full, ack = 1400, 52
	same := [2]time.Duration{-1, -1}
	tests := []struct {
		name   string
		n      int           // packets of a batch
		size   int           // of each
		every  time.Duration // one such batch
		busy   bool
		lo, hi time.Duration    // nap after such a batch
		stream [2]time.Duration // the same where it is another one over a stream
	}{
		{"ping", 1, 84, time.Second, false, 0, 0, same},
		{"10 kpps, one by one", 1, full, 100 * time.Microsecond, false, 0, 0, same},
		{"19 kpps in batches", 19, full, time.Millisecond, false, 0, 0, same},
		{"25 kpps, one by one", 1, full, 40 * time.Microsecond, true, ofLong.most, ofLong.most, same},
		{"100 kpps, ten at a time", 10, full, 100 * time.Microsecond, true, 530 * time.Microsecond, 550 * time.Microsecond, same},
		{"1 Mpps, ten at a time", 10, full, 10 * time.Microsecond, true, 53 * time.Microsecond, 56 * time.Microsecond, same},
		{"300 kpps, full batches", 64, full, 213 * time.Microsecond, true, 0, 0, same},
		{"short, 10 kpps", 1, ack, 100 * time.Microsecond, false, 0, 0, same},
		{"short, 25 kpps", 1, ack, 40 * time.Microsecond, true, OfDatagrams.most, OfDatagrams.most, [2]time.Duration{OfStream.most, OfStream.most}},
		{"short, 400 kpps", 10, ack, 25 * time.Microsecond, true, minNap, 56 * time.Microsecond, [2]time.Duration{93 * time.Microsecond, 97 * time.Microsecond}},
		{"short, 100 kpps in batches", 40, ack, 400 * time.Microsecond, true, 0, 0, [2]time.Duration{78 * time.Microsecond, 82 * time.Microsecond}},
		{"nothing", 0, 0, 40 * time.Microsecond, false, 0, 0, same},
	}
	for _, tt := range tests {
		for _, short := range []Gathering{OfStream, OfDatagrams} {
			now := time.Unix(1000, 0)
			m := Meter{on: true, short: short, last: now}
			for range 2000 {
				now = now.Add(tt.every)
				m.Add(tt.n, tt.n*tt.size, now)
			}
			if m.Busy() != tt.busy {
				t.Errorf("%s: busy %v at %.0f/s", tt.name, m.Busy(), m.rate*1e9)
			}
			lo, hi := tt.lo, tt.hi
			if short == OfStream && tt.stream != same {
				lo, hi = tt.stream[0], tt.stream[1]
			}
			if d := m.nap(); d < lo || d > hi {
				t.Errorf("%s, short ones %v: nap of %v, want %v to %v", tt.name, short, d, lo, hi)
			}
			m.Add(1, full, now.Add(time.Second)) // it forgets
			if m.Busy() || m.nap() != 0 {
				t.Errorf("%s: busy after a second of silence", tt.name)
			}
		}
	}
}

// A fragment of a batch, without a whole packet in it, is no reason to wait.
func TestNoNapWithoutPackets(t *testing.T) {
	now := time.Unix(1000, 0)
	m := Meter{on: true, short: OfDatagrams, last: now}
	for range 1000 {
		now = now.Add(100 * time.Microsecond)
		m.Add(10, 14000, now)
	}
	if m.nap() == 0 {
		t.Fatal("no nap at 100 kpps")
	}
	m.Add(0, 0, now)
	if d := m.nap(); d != 0 {
		t.Errorf("nap of %v after no packet", d)
	}
}

func TestNapNeedsOneProcessor(t *testing.T) {
	for _, procs := range []int{1, 2} {
		old := runtime.GOMAXPROCS(procs)
		var m Meter
		m.Start(time.Unix(0, 0), OfDatagrams)
		runtime.GOMAXPROCS(old)
		for i := range 1000 {
			m.Add(40, 40*1400, time.Unix(0, int64(i)*10_000))
		}
		if m.Busy() != (procs == 1) || (m.nap() > 0) != (procs == 1) {
			t.Errorf("with %d processors busy is %v, nap %v", procs, m.Busy(), m.nap())
		}
	}
}

// Time may stand still or go back.
func TestTimeGoesBack(t *testing.T) {
	m := Meter{on: true}
	m.Add(1, 100, time.Unix(5, 0))
	m.Add(1, 100, time.Unix(4, 0))
	if m.rate < 0 {
		t.Error("negative rate")
	}
}

func TestMeteringAllocatesNothing(t *testing.T) {
	m := Meter{on: true, short: OfDatagrams}
	now := time.Unix(1000, 0)
	n := testing.AllocsPerRun(100, func() {
		now = now.Add(100 * time.Microsecond)
		m.Add(10, 14000, now)
		m.Nap()
	})
	if n > 0 {
		t.Errorf("%v allocations a batch", n)
	}
}

// TestGather: it is waited for as long as more comes, and not longer than that.
func TestGather(t *testing.T) {
	now := time.Unix(1000, 0)
	m := Meter{on: true, last: now}
	for range 1000 {
		now = now.Add(time.Millisecond)
		m.Add(50, 50*1400, now)
	}
	for _, tt := range []struct {
		name  string
		comes []int // unread, each time it is asked; then the last for ever
		asked int
	}{
		{"nothing more", []int{1000}, 2},
		{"until the window is full", []int{0, 20000, 60000, 90000, 90000, 120000}, 5},
		{"as long as that", []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, gatherMost + 1},
	} {
		asked := 0
		m.Gather(func() int {
			asked++
			return tt.comes[min(asked, len(tt.comes))-1]
		})
		if asked != tt.asked {
			t.Errorf("%s: asked %d times, want %d", tt.name, asked, tt.asked)
		}
	}
	idle := Meter{on: true, last: now}
	idle.Add(1, 100, now.Add(time.Second))
	for _, m := range []*Meter{&idle, {}} {
		m.Gather(func() int { t.Error("waits though little comes"); return 0 })
	}
}
