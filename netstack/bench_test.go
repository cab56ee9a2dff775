package netstack

import (
	"io"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"rocserv/egress"
	"rocserv/internal/packet"
	"rocserv/netstack/recovery"
	"rocserv/netstack/stacktest"
)

// nullSink is a tunnel that takes everything.
type nullSink struct {
	buf     [packet.MaxPacket]byte
	packets int
}

func (s *nullSink) Begin()            {}
func (s *nullSink) Next(n int) []byte { return s.buf[:n] }
func (s *nullSink) Add(int)           { s.packets++ }
func (s *nullSink) End()              {}

// nullDispatcher takes packets and forgets them.
type nullDispatcher struct{ packets int }

func (d *nullDispatcher) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {
	d.packets++
}
func (d *nullDispatcher) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// batchOf is a receive batch of one flow's data segments.
func batchOf(packets, payload int) (pkts [][]byte) {
	for i := range packets {
		pkts = append(pkts, segment{
			src: port(lease4, 1000), dst: port(host4, 80), seq: uint32(i * payload), ack: 1, flags: ack, window: 500,
			options: timestamps(1, 2), payload: make([]byte, payload),
		}.packet())
	}
	return pkts
}

// injectOnly is a stack of which only the way to gVisor's door exists.
func injectOnly() (*Stack, *nullDispatcher) {
	d := new(nullDispatcher)
	s := new(Stack)
	s.link = &link{dispatcher: d}
	s.repair = newRepairer(s.link, tcpip.NewStdClock())
	s.in.gro.link = s.link
	s.in.fragments.stats = &s.stats
	return s, d
}

// BenchmarkInject: parse, merge, copy, up to the stack's door. Per packet.
func BenchmarkInject(b *testing.B) {
	for name, batch := range map[string][][]byte{"1x1382": batchOf(1, 1382), "32x1382": batchOf(32, 1382), "32xACK": batchOf(32, 0)} {
		b.Run(name, func(b *testing.B) {
			s, _ := injectOnly()
			b.ReportAllocs()
			for i := 0; i < b.N; i += len(batch) {
				s.Inject(batch)
			}
		})
	}
}

// TestInjectAllocates: nothing per packet.
func TestInjectAllocates(t *testing.T) {
	countAllocations(t)
	s, d := injectOnly()
	batch := batchOf(32, 1382)
	if n := testing.AllocsPerRun(100, func() { s.Inject(batch) }); n > 0 {
		t.Errorf("%v allocations per batch", n)
	}
	if d.packets != 101 {
		t.Errorf("%d super-segments of 101 batches", d.packets)
	}
}

// deniedNetwork forbids everything, and does not make an error for it.
type deniedNetwork struct{ egress.Network }

func (deniedNetwork) Check(egress.Proto, netip.AddrPort) error { return egress.ErrProhibited }

// TestRefusedSYNAllocates: what a SYN that is not let in costs is time only.
func TestRefusedSYNAllocates(t *testing.T) {
	countAllocations(t)
	refused := [][]byte{segment{src: port(lease4, 1000), dst: port(host4, 80), flags: syn}.packet()}
	t.Run("policy", func(t *testing.T) {
		b := newBare(t, Limits{}, func(c *Config) { c.Net = deniedNetwork{} })
		b.sink.Pause(true) // so that the ring fills up and nobody empties it
		for range 2 * answerSlots {
			b.stack.Inject(refused)
		}
		if n := testing.AllocsPerRun(1000, func() { b.stack.Inject(refused) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
	t.Run("limit", func(t *testing.T) {
		b := newBare(t, Limits{Dials: 2}, nil)
		b.network.BlackHole(port(host4, 80))
		b.inject(segment{src: port(lease4, 999), dst: port(host4, 80), flags: syn})
		eventually(t, "dialling", func() bool { _, n := b.network.Dials(); return n == 1 })
		b.stack.Inject(refused)
		if n := testing.AllocsPerRun(1000, func() { b.stack.Inject(refused) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// superSegment is what TCP hands out with GSO.
func superSegment(payload, mss int) *stack.PacketBuffer {
	const optLen = header.TCPOptionTSLength + 2
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.IPv4MinimumSize + header.TCPMinimumSize + optLen,
		Payload:            buffer.MakeWithView(buffer.NewViewSize(payload)),
	})
	t := header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize + optLen))
	t.Encode(&header.TCPFields{SrcPort: 80, DstPort: 1000, Flags: ack, DataOffset: header.TCPMinimumSize + optLen})
	copy(t[header.TCPMinimumSize:], timestamps(1, 2))
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	ip := header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize))
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(min(pkt.Size(), 0xffff)), TTL: ttl, Protocol: packet.TCP,
		SrcAddr: tcpip.AddrFrom4(host4.As4()), DstAddr: tcpip.AddrFrom4(lease4.As4()),
	})
	pkt.GSOOptions = stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, MSS: uint16(mss)}
	return pkt
}

// BenchmarkWrite: from a super-segment to packets in the tunnel's
// memory. Per packet.
func BenchmarkWrite(b *testing.B) {
	for name, n := range map[string]int{"42x1382": 42 * 1382, "1x1382": 1382, "ACK": 0} {
		b.Run(name, func(b *testing.B) {
			pkt := superSegment(n, 1382)
			defer pkt.DecRef()
			l := &link{sink: new(nullSink), stats: new(counters), tunnel: tunnelOf(1434), path: recovery.New(recovery.Config{})}
			b.ReportAllocs()
			for i := 0; i < b.N; i += max(1, n/1382) {
				l.WritePacket(pkt)
			}
		})
	}
}

// TestWriteAllocates: nothing, neither per packet nor per batch.
func TestWriteAllocates(t *testing.T) {
	countAllocations(t)
	pkt := superSegment(42*1382, 1382)
	defer pkt.DecRef()
	sink := new(nullSink)
	l := &link{sink: sink, stats: new(counters), tunnel: tunnelOf(1434), path: recovery.New(recovery.Config{})}
	if n := testing.AllocsPerRun(100, func() { l.WritePacket(pkt) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if sink.packets != 101*42 {
		t.Errorf("%d packets", sink.packets)
	}
}

// BenchmarkFlow moves bytes through everything: a gVisor client, the stack, a
// host on the loopback interface. Most of the time is the client's.
func BenchmarkFlow(b *testing.B) {
	for _, direction := range []string{"down", "up"} {
		b.Run(direction, func(b *testing.B) {
			r := newBenchRig(b)
			dst := port(host4, 80)
			b.ReportAllocs()
			b.SetBytes(1 << 20)
			n := int64(b.N) << 20
			if direction == "down" {
				r.network.Serve(dst, func(c stacktest.Conn) { io.CopyN(onlyWriter{c}, zeros{}, n) })
				c, err := r.client.DialTCP(b.Context(), dst)
				if err != nil {
					b.Fatal(err)
				}
				b.ResetTimer()
				if m, err := io.CopyBuffer(onlyWriter{io.Discard}, c, make([]byte, 256<<10)); m != n {
					b.Fatal(m, err)
				}
				return
			}
			done := make(chan int64)
			r.network.Serve(dst, func(c stacktest.Conn) { m, _ := io.Copy(onlyWriter{io.Discard}, c); done <- m })
			c, err := r.client.DialTCP(b.Context(), dst)
			if err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			io.CopyBuffer(onlyWriter{c}, io.LimitReader(zeros{}, n), make([]byte, 64<<10))
			c.CloseWrite()
			if m := <-done; m != n {
				b.Fatal(m)
			}
		})
	}
}

type benchRig struct {
	client  *stacktest.Client
	network *stacktest.Network
	stack   *Stack
}

func newBenchRig(b *testing.B) *benchRig {
	r := &benchRig{network: stacktest.NewNetwork()}
	r.network.Sockets = true
	var err error
	r.client, err = stacktest.NewClient(stacktest.ClientConfig{
		Addrs: []netip.Addr{lease4, lease6}, MTU: testMTU, Up: func(pkts [][]byte) { r.stack.Inject(pkts) },
	})
	if err != nil {
		b.Fatal(err)
	}
	r.stack, err = New(Config{Addrs: []netip.Addr{lease4, lease6}, MTU: testMTU, Sink: r.client.Sink(), Net: r.network})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		r.client.Close()
		r.stack.Close()
		r.network.Close()
	})
	return r
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

type onlyWriter struct{ io.Writer }

// BenchmarkNew: a stack made and closed.
func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for range b.N {
		s, err := New(Config{Addrs: []netip.Addr{lease4, lease6}, MTU: testMTU, Sink: new(nullSink), Net: nil})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
