package peers

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/packet"
)

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
