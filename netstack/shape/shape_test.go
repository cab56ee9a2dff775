package shape

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

var never chan struct{}

// stream moves a number of bytes.
func stream(l *Limiter, n int) {
	for n > 0 {
		if !l.Wait(never) {
			return
		}
		q := l.Quantum(n)
		l.Done(q)
		n -= q
	}
}

// within fails unless got is want, give or take a part of it.
func within(t *testing.T, what string, got, want, part time.Duration) {
	t.Helper()
	if got < want-part || got > want+part {
		t.Errorf("%s took %v, want %v ± %v", what, got, want, part)
	}
}

func TestStreamsKeepTheRate(t *testing.T) {
	for _, rate := range []uint64{1, 500, 100_000, 10_000_000, 1 << 50} {
		synctest.Test(t, func(t *testing.T) {
			l, begun := New(rate, tcpip.NewStdClock()), time.Now()
			n := int(min(10*rate, 100<<20))
			if rate == 1 {
				n = 3 * minQuantum
			}
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() { stream(l, n/4) })
			}
			all.Wait()
			want := time.Duration(float64(n) / float64(rate) * float64(time.Second))
			within(t, "streams", time.Since(begun), want, 2*max(l.time(l.quantum), step))
		})
	}
}

// TestNewStream: one that comes when others have much to do waits for a quantum
// of each of them.
func TestNewStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1_000_000, tcpip.NewStdClock())
		for range 10 {
			go stream(l, 2_000_000)
		}
		time.Sleep(time.Second)
		begun := time.Now()
		stream(l, 1000)
		if took := time.Since(begun); took > 12*step {
			t.Errorf("waited %v", took)
		}
		time.Sleep(time.Minute)
	})
}

// TestDatagrams: without streams they get the rate, with them their part, and
// both together are within it.
func TestDatagrams(t *testing.T) {
	const rate, size, span, seconds = 1_000_000, 1000, 4 * time.Second, 4
	synctest.Test(t, func(t *testing.T) {
		l := New(rate, tcpip.NewStdClock())
		flood := func(d time.Duration) (passed int) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond / 4) {
				if l.Admit(size) {
					passed += size
				}
			}
			return passed
		}
		const spare = rate / 5 // debt and credit
		if alone := flood(span); alone < seconds*rate || alone > seconds*rate+spare {
			t.Errorf("%d bytes of datagrams in four seconds", alone)
		}
		if l.Dropped() == 0 {
			t.Error("nothing counted as dropped")
		}
		var moved atomic.Int64
		stop := make(chan struct{})
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				for l.Wait(stop) {
					moved.Add(int64(l.quantum))
					l.Done(l.quantum)
				}
			})
		}
		passed := flood(span)
		close(stop)
		all.Wait()
		if sum := passed + int(moved.Load()); sum > seconds*rate+spare {
			t.Errorf("%d bytes in four seconds", sum)
		}
		if passed < seconds*rate/10 || moved.Load() < seconds*rate/10 {
			t.Errorf("%d of datagrams, %d of streams in four seconds: one of them hardly gets anything", passed, moved.Load())
		}
	})
}

// TestIdleDoesNotSave: who was silent for long may not send much at once.
func TestIdleDoesNotSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(100_000, tcpip.NewStdClock())
		time.Sleep(time.Hour)
		begun := time.Now()
		stream(l, 100_000)
		within(t, "a second's worth", time.Since(begun), time.Second, 2*step)
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := New(1, tcpip.NewStdClock()), make(chan struct{})
		l.Wait(stop)
		l.Done(1 << 20)
		result := make(chan bool)
		for range 3 { // one waits for its time, the others for the turn
			go func() { result <- l.Wait(stop) }()
		}
		synctest.Wait()
		close(stop)
		for range 3 {
			if <-result {
				t.Error("got the turn after stop")
			}
		}
		select {
		case l.turn <- struct{}{}:
		default:
			t.Error("the turn was not given up")
		}
	})
}

func TestNone(t *testing.T) {
	l := New(0, tcpip.NewStdClock())
	if l != nil {
		t.Fatal("a limiter without a limit")
	}
	if !l.Wait(nil) || !l.Admit(1<<30) || l.Quantum(77) != 77 || l.Dropped() != 0 {
		t.Error("no limit, and yet something is held back")
	}
	l.Done(5)
}
