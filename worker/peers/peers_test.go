package peers

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/packet"
	"rocserv/internal/pipe"
)

var (
	gate4, gate6 = netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")
	pool4, pool6 = netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("fd09::/64")
	anna4, anna6 = netip.MustParseAddr("10.9.0.10"), netip.MustParseAddr("fd09::10")
	ben4, ben6   = netip.MustParseAddr("10.9.0.20"), netip.MustParseAddr("fd09::20")
	site         = netip.MustParsePrefix("192.168.7.0/24")
	printer      = netip.MustParseAddr("192.168.7.9")
)

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// side is a client with its Peers.
type side struct {
	*Peers
	t     *testing.T
	asked chan netip.Addr
	back  chan [][]byte

	mu   sync.Mutex // of a batch down, and of got
	got  [][]byte
	room []byte
	more *sync.Cond
}

func newSide(t *testing.T, c *clock, tune func(*Config), addrs ...netip.Addr) *side {
	t.Helper()
	s := &side{t: t, asked: make(chan netip.Addr, 100), back: make(chan [][]byte, 100)}
	s.more = sync.NewCond(&s.mu)
	cfg := Config{
		Addrs: addrs, Gateway4: gate4, Gateway6: gate6, MTU: 1400, Sink: s, Frozen: func() bool { return false },
		Ask: func(a netip.Addr) { s.asked <- a }, Return: func(p [][]byte) { s.back <- p }, Now: c.Now, Log: slog.New(slog.DiscardHandler),
	}
	if tune != nil {
		tune(&cfg)
	}
	s.Peers = New(cfg)
	s.SetNets([]netip.Prefix{pool4, pool6}, []netip.Prefix{site})
	t.Cleanup(s.Close)
	return s
}

func (s *side) Begin()            { s.mu.Lock() }
func (s *side) Next(n int) []byte { s.room = make([]byte, n); return s.room }
func (s *side) Add(n int)         { s.got = append(s.got, s.room[:n]) }
func (s *side) End()              { s.more.Broadcast(); s.mu.Unlock() }

// send is a batch of the client's. It returns how many packets were taken.
func (s *side) send(pkts ...[]byte) (taken int) {
	s.t.Helper()
	for _, p := range pkts {
		h, ok := packet.Parse(p)
		if !ok {
			s.t.Fatal("no packet")
		}
		if s.Take(&h, p) {
			taken++
		}
	}
	s.Flush()
	return taken
}

// next waits for the next packet to the client.
func (s *side) next() (packet.Header, []byte) {
	s.t.Helper()
	timeout := time.AfterFunc(10*time.Second, func() { s.mu.Lock(); s.got = append(s.got, nil); s.more.Broadcast(); s.mu.Unlock() })
	defer timeout.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.got) == 0 {
		s.more.Wait()
	}
	p := s.got[0]
	s.got = s.got[1:]
	h, ok := packet.Parse(p)
	if !ok {
		s.t.Fatal("nothing comes to the client")
	}
	return h, p
}

// quiet says that the client got nothing, once other has got what it was sent.
func (s *side) quiet() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.got) > 0 {
		h, _ := packet.Parse(s.got[0])
		s.t.Errorf("the client got %d packets, first %+v", len(s.got), h)
	}
}

func (s *side) peer(serial uint64) Peer { return Peer{s.cfg.Addrs, s.cfg.Behind, serial} }

// question waits until main is asked.
func (s *side) question() netip.Addr {
	s.t.Helper()
	select {
	case a := <-s.asked:
		return a
	case <-time.After(10 * time.Second):
		s.t.Fatal("main was not asked")
		panic("not reached")
	}
}

// connect is main's answer to a's question for b.
func connect(a, b *side, serial uint64) {
	a.t.Helper()
	dst := a.question()
	fd := ends(a.t)
	b.Paired(a.peer(serial), fd[1])
	a.Answered(dst, Open, b.peer(serial), fd[0])
}

func ends(t *testing.T) [2]int {
	t.Helper()
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// udp makes a packet whose payload is text.
func udp(src, dst netip.AddrPort, text string) []byte {
	b := make([]byte, packet.UDPOffset(src.Addr().Is6())+len(text))
	copy(b[packet.UDPOffset(src.Addr().Is6()):], text)
	packet.PutUDP(b, src, dst, 64, 1)
	return b
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// arrives waits for text at the client; the packet has one hop less.
func (s *side) arrives(src, dst netip.AddrPort, text string) {
	s.t.Helper()
	h, p := s.next()
	d, err := packet.ReadUDP(&h, p)
	if err != nil || at(h.Src, d.SrcPort) != src || at(h.Dst, d.DstPort) != dst || string(d.Payload) != text || h.TTL != 63 || !packet.HeaderSumOK(p) {
		s.t.Fatalf("%v→%v %q, time to live %d, %v", h.Src, h.Dst, d.Payload, h.TTL, err)
	}
}

// refused waits for an ICMP error about pkt.
func (s *side) refused(what packet.Problem, pkt []byte, mtu int) {
	s.t.Helper()
	h, b := s.next()
	about, _ := packet.Parse(pkt)
	want := what.Error(&about, pkt, mtu)
	from := gate4
	if about.V6() {
		from = gate6
	}
	m := h.Payload(b)
	if !h.IsICMP() || h.Src != from || h.Dst != about.Src || m[0] != want.Type || m[1] != want.Code ||
		!bytes.Equal(m[4:8], []byte{byte(want.Info >> 24), byte(want.Info >> 16), byte(want.Info >> 8), byte(want.Info)}) ||
		!bytes.HasPrefix(pkt, m[8:]) {
		s.t.Fatalf("%v→%v % x..., want %+v", h.Src, h.Dst, m[:8], want)
	}
}

// couple is two clients with a pair.
func couple(t *testing.T, tuneA, tuneB func(*Config)) (*clock, *side, *side) {
	t.Helper()
	c := &clock{now: time.Unix(1e9, 0)}
	a, b := newSide(t, c, tuneA, anna4, anna6), newSide(t, c, tuneB, ben4, ben6)
	if a.send(udp(at(anna4, 1), at(ben4, 2), "first")) != 1 {
		t.Fatal("not taken")
	}
	connect(a, b, 1)
	b.arrives(at(anna4, 1), at(ben4, 2), "first")
	return c, a, b
}

// The first packet waits for main's answer; then it goes both ways, for both
// families, without another question.
func TestThereAndBack(t *testing.T) {
	_, a, b := couple(t, nil, nil)
	for i := range 3 {
		b.send(udp(at(ben4, 2), at(anna4, 1), "answer"))
		a.arrives(at(ben4, 2), at(anna4, 1), "answer")
		a.send(udp(at(anna6, 1), at(ben6, 2), "six"), udp(at(anna4, 3), at(ben4, 4), "four"))
		b.arrives(at(anna6, 1), at(ben6, 2), "six")
		b.arrives(at(anna4, 3), at(ben4, 4), "four")
		if len(a.asked)+len(b.asked) > 0 {
			t.Fatalf("round %d: main was asked again", i)
		}
	}
	if n := a.Stats(); n.Up != 7 || n.Down != 3 || n.Refused+n.Dropped+n.Forged != 0 || n.Pairs != 1 {
		t.Errorf("%+v", n)
	}
}

// What is not for other clients is left alone.
func TestNotForClients(t *testing.T) {
	c := &clock{now: time.Unix(1e9, 0)}
	a := newSide(t, c, nil, anna4, anna6)
	for _, dst := range []netip.Addr{gate4, gate6, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")} {
		src := anna4
		if dst.Is6() {
			src = anna6
		}
		if a.send(udp(at(src, 1), at(dst, 2), "x")) != 0 {
			t.Errorf("%v was taken", dst)
		}
	}
	if len(a.asked) > 0 {
		t.Error("main was asked")
	}
	var nobody *Peers
	h, _ := packet.Parse(udp(at(anna4, 1), at(ben4, 2), "x"))
	if nobody.Reaches(h.Dst) || nobody.Behind(h.Src) {
		t.Error("without Peers there are other clients")
	}
	nobody.Flush()
	nobody.Tick()
	nobody.Close()
}

// Main's no is told truthfully, remembered, and asked again later.
func TestRefused(t *testing.T) {
	for v, problem := range map[Verdict]packet.Problem{Prohibited: packet.Prohibited, Away: packet.HostUnreachable} {
		c := &clock{now: time.Unix(1e9, 0)}
		a := newSide(t, c, nil, anna4, anna6)
		for _, p := range [][]byte{udp(at(anna4, 1), at(ben4, 2), "x"), udp(at(anna6, 1), at(ben6, 2), "x")} {
			a.send(p)
			a.Answered(a.question(), v, Peer{}, -1)
			a.refused(problem, p, 0)
			a.send(p)
			a.refused(problem, p, 0)
			if len(a.asked) > 0 {
				t.Error("main was asked again at once")
			}
			c.pass(noTime + time.Second)
			a.send(p)
			a.question()
			a.quiet()
		}
	}
}

// An address that is no client's: the packet goes on as if nothing had been, and
// later ones while main is asked again.
func TestNobody(t *testing.T) {
	c := &clock{now: time.Unix(1e9, 0)}
	a := newSide(t, c, nil, anna4)
	p := udp(at(anna4, 1), at(ben4, 2), "x")
	if a.send(p) != 1 {
		t.Fatal("not held")
	}
	a.Answered(a.question(), Nobody, Peer{}, -1)
	if back := <-a.back; len(back) != 1 || !bytes.Equal(back[0], p) {
		t.Fatalf("%d packets came back", len(back))
	}
	for range 2 {
		if a.send(p) != 0 {
			t.Error("taken although it is nobody's")
		}
		c.pass(nobodyTime + time.Second)
	}
	a.send(p)
	a.question()
	// Others' traffic says at once that it is somebody's now.
	b := newSide(t, c, nil, ben4)
	fd := ends(t)
	a.Paired(b.peer(7), fd[0])
	b.Paired(a.peer(7), fd[1])
	if a.send(udp(at(anna4, 1), at(ben4, 2), "now")) != 1 {
		t.Fatal("not taken")
	}
	b.arrives(at(anna4, 1), at(ben4, 2), "now")
}

// Both ask at once: whatever the order of what main says, they end with one pair.
func TestBothAsk(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {0, 3, 1, 2}, {2, 1, 3, 0}, {0, 2, 1, 3}} {
		c := &clock{now: time.Unix(1e9, 0)}
		a, b := newSide(t, c, nil, anna4), newSide(t, c, nil, ben4)
		a.send(udp(at(anna4, 1), at(ben4, 2), "from anna"))
		b.send(udp(at(ben4, 2), at(anna4, 1), "from ben"))
		one, two := ends(t), ends(t)
		says := []func(){
			func() { a.Answered(a.question(), Open, b.peer(1), one[0]) },
			func() { b.Paired(a.peer(1), one[1]) },
			func() { b.Answered(b.question(), Open, a.peer(2), two[0]) },
			func() { a.Paired(b.peer(2), two[1]) },
		}
		for _, i := range order {
			says[i]()
		}
		// What was sent while the pairs were made may be lost; from now on nothing is.
		a.ready(ben4)
		b.ready(anna4)
		a.send(udp(at(anna4, 1), at(ben4, 3), "later"))
		b.send(udp(at(ben4, 2), at(anna4, 3), "later"))
		for _, s := range []*side{a, b} {
			for h, p := s.next(); ; h, p = s.next() {
				if d, _ := packet.ReadUDP(&h, p); d.DstPort == 3 {
					break
				}
			}
			if n := s.count(); n != 1 {
				t.Errorf("%v: %d pairs", order, n)
			}
		}
	}
}

// ready waits until the pair with the highest serial is usable.
func (s *side) ready(other netip.Addr) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.Peers.mu.Lock()
		c := s.pairs[other]
		ok := c != nil && c.ready && c.other.Serial == 2
		s.Peers.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("no pair")
		}
	}
}

// A packet that is too long for the other tunnel: an error with the MTU, or
// fragments where the sender allows it.
func TestNarrower(t *testing.T) {
	_, a, b := couple(t, nil, func(c *Config) { c.MTU = 1300 })
	long := udp(at(anna6, 1), at(ben6, 2), string(make([]byte, 1290)))
	a.send(long)
	a.refused(packet.TooBig, long, 1300)
	long = udp(at(anna4, 1), at(ben4, 2), string(make([]byte, 1290)))
	long[6] |= 0x40 // DF
	a.send(long)
	a.refused(packet.TooBig, long, 1300)
	long[6] = 0
	a.send(long)
	got := 0
	for got < 1290+8 {
		h, p := b.next()
		if h.Length > 1300 || !h.Fragment || h.TTL != 63 {
			t.Fatalf("%+v", h)
		}
		got += len(h.Payload(p))
	}
	// The tunnel becomes narrower still: the pair is made anew.
	b.SetMTU(1280)
	short := udp(at(anna6, 1), at(ben6, 2), string(make([]byte, 1240)))
	for a.send(short); len(a.asked) == 0; a.send(short) {
		time.Sleep(time.Millisecond)
	}
	connect(a, b, 2)
	for h, _ := a.next(); h.Length != 1280; h, _ = a.next() { // an error that quotes it
	}
}

func TestHops(t *testing.T) {
	_, a, b := couple(t, nil, nil)
	p := udp(at(anna4, 1), at(ben4, 2), "x")
	packet.PutUDP(p, at(anna4, 1), at(ben4, 2), 1, 1)
	a.send(p)
	a.refused(packet.TimeExceeded, p, 0)
	b.quiet()
}

// A client without IPv6 of its own is not reached by it.
func TestOtherFamily(t *testing.T) {
	c := &clock{now: time.Unix(1e9, 0)}
	a, b := newSide(t, c, nil, anna4, anna6), newSide(t, c, nil, ben4)
	p := udp(at(anna6, 1), at(ben6, 2), "x")
	a.send(p)
	fd := ends(t)
	b.Paired(a.peer(1), fd[1])
	a.Answered(a.question(), Open, Peer{Addrs: []netip.Addr{ben4, ben6}, Serial: 1}, fd[0])
	a.refused(packet.HostUnreachable, p, 0)
}

// The other client leaves: its address is asked for again.
func TestOtherLeaves(t *testing.T) {
	_, a, b := couple(t, nil, nil)
	b.Close()
	p := udp(at(anna4, 1), at(ben4, 2), "x")
	for len(a.asked) == 0 {
		a.send(p)
		time.Sleep(time.Millisecond)
	}
	a.Answered(a.question(), Away, Peer{}, -1)
	a.refused(packet.HostUnreachable, p, 0)
	if b.send(udp(at(ben4, 2), at(anna4, 1), "x")) != 0 {
		t.Error("a packet was taken after Close")
	}
}

// Unused pairs are closed.
func TestUnused(t *testing.T) {
	c, a, b := couple(t, nil, nil)
	for range 3 { // in use
		a.send(udp(at(anna4, 1), at(ben4, 2), "x"))
		b.arrives(at(anna4, 1), at(ben4, 2), "x")
		c.pass(unusedTime - time.Second)
		a.Tick()
		b.Tick()
	}
	if a.count() != 1 {
		t.Fatal("a pair in use was closed")
	}
	c.pass(2 * time.Second)
	c.pass(unusedTime)
	a.Tick()
	if a.count() != 0 {
		t.Error("an unused pair is still there")
	}
}

// A network behind a client: from there to another client and back, by one pair
// for all its hosts.
func TestBehind(t *testing.T) {
	_, a, b := couple(t, nil, func(c *Config) { c.Behind = []netip.Prefix{site} })
	for i, host := range []netip.Addr{printer, printer.Next()} {
		a.send(udp(at(anna4, 1), at(host, 2), "print"))
		b.arrives(at(anna4, 1), at(host, 2), "print")
		if !b.Behind(host) {
			t.Fatal("not behind")
		}
		b.send(udp(at(host, 2), at(anna4, 1), "done"))
		a.arrives(at(host, 2), at(anna4, 1), "done")
		if len(a.asked)+len(b.asked) > 0 {
			t.Errorf("host %d was asked for", i)
		}
	}
}

// A network behind a client that covers clients' addresses gives it none of them.
func TestBehindIsNoPool(t *testing.T) {
	wide := netip.MustParsePrefix("10.0.0.0/8")
	_, a, b := couple(t, nil, func(c *Config) { c.Behind = []netip.Prefix{wide} })
	a.SetNets([]netip.Prefix{pool4}, []netip.Prefix{wide})
	b.SetNets([]netip.Prefix{pool4}, []netip.Prefix{wide})
	if b.Behind(netip.MustParseAddr("10.9.0.77")) || !b.Behind(netip.MustParseAddr("10.1.1.1")) {
		t.Error("what is behind is wrong")
	}
	a.Peers.mu.Lock()
	c := a.pairs[ben4]
	a.Peers.mu.Unlock()
	if c.sends(netip.MustParseAddr("10.9.0.77")) || !c.sends(netip.MustParseAddr("10.1.1.1")) || !c.sends(ben4) {
		t.Error("what the other sends is wrong")
	}
}

// count is how many pairs there are.
func (s *side) count() int {
	s.Peers.mu.Lock()
	defer s.Peers.mu.Unlock()
	if len(s.pairs) == 0 && len(s.to) > 0 {
		s.t.Error("destinations without a pair")
	}
	return len(s.pairs)
}

// liar is a worker that has been taken over: it has the end of a pair that ben's
// worker would have.
func liar(t *testing.T, a *side, serial uint64) *pipe.Pipe {
	t.Helper()
	fd := ends(t)
	a.Paired(Peer{Addrs: []netip.Addr{ben4, ben6}, Serial: serial}, fd[0])
	p, err := pipe.New(fd[1], pipe.Config{Patience: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func put(p *pipe.Pipe, pkts ...[]byte) {
	for _, b := range pkts {
		copy(p.Next(len(b)), b)
		p.Add(len(b))
	}
	p.Flush()
}

// What is not the other client's, or not for this one, ends the pair, and no
// other one to it is taken for a while. Clients that behave are not disturbed.
func TestForged(t *testing.T) {
	carol := netip.MustParseAddr("10.9.0.30")
	cut := udp(at(ben4, 1), at(anna4, 2), "x")
	binaryLength := slices.Clone(cut)
	binaryLength[3]++
	for name, lie := range map[string][]byte{
		"another client's source": udp(at(carol, 1), at(anna4, 2), "x"),
		"the gateway's source":    udp(at(gate4, 1), at(anna4, 2), "x"),
		"the client's own source": udp(at(anna4, 1), at(anna4, 2), "x"),
		"the world's source":      udp(at(netip.MustParseAddr("192.0.2.1"), 1), at(anna4, 2), "x"),
		"for another client":      udp(at(ben4, 1), at(carol, 2), "x"),
		"for the world":           udp(at(ben4, 1), at(netip.MustParseAddr("192.0.2.1"), 2), "x"),
		"longer than it is":       binaryLength,
		"no packet":               []byte("x"),
	} {
		t.Run(name, func(t *testing.T) {
			c, a, honest := couple(t, nil, nil)
			p := liar(t, a, 2)
			p.Message([]byte{5, 0, 3}, time.Time{})
			put(p, udp(at(ben4, 1), at(anna4, 2), "true"), lie)
			h, b := a.next()
			if d, _ := packet.ReadUDP(&h, b); string(d.Payload) != "true" {
				t.Fatalf("%q", d.Payload)
			}
			var none pipeEnd
			if err := p.Serve(&none); err == nil {
				t.Fatal("the pair is still there")
			}
			a.waitFor(func() bool { return len(a.shunned) == 1 && a.counters.Forged == 1 && len(a.pairs) == 0 })
			again := liar(t, a, 3)
			if err := again.Serve(&none); err == nil || a.count() != 0 {
				t.Error("another pair was taken")
			}
			c.pass(shunTime + time.Second)
			a.Tick()
			last := liar(t, a, 4)
			if a.count() != 1 {
				t.Error("no pair was taken after a while")
			}
			last.Close()
			a.quiet()
			honest.quiet()
		})
	}
}

// pipeEnd takes everything.
type pipeEnd struct{}

func (pipeEnd) Packets([][]byte)            {}
func (pipeEnd) Message([]byte, []int) error { return nil }

func (s *side) waitFor(ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.Peers.mu.Lock()
		done := ok()
		s.Peers.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("it does not happen")
		}
	}
}

// Notes that break the rules end the pair.
func TestMalformedNotes(t *testing.T) {
	for name, notes := range map[string][][]byte{
		"short": {{5, 0}}, "long": {{5, 0, 3, 0}}, "tiny MTU": {{0, 67, 3}}, "huge MTU": {{0x40, 1, 3}}, "twice": {{5, 0, 3}, {5, 0, 3}}, "empty": {{}},
	} {
		c := &clock{now: time.Unix(1e9, 0)}
		a := newSide(t, c, nil, anna4)
		p := liar(t, a, 1)
		for _, n := range notes {
			p.Message(n, time.Time{})
		}
		if err := p.Serve(pipeEnd{}); err == nil {
			t.Errorf("%s: the pair is still there", name)
		}
		a.waitFor(func() bool { return len(a.pairs) == 0 && len(a.shunned) == 1 })
	}
}

// A worker that says nothing holds bounded memory and no place for long; one
// that does not read costs its own packets.
func TestSilent(t *testing.T) {
	c := &clock{now: time.Unix(1e9, 0)}
	a := newSide(t, c, nil, anna4)
	p := liar(t, a, 1)
	long := udp(at(anna4, 1), at(ben4, 2), string(make([]byte, 1000)))
	for range 200 {
		a.send(long)
	}
	if a.held > maxHeld || a.Stats().Dropped == 0 {
		t.Errorf("%d bytes are held, %d packets dropped", a.held, a.Stats().Dropped)
	}
	p.Message([]byte{5, 0, 1}, time.Time{})
	a.waitFor(func() bool { return a.pairs[ben4].ready })
	for range 10000 { // it does not read
		a.send(long)
	}
	if n := a.Stats(); n.Dropped < 5000 {
		t.Errorf("%+v", n)
	}
	silent := liar(t, a, 2)
	c.pass(noteTime + time.Second)
	a.Tick()
	a.waitFor(func() bool { return len(a.pairs) == 0 && a.held == 0 })
	silent.Close()
}

// More clients than there is room for: the longest unused pair gives its place,
// and none that is in use.
func TestManyPairs(t *testing.T) {
	c := &clock{now: time.Unix(1e9, 0)}
	a := newSide(t, c, nil, anna4)
	join := func(i int) {
		fd := ends(t)
		t.Cleanup(func() { unix.Close(fd[1]) })
		a.Paired(Peer{Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 9, 0, byte(100 + i)})}, Serial: uint64(i + 1)}, fd[0])
		c.pass(time.Millisecond)
	}
	for i := range MaxPairs + 1 {
		join(i)
	}
	with := func(last byte) bool {
		a.Peers.mu.Lock()
		defer a.Peers.mu.Unlock()
		return a.pairs[netip.AddrFrom4([4]byte{10, 9, 0, last})] != nil
	}
	if a.count() != MaxPairs || with(100+MaxPairs) {
		t.Fatalf("%d pairs", a.count())
	}
	c.pass(keepUnused)
	a.Peers.mu.Lock()
	a.pairs[netip.MustParseAddr("10.9.0.100")].touched.Store(true)
	a.Peers.mu.Unlock()
	join(MaxPairs + 1)
	if a.count() != MaxPairs || !with(100) || with(101) || !with(100+MaxPairs+1) {
		t.Errorf("%d pairs, the wrong one gave its place", a.count())
	}
}

// A client that tries many addresses asks no more than it may.
func TestScan(t *testing.T) {
	c := &clock{now: time.Unix(1e9, 0)}
	a := newSide(t, c, nil, anna4)
	for i := range 200 {
		a.send(udp(at(anna4, 1), at(netip.AddrFrom4([4]byte{10, 9, 0, byte(50 + i)}), 2), "x"))
	}
	if n := len(a.asked); n != 16 {
		t.Errorf("%d questions at once", n)
	}
	for range 10 {
		c.pass(time.Second)
		for i := range 200 {
			a.send(udp(at(anna4, 1), at(netip.AddrFrom4([4]byte{10, 9, 0, byte(50 + i)}), 2), "x"))
		}
	}
	if n := len(a.asked); n > 16+10*3 {
		t.Errorf("%d questions in ten seconds", n)
	}
}

// A user that is restricted reaches what is permitted, answers what others have
// begun, and no more.
func TestRestricted(t *testing.T) {
	c, a, b := couple(t, nil, func(c *Config) {
		c.Permit = func(proto uint8, dst netip.AddrPort) bool { return proto == packet.UDP && dst.Port() == 53 }
	})
	b.send(udp(at(ben4, 7), at(anna4, 53), "query"))
	a.arrives(at(ben4, 7), at(anna4, 53), "query")
	no := udp(at(ben4, 9), at(anna4, 9), "x")
	b.send(no)
	b.refused(packet.Prohibited, no, 0)
	b.send(udp(at(ben4, 2), at(anna4, 1), "answer to first"))
	a.arrives(at(ben4, 2), at(anna4, 1), "answer to first")
	c.pass(otherTalk - time.Second) // keeps it
	b.send(udp(at(ben4, 2), at(anna4, 1), "again"))
	a.arrives(at(ben4, 2), at(anna4, 1), "again")
	c.pass(otherTalk + time.Second)
	late := udp(at(ben4, 2), at(anna4, 1), "late")
	b.send(late)
	b.refused(packet.Prohibited, late, 0)
	fragment := udp(at(ben4, 7), at(anna4, 53), "part")
	fragment[6] = 0x20
	b.send(fragment)
	b.refused(packet.Prohibited, fragment, 0)
}

// errorTo makes the ICMP error about a packet, from where that went, to a client.
func errorTo(to netip.Addr, what packet.Problem, about []byte) []byte {
	h, _ := packet.Parse(about)
	e := what.Error(&h, about, 0)
	h.Src = to
	b := make([]byte, packet.ErrorLen(&h))
	packet.PutError(b, h.Dst, e, &h, about)
	return b
}

// Of a restricted user's ICMP errors those pass that are about what others have
// begun, or what the user may; with no exchange that is none does an error of one's
// own making.
func TestRestrictedErrors(t *testing.T) {
	_, a, b := couple(t, nil, func(c *Config) {
		c.Permit = func(proto uint8, dst netip.AddrPort) bool { return proto == packet.UDP && dst.Port() == 53 }
	})
	first, first6 := udp(at(anna4, 1), at(ben4, 2), "first"), udp(at(anna6, 1), at(ben6, 2), "first")
	a.send(first6)
	b.arrives(at(anna6, 1), at(ben6, 2), "first")
	long := udp(at(anna4, 1), at(ben4, 2), string(make([]byte, 1300)))
	later := slices.Clone(first)
	later[7] = 2 // not the first fragment
	noQuote := errorTo(anna4, packet.PortUnreachable, first)
	noQuote[20+8] = 0
	short := errorTo(anna4, packet.PortUnreachable, first)[:20+8+19]
	short[3] = byte(len(short))
	brief := errorTo(anna4, packet.PortUnreachable, first)[:20+8+28] // RFC 792: a header and 64 bits
	brief[3] = byte(len(brief))
	informational := errorTo(anna6, packet.PortUnreachable, first6)
	informational[40] = 100 // RFC 4443 section 2.1: for experiments
	redirect := errorTo(anna4, packet.PortUnreachable, first)
	redirect[20] = 5
	carol := netip.MustParseAddr("10.9.0.30")
	for _, tt := range []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"about what anna has begun", errorTo(anna4, packet.PortUnreachable, first), true},
		{"the same, IPv6", errorTo(anna6, packet.PortUnreachable, first6), true},
		{"about a longer packet", errorTo(anna4, packet.HostUnreachable, long), true},
		{"the least", brief, true},
		{"about what ben may do", errorTo(anna4, packet.PortUnreachable, udp(at(anna4, 53), at(ben4, 9), "answer")), true},
		{"about what nobody has begun", errorTo(anna4, packet.PortUnreachable, udp(at(anna4, 3), at(ben4, 4), "x")), false},
		{"the wrong way round", errorTo(anna4, packet.PortUnreachable, udp(at(ben4, 2), at(anna4, 1), "x")), false},
		{"about somebody else's", errorTo(anna4, packet.PortUnreachable, udp(at(carol, 1), at(ben4, 2), "x")), false},
		{"about a later fragment", errorTo(anna4, packet.HostUnreachable, later), false},
		{"about no packet", noQuote, false},
		{"about less than a header", short, false},
		{"IPv6, no error", informational, false},
		{"redirect", redirect, false},
	} {
		before := b.Stats().Refused
		b.send(tt.b)
		if refused := b.Stats().Refused != before; refused == tt.ok {
			t.Errorf("%s: refused %v", tt.name, refused)
		}
		if tt.ok {
			if h, _ := a.next(); !h.IsICMP() {
				t.Errorf("%s: %+v", tt.name, h)
			}
		}
	}
	b.quiet()
	a.quiet()
}

// What others have begun outlasts a pair, is remembered within bounds, and whoever
// begins very much loses its own.
func TestRestrictedBounds(t *testing.T) {
	none := func(c *Config) { c.Permit = func(uint8, netip.AddrPort) bool { return false } }
	c, a, b := couple(t, nil, none)
	hear := func(other netip.Addr, port uint16) {
		b.Peers.mu.Lock()
		defer b.Peers.mu.Unlock()
		pkt := udp(at(other, port), at(ben4, 2), "")
		h, _ := packet.Parse(pkt)
		b.with(other).heard(&h, pkt, c.Now())
	}
	carol := netip.MustParseAddr("10.9.0.30")
	for i := range 10 * maxTalks {
		hear(carol, uint16(i))
		if n := len(b.begun[carol].until); n > maxTalks || i >= maxTalks && n < maxTalks-maxTalks/8 {
			t.Fatalf("%d exchanges are remembered", n)
		}
		c.pass(time.Millisecond)
	}
	k := talk{packet.UDP, at(ben4, 2), at(carol, 10*maxTalks-1)}
	if !b.begun[carol].has(k, c.Now()) {
		t.Error("the newest is not remembered")
	}
	b.SetMTU(1300)
	b.waitFor(func() bool { return len(b.pairs) == 0 })
	b.send(udp(at(ben4, 2), at(anna4, 1), "answer to first"))
	connect(b, a, 2)
	a.arrives(at(ben4, 2), at(anna4, 1), "answer to first")
	for i := range 2 * MaxPairs {
		hear(netip.AddrFrom4([4]byte{10, 9, 0, byte(100 + i)}), 1)
	}
	if len(b.begun) != MaxPairs || b.begun[anna4] == nil {
		t.Errorf("%d clients are remembered", len(b.begun))
	}
	c.pass(otherTalk + time.Second)
	b.Tick()
	if len(b.begun) > 1 {
		t.Errorf("%d clients are remembered for nothing", len(b.begun))
	}
}

// Main may be slow to take a question: what it says meanwhile is taken.
func TestAskMayWait(t *testing.T) {
	c := &clock{now: time.Unix(1e9, 0)}
	var a *side
	waited := make(chan bool, 1)
	a = newSide(t, c, func(cfg *Config) {
		cfg.Ask = func(dst netip.Addr) {
			taken := make(chan struct{})
			go func() { a.Answered(dst, Away, Peer{}, -1); close(taken) }()
			select {
			case <-taken:
				waited <- false
			case <-time.After(10 * time.Second):
				waited <- true
			}
		}
	}, anna4)
	p := udp(at(anna4, 1), at(ben4, 2), "x")
	a.send(p)
	if <-waited {
		t.Fatal("main's word was not taken while it was asked")
	}
	a.refused(packet.HostUnreachable, p, 0)
}
