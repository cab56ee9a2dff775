package worker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"
)

// probedPath answers probes as a client at the other end of a path does.
type probedPath struct {
	clock *faketime.ManualClock
	*prober
	limit   int // bytes of a packet that gets through
	rtt     time.Duration
	cut     bool // nothing gets through
	lose    func() bool
	traffic bool // packets are sent to the client all the time

	down   uint64
	probes int
	sizes  []int // that were taken into use, in order
}

func newProbedPath(limit int) *probedPath {
	f := &probedPath{clock: faketime.NewManualClock(), limit: limit, rtt: 40 * time.Millisecond, traffic: true}
	f.prober = newProber(f.clock, 1434, func(n int) {
		f.probes++
		if n <= f.limit && !f.cut && (f.lose == nil || !f.lose()) {
			f.clock.AfterFunc(f.rtt, f.answered)
		}
	}, func(n int) { f.sizes = append(f.sizes, n) })
	return f
}

// run lets time pass, with looks as the timers have them.
func (f *probedPath) run(d time.Duration) {
	const step = 20 * time.Millisecond
	next := f.clock.NowMonotonic().Add(busyLook) // a probe was sent: soon
	for end := f.clock.NowMonotonic().Add(d); f.clock.NowMonotonic().Before(end); {
		f.clock.Advance(step)
		if f.traffic {
			f.down += 2000
		}
		if now := f.clock.NowMonotonic(); !now.Before(next) {
			next = now.Add(idleLook)
			if f.look(f.down) {
				next = now.Add(busyLook)
			}
		}
	}
}

func TestProber(t *testing.T) {
	for _, tt := range []struct {
		name   string
		path   int // what gets through at first
		then   func(*probedPath)
		want   int   // the size in use at last, to a step below
		via    []int // sizes that were in use before, in order, as far as they are the same each time
		probes int   // most
	}{
		{"a wide path is asked once", 1434, func(f *probedPath) { f.traffic = false; f.run(time.Hour) }, 1434, nil, 1},
		{"and again while there is traffic", 1434, func(f *probedPath) { f.run(time.Hour) }, 1434, nil, 361},
		{"narrow from the start", 1300, func(f *probedPath) { f.run(25 * time.Second) }, 1300, []int{1200}, 20},
		{"it falls", 1434, func(f *probedPath) { f.run(time.Minute); f.limit = 1250; f.run(40 * time.Second) }, 1250, []int{1200}, 40},
		{"it falls far", 1434, func(f *probedPath) { f.run(time.Minute); f.limit = 900; f.run(time.Minute) }, 900, []int{576}, 60},
		{"nothing gets through, and then all", 1434, func(f *probedPath) {
			f.run(time.Minute)
			f.cut = true
			f.run(2 * time.Minute)
			f.cut = false
			f.run(time.Minute)
		}, 1434, nil, 100},
		{"slow answers", 1434, func(f *probedPath) { f.rtt = 2900 * time.Millisecond; f.run(5 * time.Minute) }, 1434, nil, 150},
		{"a router says so", 1434, func(f *probedPath) { f.run(5 * time.Second); f.limit = 1344; f.told(1344); f.run(time.Minute) }, 1344, nil, 10},
		{"a router says so, and a later one does not", 1434, func(f *probedPath) {
			f.run(5 * time.Second)
			f.limit = 1234
			f.told(1344)
			f.run(time.Minute)
		}, 1234, []int{1344, 1200}, 50},
		{"it becomes wider", 1434, func(f *probedPath) {
			f.told(1300)
			f.run(9 * time.Minute)
			if f.good != 1300 {
				t.Errorf("%d bytes before the time", f.good)
			}
			f.run(90 * time.Second)
		}, 1434, []int{1300}, 100},
		{"nonsense of a router", 1434, func(f *probedPath) { f.limit = 576; f.told(-5); f.told(20000); f.run(5 * time.Second) }, 576, nil, 10},
		{"DPD asks", 1434, func(f *probedPath) {
			f.traffic = false
			f.run(time.Minute)
			f.limit = 1250
			f.confirm()
			f.run(30 * time.Second)
		}, 1250, []int{1200}, 40},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newProbedPath(tt.path)
			f.start()
			tt.then(f)
			if f.good > tt.want || f.good <= tt.want-probeStep {
				t.Errorf("%d bytes, want %d (%v)", f.good, tt.want, f.sizes)
			}
			if len(f.sizes) < len(tt.via) || fmt.Sprint(f.sizes[:len(tt.via)]) != fmt.Sprint(append([]int{}, tt.via...)) {
				t.Errorf("in use were %v, want first %v", f.sizes, tt.via)
			}
			if tt.via == nil && tt.want == 1434 && len(f.sizes) > 0 {
				t.Errorf("in use were %v", f.sizes)
			}
			if f.probes > tt.probes {
				t.Errorf("%d probes", f.probes)
			}
		})
	}
}

// However many probes are lost on the way, what is in use at last gets through
// and is not much less than what could be.
func TestProberOnBadPaths(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := newProbedPath(576 + r.IntN(1434-576+1))
		f.rtt = time.Duration(r.IntN(1900)) * time.Millisecond
		f.lose = func() bool { return r.IntN(100) < 20 }
		f.start()
		f.run(5 * time.Minute)
		f.limit = 576 + r.IntN(1434-576+1)
		f.run(5 * time.Minute)
		f.lose, f.rtt = nil, 40*time.Millisecond
		f.run(25 * time.Minute)
		if f.good > f.limit || f.good <= f.limit-probeStep {
			t.Errorf("seed %d: %d bytes where %d get through", seed, f.good, f.limit)
		}
	}
}

// A channel that is not asked about takes what routers say and no more.
func TestProberThatNeverStarted(t *testing.T) {
	f := newProbedPath(1434)
	f.told(1500)
	f.told(1300)
	f.run(time.Hour)
	f.confirm()
	f.answered()
	if f.probes != 0 || len(f.sizes) != 1 || f.good != 1300 {
		t.Errorf("%d probes, %v in use", f.probes, f.sizes)
	}
}

// A channel that comes into use says which size its path takes.
func TestProberAnnounces(t *testing.T) {
	f := newProbedPath(1434)
	f.announce()
	f.told(1300)
	f.announce()
	if want := []int{1434, 1300, 1300}; !slices.Equal(f.sizes, want) {
		t.Errorf("sizes %v, want %v", f.sizes, want)
	}
}
