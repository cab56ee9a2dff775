package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
)

var (
	gw4     = netip.MustParseAddr("10.9.0.1")
	gw6     = netip.MustParseAddr("fd00:9::1")
	client4 = netip.MustParseAddr("10.9.0.77")
	client6 = netip.MustParseAddr("fd00:9::77")
)

var families = []struct {
	name        string
	gw, client  netip.Addr
	other       netip.Addr
	echo, reply byte
	icmp        uint8
}{
	{"IPv4", gw4, client4, netip.MustParseAddr("10.9.0.2"), 8, 0, packet.ICMP},
	{"IPv6", gw6, client6, netip.MustParseAddr("fd00:9::2"), 128, 129, packet.ICMPv6},
}

// sink keeps what it gets and checks how it gets it.
type sink struct {
	t       testing.TB
	mu      sync.Mutex // held from Begin to End, as the interface says
	open    bool
	next    []byte
	packets [][]byte
	batches []int
	count   int // of the open batch
	blocked chan struct{}
}

func (s *sink) Begin() {
	s.mu.Lock()
	if s.blocked != nil {
		<-s.blocked
	}
	s.open, s.count = true, 0
}

func (s *sink) Next(n int) []byte {
	if !s.open || n > packet.MaxPacket {
		s.t.Errorf("Next(%d), batch open: %v", n, s.open)
	}
	s.next = bytes.Repeat([]byte{0xa5}, n)
	return s.next
}

func (s *sink) Add(n int) {
	s.packets = append(s.packets, s.next[:n])
	s.next = nil
	s.count++
}

func (s *sink) End() {
	s.open = false
	s.batches = append(s.batches, s.count)
	s.mu.Unlock()
}

func (s *sink) take() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.packets
	s.packets, s.batches = nil, nil
	return p
}

// fakeResolver keeps the questions; answers are given by the test.
type fakeResolver struct {
	msgs    [][]byte
	limits  []int
	replies []func([]byte)
	now     []byte // answered at once, if not nil
}

func (r *fakeResolver) Query(msg []byte, limit int, reply func([]byte)) {
	if r.now != nil {
		reply(r.now)
		return
	}
	r.msgs = append(r.msgs, bytes.Clone(msg))
	r.limits = append(r.limits, limit)
	r.replies = append(r.replies, reply)
}

var errDialled = errors.New("dialled")

func (r *fakeResolver) DialTCP(context.Context) (egress.Stream, error) { return nil, errDialled }

type rig struct {
	*Gateway
	sink     *sink
	resolver *fakeResolver
	now      time.Time
}

func newRig(t testing.TB) *rig {
	r := &rig{sink: &sink{t: t}, resolver: &fakeResolver{}, now: time.Unix(1000, 0)}
	r.Gateway = New(Config{
		Addr4: gw4, Addr6: gw6, Sink: r.sink, Resolver: r.resolver, MTU: 1400,
		Now: func() time.Time { return r.now },
	})
	return r
}

// inject gives the gateway packets as the switch does.
func (r *rig) inject(t testing.TB, pkts ...[]byte) [][]byte {
	t.Helper()
	for _, p := range pkts {
		h, ok := packet.Parse(p)
		if !ok {
			t.Fatalf("packet %x of the test is none", p)
		}
		r.Inject(h, p)
		clear(p) // nothing of it is kept
	}
	r.Flush()
	return r.sink.take()
}

func ipPacket(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	n := 20
	if src.Is6() {
		n = 40
	}
	b := make([]byte, n+len(payload))
	copy(b[packet.PutIP(b, packet.IP{Src: src, Dst: dst, Proto: proto, TTL: 64}):], payload)
	return b
}

func icmpPacket(src, dst netip.Addr, typ byte, id uint16, data []byte) []byte {
	m := append([]byte{typ, 0, 0, 0, byte(id >> 8), byte(id), 0, 9}, data...)
	proto, sum := uint8(packet.ICMP), uint16(0)
	if src.Is6() {
		proto = packet.ICMPv6
		sum = packet.PseudoSum(src, dst, proto, len(m))
	}
	binary.BigEndian.PutUint16(m[2:], ^packet.Sum(m, sum))
	return ipPacket(src, dst, proto, m)
}

func udpPacket(src, dst netip.Addr, from, to uint16, payload []byte) []byte {
	b := make([]byte, packet.UDPOffset(src.Is6())+len(payload))
	copy(b[packet.UDPOffset(src.Is6()):], payload)
	packet.PutUDP(b, netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to), 64, 1)
	return b
}

// reassemble puts the fragments of one packet together again.
func reassemble(t testing.TB, pkts [][]byte, mtu int) (h packet.Header, l4 []byte) {
	t.Helper()
	for i, p := range pkts {
		ph, ok := packet.Parse(p)
		if !ok || !packet.HeaderSumOK(p) || ph.Length != len(p) || len(p) > mtu {
			t.Fatalf("packet %d, %d bytes of at most %d: %x", i, len(p), mtu, p[:min(len(p), 60)])
		}
		if i > 0 && (ph.Src != h.Src || ph.Dst != h.Dst || !ph.Fragment || ph.First) {
			t.Fatalf("fragment %d: %+v after %+v", i, ph, h)
		}
		h = ph
		l4 = append(l4, ph.Payload(p)...)
	}
	return h, l4
}
