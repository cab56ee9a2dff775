package peers

import (
	"bytes"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/packet"
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
