package netstack

import (
	"bytes"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"rocserv/internal/packet"
	"rocserv/netstack/stacktest"
)

// bare is a stack without a client: tests write and read packets.
type bare struct {
	t       *testing.T
	clock   *faketime.ManualClock
	network *stacktest.Network
	sink    *stacktest.Sink
	stack   *Stack

	mu   sync.Mutex
	down [][]byte
}

func newBare(t *testing.T, limits Limits, config func(*Config)) *bare {
	t.Helper()
	b := &bare{t: t, clock: faketime.NewManualClock(), network: stacktest.NewNetwork()}
	b.sink = stacktest.NewSink(1<<20, func(pkts [][]byte) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.down = append(b.down, pkts...)
	})
	cfg := Config{
		Addrs: []netip.Addr{lease4, lease6}, Gateway4: gateway4, Gateway6: gateway6,
		MTU: testMTU, Sink: b.sink, Net: b.network, Limits: limits, Clock: b.clock,
	}
	if config != nil {
		config(&cfg)
	}
	var err error
	if b.stack, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.sink.Close()
		b.stack.Close()
		b.network.Close()
		eventually(t, "all goroutines end", func() bool { return ownGoroutines() == "" })
	})
	return b
}

func (b *bare) inject(segs ...segment) {
	var pkts [][]byte
	for _, s := range segs {
		pkts = append(pkts, s.packet())
	}
	b.stack.Inject(pkts)
	for _, p := range pkts {
		clear(p) // the slices are ours again
	}
}

// next returns the oldest packet that came down, with its header.
func (b *bare) next() (h packet.Header, p []byte) {
	b.t.Helper()
	eventually(b.t, "a packet", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.down) == 0 {
			return false
		}
		p, b.down = b.down[0], b.down[1:]
		return true
	})
	h, ok := packet.Parse(p)
	if !ok {
		b.t.Fatalf("garbage came down: %x", p)
	}
	return h, p
}

// silent says that nothing has come down, once everything injected has been
// dealt with: a segment that must be answered is.
func (b *bare) silent() {
	b.t.Helper()
	b.inject(segment{src: port(lease4, 9), dst: port(host4, 9), seq: 1, ack: 77, flags: ack})
	h, p := b.next()
	if s := parseSegment(h, p); s.dst.Port() != 9 {
		b.t.Errorf("something was said: %v %+v", h, s)
	}
}

func parseSegment(h packet.Header, p []byte) segment {
	if h.Proto != packet.TCP {
		return segment{}
	}
	t := header.TCP(h.Payload(p))
	off := int(t.DataOffset())
	return segment{
		src: port(h.Src, t.SourcePort()), dst: port(h.Dst, t.DestinationPort()),
		seq: t.SequenceNumber(), ack: t.AckNumber(), flags: t.Flags(), window: t.WindowSize(),
		options: t[header.TCPMinimumSize:off], payload: t[off:],
	}
}

func (b *bare) nextSegment() segment {
	b.t.Helper()
	h, p := b.next()
	if h.Proto != packet.TCP {
		b.t.Fatalf("got %v instead of TCP: %x", h, p)
	}
	if packet.TransportSum(&h, p) != 0xffff || !packet.HeaderSumOK(p) {
		b.t.Errorf("wrong checksum: %x", p)
	}
	return parseSegment(h, p)
}

// pairs are a client's and a host's address of each family.
var pairs = map[string][2]netip.Addr{"v4": {lease4, host4}, "v6": {lease6, host6}}

// TestUnknownSegments: RFC 9293 section 3.10.7.1.
func TestUnknownSegments(t *testing.T) {
	for family, a := range pairs {
		t.Run(family, func(t *testing.T) {
			b := newBare(t, Limits{}, nil)
			src, dst := port(a[0], 1000), port(a[1], 80)
			b.inject(segment{src: src, dst: dst, seq: 5, ack: 77, flags: ack, payload: []byte("hello")})
			if s := b.nextSegment(); s.flags != rst || s.seq != 77 || s.src != dst || s.dst != src {
				t.Errorf("answer to a segment: %+v", s)
			}
			b.inject(segment{src: src, dst: dst, seq: 5, flags: fin, payload: []byte("hello")})
			if s := b.nextSegment(); s.flags != rst|ack || s.ack != 5+5+1 {
				t.Errorf("answer to a segment without ACK: %+v", s)
			}
			b.inject(segment{src: src, dst: dst, seq: 5, ack: 8, flags: syn | ack})
			if s := b.nextSegment(); s.flags != rst || s.seq != 8 {
				t.Errorf("answer to SYN-ACK: %+v", s)
			}
			b.inject(
				segment{src: src, dst: dst, seq: 5, ack: 8, flags: rst},
				segment{src: src, dst: dst, seq: 5, flags: syn | fin},
				segment{src: src, dst: dst, seq: 5, flags: syn | rst},
				segment{src: port(lease6, 1000), dst: mustAddrPort("[::ffff:192.0.2.1]:80"), seq: 5, flags: syn},
			)
			b.silent()
			if n := b.stack.Stats().Flows; n != 0 {
				t.Errorf("%d flows", n)
			}
		})
	}
}

// TestRouterAnswers: we are one hop, and only TCP, UDP and ICMP go further.
func TestRouterAnswers(t *testing.T) {
	for family, a := range pairs {
		t.Run(family, func(t *testing.T) {
			b := newBare(t, Limits{}, nil)
			src, dst := port(a[0], 1000), port(a[1], 80)
			want := map[string][2][2]byte{"v4": {{11, 0}, {3, 2}}, "v6": {{3, 0}, {4, 1}}}[family]
			gateway := map[string]netip.Addr{"v4": gateway4, "v6": gateway6}[family]

			b.inject(segment{src: src, dst: dst, flags: syn, ttl: 1})
			h, p := b.next()
			if m := h.Payload(p); !h.IsICMP() || h.Src != gateway || [2]byte(m) != want[0] {
				t.Errorf("hop limit 1: %v %x", h, p)
			}
			other := segment{src: src, dst: dst, flags: syn}.packet()
			if family == "v4" {
				other[9] = 47
			} else {
				other[6] = 47
			}
			b.stack.Inject([][]byte{other})
			h, p = b.next()
			m := h.Payload(p)
			if !h.IsICMP() || h.Src != gateway || [2]byte(m) != want[1] {
				t.Errorf("GRE: %v %x", h, p)
			}
			if !bytes.HasPrefix(m[8:], other) {
				t.Errorf("quotes %x of %x", m[8:], other)
			}
		})
	}
}

// TestInjectDoesNotWait: with the tunnel stuck, Inject says what there is room
// for and goes on.
func TestInjectDoesNotWait(t *testing.T) {
	b := newBare(t, Limits{}, nil)
	b.network.Prohibit(netip.MustParsePrefix("203.0.113.0/24"))
	dst := mustAddrPort("192.0.2.1:80")
	b.network.Serve(dst, stacktest.Source(1, 1<<30))
	s := b.connect(1, dst)
	b.sink.Pause(true)
	b.sink.Begin()                    // and even hold the Sink
	for seq := s.seq; ; seq += 1000 { // until somebody waits, with the endpoint's lock
		b.inject(segment{src: s.dst, dst: dst, seq: 101, ack: seq, flags: ack, window: 60000, payload: []byte("x")})
		if !b.stack.link.writer.TryLock() {
			break
		}
		b.stack.link.writer.Unlock()
	}
	b.inject(segment{src: s.dst, dst: dst, seq: 102, ack: s.seq + 1, flags: ack, window: 60000, payload: []byte("x")})
	for i := range uint16(2000) {
		b.inject(
			segment{src: port(lease4, i), dst: port(host4, 80), ack: 1, flags: ack},
			segment{src: port(lease4, i), dst: mustAddrPort("203.0.113.1:80"), flags: syn},
		)
	}
	b.sink.End()
	b.sink.Pause(false)
	if n := b.stack.Stats().Packet.AnswersLost; n < 2000 {
		t.Errorf("%d answers lost", n)
	}
	eventually(t, "the rest is said", func() bool { n, _ := b.sink.Counts(); return n >= answerSlots })
}

// TestICMPRate: errors are said at a bounded rate.
func TestICMPRate(t *testing.T) {
	b := newBare(t, Limits{}, nil)
	said := func() (n int) {
		for b.stack.answers.allowICMP() {
			n++
		}
		return n
	}
	if n := said(); n != icmpBurst {
		t.Errorf("%d at once", n)
	}
	b.clock.Advance(time.Second * 10 / icmpRate)
	if n := said(); n != 10 {
		t.Errorf("%d after the time of ten", n)
	}
	b.clock.Advance(time.Hour)
	if n := said(); n != icmpBurst {
		t.Errorf("%d after an hour", n)
	}
}

func synTo(i int) segment {
	dst := netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})
	return segment{src: port(lease4, uint16(1024+i%50000)), dst: port(dst, 80), seq: uint32(i), flags: syn, window: 1000}
}

// TestSYNFlood: ten thousand SYNs to silent hosts cost as much as the limit
// allows, and keep others waiting no longer than a dial's grace.
func TestSYNFlood(t *testing.T) {
	limits := Limits{Dials: 64}
	t.Run("one host", func(t *testing.T) {
		b := newBare(t, limits, nil)
		dead, good := mustAddrPort("192.0.2.1:80"), mustAddrPort("192.0.2.2:80")
		b.network.BlackHole(dead)
		b.network.Serve(good, stacktest.Discard)
		for i := range 10000 {
			b.inject(segment{src: port(lease4, uint16(i)), dst: dead, flags: syn})
		}
		if _, dials, _ := b.stack.table.sizes(); dials != limits.Dials/2 {
			t.Errorf("%d dials to one host", dials)
		}
		b.inject(segment{src: port(lease4, 7), dst: good, flags: syn, window: 1000})
		if s := b.nextSegment(); s.flags != syn|ack || s.src != good {
			t.Errorf("other host: %+v", s)
		}
	})
	t.Run("many hosts", func(t *testing.T) {
		b := newBare(t, limits, nil)
		for i := range 10000 {
			b.network.BlackHole(synTo(i).dst)
		}
		good := mustAddrPort("198.51.100.1:80")
		b.network.Serve(good, stacktest.Discard)
		before := memory()
		for i := range 10000 {
			b.inject(synTo(i))
		}
		if n := b.stack.Stats(); n.Dialing != limits.Dials || n.Dial.AtLimitDials != 10000-uint64(limits.Dials) {
			t.Errorf("%d dials, %d refused", n.Dialing, n.Dial.AtLimitDials)
		}
		if got := memory() - before; got > 4<<20 {
			t.Errorf("%d bytes of memory more", got)
		}
		request := segment{src: port(lease4, 7), dst: good, flags: syn, window: 1000}
		b.inject(request)
		b.clock.Advance(dialGrace)
		b.inject(request) // the client repeats it
		if s := b.nextSegment(); s.flags != syn|ack || s.src != good {
			t.Errorf("after the grace: %+v", s)
		}
		b.clock.Advance(patience)
		eventually(t, "the flood is forgotten", func() bool { return b.stack.Stats().Dialing <= 1 })
	})
}

// memory is what the heap and stacks hold, after a collection.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// TestLimitFlows: no more than so many connections, until one ends.
func TestLimitFlows(t *testing.T) {
	b := newBare(t, Limits{Flows: 2}, nil)
	dst := mustAddrPort("192.0.2.1:80")
	b.network.Serve(dst, stacktest.Discard)
	conns := []segment{b.connect(1, dst), b.connect(2, dst)}
	b.inject(segment{src: port(lease4, 3), dst: dst, flags: syn})
	b.silent()
	if n := b.stack.Stats().Dial.AtLimitFlows; n != 1 {
		t.Errorf("%d SYNs dropped", n)
	}
	c := conns[0]
	b.inject(segment{src: c.dst, dst: dst, seq: 101, ack: c.seq + 1, flags: rst})
	eventually(t, "the flow is gone", func() bool { return b.stack.Flows() == 1 })
	b.connect(3, dst)
}

// connect shakes hands from a port of the client and returns the SYN-ACK. The
// client's next sequence number is 101.
func (b *bare) connect(from uint16, dst netip.AddrPort) segment {
	b.t.Helper()
	src := port(lease4, from)
	b.inject(segment{src: src, dst: dst, seq: 100, flags: syn, window: 1000})
	s := b.nextSegment()
	if s.flags != syn|ack || s.ack != 101 || s.dst != src {
		b.t.Fatalf("instead of SYN-ACK: %+v", s)
	}
	before := b.stack.Stats().Dial.Opened
	b.inject(segment{src: src, dst: dst, seq: 101, ack: s.seq + 1, flags: ack, window: 1000})
	eventually(b.t, "open", func() bool { return b.stack.Stats().Dial.Opened == before+1 })
	return s
}

// TestClosingLimit: endpoints in TIME-WAIT do not count as flows, and the
// oldest gives way.
func TestClosingLimit(t *testing.T) {
	b := newBare(t, Limits{Flows: 2}, nil)
	dst := mustAddrPort("192.0.2.1:80")
	b.network.Serve(dst, func(c stacktest.Conn) { c.CloseWrite(); c.Read(make([]byte, 1)) })
	for i := range uint16(6) {
		s := b.connect(1+i, dst)
		if f := b.nextSegment(); f.flags&fin == 0 {
			t.Fatalf("instead of FIN: %+v", f)
		}
		b.inject(segment{src: s.dst, dst: dst, seq: 101, ack: s.seq + 2, flags: fin | ack, window: 1000})
		eventually(t, "ACK of FIN", func() bool { n := b.nextSegment(); return n.flags == ack && n.ack == 102 })
		eventually(t, "closing", func() bool { n := b.stack.Stats(); return n.Flows == n.Closing && n.Closing == min(int(i)+1, 2) })
		b.drain()
	}
	b.clock.Advance(timeWait)
	eventually(t, "TIME-WAIT over", func() bool { return b.stack.Flows() == 0 })
}

// drain forgets what has come down.
func (b *bare) drain() {
	time.Sleep(time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = nil
}

// TestPortReuse: a SYN for a flow in TIME-WAIT opens a new one.
func TestPortReuse(t *testing.T) {
	b := newBare(t, Limits{}, nil)
	dst := mustAddrPort("192.0.2.1:80")
	b.network.Serve(dst, func(c stacktest.Conn) { c.CloseWrite(); c.Read(make([]byte, 1)) })
	s := b.connect(1, dst)
	b.nextSegment() // FIN
	b.inject(segment{src: s.dst, dst: dst, seq: 101, ack: s.seq + 2, flags: fin | ack, window: 1000})
	b.nextSegment() // ACK
	eventually(t, "TIME-WAIT", func() bool { return b.stack.Stats().Closing == 1 })
	again := segment{src: s.dst, dst: dst, seq: 5000, flags: syn, window: 1000}
	b.inject(again)
	eventually(t, "TIME-WAIT cut short", func() bool { return b.stack.Flows() == 0 })
	b.drain()
	b.inject(again)
	if s := b.nextSegment(); s.flags != syn|ack || s.ack != 5001 {
		t.Errorf("instead of SYN-ACK: %+v", s)
	}
}

// TestResetWhileDialing: the client's RST ends the dial; a SYN with another
// sequence number does too, and the next one begins anew.
func TestResetWhileDialing(t *testing.T) {
	b := newBare(t, Limits{}, nil)
	dst := mustAddrPort("192.0.2.1:80")
	b.network.BlackHole(dst)
	request := segment{src: port(lease4, 1), dst: dst, seq: 100, flags: syn}
	dialling := func(total int) func() bool {
		return func() bool { n, now := b.network.Dials(); return n == total && now == 1 }
	}
	b.inject(request)
	eventually(t, "dialling", dialling(1))
	b.inject(segment{src: request.src, dst: dst, seq: 101, flags: rst})
	eventually(t, "given up", func() bool { return b.stack.Flows() == 0 })
	b.inject(request)
	eventually(t, "dialling again", dialling(2))
	request.seq = 9000
	b.inject(request)
	eventually(t, "given up again", func() bool { return b.stack.Flows() == 0 })
	b.inject(request)
	eventually(t, "the new attempt", dialling(3))
	if n := b.stack.Stats().Dial.GivenUp; n != 2 {
		t.Errorf("%d given up", n)
	}
}

// TestKeepalive: an idle flow is probed, and a silent client's is ended.
func TestKeepalive(t *testing.T) {
	b := newBare(t, Limits{}, nil)
	dst := mustAddrPort("192.0.2.1:80")
	b.network.Serve(dst, stacktest.Discard)
	s := b.connect(1, dst)
	b.clock.Advance(keepaliveIdle)
	if p := b.nextSegment(); p.flags != ack || p.seq != s.seq { // one before what is expected
		t.Errorf("instead of a probe: %+v", p)
	}
	b.inject(segment{src: s.dst, dst: dst, seq: 101, ack: s.seq + 1, flags: ack, window: 1000})
	b.clock.Advance(keepaliveIdle - time.Second)
	if b.stack.Flows() != 1 {
		t.Fatal("flow ended although the client answered")
	}
	for probes := 0; b.stack.Flows() > 0; probes++ {
		if probes > 20 {
			t.Fatal("flow did not end")
		}
		advance(b.clock, keepaliveInterval, keepaliveInterval)
	}
	if n := b.stack.Stats().TCP.FlowsTimedOut; n != 1 {
		t.Errorf("counted %d", n)
	}
}

// TestCongestionControl: every flow has Reno, whose window is recovery's affair.
func TestCongestionControl(t *testing.T) {
	b := newBare(t, Limits{}, func(c *Config) { c.Lossless = true })
	dst := mustAddrPort("192.0.2.1:80")
	b.network.Serve(dst, stacktest.Discard)
	for p := range uint16(3) {
		b.stack.SetLossless(p == 1)
		b.connect(p+1, dst)
	}
	flows := b.stack.established()
	if len(flows) != 3 {
		t.Fatalf("%d flows", len(flows))
	}
	for _, f := range flows {
		var cc tcpip.CongestionControlOption
		f.ep.GetSockOpt(&cc)
		if cc != "reno" {
			t.Errorf("flow %d has %q", f.Src.Port(), cc)
		}
	}
}

// TestClientMSS: eight byte segments are not made.
func TestClientMSS(t *testing.T) {
	b := newBare(t, Limits{}, nil)
	dst := mustAddrPort("192.0.2.1:80")
	b.network.Serve(dst, stacktest.Source(1, 4000))
	src := port(lease4, 1)
	b.inject(segment{src: src, dst: dst, seq: 100, flags: syn, window: 60000, options: []byte{2, 4, 0, 1}})
	s := b.nextSegment()
	b.inject(segment{src: src, dst: dst, seq: 101, ack: s.seq + 1, flags: ack, window: 60000})
	if s := b.nextSegment(); len(s.payload) < minMSS/2 || len(s.payload) > minMSS {
		t.Errorf("segment of %d bytes", len(s.payload))
	}
}

// TestAppendFlows: the names of flows are told without an endpoint's lock,
// even while all endpoints wait for the tunnel.
func TestAppendFlows(t *testing.T) {
	b := newBare(t, Limits{}, nil)
	dst := mustAddrPort("192.0.2.1:80")
	b.network.Serve(dst, stacktest.Source(1, 1<<30))
	b.connect(1, dst)
	b.sink.Pause(true)
	b.sink.Begin()
	b.network.BlackHole(mustAddrPort("192.0.2.2:80"))
	b.inject(segment{src: port(lease4, 2), dst: mustAddrPort("192.0.2.2:80"), flags: syn})
	flows := b.stack.AppendFlows(nil)
	if n := b.stack.Flows(); n != 2 || len(flows) != 2 {
		t.Errorf("%d flows, %v", n, flows)
	}
	b.stack.Stats()
	b.stack.SetMTU(1000)
	b.sink.End()
}

// TestTrim: what is empty is given back, what is not stays.
func TestTrim(t *testing.T) {
	b := newBare(t, Limits{}, nil)
	dst := mustAddrPort("192.0.2.1:80")
	b.network.Serve(dst, stacktest.Discard)
	s := b.connect(1, dst)
	b.stack.Trim()
	b.inject(segment{src: s.dst, dst: dst, seq: 101, ack: s.seq + 1, flags: rst})
	eventually(t, "gone", func() bool { return b.stack.Flows() == 0 })
	b.stack.Trim()
	if b.stack.answers.ring != nil || b.stack.in.gro.parts != nil {
		t.Error("buffers kept")
	}
	b.connect(2, dst)
}

// TestEveryDestination: where a client may go is the policy's affair alone.
func TestEveryDestination(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "169.254.169.254", "0.0.0.1", "10.9.0.200", "::1", "fe80::1", "64:ff9b::1"} {
		t.Run(addr, func(t *testing.T) {
			b := newBare(t, Limits{}, nil)
			dst := port(netip.MustParseAddr(addr), 80)
			b.network.Serve(dst, stacktest.Discard)
			src := port(lease4, 1)
			if dst.Addr().Is6() {
				src = port(lease6, 1)
			}
			b.inject(segment{src: src, dst: dst, seq: 100, flags: syn, window: 1000})
			if s := b.nextSegment(); s.flags != syn|ack || s.src != dst {
				t.Errorf("instead of SYN-ACK: %+v", s)
			}
		})
	}
}

// TestNewPerSecond: connections are begun no faster than the limit, whatever
// becomes of them, and what is refused for it is counted.
func TestNewPerSecond(t *testing.T) {
	b := newBare(t, Limits{NewPerSecond: 10}, func(c *Config) {
		c.Net.(*stacktest.Network).Fail(synTo(0).dst, syscall.ETIMEDOUT)
	})
	for second := range uint64(3) {
		for i := range 50 {
			s := synTo(i)
			s.dst, s.src = synTo(0).dst, port(lease4, uint16(2000+100*int(second)+i))
			b.inject(s)
		}
		if st := b.stack.Stats().Dial; st.Begun != 10*(second+1) || st.AtLimitRate != 40*(second+1) {
			t.Errorf("second %d: %d begun, %d refused", second, st.Begun, st.AtLimitRate)
		}
		eventually(t, "all dials fail", func() bool { return b.stack.Flows() == 0 })
		b.clock.Advance(time.Second)
	}
}
