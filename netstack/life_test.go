package netstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"rocserv/netstack/stacktest"
)

// TestHalfCloseByClient: the host sees the client's FIN and can still answer.
func TestHalfCloseByClient(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		r := newRig(t, o)
		dst := port(families4and6[family], 80)
		r.network.Serve(dst, func(c stacktest.Conn) {
			request, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("host: %v", err)
			}
			c.Write(append([]byte("got "), request...))
			c.CloseWrite()
		})
		c := r.dial(dst)
		c.Write([]byte("request"))
		c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || string(got) != "got request" {
			t.Errorf("%q, %v", got, err)
		}
		c.Close()
		eventually(t, "TIME-WAIT or less", func() bool { n, _, closing := r.stack.table.sizes(); return n == closing })
	})
}

// TestHalfCloseByHost: the client sees the host's FIN and can still send.
func TestHalfCloseByHost(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		r := newRig(t, o)
		dst := port(families4and6[family], 80)
		host := make(chan string, 1)
		r.network.Serve(dst, func(c stacktest.Conn) {
			c.Write([]byte("hello"))
			c.CloseWrite()
			b, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("host: %v", err)
			}
			host <- string(b)
		})
		c := r.dial(dst)
		if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
		c.Write([]byte("late words"))
		c.CloseWrite()
		if got := <-host; got != "late words" {
			t.Errorf("host got %q", got)
		}
	})
}

// TestResetByHost: the client sees a RST, not a FIN.
func TestResetByHost(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		r := newRig(t, o)
		dst := port(families4and6[family], 80)
		r.network.Serve(dst, stacktest.Reset)
		c := r.dial(dst)
		c.Write([]byte("x"))
		if n, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read %d, %v; want a reset", n, err)
		}
		if c.State() != tcp.StateError {
			t.Errorf("client in state %v", c.State())
		}
		eventually(t, "nothing left", func() bool { return r.stack.Flows() == 0 })
	})
}

// TestResetByClient: the host sees a RST, in whatever state the flow is.
func TestResetByClient(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		for _, state := range []string{"established", "client closed", "host closed"} {
			t.Run(state, func(t *testing.T) {
				r := newRig(t, o)
				dst := port(families4and6[family], 80)
				hostErr, ready := make(chan error, 1), make(chan struct{})
				r.network.Serve(dst, func(c stacktest.Conn) {
					if state == "host closed" {
						c.CloseWrite()
					}
					_, err := c.Read(make([]byte, 1))
					if state == "client closed" {
						if err != io.EOF {
							t.Errorf("host: %v instead of FIN", err)
						}
						close(ready)
						for err = nil; err == nil; { // only writing tells
							_, err = c.Write([]byte("x"))
						}
					}
					hostErr <- err
				})
				c := r.dial(dst)
				switch state {
				case "client closed":
					c.CloseWrite()
					<-ready
				case "host closed":
					if _, err := c.Read(make([]byte, 1)); err != io.EOF {
						t.Errorf("client: %v instead of FIN", err)
					}
				}
				c.Reset()
				if err := <-hostErr; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
					t.Errorf("host saw %v, want a reset", err)
				}
				eventually(t, "nothing left", func() bool { return r.stack.Flows() == 0 })
			})
		}
	})
}

// TestSlowHostAfterTimeWait: what the client sent before its FIN reaches a host
// that reads only after the endpoint is long closed.
func TestSlowHostAfterTimeWait(t *testing.T) {
	for _, sockets := range []bool{false, true} {
		t.Run(fmt.Sprintf("sockets %v", sockets), func(t *testing.T) { testSlowHost(t, sockets) })
	}
}

func testSlowHost(t *testing.T, sockets bool) {
	clock := faketime.NewManualClock()
	r := newRig(t, rigOptions{clock: clock, sockets: sockets})
	dst := port(host4, 80)
	const n = 8 << 20 // more than sockets take of their own
	release, sum := make(chan struct{}), make(chan int64)
	r.network.Serve(dst, func(c stacktest.Conn) {
		c.CloseWrite()
		<-release
		m, _ := io.Copy(io.Discard, c)
		sum <- m
	})
	c := r.dial(dst)
	io.ReadAll(c)
	sent := make(chan int64)
	go func() {
		m, _ := io.Copy(c, io.LimitReader(stacktest.Stream(1), n))
		c.Close()
		sent <- m
	}()
	go func() {
		// Only as much as all buffers hold goes before the host reads.
		time.Sleep(50 * time.Millisecond)
		close(release)
	}()
	if want, got := <-sent, <-sum; got != want || want != n {
		t.Errorf("host got %d of %d bytes", got, want)
	}
	advance(clock, 2*timeWait, time.Second)
	eventually(t, "nothing left", func() bool { return r.stack.Flows() == 0 })
}

// TestDrainAfterTimeWait: TIME-WAIT ends while the host has not read yet.
func TestDrainAfterTimeWait(t *testing.T) {
	clock := faketime.NewManualClock()
	r := newRig(t, rigOptions{clock: clock})
	dst := port(host4, 80)
	const n = 3 * 64 << 10 // memory streams hold 64 KiB, the endpoint the rest
	release, sum := make(chan struct{}), make(chan int64)
	r.network.Serve(dst, func(c stacktest.Conn) {
		c.CloseWrite()
		<-release
		m, err := io.Copy(io.Discard, c)
		if err != nil {
			t.Errorf("host: %v", err)
		}
		sum <- m
	})
	c := r.dial(dst)
	io.ReadAll(c)
	if _, err := io.Copy(c, io.LimitReader(stacktest.Stream(1), n)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	f := r.flow()
	eventually(t, "TIME-WAIT", func() bool { return tcp.EndpointState(f.ep.State()) == tcp.StateTimeWait })
	clock.Advance(timeWait)
	eventually(t, "closed", func() bool { return tcp.EndpointState(f.ep.State()) == tcp.StateClose })
	close(release)
	if got := <-sum; got != n {
		t.Errorf("host got %d of %d bytes", got, n)
	}
	eventually(t, "nothing left", func() bool { return r.stack.Flows() == 0 })
}

// flow returns the only flow.
func (r *rig) flow() (f *flow) {
	eventually(r.t, "an open flow", func() bool {
		r.stack.table.each(func(g *flow) {
			if g.ep != nil {
				f = g
			}
		})
		return f != nil
	})
	return f
}

// TestHalfClosedIdle: a half-closed flow nobody uses ends; one in use does not.
func TestHalfClosedIdle(t *testing.T) {
	clock := faketime.NewManualClock()
	r := newRig(t, rigOptions{clock: clock})
	dst := port(host4, 80)
	say, hostErr := make(chan string), make(chan error, 1)
	r.network.Serve(dst, func(c stacktest.Conn) {
		io.Copy(io.Discard, c) // until the client's FIN
		for s := range say {
			if _, err := c.Write([]byte(s)); err != nil {
				hostErr <- err
				return
			}
		}
	})
	c := r.dial(dst)
	c.CloseWrite()
	f := r.flow()
	eventually(t, "half-closed", func() bool { return f.half.on.Load() })
	for range 3 {
		advance(clock, halfClosedIdle-10*time.Second, 10*time.Second)
		say <- "still here"
		if _, err := io.ReadFull(c, make([]byte, len("still here"))); err != nil {
			t.Fatal(err)
		}
	}
	advance(clock, halfClosedIdle+30*time.Second, 30*time.Second)
	eventually(t, "flow ended", func() bool { return r.stack.Flows() == 0 })
	if n := r.stack.Stats().TCP.HalfClosedIdle; n != 1 {
		t.Errorf("counted %d", n)
	}
	close(say)
}

// TestClientVanishes: whatever the client was doing, some minutes later
// nothing of it is left, and its host has been told.
func TestClientVanishes(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		for _, doing := range []string{"idle", "downloading", "uploading", "closing"} {
			t.Run(doing, func(t *testing.T) {
				clock := faketime.NewManualClock()
				o.clock = clock
				r := newRig(t, o)
				dst := port(families4and6[family], 80)
				hostDone := make(chan error, 1)
				r.network.Serve(dst, func(c stacktest.Conn) {
					var err error
					switch doing {
					case "downloading":
						_, err = io.Copy(c, stacktest.Stream(1))
					case "closing":
						_, err = io.Copy(io.Discard, c)
					default:
						for err == nil {
							_, err = c.Read(make([]byte, 4096))
						}
					}
					hostDone <- err
				})
				c := r.dial(dst)
				switch doing {
				case "downloading":
					io.ReadFull(c, make([]byte, 100<<10))
				case "uploading":
					c.Write(make([]byte, 100<<10))
				case "closing":
					r.flow()
				}
				r.client.Vanish(true)
				if doing == "closing" {
					// The host ends; the client never acknowledges our FIN.
					r.network.Close()
				}
				for minutes := 0; r.stack.Flows() > 0; minutes++ {
					if minutes > 12 {
						t.Fatalf("flow in state %v after %d minutes", tcp.EndpointState(r.flow().ep.State()), minutes)
					}
					advance(clock, time.Minute, 2*time.Second)
				}
				if err := <-hostDone; doing != "closing" && err == nil {
					t.Error("host was told that all is well")
				}
			})
		}
	})
}

// TestZeroWindow: a client that reads nothing for an hour keeps its flow.
func TestZeroWindow(t *testing.T) {
	clock := faketime.NewManualClock()
	r := newRig(t, rigOptions{clock: clock})
	dst := port(host4, 80)
	const n = 8 << 20
	sent := new(counter)
	r.network.Serve(dst, func(c stacktest.Conn) {
		io.Copy(sent.writer(c), io.LimitReader(stacktest.Stream(3), n))
		c.CloseWrite()
		io.Copy(io.Discard, c)
	})
	c := r.dial(dst)
	if sent.settled(t) == n {
		t.Fatal("not stalled")
	}
	advance(clock, time.Hour, 5*time.Second)
	read := make(chan int64)
	go func() { _, m, _ := stacktest.Checksum(c); read <- m }()
	for {
		select {
		case m := <-read:
			if m != n {
				t.Errorf("read %d of %d bytes", m, n)
			}
			return
		default:
			advance(clock, time.Second, 100*time.Millisecond) // the next window probe
		}
	}
}

// TestSlowReaders: neither half buffers without bound for the other.
func TestSlowReaders(t *testing.T) {
	const bound = 4 << 20
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		o.limits.Buffers = 2 << 20
		t.Run("client", func(t *testing.T) {
			r := newRig(t, o)
			dst := port(families4and6[family], 80)
			sent := new(counter)
			r.network.Serve(dst, func(c stacktest.Conn) { io.Copy(sent.writer(c), stacktest.Stream(1)) })
			r.dial(dst)
			if n := sent.settled(t); n > bound+socketBuffers(o) {
				t.Errorf("%d bytes taken from the host", n)
			}
		})
		t.Run("host", func(t *testing.T) {
			r := newRig(t, o)
			dst := port(families4and6[family], 80)
			release := make(chan struct{})
			defer close(release)
			r.network.Serve(dst, stacktest.Silent(release))
			c := r.dial(dst)
			sent := new(counter)
			go io.Copy(sent.writer(c), stacktest.Stream(1))
			if n := sent.settled(t); n > bound+socketBuffers(o) {
				t.Errorf("%d bytes taken from the client", n)
			}
		})
	})
}

// socketBuffers is what the kernel may hold between our socket and the host's.
func socketBuffers(o rigOptions) int64 {
	if o.sockets {
		return 16 << 20
	}
	return 0
}

// TestClose: the stack can be closed whatever is going on.
func TestClose(t *testing.T) {
	dst, dst6 := port(host4, 80), port(host6, 80)
	background := func(r *rig, dst netip.AddrPort) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { r.client.DialTCP(ctx, dst); close(done) }()
		r.t.Cleanup(func() { cancel(); <-done })
	}
	stages := map[string]func(r *rig){
		"idle": func(r *rig) {},
		"dialing": func(r *rig) {
			r.network.BlackHole(dst)
			background(r, dst)
			eventually(r.t, "dialling", func() bool { _, n := r.network.Dials(); return n == 1 })
		},
		"handshake": func(r *rig) {
			r.network.Serve(dst, stacktest.Discard)
			r.client.Sink().Pause(true)
			background(r, dst)
			eventually(r.t, "handshake", func() bool { return r.stack.Stats().TCP.SegmentsSent > 0 })
		},
		"open": func(r *rig) {
			r.network.Serve(dst, stacktest.Discard)
			r.dial(dst)
		},
		"downloading": func(r *rig) {
			r.network.Serve(dst6, stacktest.Source(1, 1<<40))
			c := r.dial(dst6)
			io.ReadFull(c, make([]byte, 1<<20))
		},
		"uploading": func(r *rig) {
			r.network.Serve(dst6, stacktest.Discard)
			c := r.dial(dst6)
			c.Write(make([]byte, 1<<20))
			go io.Copy(c, stacktest.Stream(1))
		},
		"half-closed": func(r *rig) {
			release := make(chan struct{})
			r.t.Cleanup(func() { close(release) })
			r.network.Serve(dst, func(c stacktest.Conn) { io.Copy(io.Discard, c); <-release })
			c := r.dial(dst)
			c.CloseWrite()
			f := r.flow()
			eventually(r.t, "half-closed", func() bool { return f.half.on.Load() })
		},
		"TIME-WAIT": func(r *rig) {
			r.network.Serve(dst, func(c stacktest.Conn) { c.CloseWrite(); io.Copy(io.Discard, c) })
			c := r.dial(dst)
			io.ReadAll(c)
			c.Close()
			eventually(r.t, "closing", func() bool { return r.stack.Stats().Closing == 1 })
		},
		"writers wait for the tunnel": func(r *rig) {
			r.client.Sink().Pause(true)
			r.network.Serve(dst, stacktest.Source(1, 1<<40))
			r.client.Sink().Pause(false)
			conns := []*stacktest.TCPConn{r.dial(dst), r.dial(dst), r.dial(dst)}
			io.ReadFull(conns[0], make([]byte, 1<<20))
			r.client.Sink().Pause(true)
			go io.Copy(io.Discard, conns[1])
			time.Sleep(20 * time.Millisecond) // until some wait; which does not matter
		},
		"client slow": func(r *rig) {
			sent := new(counter)
			r.network.Serve(dst, func(c stacktest.Conn) { io.Copy(sent.writer(c), stacktest.Stream(1)) })
			r.dial(dst)
			sent.settled(r.t)
		},
	}
	for name, stage := range stages {
		for _, sockets := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				r := newRig(t, rigOptions{sockets: sockets}) // its clean-up closes and looks for what is left
				stage(r)
			})
		}
	}
}

// TestIdleStack: without traffic there is nothing but gVisor's processors.
func TestIdleStack(t *testing.T) {
	before := runtime.NumGoroutine()
	sink := stacktest.NewSink(1<<20, func([][]byte) {})
	defer sink.Close()
	s, err := New(Config{Addrs: []netip.Addr{lease4, lease6}, MTU: testMTU, Sink: sink, Net: stacktest.NewNetwork()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n := runtime.NumGoroutine() - before - 2; n > runtime.GOMAXPROCS(0) { // two are the test doubles'
		t.Errorf("%d goroutines", n)
	}
	if n, _ := sink.Counts(); n != 0 {
		t.Errorf("%d packets out of nothing", n)
	}
}

// TestResetWhileBlocked: a reset gets through to a flow that waits for the
// other side.
func TestResetWhileBlocked(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		dst := port(families4and6[family], 80)
		t.Run("up, by client", func(t *testing.T) {
			r := newRig(t, o)
			release, hostErr := make(chan struct{}), make(chan error, 1)
			r.network.Serve(dst, func(c stacktest.Conn) {
				<-release
				_, err := io.Copy(io.Discard, c)
				hostErr <- err
			})
			c := r.dial(dst)
			sent := new(counter)
			go io.Copy(sent.writer(c), stacktest.Stream(1))
			sent.settled(t)
			c.Reset()
			eventually(t, "nothing left", func() bool { return r.stack.Flows() == 0 })
			close(release)
			if err := <-hostErr; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("host saw %v, want a reset", err)
			}
		})
		t.Run("down, by host", func(t *testing.T) {
			r := newRig(t, o)
			sent, reset := new(counter), make(chan struct{})
			r.network.Serve(dst, func(c stacktest.Conn) {
				go func() {
					<-reset
					c.SetLinger(0)
					c.Close()
				}()
				io.Copy(sent.writer(c), stacktest.Stream(1))
			})
			c := r.dial(dst)
			sent.settled(t)
			close(reset)
			// What waits for the client is read first; the reset is behind it, as it
			// is in a kernel's buffers.
			_, err := io.Copy(io.Discard, c)
			if err == nil {
				t.Error("client saw FIN, want a reset")
			}
			eventually(t, "nothing left", func() bool { return r.stack.Flows() == 0 })
		})
		t.Run("down, by client", func(t *testing.T) {
			r := newRig(t, o)
			sent, hostErr := new(counter), make(chan error, 1)
			r.network.Serve(dst, func(c stacktest.Conn) {
				_, err := io.Copy(sent.writer(c), stacktest.Stream(1))
				hostErr <- err
			})
			c := r.dial(dst)
			sent.settled(t)
			c.Reset()
			if err := <-hostErr; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("host saw %v, want a reset", err)
			}
			eventually(t, "nothing left", func() bool { return r.stack.Flows() == 0 })
		})
	})
}

// TestCloseWhileInjecting: the reader of the tunnel may still be at work.
func TestCloseWhileInjecting(t *testing.T) {
	for range 50 {
		network := stacktest.NewNetwork()
		network.Serve(port(host4, 80), stacktest.Echo)
		sink := new(lastSink)
		s, err := New(Config{Addrs: []netip.Addr{lease4}, MTU: testMTU, Sink: sink, Net: network})
		if err != nil {
			t.Fatal(err)
		}
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := uint16(0); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				last := sink.take()
				if !last.dst.IsValid() {
					last.dst = port(lease4, 0)
				}
				s.Inject([][]byte{
					segment{src: port(lease4, i%16), dst: port(host4, 80), seq: 100, flags: syn, window: 1000}.packet(),
					segment{src: last.dst, dst: port(host4, 80), seq: 101, ack: last.seq + 1, flags: ack, window: 1000, payload: []byte("x")}.packet(),
				})
			}
		}()
		eventually(t, "traffic", func() bool { return s.Stats().Dial.Opened > 2 })
		s.Close()
		close(stop)
		<-done
		network.Close()
		if n := s.Flows(); n != 0 {
			t.Fatalf("%d flows left", n)
		}
	}
	eventually(t, "all goroutines end", func() bool { return ownGoroutines() == "" })
}
