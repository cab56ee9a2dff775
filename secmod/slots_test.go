package secmod

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rocserv/internal/ipc"
)

// More than half a queue is what main is told of, and no less.
func TestBehind(t *testing.T) {
	var said atomic.Int64
	s := newSlots(1, 0)
	s.behind = func() { said.Add(1) }
	s.enter()
	var wg sync.WaitGroup
	for i := range behindAt + 3 {
		wg.Go(func() { s.enter(); s.leave() })
		eventually(t, "one more waits", func() bool { return s.waiting.Load() == int64(i+1) })
	}
	if n := said.Load(); n != 3 {
		t.Errorf("said %d times, want 3", n)
	}
	s.leave()
	wg.Wait()
}

// Main hears it once a second, as a message it knows.
func TestSayBehind(t *testing.T) {
	var ahead atomic.Int64
	start := time.Now()
	r := boot(t, newSite(t), func(s *server) { s.Now = func() time.Time { return start.Add(time.Duration(ahead.Load())) } })
	for range 3 {
		r.s.hashing.behind()
		r.s.signing.behind()
	}
	ahead.Store(int64(time.Second))
	r.s.hashing.behind()
	for i := range 2 {
		if rec := <-r.notes; rec.Type != ipc.SecmBehindT || rec.ID != 0 || rec.Decode(new(ipc.Nothing)) != nil {
			t.Fatalf("note %d: %v", i, rec.Type)
		}
	}
	if len(r.bans()) != 0 || len(r.notes) != 0 {
		t.Error("more was said")
	}
}
