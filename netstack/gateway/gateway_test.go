package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
)

func TestEcho(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t)
			for i, size := range []int{0, 1, 56, 1300, 1372, 1373, 5000, 60000} {
				data := bytes.Repeat([]byte{byte(i + 1)}, size)
				got := r.inject(t, icmpPacket(f.client, f.gw, f.echo, 0x1234, data))
				h, m := reassemble(t, got, 1400)
				if h.Src != f.gw || h.Dst != f.client || h.Proto != f.icmp {
					t.Errorf("%d bytes: answer from %v to %v, protocol %d", size, h.Src, h.Dst, h.Proto)
				}
				want := append([]byte{f.reply, 0, 0, 0, 0x12, 0x34, 0, 9}, data...)
				sum := packet.Sum(m, 0)
				if f.gw.Is6() {
					sum = packet.Sum(m, packet.PseudoSum(f.gw, f.client, packet.ICMPv6, len(m)))
				}
				if sum != 0xffff {
					t.Errorf("%d bytes: checksum", size)
				}
				m[2], m[3] = 0, 0
				if !bytes.Equal(m, want) {
					t.Errorf("%d bytes: answer %x, want %x", size, m[:min(16, len(m))], want[:min(16, len(want))])
				}
			}
			if s := r.Stats(); s.Echoes != 8 || s.Packets != 8 || s.Dropped != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// TestBatch: the answers to a batch leave as a batch, those to a flood in parts.
func TestBatch(t *testing.T) {
	r := newRig(t)
	var pkts [][]byte
	for i := range 10 {
		pkts = append(pkts, icmpPacket(client4, gw4, 8, uint16(i), nil))
	}
	for _, p := range pkts {
		h, _ := packet.Parse(p)
		r.Inject(h, p)
	}
	if len(r.sink.packets) != 0 {
		t.Fatal("answered before Flush")
	}
	r.Flush()
	if !slices.Equal(r.sink.batches, []int{10}) {
		t.Fatalf("batches %v, want one of 10", r.sink.batches)
	}
	for i, p := range r.sink.take() {
		if id := binary.BigEndian.Uint16(p[24:]); int(id) != i {
			t.Errorf("answer %d has id %d", i, id)
		}
	}
	r.Flush()
	if len(r.sink.batches) != 0 {
		t.Error("an empty batch was sent")
	}
	big := icmpPacket(client4, gw4, 8, 1, make([]byte, 1300))
	for range 200 {
		h, _ := packet.Parse(big)
		r.Inject(h, big)
		if len(r.out.buf) > maxPending {
			t.Fatalf("%d bytes wait", len(r.out.buf))
		}
	}
	r.Flush()
	if n := len(r.sink.take()); n != 200 {
		t.Errorf("%d answers, want 200", n)
	}
	r.Trim()
	if cap(r.out.buf) != 0 {
		t.Error("Trim left a buffer")
	}
	if got := r.inject(t, icmpPacket(client4, gw4, 8, 1, nil)); len(got) != 1 {
		t.Error("no answer after Trim")
	}
}

func TestDNS(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t)
			if got := r.inject(t, udpPacket(f.client, f.gw, 40000, 53, []byte("who?"))); len(got) != 0 {
				t.Fatalf("answered by itself: %x", got)
			}
			if len(r.resolver.msgs) != 1 || string(r.resolver.msgs[0]) != "who?" {
				t.Fatalf("asked %q", r.resolver.msgs)
			}
			if want := 1400 - packet.UDPOffset(f.gw.Is6()); r.resolver.limits[0] != want {
				t.Errorf("limit %d, want %d", r.resolver.limits[0], want)
			}
			answer := bytes.Repeat([]byte("me!"), 400)
			done := make(chan struct{})
			go func() { r.resolver.replies[0](answer); close(done) }()
			<-done
			got := r.sink.take()
			if len(got) != 1 {
				t.Fatalf("%d packets", len(got))
			}
			h, ok := packet.Parse(got[0])
			d, err := packet.ReadUDP(&h, got[0])
			if !ok || err != nil || h.Src != f.gw || h.Dst != f.client || d.SrcPort != 53 || d.DstPort != 40000 || !bytes.Equal(d.Payload, answer) {
				t.Errorf("answer %+v, ports %d to %d, %v", h, d.SrcPort, d.DstPort, err)
			}
			// The tunnel has become narrow meanwhile.
			r.inject(t, udpPacket(f.client, f.gw, 40000, 53, []byte("who?")))
			r.SetMTU(1280)
			r.resolver.replies[1](make([]byte, 1340))
			if got := r.sink.take(); len(got) != 2 {
				t.Errorf("%d packets, want two fragments", len(got))
			} else if _, u := reassemble(t, got, 1280); len(u) != 8+1340 {
				t.Errorf("%d bytes of UDP", len(u))
			}
			// Answered without an upstream, from within Inject.
			r.resolver.now = []byte("at once")
			if got := r.inject(t, udpPacket(f.client, f.gw, 5, 53, []byte("who?"))); len(got) != 1 {
				t.Errorf("%d answers", len(got))
			}
			if s := r.Stats(); s.Queries != 3 || s.Replies != 3 {
				t.Errorf("stats %+v", s)
			}
			r.Close()
			r.resolver.replies[0](answer)
			if got := r.sink.take(); len(got) != 0 {
				t.Error("answered after Close")
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			v6 := f.gw.Is6()
			port, proto := [2]byte{3, 3}, [2]byte{3, 2}
			if v6 {
				port, proto = [2]byte{1, 4}, [2]byte{4, 1}
			}
			foreign := uint8(packet.ICMPv6)
			if v6 {
				foreign = packet.ICMP
			}
			udp := udpPacket(f.client, f.gw, 4000, 123, []byte("time?"))
			badSum := bytes.Clone(udp)
			badSum[len(badSum)-1] ^= 1
			badEcho := icmpPacket(f.client, f.gw, f.echo, 1, []byte("x"))
			badEcho[len(badEcho)-1] ^= 1
			tests := []struct {
				name string
				pkt  []byte
				want [2]byte // type and code; zero: no answer
			}{
				{"closed UDP port", bytes.Clone(udp), port},
				{"GRE", ipPacket(f.client, f.gw, 47, []byte("....")), proto},
				{"ICMP of the other family", ipPacket(f.client, f.gw, foreign, []byte{f.echo, 0, 0, 0, 0, 0, 0, 0}), proto},
				{"UDP with a bad checksum", badSum, [2]byte{}},
				{"UDP cut short", ipPacket(f.client, f.gw, packet.UDP, []byte{1, 2, 0, 53}), [2]byte{}},
				{"UDP from port 0", udpPacket(f.client, f.gw, 0, 53, nil), [2]byte{}},
				{"echo with a bad checksum", badEcho, [2]byte{}},
				{"echo reply", icmpPacket(f.client, f.gw, f.reply, 1, nil), [2]byte{}},
				{"ICMP error", icmpPacket(f.client, f.gw, port[0], 1, nil), [2]byte{}},
				{"TCP, which is the stack's", ipPacket(f.client, f.gw, packet.TCP, make([]byte, 20)), [2]byte{}},
				{"not our address", udpPacket(f.client, f.other, 4000, 53, nil), [2]byte{}},
			}
			for _, tt := range tests {
				r := newRig(t)
				orig := bytes.Clone(tt.pkt)
				got := r.inject(t, tt.pkt)
				if tt.want == [2]byte{} {
					if len(got) != 0 || len(r.resolver.msgs) != 0 || r.Stats().Dropped != 1 {
						t.Errorf("%s: %d answers, %d queries, stats %+v", tt.name, len(got), len(r.resolver.msgs), r.Stats())
					}
					continue
				}
				if len(got) != 1 || r.Stats().Refused != 1 {
					t.Errorf("%s: %d answers", tt.name, len(got))
					continue
				}
				h, m := reassemble(t, got, 1400)
				if h.Src != f.gw || h.Dst != f.client || h.Proto != f.icmp || [2]byte(m) != tt.want || !bytes.Equal(m[8:], orig) {
					t.Errorf("%s: %+v %x, want %v about %x", tt.name, h, m, tt.want, orig)
				}
			}
		})
	}
}

// TestInterceptDNS: queries to other hosts are answered in their place, and
// nothing else that is not for the gateway.
func TestInterceptDNS(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			r := newRig(t)
			query := func() []byte { return udpPacket(f.client, f.other, 5353, 53, []byte("query")) }
			if got := r.inject(t, query()); len(got) != 0 || len(r.resolver.msgs) != 0 || r.Stats().Dropped != 1 {
				t.Errorf("without InterceptDNS: %x", got)
			}
			r.cfg.InterceptDNS = true
			r.resolver.now = []byte("answer")
			h, m := reassemble(t, r.inject(t, query()), 1400)
			if h.Src != f.other || h.Dst != f.client || string(m[8:]) != "answer" || binary.BigEndian.Uint16(m) != 53 || binary.BigEndian.Uint16(m[2:]) != 5353 {
				t.Errorf("answer from %v to %v: %x", h.Src, h.Dst, m)
			}
			to := func(dst string, port uint16) []byte {
				return udpPacket(f.client, netip.MustParseAddr(dst), 5353, port, []byte("query"))
			}
			others := map[string][]byte{
				"another port": udpPacket(f.client, f.other, 5353, 54, []byte("query")),
				"echo":         icmpPacket(f.client, f.other, f.echo, 1, nil),
				"TCP":          ipPacket(f.client, f.other, packet.TCP, make([]byte, 20)),
				"no port":      ipPacket(f.client, f.other, packet.UDP, []byte{0, 1, 0}),
			}
			for _, dst := range []string{"127.0.0.1", "255.255.255.255", "224.0.0.251", "0.0.0.0", "169.254.1.1", "::1", "ff02::fb", "fe80::1", "::"} {
				if netip.MustParseAddr(dst).Is4() == f.client.Is4() {
					others[dst] = to(dst, 53)
				}
			}
			for name, pkt := range others {
				h, ok := packet.Parse(pkt)
				if !ok {
					t.Fatalf("%s: no packet", name)
				}
				if r.Intercepts(&h, pkt) {
					t.Errorf("%s is intercepted", name)
				}
				if got := r.inject(t, pkt); len(got) != 0 {
					t.Errorf("%s: answered with %x", name, got)
				}
			}
		})
	}
}

// TestForwards: a port with a line leads to its service, without a resolver too.
func TestForwards(t *testing.T) {
	errService := errors.New("the service")
	g := New(Config{Addr4: gw4, Sink: &sink{t: t}, MTU: 1400, Forwards: map[uint16]func(context.Context) (egress.Stream, error){
		5201: func(context.Context) (egress.Stream, error) { return nil, errService },
	}})
	dial, ok := g.DialTCP(5201)
	if !ok {
		t.Fatal("the port is closed")
	}
	if _, err := dial(t.Context()); err != errService {
		t.Errorf("it leads to %v", err)
	}
	for _, port := range []uint16{53, 5200, 5202} {
		if _, ok := g.DialTCP(port); ok {
			t.Errorf("port %d is open", port)
		}
	}
	g.Close()
	if _, ok := g.DialTCP(5201); ok {
		t.Error("open after Close")
	}
}

// TestDialTCP: port 53 leads to the resolver, no port to the host.
func TestDialTCP(t *testing.T) {
	r := newRig(t)
	dial, ok := r.DialTCP(53)
	if !ok {
		t.Fatal("DNS over TCP is closed")
	}
	if _, err := dial(t.Context()); !errors.Is(err, errDialled) {
		t.Errorf("port 53 leads to %v, not to the resolver", err)
	}
	for port := range 1 << 16 {
		if _, ok := r.DialTCP(uint16(port)); ok && port != 53 {
			t.Errorf("port %d is open", port)
		}
	}
	r.Close()
	if _, ok := r.DialTCP(53); ok {
		t.Error("open after Close")
	}
	none := New(Config{Addr4: gw4, Sink: &sink{t: t}, MTU: 1400})
	if _, ok := none.DialTCP(53); ok {
		t.Error("port 53 is open without a resolver")
	}
	if none.Owns(netip.Addr{}) || none.Owns(gw6) || !none.Owns(gw4) {
		t.Error("Owns")
	}
	pkt := udpPacket(client4, gw4, 9, 53, nil)
	h, _ := packet.Parse(pkt)
	none.Inject(h, pkt)
	if none.Stats().Refused != 1 {
		t.Error("DNS without a resolver is no closed port")
	}
}

func TestErrorLimit(t *testing.T) {
	r := newRig(t)
	scan := func(n int) (answers int) {
		for range n {
			answers += len(r.inject(t, udpPacket(client4, gw4, 9, 7, nil)))
		}
		return answers
	}
	if n := scan(500); n != errorsBurst {
		t.Errorf("%d errors at once, want %d", n, errorsBurst)
	}
	r.now = r.now.Add(100 * time.Millisecond)
	if n := scan(500); n != errorsPerSecond/10 {
		t.Errorf("%d errors after a tenth of a second, want %d", n, errorsPerSecond/10)
	}
	r.now = r.now.Add(time.Hour)
	if n := scan(500); n != errorsBurst {
		t.Errorf("%d errors after an hour, want %d", n, errorsBurst)
	}
	if n := len(r.inject(t, icmpPacket(client4, gw4, 8, 1, nil))); n != 1 {
		t.Error("the limit on errors holds up echo")
	}
}

// TestBlockedSink: an answer that cannot leave holds no lock that Inject needs.
func TestBlockedSink(t *testing.T) {
	r := newRig(t)
	r.inject(t, udpPacket(client4, gw4, 9, 53, []byte("?")))
	r.sink.blocked = make(chan struct{})
	done := make(chan struct{})
	go func() { r.resolver.replies[0]([]byte("!")); close(done) }()
	for r.Stats().Replies == 0 {
		runtime.Gosched()
	}
	for _, p := range [][]byte{icmpPacket(client4, gw4, 8, 1, nil), udpPacket(client4, gw4, 9, 53, []byte("?"))} {
		h, _ := packet.Parse(p)
		r.Inject(h, p)
	}
	if len(r.resolver.msgs) != 2 {
		t.Error("the second query did not reach the resolver")
	}
	close(r.sink.blocked)
	<-done
}

func TestFragmentsAndRoutesAreDropped(t *testing.T) {
	r := newRig(t)
	frag := udpPacket(client4, gw4, 9, 53, []byte("?"))
	frag[6] = 0x20 // more fragments
	if got := r.inject(t, frag); len(got) != 0 || len(r.resolver.msgs) != 0 || r.Stats().Dropped != 1 {
		t.Errorf("a fragment was answered: %x", got)
	}
}

func TestInjectAllocatesNothing(t *testing.T) {
	r := newRig(t)
	quiet := &quietSink{buf: make([]byte, 2000)}
	r.cfg.Sink = quiet
	echo, scan := icmpPacket(client6, gw6, 128, 1, make([]byte, 56)), udpPacket(client4, gw4, 9, 7, nil)
	he, _ := packet.Parse(echo)
	hs, _ := packet.Parse(scan)
	if n := testing.AllocsPerRun(100, func() {
		r.now = r.now.Add(time.Second)
		for range 8 {
			r.Inject(he, echo)
			r.Inject(hs, scan)
		}
		r.Flush()
	}); n != 0 {
		t.Errorf("%v allocations for a batch", n)
	}
	if quiet.packets == 0 {
		t.Error("nothing was answered")
	}
}

type quietSink struct {
	buf     []byte
	packets int
}

func (s *quietSink) Begin()            {}
func (s *quietSink) Next(n int) []byte { return s.buf[:n] }
func (s *quietSink) Add(int)           { s.packets++ }
func (s *quietSink) End()              {}

// FuzzInject: whatever the client sends to the gateway, what comes back is whole
// packets from the gateway to the client, never more than one answer for one.
func FuzzInject(f *testing.F) {
	for _, fam := range families {
		f.Add(icmpPacket(fam.client, fam.gw, fam.echo, 1, []byte("hello")), uint16(1400))
		f.Add(udpPacket(fam.client, fam.gw, 9, 53, []byte("query")), uint16(1280))
		f.Add(udpPacket(fam.client, fam.gw, 9, 99, []byte("query")), uint16(1280))
		f.Add(ipPacket(fam.client, fam.gw, 47, []byte("gre")), uint16(600))
		f.Add(icmpPacket(fam.client, fam.gw, fam.echo, 1, make([]byte, 3000)), uint16(1400))
		f.Add(ipPacket(fam.client, fam.gw, 60, []byte{17, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 53, 0, 8, 0, 0}), uint16(1400))
	}
	f.Fuzz(func(t *testing.T, pkt []byte, mtu uint16) {
		h, ok := packet.Parse(pkt)
		if !ok {
			return
		}
		r := newRig(t)
		r.resolver.now = []byte("an answer")
		r.SetMTU(int(max(mtu, 576)))
		r.Inject(h, bytes.Clone(pkt))
		r.Flush()
		got := r.sink.take()
		if len(got) == 0 {
			return
		}
		ah, _ := reassemble(t, got, max(int(mtu), 1280))
		if !r.Owns(ah.Src) || ah.Dst != h.Src {
			t.Fatalf("answer from %v to %v, packet was from %v", ah.Src, ah.Dst, h.Src)
		}
	})
}

func BenchmarkEcho(b *testing.B) {
	r := newRig(b)
	r.cfg.Sink = &quietSink{buf: make([]byte, 2000)}
	echo := icmpPacket(client4, gw4, 8, 1, make([]byte, 56))
	h, _ := packet.Parse(echo)
	b.ReportAllocs()
	for b.Loop() {
		r.Inject(h, echo)
		r.Flush()
	}
}
