package datagram

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
)

// bin is a packet.Sink that has one buffer and keeps nothing.
type bin struct {
	mu      sync.Mutex
	buf     [packet.MaxPacket]byte
	packets int
}

func (b *bin) Begin()            { b.mu.Lock() }
func (b *bin) Next(n int) []byte { return b.buf[:n] }
func (b *bin) Add(int)           { b.packets++ }
func (b *bin) End()              { b.mu.Unlock() }

// steady is a relay with a flow that has sent and received, and batches for it.
type steady struct {
	*rig
	heads []packet.Header
	pkts  [][]byte
	in    []egress.Message
	sock  *fakeSock
}

func newSteady(t testing.TB, to netip.AddrPort, batch, size int) *steady {
	s := &steady{rig: newRig(t, func(c *Config) { c.Sink = new(bin) })}
	for range batch {
		b := udp(5000, to, strings.Repeat("x", size))
		h, _ := packet.Parse(b)
		s.heads, s.pkts = append(s.heads, h), append(s.pkts, b)
		s.in = append(s.in, msg(to, strings.Repeat("y", size)))
	}
	s.up()
	s.sock = s.net.sock(t, 0)
	s.sock.quiet = true
	return s
}

func (s *steady) up() {
	for i, b := range s.pkts {
		s.Inject(s.heads[i], b)
	}
	s.Flush()
}

func (s *steady) down() { s.sock.r.Receive(s.in) }

func TestSteadyPathDoesNotAllocate(t *testing.T) {
	for _, to := range []netip.AddrPort{web4, web6, dns4} {
		s := newSteady(t, to, 40, 1300)
		s.down()
		if n := testing.AllocsPerRun(100, s.up); n != 0 {
			t.Errorf("%v: %v allocations up", to, n)
		}
		if n := testing.AllocsPerRun(100, s.down); n != 0 {
			t.Errorf("%v: %v allocations down", to, n)
		}
		s.SetMTU(600)
		if n := testing.AllocsPerRun(100, s.down); n != 0 {
			t.Errorf("%v: %v allocations for fragments", to, n)
		}
		if n := testing.AllocsPerRun(100, func() { s.Tick(epoch); s.Stats() }); n != 0 {
			t.Errorf("%v: %v allocations in a Tick", to, n)
		}
	}
	g := newRig(t, func(c *Config) { c.Sink = new(bin) })
	b := ping(1, 1, web4.Addr(), "data")
	h, _ := packet.Parse(b)
	g.Inject(h, b)
	g.Flush()
	g.net.sock(t, 0).quiet = true
	in := []egress.Message{kernelReply(web4.Addr(), 1, "data")}
	if n := testing.AllocsPerRun(100, func() {
		g.Inject(h, b)
		g.Flush()
		g.net.sock(t, 0).r.Receive(in)
	}); n != 0 {
		t.Errorf("%v allocations for a ping", n)
	}
}

// An idle mapping costs less than 2 KiB beside its socket.
func TestIdleFlowIsSmall(t *testing.T) {
	const flows = 500
	g := newRig(t, func(c *Config) { c.Sink = new(bin) })
	payload := strings.Repeat("x", 1300)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for port := range uint16(flows) {
		b := udp(5000+port, web4, payload)
		h, _ := packet.Parse(b)
		g.Inject(h, b)
		g.Flush()
		s := g.net.sock(t, int(port))
		s.sent = nil
		s.r.Receive([]egress.Message{msg(web4, payload)})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	cost := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / flows
	t.Logf("%d bytes for an idle flow, the test's own socket included", cost)
	if g.Stats().NAT.UDP != flows || cost > 2048 {
		t.Errorf("%d flows, %d bytes each", g.Stats().NAT.UDP, cost)
	}
	runtime.KeepAlive(g)
}

// Everything at once; the race detector is the judge, and that all sockets are
// closed exactly once.
func TestConcurrently(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	g := newRig(t, func(c *Config) { c.Sink = new(bin); c.Limits.UDP = 20; c.Limits.Echo = 5; c.Limits.NewPerSecond = 1e6 })
	g.net.denied = func(_ egress.Proto, dst netip.AddrPort) error {
		if dst == evil4 {
			return egress.ErrProhibited
		}
		return nil
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	var rounds [3]atomic.Int64 // of each of the others
	loop := func(i int, f func(r *rand.Rand)) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, 2))
			for !stop.Load() {
				f(r)
				rounds[i].Add(1)
				runtime.Gosched()
			}
		})
	}
	loop(0, func(r *rand.Rand) { // the network
		g.net.mu.Lock()
		var s *fakeSock
		if n := len(g.net.socks); n > 0 {
			s = g.net.socks[max(0, n-1-r.IntN(30))]
		}
		g.net.mu.Unlock()
		if s != nil {
			s.r.Receive([]egress.Message{msg(web4, "x"), msg(dns4, "y"), msg(evil4, "z"), kernelReply(web4.Addr(), 1, "")})
		}
	})
	loop(1, func(r *rand.Rand) { g.Tick(g.clock.advance(time.Duration(r.IntN(40)) * time.Second)) })
	loop(2, func(r *rand.Rand) { g.Stats(); g.SetMTU(600 + r.IntN(800)) })
	for i := range 500 { // the client, which does not run ahead of the others
		for j := range rounds {
			for rounds[j].Load() < int64(i) {
				runtime.Gosched()
			}
		}
		var pkts [][]byte
		for j := range 1 + i%5 {
			port := uint16(5000 + (i*7+j)%60)
			pkts = append(pkts, udp(port, []netip.AddrPort{web4, dns4, web6, evil4}[(i+j)%4], "up"))
		}
		pkts = append(pkts, ping(uint16(i%9), 1, web4.Addr(), ""), withTTL(udp(5000, web4, "x"), 1))
		g.inject(pkts...)
		if i == 400 {
			wg.Go(g.Close)
		}
	}
	stop.Store(true)
	wg.Wait()
	g.Close()
	for i := range g.net.opened() {
		if n := g.net.sock(t, i).closed; n != 1 {
			t.Fatalf("socket %d was closed %d times", i, n)
		}
	}
	if st := g.Stats(); st.Up.Packets == 0 || st.Down.Packets == 0 || st.NAT.Evicted == 0 || st.NAT.Expired == 0 || st.Prohibited == 0 {
		t.Errorf("the test misses something: %+v", st)
	}
	for runtime.NumGoroutine() > goroutines { // one may still say answers
		runtime.Gosched()
	}
}

func FuzzInject(f *testing.F) {
	f.Add(udp(5000, web4, "payload"))
	f.Add(udp(5000, web6, "payload"))
	f.Add(ping(1, 1, web4.Addr(), "payload"))
	f.Add(ping(1, 1, web6.Addr(), "payload"))
	f.Add(withTTL(udp(5353, dns4, ""), 1))
	f.Add(withTTL(udp(5000, evil4, "x"), 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := packet.Parse(b)
		if !ok {
			return
		}
		g := newRig(t, nil)
		g.net.denied = func(_ egress.Proto, dst netip.AddrPort) error {
			if dst.Addr() == evil4.Addr() {
				return egress.ErrProhibited
			}
			return nil
		}
		g.Inject(h, b)
		g.Inject(h, b)
		g.Flush()
		st := g.Stats()
		if n := st.Up.Packets + st.Malformed + st.Checksum + st.Unsupported + st.Multicast + st.Hops + st.Prohibited; n != 2 {
			t.Fatalf("%d of 2 packets accounted for: %+v", n, st)
		}
		if st.Answered > 2 || st.Answered > 0 && st.Up.Packets > 0 {
			t.Fatalf("answers to what was sent: %+v", st)
		}
		if st.Answered > 0 {
			g.sink.wait()
			for _, p := range g.sink.packets() {
				if r, ok := packet.Parse(p); !ok || r.Dst != h.Src || !r.IsICMP() {
					t.Fatalf("answer % x", p)
				}
			}
		}
		if st.Up.Packets == 0 {
			return
		}
		s := g.net.sock(t, 0)
		to := s.sent[0][0].Addr
		if to.Addr() != h.Dst || len(s.sent) != 1 || len(s.sent[0]) != 2 {
			t.Fatalf("%+v sent %v", h, s.sent)
		}
		s.receive(egress.Message{Addr: to, Payload: echoMessage(h.V6(), 0, 129, 9, 9, "")})
		if got := g.sink.packets(); len(got) != 1 {
			t.Fatalf("%d packets back", len(got))
		} else if r, ok := packet.Parse(got[0]); !ok || r.Dst != h.Src || r.Src != h.Dst {
			t.Fatalf("back came % x", got[0])
		}
	})
}

func BenchmarkUp(b *testing.B)   { benchmark(b, (*steady).up) }
func BenchmarkDown(b *testing.B) { benchmark(b, (*steady).down) }

// benchmark is one packet, in batches of 32, without the system calls.
func benchmark(b *testing.B, f func(*steady)) {
	const batch = 32
	for _, to := range []netip.AddrPort{web4, web6} {
		for _, size := range []int{64, 1300} {
			name := fmt.Sprintf("v6=%v/%dB", to.Addr().Is6(), size)
			b.Run(name, func(b *testing.B) {
				s := newSteady(b, to, batch, size)
				b.SetBytes(int64(size * batch))
				b.ReportAllocs()
				for b.Loop() {
					f(s)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/packet")
			})
		}
	}
}
