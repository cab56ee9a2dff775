package mainproc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// members starts numbered members, as a pool's start.
type members struct {
	mu        sync.Mutex
	last      int
	most, now int // starts at a time
	takes     time.Duration
	fail      func(n int) error
	dismissed []int
}

func (m *members) start() (int, error) {
	m.mu.Lock()
	m.last++
	n := m.last
	m.now++
	m.most = max(m.most, m.now)
	m.mu.Unlock()
	time.Sleep(m.takes)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now--
	if m.fail != nil {
		if err := m.fail(n); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func (m *members) started() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

func (m *members) pool(size, parallel int) (*pool[int], *bytes.Buffer) {
	log := new(bytes.Buffer)
	return &pool[int]{
		start: m.start,
		dismiss: func(n int) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.dismissed = append(m.dismissed, n)
		},
		size: size, parallel: parallel, now: time.Now,
		log: slog.New(slog.NewTextHandler(log, nil)),
	}, log
}

func TestPoolFills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &members{takes: 10 * time.Millisecond}
		p, _ := m.pool(4, 2)
		p.renew()
		time.Sleep(25 * time.Millisecond)
		synctest.Wait()
		if m.started() != 4 || m.most != 2 || len(p.idle) != 4 {
			t.Fatalf("%d started, %d at a time, %d idle", m.started(), m.most, len(p.idle))
		}
		idle := slices.Clone(p.idle)
		for _, want := range idle {
			if got, err := p.take(t.Context()); got != want || err != nil {
				t.Errorf("take = %d, %v; want %d, at once", got, err, want)
			}
		}
		begin := time.Now()
		if got, err := p.take(t.Context()); err != nil || got < 5 || time.Since(begin) > 10*time.Millisecond {
			t.Errorf("a fifth: %d, %v after %v", got, err, time.Since(begin))
		}
		p.close()
		time.Sleep(time.Second)
		synctest.Wait()
	})
}

// A burst is served as fast as starting goes, in order, and by no more than it needs.
func TestPoolBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &members{takes: 10 * time.Millisecond}
		p, _ := m.pool(2, 3)
		p.renew()
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := p.take(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		if m.started() != 22 || m.most > 3 || len(p.idle) != 2 {
			t.Errorf("%d started, %d at a time, %d idle", m.started(), m.most, len(p.idle))
		}
	})
}

func TestPoolGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &members{takes: 10 * time.Millisecond}
		p, _ := m.pool(1, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		if _, err := p.take(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(p.idle) != 1 || len(p.waiting) != 0 {
			t.Errorf("%d idle, %d waiting", len(p.idle), len(p.waiting))
		}
	})
}

// A crash loop costs a start now and then, says so now and then, and whoever
// comes is turned away at once.
func TestPoolBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		broken.Store(true)
		m := &members{fail: func(int) error {
			if broken.Load() {
				return errors.New("no memory")
			}
			return nil
		}}
		p, log := m.pool(2, 2)
		first := make(chan error, 1)
		go func() { _, err := p.take(t.Context()); first <- err }()
		if err := <-first; !errors.Is(err, errNoWorker) {
			t.Errorf("who waited: %v", err)
		}
		begin := time.Now()
		if _, err := p.take(t.Context()); !errors.Is(err, errNoWorker) || time.Since(begin) != 0 {
			t.Errorf("who came then: %v after %v", err, time.Since(begin))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if m.started() > 40 {
			t.Errorf("%d starts in a minute", m.started())
		}
		if n := strings.Count(log.String(), msgWorkerFailing); n < 3 || n > 6 {
			t.Errorf("%d log lines:\n%s", n, log)
		}
		broken.Store(false)
		time.Sleep(maxBackOff)
		synctest.Wait()
		if len(p.idle) != 2 {
			t.Errorf("%d idle after the cause was gone", len(p.idle))
		}
		if _, err := p.take(t.Context()); err != nil {
			t.Error(err)
		}
		p.proved()
		if p.trouble.failures != 0 {
			t.Error("failures are not forgotten")
		}
		p.close()
		time.Sleep(maxBackOff)
		synctest.Wait()
	})
}

// Members that become ready and die idle are a crash loop too.
func TestPoolLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(members)
		p, _ := m.pool(1, 1)
		p.renew()
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			p.lost(m.started())
			p.lost(-1) // not one of the idle
		}
		if m.started() > 20 {
			t.Errorf("%d starts in a minute", m.started())
		}
		p.close()
		time.Sleep(maxBackOff)
		synctest.Wait()
	})
}

func TestPoolRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &members{takes: 10 * time.Millisecond}
		p, _ := m.pool(2, 2)
		p.renew()
		time.Sleep(15 * time.Millisecond) // 1 and 2 are idle
		synctest.Wait()
		if _, err := p.take(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // 3 is being started
		p.renew()
		time.Sleep(time.Second)
		synctest.Wait()
		for range 2 {
			if n, err := p.take(t.Context()); n <= 3 || err != nil {
				t.Errorf("member %d from before, %v", n, err)
			}
		}
		if len(m.dismissed) != 2 {
			t.Errorf("dismissed %v", m.dismissed)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		p.close()
		if len(m.dismissed) != 4 {
			t.Errorf("dismissed at the end %v", m.dismissed)
		}
		if _, err := p.take(t.Context()); !errors.Is(err, errPoolShut) {
			t.Errorf("take from a closed pool: %v", err)
		}
	})
}
