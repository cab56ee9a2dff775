package netstack

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"rocserv/netstack/shape"
	"rocserv/netstack/stacktest"
)

// limited has both directions of a rig keep a rate.
func limited(o rigOptions, rate uint64) (rigOptions, *Config) {
	kept := new(Config)
	o.config = func(c *Config) {
		c.Up, c.Down = shape.New(rate, tcpip.NewStdClock()), shape.New(rate, tcpip.NewStdClock())
		*kept = *c
	}
	return o, kept
}

// TestShapedBytes: whole transfers in turns of a quantum, of both kinds of
// streams; the limiters have booked what was moved.
func TestShapedBytes(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		const rate, flows, n = 4 << 20, 5, 300 << 10
		o, cfg := limited(o, rate)
		r := newRig(t, o)
		dst := port(families4and6[family], 7)
		r.network.Serve(dst, stacktest.Echo)
		begun := time.Now()
		var all sync.WaitGroup
		for i := range flows {
			all.Go(func() {
				if err := echo(r, dst.String(), uint64(i), n); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		// Not faster than the rate; how much slower is the machine's affair.
		if least := (flows*n - 256<<10) * time.Second / rate; time.Since(begun) < least {
			t.Errorf("%d bytes took %v, at the rate %v", flows*n, time.Since(begun), least)
		}
		for _, l := range []*shape.Limiter{cfg.Up, cfg.Down} {
			if !l.Wait(nil) {
				t.Error("a turn that nobody gives up")
			}
			l.Done(0)
		}
	})
}

// TestShapedClose: flows that wait for their turn are gone with the stack.
func TestShapedClose(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		o, cfg := limited(o, 1)
		r := newRig(t, o)
		dst := port(families4and6[family], 80)
		r.network.Serve(dst, stacktest.Source(1, 1<<20))
		cfg.Down.Admit(3 * 1400) // more than an hour
		for range 4 {
			r.dial(dst)
		}
		eventually(t, "four flows", func() bool { return r.stack.Flows() == 4 })
		r.stack.abortAll()
		// What is left, rig.close waits for.
	})
}

// TestShapedStall: a client that does not read, and a host that does not, keep
// nobody else from his turn.
func TestShapedStall(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		o, _ = limited(o, 8<<20)
		r := newRig(t, o)
		host := families4and6[family]
		source, sink, other := port(host, 80), port(host, 81), port(host, 7)
		r.network.Serve(source, stacktest.Source(1, 64<<20))
		hold := make(chan struct{})
		t.Cleanup(func() { close(hold) })
		r.network.Serve(sink, func(stacktest.Conn) { <-hold })
		r.network.Serve(other, stacktest.Echo)
		r.dial(source) // and never reads
		up := r.dial(sink)
		var sent counter
		go io.Copy(sent.writer(up), stacktest.Stream(2))
		sent.settled(t)
		if err := echo(r, other.String(), 3, 100<<10); err != nil {
			t.Error(err)
		}
	})
}

// TestShapedTurn: what a raw mover does with its turn.
func TestShapedTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := shape.New(100_000, tcpip.NewStdClock()) // 2000 bytes a turn
		tr := turn{limit: l}
		if !tr.needed() || !tr.wanted || !tr.wait(nil) || tr.needed() || tr.wanted {
			t.Fatal("the turn is not waited for once")
		}
		for i, want := range []struct {
			n, most int
			wanted  bool
		}{{1500, 1500, false}, {1500, 500, true}, {10, 0, true}} {
			if n := tr.most(want.n); n != want.most || tr.wanted != want.wanted {
				t.Errorf("%d: %d bytes may be moved, wanted %v", i, n, tr.wanted)
			}
			tr.moved(want.most)
		}
		tr.moved(-1)
		tr.end()
		tr.end()
		begun := time.Now()
		if !tr.wait(nil) || time.Since(begun) > 20*time.Millisecond {
			t.Errorf("waited %v for 2000 bytes", time.Since(begun))
		}
		tr.end()
		none := turn{}
		if none.needed() || !none.wait(nil) || none.most(1<<20) != 1<<20 || none.wanted {
			t.Error("no limit, and yet a turn")
		}
		none.end()
	})
}
