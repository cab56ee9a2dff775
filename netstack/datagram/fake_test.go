package datagram

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
)

var (
	epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c4    = netip.MustParseAddr("10.9.0.2")
	c6    = netip.MustParseAddr("fd00::2")
	gw4   = netip.MustParseAddr("10.9.0.1")
	gw6   = netip.MustParseAddr("fd00::1")
	web4  = netip.MustParseAddrPort("192.0.2.80:443")
	web6  = netip.MustParseAddrPort("[2001:db8::80]:443")
	dns4  = netip.MustParseAddrPort("192.0.2.53:53")
	evil4 = netip.MustParseAddrPort("198.51.100.66:443")
)

// clock is a clock that stands still.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// fakeNet is an egress.Network in memory.
type fakeNet struct {
	mu      sync.Mutex
	socks   []*fakeSock
	checks  int
	denied  func(egress.Proto, netip.AddrPort) error // nil: nothing
	openErr error
	opening func() // called while a socket is opened
}

func (n *fakeNet) Check(p egress.Proto, dst netip.AddrPort) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.checks++
	if n.denied == nil {
		return nil
	}
	return n.denied(p, dst)
}

func (n *fakeNet) DialTCP(context.Context, netip.AddrPort, netip.AddrPort) (egress.Stream, error) {
	return nil, net.ErrClosed
}

func (n *fakeNet) OpenUDP(v6 bool, r egress.Receiver) (egress.PacketSocket, error) {
	return n.open(v6, false, r)
}

func (n *fakeNet) OpenPing(v6 bool, r egress.Receiver) (egress.PacketSocket, error) {
	return n.open(v6, true, r)
}

func (n *fakeNet) open(v6, ping bool, r egress.Receiver) (egress.PacketSocket, error) {
	if n.opening != nil {
		n.opening()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.openErr != nil {
		return nil, n.openErr
	}
	s := &fakeSock{net: n, v6: v6, ping: ping, r: r}
	n.socks = append(n.socks, s)
	return s, nil
}

// sock is the i-th socket that was opened.
func (n *fakeNet) sock(t testing.TB, i int) *fakeSock {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if i >= len(n.socks) {
		t.Fatalf("%d sockets were opened, want more than %d", len(n.socks), i)
	}
	return n.socks[i]
}

func (n *fakeNet) opened() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.socks)
}

func (n *fakeNet) openNow() (open int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.socks {
		if s.closed == 0 {
			open++
		}
	}
	return open
}

// fakeSock records what it sends. script says what Send answers: by default it
// takes everything.
type fakeSock struct {
	net      *fakeNet
	v6, ping bool
	r        egress.Receiver
	script   func(msgs []egress.Message) (int, error)
	sent     [][]egress.Message // one for each Send, payloads copied
	quiet    bool               // record nothing
	closed   int
}

func (s *fakeSock) Send(msgs []egress.Message) (int, error) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if s.closed > 0 {
		return 0, net.ErrClosed
	}
	if s.quiet {
		return len(msgs), nil
	}
	n, err := len(msgs), error(nil)
	if s.script != nil {
		n, err = s.script(msgs)
	}
	var batch []egress.Message
	for _, m := range msgs[:n] {
		m.Payload = bytes.Clone(m.Payload)
		batch = append(batch, m)
	}
	s.sent = append(s.sent, batch)
	return n, err
}

func (s *fakeSock) Close() error {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.closed++
	return nil
}

// receive gives the flow what came for it, in memory that is then overwritten.
func (s *fakeSock) receive(msgs ...egress.Message) {
	for i := range msgs {
		msgs[i].Payload = bytes.Clone(msgs[i].Payload)
	}
	s.r.Receive(msgs)
	for i := range msgs {
		for j := range msgs[i].Payload {
			msgs[i].Payload[j] = 0xdb
		}
	}
}

// recorder is a packet.Sink that keeps what it is given.
type recorder struct {
	t       testing.TB
	batch   sync.Mutex
	open    bool
	room    []byte
	gate    chan struct{} // if not nil, Begin waits for it
	changed chan struct{} // gets a token after each batch
	mu      sync.Mutex
	batches [][][]byte
}

func newRecorder(t testing.TB) *recorder {
	return &recorder{t: t, changed: make(chan struct{}, 1000)}
}

func (s *recorder) Begin() {
	if s.gate != nil {
		<-s.gate
	}
	s.batch.Lock()
	s.open = true
	s.mu.Lock()
	s.batches = append(s.batches, nil)
	s.mu.Unlock()
}

func (s *recorder) Next(n int) []byte {
	if !s.open || n > packet.MaxPacket || n < 0 {
		s.t.Errorf("Next(%d), batch open %v", n, s.open)
	}
	s.room = bytes.Repeat([]byte{0xa5}, n)
	return s.room
}

func (s *recorder) Add(n int) {
	if !s.open || n > len(s.room) {
		s.t.Errorf("Add(%d) of %d bytes, batch open %v", n, len(s.room), s.open)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.batches) - 1
	s.batches[last] = append(s.batches[last], s.room[:n])
	s.room = nil
}

func (s *recorder) End() {
	s.open = false
	s.batch.Unlock()
	s.changed <- struct{}{}
}

// take returns the complete batches so far and forgets them.
func (s *recorder) take() [][][]byte {
	s.batch.Lock()
	defer s.batch.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.batches
	s.batches = nil
	return b
}

// packets returns all packets so far and forgets them.
func (s *recorder) packets() (all [][]byte) {
	for _, b := range s.take() {
		all = append(all, b...)
	}
	return all
}

// wait waits for one batch, which a goroutine of the relay's writes.
func (s *recorder) wait() {
	s.t.Helper()
	select {
	case <-s.changed:
	case <-time.After(10 * time.Second):
		s.t.Fatal("no batch came")
	}
}

// rig is a relay with everything around it.
type rig struct {
	t     testing.TB
	clock *clock
	net   *fakeNet
	sink  *recorder
	log   *bytes.Buffer
	*Relay
}

func newRig(t testing.TB, change func(*Config)) *rig {
	g := &rig{t: t, clock: &clock{now: epoch}, net: &fakeNet{}, sink: newRecorder(t), log: new(bytes.Buffer)}
	cfg := Config{
		Net: g.net, Sink: g.sink, Gateway4: gw4, Gateway6: gw6, MTU: 1400,
		Now: g.clock.Now, Log: slog.New(slog.NewTextHandler(g.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	g.Relay = New(cfg)
	return g
}

// inject gives one batch of packets and overwrites them afterwards.
func (g *rig) inject(pkts ...[]byte) {
	g.t.Helper()
	for _, b := range pkts {
		h, ok := packet.Parse(b)
		if !ok {
			g.t.Fatalf("not a packet: % x", b)
		}
		g.Inject(h, b)
	}
	g.Flush()
	for _, b := range pkts {
		for i := range b {
			b[i] = 0xdb
		}
	}
}

// udp is a packet of the client.
func udp(from uint16, to netip.AddrPort, payload string) []byte {
	src := netip.AddrPortFrom(c4, from)
	if to.Addr().Is6() {
		src = netip.AddrPortFrom(c6, from)
	}
	head := packet.UDPOffset(to.Addr().Is6())
	b := make([]byte, head+len(payload))
	copy(b[head:], payload)
	packet.PutUDP(b, src, to, 64, 7)
	return b
}

// withTTL changes a packet's TTL or hop limit.
func withTTL(b []byte, ttl byte) []byte {
	if b[0]>>4 == 6 {
		b[7] = ttl
		return b
	}
	b[8] = ttl
	return fixHeaderSum(b)
}

func fixHeaderSum(b []byte) []byte {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^packet.Sum(b[:int(b[0]&15)*4], 0))
	return b
}

// ping is an echo request of the client.
func ping(id, seq uint16, to netip.Addr, data string) []byte {
	ip := packet.IP{Src: c4, Dst: to, Proto: packet.ICMP, TTL: 64}
	if to.Is6() {
		ip.Src, ip.Proto = c6, packet.ICMPv6
	}
	m := echoMessage(to.Is6(), 8, 128, id, seq, data)
	b := make([]byte, 40+len(m))
	if to.Is4() {
		b = b[:20+len(m)]
	}
	n := packet.PutIP(b, ip)
	sum := uint16(0)
	if to.Is6() {
		sum = packet.PseudoSum(ip.Src, ip.Dst, packet.ICMPv6, len(m))
	}
	binary.BigEndian.PutUint16(m[2:], ^packet.Sum(m, sum))
	copy(b[n:], m)
	return b
}

func echoMessage(v6 bool, type4, type6 byte, id, seq uint16, data string) []byte {
	m := append(make([]byte, 8), data...)
	m[0] = type4
	if v6 {
		m[0] = type6
	}
	binary.BigEndian.PutUint16(m[4:], id)
	binary.BigEndian.PutUint16(m[6:], seq)
	return m
}

// wantUDP checks a packet to the client.
func wantUDP(t testing.TB, b []byte, from netip.AddrPort, to uint16, payload string) packet.Header {
	t.Helper()
	h, ok := packet.Parse(b)
	if !ok || h.Length != len(b) || !packet.HeaderSumOK(b) {
		t.Fatalf("not a good packet: %+v, % x", h, b)
	}
	d, err := packet.ReadUDP(&h, b)
	client := c4
	if from.Addr().Is6() {
		client = c6
	}
	if err != nil || h.Src != from.Addr() || h.Dst != client || d.SrcPort != from.Port() || d.DstPort != to || string(d.Payload) != payload {
		t.Fatalf("got %v:%d → %v:%d %q, %v; want %v → :%d %q", h.Src, d.SrcPort, h.Dst, d.DstPort, d.Payload, err, from, to, payload)
	}
	return h
}

// wantError checks an ICMP error to the client: type and code, who says it, and what it quotes.
func wantError(t testing.TB, b []byte, from netip.Addr, typ, code byte, quoted []byte) []byte {
	t.Helper()
	h, ok := packet.Parse(b)
	if !ok || h.Length != len(b) || !packet.HeaderSumOK(b) || !h.IsICMP() {
		t.Fatalf("not a good packet: %+v, % x", h, b)
	}
	m := h.Payload(b)
	sum := packet.Sum(m, 0)
	if h.V6() {
		sum = packet.TransportSum(&h, b)
	}
	if h.Src != from || m[0] != typ || m[1] != code || sum != 0xffff || !bytes.HasPrefix(quoted, m[8:]) || len(m) < 36 {
		t.Fatalf("got %v: %d/%d, sum %#x, quoting % x; want %v: %d/%d", h.Src, m[0], m[1], sum, m[8:], from, typ, code)
	}
	return m
}
