package netstack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"rocserv/internal/packet"
)

// segment is a TCP segment of the client, to be written into a packet.
type segment struct {
	src, dst         netip.AddrPort
	seq, ack         uint32
	flags            header.TCPFlags
	window           uint16
	options, payload []byte
	ttl              uint8 // 0: 64
}

func (s segment) packet() []byte {
	ip := header.IPv4MinimumSize
	if s.src.Addr().Is6() {
		ip = header.IPv6MinimumSize
	}
	off := header.TCPMinimumSize + len(s.options)
	b := make([]byte, ip+off+len(s.payload))
	if s.ttl == 0 {
		s.ttl = 64
	}
	packet.PutIP(b, packet.IP{Src: s.src.Addr(), Dst: s.dst.Addr(), Proto: packet.TCP, TTL: s.ttl})
	t := header.TCP(b[ip:])
	t.Encode(&header.TCPFields{
		SrcPort: s.src.Port(), DstPort: s.dst.Port(), SeqNum: s.seq, AckNum: s.ack,
		DataOffset: uint8(off), Flags: s.flags, WindowSize: s.window,
	})
	copy(t[header.TCPMinimumSize:], s.options)
	copy(t[off:], s.payload)
	sum := packet.PseudoSum(s.src.Addr(), s.dst.Addr(), packet.TCP, len(t))
	t.SetChecksum(^packet.Sum(t, sum))
	return b
}

// timestamps is the option every segment of a flow carries.
func timestamps(val, ecr uint32) []byte {
	b := []byte{1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(b[4:], val)
	binary.BigEndian.PutUint32(b[8:], ecr)
	return b
}

// collector is a dispatcher that keeps the segments GRO delivers.
type collector struct{ got []delivered }

type delivered struct {
	flow             Flow
	seq, ack         uint32
	flags            header.TCPFlags
	window           uint16
	options, payload []byte
}

func (c *collector) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	v := pkt.ToView()
	defer v.Release()
	b := v.ToSlice()
	h, ok := packet.Parse(b)
	if !ok || h.Proto != packet.TCP || h.Length != len(b) || (proto == header.IPv6ProtocolNumber) != h.V6() {
		panic(fmt.Sprintf("bad packet %x", b))
	}
	t := header.TCP(h.Payload(b))
	off := int(t.DataOffset())
	c.got = append(c.got, delivered{
		flow: flowOf(&h, t), seq: t.SequenceNumber(), ack: t.AckNumber(), flags: t.Flags(), window: t.WindowSize(),
		options: t[header.TCPMinimumSize:off], payload: t[off:],
	})
}

func (c *collector) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// runGRO sends segments through GRO as one batch.
func runGRO(segs ...segment) []delivered {
	c := new(collector)
	g := gro{link: &link{dispatcher: c}}
	for _, s := range segs {
		b := s.packet()
		h, _ := packet.Parse(b)
		g.add(&h, b, header.TCP(h.Payload(b)))
	}
	g.flush()
	return c.got
}

const (
	ack = header.TCPFlagAck
	psh = header.TCPFlagPsh
	fin = header.TCPFlagFin
	syn = header.TCPFlagSyn
	rst = header.TCPFlagRst
)

func TestGRO(t *testing.T) {
	client, host := netip.AddrPortFrom(lease4, 1000), netip.AddrPortFrom(host4, 80)
	data := func(seq uint32, n int) segment {
		return segment{src: client, dst: host, seq: seq, ack: 1, flags: ack, window: 100, payload: bytes.Repeat([]byte{byte(seq)}, n)}
	}
	pure := func(seq, a uint32) segment {
		return segment{src: client, dst: host, seq: seq, ack: a, flags: ack, window: 100, options: timestamps(1, 2)}
	}
	with := func(s segment, f func(*segment)) segment { f(&s); return s }
	sack := append([]byte{1, 1, 5, 10}, make([]byte, 8)...)
	tests := []struct {
		name string
		in   []segment
		want string // seq+len flags of what is delivered
	}{
		{"one", []segment{data(0, 10)}, "0+10A"},
		{"in order", []segment{data(0, 10), data(10, 10), data(20, 10)}, "0+30A"},
		{"any lengths", []segment{data(0, 10), data(10, 500), data(510, 1)}, "0+511A"},
		{"gap", []segment{data(0, 10), data(20, 10)}, "0+10A 20+10A"},
		{"repeated", []segment{data(0, 10), data(0, 10)}, "0+10A 0+10A"},
		{"wrap", []segment{data(0xfffffffb, 10), data(5, 10)}, "4294967291+20A"},
		{"PSH", []segment{data(0, 10), with(data(10, 10), func(s *segment) { s.flags |= psh }), data(20, 10)}, "0+30AP"},
		{"FIN ends it", []segment{data(0, 10), with(data(10, 10), func(s *segment) { s.flags |= fin })}, "0+10A 10+10AF"},
		{"FIN alone", []segment{data(0, 10), with(data(10, 0), func(s *segment) { s.flags |= fin }), data(11, 1)}, "0+10A 10+0AF 11+1A"},
		{"RST after data", []segment{data(0, 10), with(data(10, 0), func(s *segment) { s.flags = rst })}, "0+10A 10+0R"},
		{"SYN at once", []segment{data(0, 10), with(data(5, 0), func(s *segment) { s.flags = syn })}, "0+10A 5+0S"},
		{"other acknowledgement", []segment{data(0, 10), with(data(10, 10), func(s *segment) { s.ack = 2 })}, "0+10A 10+10A"},
		{"other window", []segment{data(0, 10), with(data(10, 10), func(s *segment) { s.window = 2 })}, "0+10A 10+10A"},
		{"other options", []segment{data(0, 10), with(data(10, 10), func(s *segment) { s.options = timestamps(1, 1) })}, "0+10A 10+10A"},
		{"ECN", []segment{data(0, 10), with(data(10, 10), func(s *segment) { s.flags |= 0x40 })}, "0+10A 10+10AE"},
		{"URG", []segment{with(data(0, 10), func(s *segment) { s.flags |= 0x20 }), data(10, 10)}, "0+10AU 10+10A"},
		{"acknowledgements advance", []segment{pure(0, 10), pure(0, 20), pure(0, 30)}, "0+0A"},
		{"duplicate acknowledgements stay", []segment{pure(0, 10), pure(0, 10), pure(0, 10)}, "0+0A 0+0A 0+0A"},
		{"SACK stays", []segment{pure(0, 10), with(pure(0, 20), func(s *segment) { s.options = sack })}, "0+0A 0+0A"},
		{"SACK first stays", []segment{with(pure(0, 10), func(s *segment) { s.options = sack }), pure(0, 20)}, "0+0A 0+0A"},
		{"keepalive stays", []segment{pure(10, 10), pure(9, 20)}, "10+0A 9+0A"},
		{"data after acknowledgement", []segment{pure(0, 10), data(0, 5)}, "0+0A 0+5A"},
		{"acknowledgement after data", []segment{data(0, 5), pure(5, 10)}, "0+5A 5+0A"},
		{"two flows", []segment{data(0, 10), with(data(7, 3), func(s *segment) { s.dst = netip.AddrPortFrom(host4, 81) }), data(10, 10)}, "0+20A 7+3A"},
	}
	for _, test := range tests {
		for family := range families4and6 {
			t.Run(test.name+"/"+family, func(t *testing.T) {
				in := slices.Clone(test.in)
				if family == "v6" {
					for i := range in {
						in[i].src = netip.AddrPortFrom(lease6, in[i].src.Port())
						in[i].dst = netip.AddrPortFrom(host6, in[i].dst.Port())
					}
				}
				var got []byte
				for _, d := range runGRO(in...) {
					got = fmt.Appendf(got, "%d+%d%s ", d.seq, len(d.payload), letters(d.flags))
				}
				if got := string(bytes.TrimSpace(got)); got != test.want {
					t.Errorf("got  %s\nwant %s", got, test.want)
				}
			})
		}
	}
}

func letters(f header.TCPFlags) (s string) {
	for _, l := range []struct {
		f header.TCPFlags
		s string
	}{{ack, "A"}, {psh, "P"}, {syn, "S"}, {fin, "F"}, {rst, "R"}, {0x20, "U"}, {0x40, "E"}} {
		if f.Contains(l.f) {
			s += l.s
		}
	}
	return s
}

// TestGROLast: of merged acknowledgements the last one remains, whole.
func TestGROLast(t *testing.T) {
	client, host := netip.AddrPortFrom(lease4, 1000), netip.AddrPortFrom(host4, 80)
	got := runGRO(
		segment{src: client, dst: host, seq: 5, ack: 10, flags: ack, window: 1, options: timestamps(1, 1)},
		segment{src: client, dst: host, seq: 5, ack: 20, flags: ack, window: 2, options: timestamps(2, 3)},
	)
	if len(got) != 1 || got[0].ack != 20 || got[0].window != 2 || !bytes.Equal(got[0].options, timestamps(2, 3)) {
		t.Errorf("%+v", got)
	}
}

// TestGROTimestamps: of merged segments of data the first timestamps remain, and
// older ones are no continuation.
func TestGROTimestamps(t *testing.T) {
	data := func(seq uint32, options []byte) segment {
		return segment{
			src: netip.AddrPortFrom(lease4, 1000), dst: netip.AddrPortFrom(host4, 80),
			seq: seq, ack: 1, flags: ack, window: 100, options: options, payload: make([]byte, 10),
		}
	}
	got := runGRO(data(0, timestamps(0xffffffff, 5)), data(10, timestamps(0, 6)), data(20, timestamps(3, 7)))
	if len(got) != 1 || len(got[0].payload) != 30 || !bytes.Equal(got[0].options, timestamps(0xffffffff, 5)) {
		t.Errorf("%+v", got)
	}
	for name, other := range map[string][]byte{
		"older":  timestamps(4, 9),
		"absent": nil,
		"SACK":   {1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2},
	} {
		if got := runGRO(data(0, timestamps(5, 5)), data(10, other)); len(got) != 2 {
			t.Errorf("%s: %d segments, want 2", name, len(got))
		}
		if got := runGRO(data(0, other), data(10, timestamps(5, 5))); name != "older" && len(got) != 2 {
			t.Errorf("%s first: %d segments, want 2", name, len(got))
		}
	}
}

// TestGROSize: a super-segment never outgrows the length field of IP.
func TestGROSize(t *testing.T) {
	client, host := netip.AddrPortFrom(lease6, 1000), netip.AddrPortFrom(host6, 80)
	var in []segment
	for i := range uint32(100) {
		in = append(in, segment{src: client, dst: host, seq: i * 1300, ack: 1, flags: ack, payload: make([]byte, 1300), options: timestamps(1, 1)})
	}
	total := 0
	for _, d := range runGRO(in...) {
		if len(d.payload) > groMax {
			t.Errorf("%d bytes", len(d.payload))
		}
		total += len(d.payload)
	}
	if total != 130000 {
		t.Errorf("%d bytes came through", total)
	}
}

// TestGRODifferential: whatever the batch, what GRO delivers of each flow is
// equivalent to the segments one by one: the same bytes at the same sequence
// numbers in the same order, the same signals, the same last acknowledgement.
// (With more flows than slots a duplicate acknowledgement may look like a first
// one, as it may at the beginning of a batch, and give way to the next.)
func TestGRODifferential(t *testing.T) {
	t.Run("slots", func(t *testing.T) { testGRODifferential(t, groSlots, true) })
	t.Run("more flows than slots", func(t *testing.T) { testGRODifferential(t, 3*groSlots, false) })
}

func testGRODifferential(t *testing.T, flows int, signals bool) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		in := randomBatch(rng, flows)
		plain, merged := make(map[Flow]*trace), make(map[Flow]*trace)
		for _, s := range in {
			traceOf(plain, Flow{s.src, s.dst}).add(s.seq, s.ack, s.flags, s.window, s.options, s.payload)
		}
		for _, d := range runGRO(in...) {
			traceOf(merged, d.flow).add(d.seq, d.ack, d.flags, d.window, d.options, d.payload)
		}
		if len(plain) != len(merged) {
			t.Fatalf("%d flows instead of %d", len(merged), len(plain))
		}
		for flow, want := range plain {
			if got := merged[flow]; got == nil || !got.equal(want, signals) {
				for _, s := range in {
					if (Flow{s.src, s.dst}) == flow {
						t.Logf("%d+%d %s ack %d wnd %d opt %x", s.seq, len(s.payload), letters(s.flags), s.ack, s.window, s.options)
					}
				}
				t.Fatalf("flow %v\ngot  %+v\nwant %+v", flow, got, want)
			}
		}
	}
}

// trace is what a flow's receiver can tell of the segments it got.
type trace struct {
	bytes []byteAt // every byte of payload with its sequence number
	// signals are the segments that must arrive as they are: flags, duplicate
	// acknowledgements, acknowledgements with options other than timestamps.
	signals []string
	plain   bool   // the last segment had no flags but ACK and PSH
	ack     uint32 // of the last
	window  uint16
	options string // of the last without payload
}

type byteAt struct {
	seq uint32
	b   byte
}

func traceOf(m map[Flow]*trace, f Flow) *trace {
	if m[f] == nil {
		m[f] = new(trace)
	}
	return m[f]
}

func (t *trace) add(seq, a uint32, flags header.TCPFlags, window uint16, options, payload []byte) {
	for i, b := range payload {
		t.bytes = append(t.bytes, byteAt{seq + uint32(i), b})
	}
	repeated := t.plain && a == t.ack && len(payload) == 0
	t.plain = flags&^psh == ack
	if !t.plain || repeated || len(payload) == 0 && !onlyTimestamps(options) {
		t.signals = append(t.signals, fmt.Sprintf("%d %d %v %d %x", seq, a, flags, window, options))
	}
	t.ack, t.window = a, window
	if len(payload) == 0 { // of data the first timestamps remain
		t.options = string(options)
	}
}

func (t *trace) equal(o *trace, signals bool) bool {
	return slices.Equal(t.bytes, o.bytes) && (!signals || slices.Equal(t.signals, o.signals)) &&
		t.ack == o.ack && t.window == o.window && t.options == o.options
}

// randomBatch makes segments of flows that mostly, but not always, follow each
// other.
func randomBatch(rng *rand.Rand, flows int) (batch []segment) {
	type state struct{ seq, ack uint32 }
	states := make(map[int]*state)
	for range 1 + rng.IntN(60) {
		i := rng.IntN(1 + rng.IntN(flows))
		st := states[i]
		if st == nil {
			st = &state{rng.Uint32(), rng.Uint32()}
			states[i] = st
		}
		s := segment{
			src: netip.AddrPortFrom(lease4, uint16(1000+i/2)), dst: netip.AddrPortFrom(host4, 80),
			seq: st.seq, ack: st.ack, flags: ack, window: 500, options: timestamps(7, 8),
		}
		if i%2 == 1 {
			s.src, s.dst = netip.AddrPortFrom(lease6, s.src.Port()), netip.AddrPortFrom(host6, 80)
		}
		switch rng.IntN(12) {
		case 0:
			s.flags |= []header.TCPFlags{psh, fin, rst, 0x20, 0x40, 0x80}[rng.IntN(6)]
		case 1:
			s.options = [][]byte{nil, timestamps(8, 8), {1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2}, {1, 1, 1, 1}}[rng.IntN(4)]
		case 2:
			s.window = uint16(rng.IntN(3))
		case 3:
			s.seq += uint32(rng.IntN(2000)) - 1000
		}
		if rng.IntN(3) > 0 {
			s.payload = make([]byte, rng.IntN(40))
			for j := range s.payload {
				s.payload[j] = byte(rng.Uint32())
			}
		} else {
			st.ack += uint32(rng.IntN(3)) * 1000
			s.ack = st.ack
		}
		st.seq = s.seq + uint32(len(s.payload))
		batch = append(batch, s)
	}
	return batch
}

func TestRaiseMSS(t *testing.T) {
	tests := []struct{ in, want []byte }{
		{nil, nil},
		{[]byte{2, 4, 0, 1}, []byte{2, 4, 1, 0}},
		{[]byte{2, 4, 5, 180}, []byte{2, 4, 5, 180}},
		{[]byte{1, 3, 3, 7, 2, 4, 0, 0}, []byte{1, 3, 3, 7, 2, 4, 1, 0}},
		{[]byte{0, 2, 4, 0}, []byte{0, 2, 4, 0}},
		{[]byte{2, 3, 0, 1}, []byte{2, 3, 0, 1}}, // no MSS option has three bytes
		{[]byte{2, 9, 0, 1}, []byte{2, 9, 0, 1}},
		{[]byte{2}, []byte{2}},
		{[]byte{5, 1, 2, 4, 0, 1}, []byte{5, 1, 2, 4, 0, 1}},
		{[]byte{2, 4, 5, 100, 4, 2}, []byte{2, 4, 5, 136, 4, 2}}, // with room for SACK
		{synOf(true, true, 1360), synOf(true, true, 1388)},
		{synOf(true, false, 1360), synOf(true, false, 1396)},
		{synOf(false, true, 1360), synOf(false, true, 1360)},
		{synOf(true, true, 1), synOf(true, true, minMSS+28)},
		{synOf(true, true, 0xfff0), synOf(true, true, 0xffff)},
	}
	for _, test := range tests {
		got := slices.Clone(test.in)
		raiseMSS(got)
		if !bytes.Equal(got, test.want) {
			t.Errorf("%v became %v, want %v", test.in, got, test.want)
		}
	}
}
