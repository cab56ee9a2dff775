package datagram

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
)

func msg(from netip.AddrPort, payload string) egress.Message {
	return egress.Message{Addr: from, Payload: []byte(payload), TTL: 50}
}

func TestUDPThereAndBack(t *testing.T) {
	for _, to := range []netip.AddrPort{web4, web6} {
		g := newRig(t, nil)
		g.inject(udp(5000, to, "question"))
		s := g.net.sock(t, 0)
		want := egress.Message{Addr: to, Payload: []byte("question"), DF: to.Addr().Is6()}
		if len(s.sent) != 1 || len(s.sent[0]) != 1 || fmt.Sprint(s.sent[0][0]) != fmt.Sprint(want) || s.v6 != to.Addr().Is6() || s.ping {
			t.Fatalf("%v: socket %+v sent %v", to, s, s.sent)
		}
		s.receive(msg(to, "answer"))
		got := g.sink.packets()
		if len(got) != 1 {
			t.Fatalf("%d packets", len(got))
		}
		if h := wantUDP(t, got[0], to, 5000, "answer"); h.TTL != 49 {
			t.Errorf("%v: TTL %d, want one less than it came with", to, h.TTL)
		}
		st := g.Stats()
		if st.Up != (Traffic{1, 8}) || st.Down != (Traffic{1, 6}) || st.NAT.UDP != 1 {
			t.Errorf("%+v", st)
		}
	}
}

// One socket for one client port, whatever the destination; another for another.
func TestOneSocketForOnePort(t *testing.T) {
	g := newRig(t, nil)
	g.inject(udp(5000, web4, "a"), udp(5001, web4, "b"), udp(5000, dns4, "c"), udp(5000, web6, "d"), udp(5000, web4, "e"))
	if n := g.net.opened(); n != 3 {
		t.Fatalf("%d sockets, want 5000/v4, 5001/v4, 5000/v6", n)
	}
	if got := fmt.Sprintf("%s", payloads(g.net.sock(t, 0).sent)); got != "[[a c e]]" {
		t.Errorf("sent %s, want one Send in order", got)
	}
	g.inject(udp(5000, web4, "f"))
	if got := fmt.Sprintf("%s", payloads(g.net.sock(t, 0).sent)); got != "[[a c e] [f]]" {
		t.Errorf("sent %s", got)
	}
}

func payloads(batches [][]egress.Message) (out [][]string) {
	for _, b := range batches {
		var p []string
		for _, m := range b {
			p = append(p, string(m.Payload))
		}
		out = append(out, p)
	}
	return out
}

// A long batch is sent in parts, and nothing is lost or out of order.
func TestLongBatch(t *testing.T) {
	g := newRig(t, nil)
	var pkts [][]byte
	for i := range 200 {
		pkts = append(pkts, udp(uint16(5000+i%3), web4, fmt.Sprint(i)))
	}
	g.inject(pkts...)
	for f := range 3 {
		var all []string
		for _, b := range payloads(g.net.sock(t, f).sent) {
			all = append(all, b...)
		}
		for i, p := range all {
			if p != fmt.Sprint(f+3*i) {
				t.Fatalf("flow %d: %v", f, all)
			}
		}
		if want := (200 - f + 2) / 3; len(all) != want {
			t.Errorf("flow %d: %d of %d datagrams", f, len(all), want)
		}
	}
}

// After a batch nothing refers to its packets or to flows, and little is kept.
func TestNothingIsKept(t *testing.T) {
	g := newRig(t, nil)
	for i := range 200 {
		b := udp(uint16(5000+i%100), web4, "x")
		h, _ := packet.Parse(b)
		g.Inject(h, b)
	}
	g.Flush()
	u := &g.up
	if cap(u.pending) > 2*maxPending || cap(u.msgs) > 2*maxPending || cap(u.flows) > 2*maxPending {
		t.Errorf("room for %d, %d, %d is kept", cap(u.pending), cap(u.msgs), cap(u.flows))
	}
	for _, p := range u.pending[:cap(u.pending)] {
		if p.pkt != nil || p.msg.Payload != nil {
			t.Fatal("a packet is kept")
		}
	}
	for _, m := range u.msgs[:cap(u.msgs)] {
		if m.Payload != nil {
			t.Fatal("a payload is kept")
		}
	}
	for _, f := range u.flows[:cap(u.flows)] {
		if f != nil {
			t.Fatal("a flow is kept")
		}
	}
}

// One batch of the Sink for one Receive, and every datagram in it.
func TestBatchDown(t *testing.T) {
	g := newRig(t, nil)
	g.inject(udp(5000, web4, "x"))
	var in []egress.Message
	for i := range 32 {
		in = append(in, msg(web4, fmt.Sprint(i)))
	}
	g.net.sock(t, 0).receive(in...)
	batches := g.sink.take()
	if len(batches) != 1 || len(batches[0]) != 32 {
		t.Fatalf("%d batches, the first of %d", len(batches), len(batches[0]))
	}
	ids := map[uint16]bool{}
	for i, b := range batches[0] {
		wantUDP(t, b, web4, 5000, fmt.Sprint(i))
		ids[binary.BigEndian.Uint16(b[4:])] = true
	}
	if len(ids) != 32 { // RFC 6864 section 4.1
		t.Errorf("%d IP identifications for 32 packets", len(ids))
	}
}

// Of a batch longer than one mask of bits nothing is lost.
func TestLongBatchDown(t *testing.T) {
	g := newRig(t, nil)
	g.inject(udp(5000, web4, "x"))
	var in []egress.Message
	for i := range 150 {
		from := web4
		if i%2 == 1 {
			from = evil4
		}
		in = append(in, msg(from, fmt.Sprint(i)))
	}
	g.net.sock(t, 0).receive(in...)
	got := g.sink.packets()
	if len(got) != 75 {
		t.Fatalf("%d packets", len(got))
	}
	for i, b := range got {
		wantUDP(t, b, web4, 5000, fmt.Sprint(2*i))
	}
	if n := g.Stats().NAT.Filtered; n != 75 {
		t.Errorf("%d filtered", n)
	}
}

func TestFiltering(t *testing.T) {
	otherPort := netip.AddrPortFrom(web4.Addr(), 9999)
	mapped := netip.AddrPortFrom(netip.AddrFrom16(web4.Addr().As16()), web4.Port())
	for _, cone := range []bool{false, true} {
		g := newRig(t, func(c *Config) { c.FullCone = cone })
		g.inject(udp(5000, web4, "x"))
		s := g.net.sock(t, 0)
		s.receive(msg(evil4, "spoofed"))
		if batches := g.sink.take(); (len(batches) == 1) != cone {
			t.Errorf("full cone %v: %d batches for somebody unknown", cone, len(batches))
		}
		s.receive(msg(otherPort, "same host"), msg(mapped, "mapped"))
		got := g.sink.packets()
		wantUDP(t, got[0], otherPort, 5000, "same host")
		wantUDP(t, got[1], web4, 5000, "mapped")
		s.receive(msg(web6, "other family"))
		if len(g.sink.take()) != 0 || g.Stats().Unexpected != 1 {
			t.Error("a packet of another family passed")
		}
	}
}

func TestEmptyPayload(t *testing.T) {
	g := newRig(t, nil)
	g.inject(udp(5000, web4, ""))
	s := g.net.sock(t, 0)
	if len(s.sent) != 1 || len(s.sent[0]) != 1 || len(s.sent[0][0].Payload) != 0 {
		t.Fatalf("sent %v", s.sent)
	}
	s.receive(msg(web4, ""))
	wantUDP(t, g.sink.packets()[0], web4, 5000, "")
}

// Every kind of packet that goes nowhere has its counter, makes no socket and no answer.
func TestIgnored(t *testing.T) {
	flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	set := func(b []byte, at int, v ...byte) []byte { copy(b[at:], v); return b }
	noSum4, noSum6 := set(udp(5000, web4, "x"), 26, 0, 0), set(udp(5000, web6, "x"), 46, 0, 0)
	routed := append(append([]byte{}, udp(5000, web4, "x")[:20]...), 131, 3, 4, 0)
	routed = append(routed, udp(5000, web4, "x")[20:]...)
	routed[0], routed[3] = 0x46, byte(len(routed))
	tests := []struct {
		name string
		b    []byte
		want func(*Stats) *uint64
	}{
		{"udp checksum", flip(udp(5000, web4, "x")), func(s *Stats) *uint64 { return &s.Checksum }},
		{"udp6 checksum", flip(udp(5000, web6, "x")), func(s *Stats) *uint64 { return &s.Checksum }},
		{"udp6 without checksum", noSum6, func(s *Stats) *uint64 { return &s.Checksum }},
		{"ip checksum", set(udp(5000, web4, "x"), 10, 1), func(s *Stats) *uint64 { return &s.Checksum }},
		{"echo checksum", flip(ping(1, 1, web4.Addr(), "x")), func(s *Stats) *uint64 { return &s.Checksum }},
		{"udp length", set(udp(5000, web4, "x"), 24, 0, 99), func(s *Stats) *uint64 { return &s.Malformed }},
		{"source port 0", udp(0, web4, "x"), func(s *Stats) *uint64 { return &s.Malformed }},
		{"port 0", udp(5000, netip.AddrPortFrom(web4.Addr(), 0), "x"), func(s *Stats) *uint64 { return &s.Malformed }},
		{"fragment", fixHeaderSum(set(udp(5000, web4, "x"), 6, 0x20)), func(s *Stats) *uint64 { return &s.Malformed }},
		{"source route", fixHeaderSum(routed), func(s *Stats) *uint64 { return &s.Malformed }},
		{"mapped address", udp(5000, netip.MustParseAddrPort("[::ffff:192.0.2.80]:443"), "x"), func(s *Stats) *uint64 { return &s.Malformed }},
		{"short echo", fixHeaderSum(set(ping(1, 1, web4.Addr(), "")[:27], 3, 27)), func(s *Stats) *uint64 { return &s.Malformed }},
		{"echo reply", reply(ping(1, 1, web4.Addr(), "x")), func(s *Stats) *uint64 { return &s.Unsupported }},
		{"icmp of the other family", fixHeaderSum(set(udp(5000, web4, "x"), 9, 58)), func(s *Stats) *uint64 { return &s.Unsupported }},
		{"mdns", udp(5353, netip.MustParseAddrPort("224.0.0.251:5353"), "x"), func(s *Stats) *uint64 { return &s.Multicast }},
		{"mdns6", udp(5353, netip.MustParseAddrPort("[ff02::fb]:5353"), "x"), func(s *Stats) *uint64 { return &s.Multicast }},
		{"broadcast", udp(137, netip.MustParseAddrPort("255.255.255.255:137"), "x"), func(s *Stats) *uint64 { return &s.Multicast }},
	}
	for _, tt := range tests {
		g := newRig(t, nil)
		g.inject(tt.b)
		got := g.Stats()
		var want Stats
		*tt.want(&want) = 1
		if got != want {
			t.Errorf("%s: %+v", tt.name, got)
		}
		if g.net.opened() != 0 || g.net.checks != 0 || len(g.answers) != 0 {
			t.Errorf("%s: %d sockets, %d checks, %d answers", tt.name, g.net.opened(), g.net.checks, len(g.answers))
		}
	}
	g := newRig(t, nil)
	g.inject(noSum4) // RFC 768: allowed
	if g.Stats().Up.Packets != 1 {
		t.Errorf("UDP over IPv4 without checksum: %+v", g.Stats())
	}
}

// reply makes an echo request the reply to it.
func reply(b []byte) []byte {
	h, _ := packet.Parse(b)
	out := make([]byte, packet.EchoReplyLen(&h))
	packet.PutEchoReply(out, &h, b)
	return out
}

func TestOpenErrors(t *testing.T) {
	tests := []struct {
		err       error
		typ, code byte
		answer    bool
		count     func(*Stats) uint64
	}{
		{syscall.EACCES, 3, 13, true, func(s *Stats) uint64 { return s.Prohibited }},
		{syscall.ENETUNREACH, 3, 0, true, func(s *Stats) uint64 { return s.Unopened }},
		{syscall.EMFILE, 0, 0, false, func(s *Stats) uint64 { return s.Unopened }},
	}
	for _, tt := range tests {
		g := newRig(t, nil)
		g.net.openErr = tt.err
		pkt := udp(5000, web4, "x")
		orig := bytes.Clone(pkt)
		g.inject(pkt)
		st := g.Stats()
		if tt.count(&st) != 1 || st.NAT.UDP != 0 {
			t.Errorf("%v: %+v", tt.err, st)
		}
		if tt.answer {
			g.sink.wait()
			wantError(t, g.sink.packets()[0], gw4, tt.typ, tt.code, orig)
		} else if st.Answered != 0 {
			t.Errorf("%v: answered", tt.err)
		}
		g.net.openErr = nil // and when it works again, it works
		g.inject(udp(5000, web4, "y"))
		if g.Stats().Up.Packets != 1 {
			t.Errorf("%v: did not recover: %+v", tt.err, g.Stats())
		}
	}
}

// When descriptors run out an idle flow gives its own up, and it is logged once.
func TestDescriptorsRunOut(t *testing.T) {
	g := newRig(t, nil)
	for port := range uint16(5) {
		g.inject(udp(5000+port, web4, "x"))
	}
	g.clock.advance(10 * time.Second)
	g.net.openErr = syscall.EMFILE
	for port := range uint16(3) {
		g.inject(udp(6000+port, web4, "x"))
	}
	st := g.Stats()
	if st.NAT.Evicted != 3 || st.NAT.UDP != 2 || g.net.openNow() != 2 || st.Unopened != 3 {
		t.Errorf("%d sockets open, %+v", g.net.openNow(), st)
	}
	if n := strings.Count(g.log.String(), "\n"); n != 1 || !strings.Contains(g.log.String(), "no socket") {
		t.Errorf("log: %s", g.log)
	}
}

func TestEviction(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Limits.UDP = 3 })
	for port := range uint16(3) {
		g.inject(udp(5000+port, web4, "x"))
		g.clock.advance(time.Second)
	}
	g.inject(udp(5000, web4, "again"), udp(5003, web4, "new"))
	if g.net.sock(t, 1).closed != 1 || g.net.openNow() != 3 || g.Stats().NAT.Evicted != 1 {
		t.Errorf("%d sockets open, %+v", g.net.openNow(), g.Stats())
	}
	g.net.sock(t, 1).receive(msg(web4, "late"))
	if len(g.sink.take()) != 0 {
		t.Error("an evicted flow received")
	}
}

// Sockets are no more than the ports that were granted, once it is known.
func TestPorts(t *testing.T) {
	var said []string
	g := newRig(t, func(c *Config) {
		c.Ports = &Ports{Held: 32, Say: func(more, back int) { said = append(said, fmt.Sprintf("+%d-%d", more, back)) }}
	})
	for port := range uint16(40) {
		g.inject(udp(5000+port, web4, "x"))
	}
	if n := g.net.openNow(); n != 40 || fmt.Sprint(said) != "[+32-0]" {
		t.Errorf("%d sockets open while an answer is awaited, said %v", n, said)
	}
	g.Granted(3)
	if st := g.Stats(); g.net.openNow() != 35 || st.NAT.Ports != 35 || st.NAT.OutOfPorts != 5 {
		t.Errorf("%d sockets open with 35 ports, %+v", g.net.openNow(), st.NAT)
	}
	g.inject(udp(6000, web4, "y"))
	if g.net.openNow() != 35 || g.Stats().Up.Packets != 41 {
		t.Errorf("%d sockets open, %+v", g.net.openNow(), g.Stats())
	}
	for s := range time.Duration(150) {
		g.Tick(epoch.Add(s * time.Second))
		if len(said) == 2 && said[1] != "" {
			g.Granted(64)
			said = append(said, "")
		}
	}
	if n := g.Stats().NAT.Ports; fmt.Sprint(said) != "[+32-0 +64-0  +0-64]" || n != 35 {
		t.Errorf("%d ports left, said %q", n, said)
	}
	g.Close()
	g.Tick(epoch.Add(time.Hour))
	if len(said) != 4 {
		t.Errorf("a closed relay says %q", said[4:])
	}
}

// A flow evicted within a batch still sends what the batch had for it.
func TestEvictionWithinBatch(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Limits.UDP = 1 })
	g.inject(udp(5000, web4, "a"), udp(5001, web4, "b"), udp(5002, web4, "c"))
	for i, want := range []string{"a", "b", "c"} {
		if got := payloads(g.net.sock(t, i).sent); len(got) != 1 || got[0][0] != want {
			t.Errorf("socket %d sent %v", i, got)
		}
	}
	if g.net.openNow() != 1 {
		t.Errorf("%d sockets open", g.net.openNow())
	}
}

func TestExpiry(t *testing.T) {
	g := newRig(t, nil)
	g.inject(udp(5000, web4, "x"), udp(5001, dns4, "q"), ping(9, 1, web4.Addr(), "x"))
	g.net.sock(t, 1).receive(msg(dns4, "a"))
	steps := []struct {
		after time.Duration
		open  int
	}{{time.Second, 3}, {2 * time.Second, 2}, {59 * time.Second, 2}, {60 * time.Second, 1}, {119 * time.Second, 1}, {120 * time.Second, 0}}
	for _, s := range steps {
		g.Tick(epoch.Add(s.after))
		if got := g.net.openNow(); got != s.open || g.Flows() != s.open {
			t.Errorf("after %v: %d sockets open, %d flows, want %d", s.after, got, g.Flows(), s.open)
		}
	}
	if st := g.Stats(); st.NAT.Expired != 3 || st.NAT.UDP+st.NAT.Echo != 0 {
		t.Errorf("%+v", st)
	}
}

func TestNewMappingsAreLimited(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Limits.NewPerSecond = 10 })
	for port := range uint16(50) {
		g.inject(udp(5000+port, web4, "x"))
	}
	if st := g.Stats(); g.net.opened() != 10 || st.Unopened != 40 || st.NAT.RateLimited != 40 {
		t.Errorf("%d sockets, %+v", g.net.opened(), st)
	}
}

func TestClose(t *testing.T) {
	g := newRig(t, nil)
	g.inject(udp(5000, web4, "x"), udp(5001, web4, "x"), ping(1, 1, web4.Addr(), "x"))
	g.Close()
	for i := range 3 {
		if n := g.net.sock(t, i).closed; n != 1 {
			t.Errorf("socket %d closed %d times", i, n)
		}
	}
	g.net.sock(t, 0).receive(msg(web4, "late"))
	g.inject(udp(5000, web4, "x"))
	g.Tick(epoch.Add(time.Hour))
	g.Close()
	if g.net.opened() != 3 || len(g.sink.take()) != 0 {
		t.Error("a closed relay goes on")
	}
}

// A relay that is closed, or a flow that expires, while its socket is opened.
func TestEndWhileOpening(t *testing.T) {
	for name, end := range map[string]func(g *rig){
		"closed":  func(g *rig) { g.Close() },
		"expired": func(g *rig) { g.Tick(epoch.Add(time.Hour)) },
	} {
		g := newRig(t, nil)
		g.net.opening = func() { end(g) }
		g.inject(udp(5000, web4, "x"))
		if g.net.opened() != 1 || g.net.openNow() != 0 || len(g.net.sock(t, 0).sent) != 0 {
			t.Errorf("%s: %d opened, %d open", name, g.net.opened(), g.net.openNow())
		}
		g.net.openErr = syscall.ENETUNREACH
		g.inject(udp(5000, web4, "x")) // the error of a flow that is gone already
	}
}

// A client that does not read stops what is on its way to it, and nothing else.
func TestSinkBlocks(t *testing.T) {
	g := newRig(t, nil)
	g.inject(udp(5000, web4, "x"), udp(5001, web4, "x"))
	g.sink.gate = make(chan struct{})
	received := make(chan struct{})
	go func() {
		g.net.sock(t, 0).receive(msg(web4, "answer"))
		close(received)
	}()
	for g.Stats().Down.Packets == 0 { // it has been admitted, and is or will be in Begin
		runtime.Gosched()
	}
	g.inject(udp(5000, web4, "y"), udp(6000, web4, "new"), withTTL(udp(5000, web4, "z"), 1))
	g.Tick(epoch.Add(125 * time.Second))
	if n := g.net.sock(t, 1).closed; n != 1 {
		t.Errorf("closed %d times", n)
	}
	g.inject(withTTL(udp(5000, web4, "z"), 1))
	if st := g.Stats(); st.Up.Packets != 4 || st.Answered != 2 {
		t.Errorf("%+v", st)
	}
	select {
	case <-received:
		t.Fatal("the Sink did not block")
	default:
	}
	close(g.sink.gate)
	<-received
	for len(g.sink.packets()) == 0 {
		g.sink.wait()
	}
}

func TestFragmentsDown(t *testing.T) {
	for _, to := range []netip.AddrPort{web4, web6} {
		g := newRig(t, nil)
		g.inject(udp(5000, to, "x"))
		for _, mtu := range []int{1400, 1280, 600} {
			g.SetMTU(mtu)
			for _, size := range []int{mtu - 48, mtu - 28, mtu, 8000, 65507} {
				payload := string(bytes.Repeat([]byte("0123456789abcdef"), 4096)[:size])
				g.net.sock(t, 0).receive(msg(to, payload))
				got := g.sink.packets()
				whole := packet.UDPOffset(to.Addr().Is6())+size <= mtu
				if whole != (len(got) == 1) {
					t.Fatalf("%v, MTU %d: %d bytes in %d packets", to, mtu, size, len(got))
				}
				wantUDP(t, reassemble(t, got, mtu), to, 5000, payload)
			}
		}
		g.net.sock(t, 0).receive(msg(to, strings.Repeat("x", 65508)))
		if len(g.sink.take()) != 0 || g.Stats().Unexpected != 1 {
			t.Error("a datagram of impossible length passed")
		}
	}
}

// reassemble puts fragments that came in order together again.
func reassemble(t *testing.T, pkts [][]byte, mtu int) []byte {
	t.Helper()
	var data []byte
	var first packet.Header
	for i, b := range pkts {
		h, ok := packet.Parse(b)
		if !ok || len(b) > mtu || !packet.HeaderSumOK(b) {
			t.Fatalf("fragment %d of %d bytes, MTU %d: %+v", i, len(b), mtu, h)
		}
		if !h.Fragment {
			return b
		}
		if i == 0 {
			first = h
		}
		data = append(data, h.Payload(b)...)
	}
	head := 40
	if first.Src.Is4() {
		head = 20
	}
	b := make([]byte, head+len(data))
	packet.PutIP(b, packet.IP{Src: first.Src, Dst: first.Dst, Proto: first.Proto, TTL: first.TTL})
	copy(b[head:], data)
	return b
}

func TestMTUIsClamped(t *testing.T) {
	g := newRig(t, func(c *Config) { c.MTU = 0 })
	g.inject(udp(5000, web4, "x"))
	for mtu, most := range map[int]int{0: 68, -4: 68, 1 << 20: packet.MaxPacket} {
		g.SetMTU(mtu)
		g.net.sock(t, 0).receive(msg(web4, strings.Repeat("x", 20000)))
		for _, b := range g.sink.packets() {
			if len(b) > most {
				t.Fatalf("MTU %d: a packet of %d bytes", mtu, len(b))
			}
		}
	}
}
