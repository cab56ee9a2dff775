package mainproc

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rocserv/internal/ipc"
)

func TestTurns(t *testing.T) {
	const pace = 100 * time.Millisecond
	crowd, quiet := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24")
	var mu sync.Mutex
	// enter starts n waits, one after the other; who is let in is noted in order.
	enter := func(tt *turns, ctx context.Context, source netip.Prefix, pace time.Duration, n int, name string, order *[]string) {
		for range n {
			go func() {
				if tt.wait(ctx, source, pace) == nil {
					mu.Lock()
					defer mu.Unlock()
					*order = append(*order, name)
				}
			}()
			synctest.Wait()
		}
	}
	t.Run("nobody waits while sec-mod keeps up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tt, order := newTurns(), []string{}
			enter(tt, t.Context(), crowd, pace, 3, "c", &order)
			if len(order) != 3 {
				t.Errorf("let in: %v", order)
			}
		})
	})
	t.Run("nor without a pace", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tt, order := newTurns(), []string{}
			tt.slow(time.Now())
			enter(tt, t.Context(), crowd, 0, 3, "c", &order)
			if len(order) != 3 {
				t.Errorf("let in: %v", order)
			}
		})
	})
	t.Run("prefixes take turns", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tt, order := newTurns(), []string{}
			tt.slow(time.Now())
			enter(tt, t.Context(), crowd, pace, 4, "c", &order)
			enter(tt, t.Context(), quiet, pace, 2, "q", &order)
			for want := range 6 {
				synctest.Wait()
				if len(order) != want {
					t.Errorf("after %d turns: %v", want, order)
				}
				tt.slow(time.Now())
				time.Sleep(pace)
			}
			synctest.Wait()
			if got := strings.Join(order, ""); got != "cqcqcc" || len(tt.queue) != 0 || tt.running {
				t.Errorf("order %s, left %d, running %v", got, len(tt.queue), tt.running)
			}
		})
	})
	t.Run("all come in when it has caught up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tt, order := newTurns(), []string{}
			tt.slow(time.Now())
			enter(tt, t.Context(), crowd, pace, 100, "c", &order)
			time.Sleep(behindFor + pace)
			synctest.Wait()
			if len(order) != 100 || tt.running {
				t.Errorf("%d came in", len(order))
			}
		})
	})
	t.Run("who gives up leaves nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tt := newTurns()
			tt.slow(time.Now())
			ctx, cancel := context.WithTimeout(t.Context(), pace/2)
			defer cancel()
			if err := tt.wait(ctx, crowd, pace); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			if len(tt.queue) != 0 || len(tt.order) != 0 {
				t.Errorf("left: %v", tt.order)
			}
			time.Sleep(2 * pace)
			synctest.Wait()
			if tt.running {
				t.Error("it goes on for nobody")
			}
		})
	})
}

// Sec-mod's word slows the door down, and only with rate-limit-ms.
func TestBehindSlowsTheDoor(t *testing.T) {
	for _, pace := range []time.Duration{0, time.Hour} {
		s := ghost()
		s.settings().RateLimit = pace
		if err := s.fromSecMod(&ipc.Record{Type: ipc.SecmBehindT}); err != nil {
			t.Fatal(err)
		}
		conn, c := connected(t)
		c.Write([]byte{22})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.door.let(ctx, conn, socketOrigin(conn)) }()
		if pace > 0 {
			eventually(t, "a wait for a turn", func() bool {
				s.door.turns.mu.Lock()
				defer s.door.turns.mu.Unlock()
				return len(s.door.turns.order) == 1
			})
			cancel()
		}
		if err := <-done; errors.Is(err, context.Canceled) != (pace > 0) { // the ghost has no worker to give
			t.Errorf("pace %v: %v", pace, err)
		}
		cancel()
	}
}
