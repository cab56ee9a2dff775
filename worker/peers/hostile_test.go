package peers

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"rocserv/internal/packet"
	"rocserv/internal/pipe"
)

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
			a.waitFor(func() bool {
				return len(a.shunned) == 1 && a.counters.Forged == 1 && a.counters.Broken == 1 && len(a.pairs) == 0
			})
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
		a.waitFor(func() bool { return len(a.pairs) == 0 && len(a.shunned) == 1 && a.counters.Broken == 1 })
	}
}

// Packets before the note end the pair too.
func TestPacketsBeforeNote(t *testing.T) {
	a := newSide(t, &clock{now: time.Unix(1e9, 0)}, nil, anna4)
	p := liar(t, a, 1)
	put(p, udp(at(ben4, 1), at(anna4, 2), "early"))
	if err := p.Serve(pipeEnd{}); err == nil {
		t.Error("the pair is still there")
	}
	a.waitFor(func() bool {
		return len(a.pairs) == 0 && len(a.shunned) == 1 && a.counters.Forged == 1 && a.counters.Broken == 1
	})
	a.quiet()
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
