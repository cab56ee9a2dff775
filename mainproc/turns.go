package mainproc

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// behindFor is how long sec-mod's word that it is behind holds. While that is
// so it says it again every second.
const behindFor = 2 * time.Second

// turns slows admission down while sec-mod is behind: a worker is given to a
// connection every so often only (rate-limit-ms), and source prefixes take
// turns, so that one from a quiet network does not wait behind a crowd.
type turns struct {
	mu      sync.Mutex
	behind  time.Time // sec-mod is, until then
	queue   map[netip.Prefix][]chan struct{}
	order   []netip.Prefix // of those in queue: who is next
	running bool
}

func newTurns() *turns { return &turns{queue: make(map[netip.Prefix][]chan struct{})} }

// slow notes that sec-mod is behind.
func (t *turns) slow(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.behind = now.Add(behindFor)
}

// wait returns when a connection from source may have a worker.
func (t *turns) wait(ctx context.Context, source netip.Prefix, pace time.Duration) error {
	t.mu.Lock()
	if pace <= 0 || !time.Now().Before(t.behind) && len(t.order) == 0 {
		t.mu.Unlock()
		return nil
	}
	ch := make(chan struct{})
	if len(t.queue[source]) == 0 {
		t.order = append(t.order, source)
	}
	t.queue[source] = append(t.queue[source], ch)
	if !t.running {
		t.running = true
		go t.run(pace)
	}
	t.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		t.giveUp(source, ch)
		return ctx.Err()
	}
}

// run lets one in at a time until nobody waits, and all once sec-mod has caught up.
func (t *turns) run(pace time.Duration) {
	for {
		time.Sleep(pace)
		t.mu.Lock()
		for caughtUp := !time.Now().Before(t.behind); len(t.order) > 0; {
			t.next()
			if !caughtUp {
				break
			}
		}
		if len(t.order) == 0 {
			t.running = false
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
	}
}

// next lets in who has waited longest of the prefix whose turn it is. t.mu is held.
func (t *turns) next() {
	source := t.order[0]
	list := t.queue[source]
	close(list[0])
	t.order = t.order[1:]
	if len(list) == 1 {
		delete(t.queue, source)
		return
	}
	t.queue[source] = list[1:]
	t.order = append(t.order, source)
}

func (t *turns) giveUp(source netip.Prefix, ch chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.queue[source], ch)
	if i < 0 {
		return // it was let in at the same moment
	}
	t.queue[source] = slices.Delete(t.queue[source], i, i+1)
	if len(t.queue[source]) == 0 {
		delete(t.queue, source)
		t.order = slices.DeleteFunc(t.order, func(p netip.Prefix) bool { return p == source })
	}
}
