package datagram

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
)

// kernelReply is what a ping socket gives for a request: the kernel has put its
// own identifier in the place of the client's.
func kernelReply(from netip.Addr, seq uint16, data string) egress.Message {
	m := echoMessage(from.Is6(), 0, 129, 0xbeef, seq, data)
	m[2], m[3] = 0x12, 0x34 // right for that identifier and the host's addresses, and so of no use
	return egress.Message{Addr: netip.AddrPortFrom(from, 0), Payload: m, TTL: 57}
}

func wantEcho(t *testing.T, b []byte, from netip.Addr, id, seq uint16, data string) {
	t.Helper()
	h, ok := packet.Parse(b)
	if !ok || !packet.HeaderSumOK(b) {
		t.Fatalf("not a good packet: % x", b)
	}
	e, ok, err := packet.ReadEcho(&h, b)
	want := echoMessage(from.Is6(), 0, 129, id, seq, data)
	copy(want[2:4], e.Msg[2:4])
	if !ok || err != nil || e.Request || h.Src != from || h.TTL != 56 || !bytes.Equal(e.Msg, want) {
		t.Fatalf("got %+v, % x, %v, %v; want % x", h, e.Msg, ok, err, want)
	}
}

func TestEcho(t *testing.T) {
	for _, to := range []netip.Addr{web4.Addr(), web6.Addr()} {
		g := newRig(t, nil)
		g.inject(ping(0x4711, 3, to, "some data"), ping(0x4711, 4, to, ""))
		s := g.net.sock(t, 0)
		if !s.ping || s.v6 != to.Is6() || len(s.sent) != 1 || len(s.sent[0]) != 2 {
			t.Fatalf("%v: socket %+v", to, s)
		}
		m := s.sent[0][0]
		if m.Addr != netip.AddrPortFrom(to, 0) || !bytes.Equal(m.Payload[4:], echoMessage(false, 0, 0, 0x4711, 3, "some data")[4:]) {
			t.Errorf("%v: sent %+v", to, m)
		}
		s.receive(kernelReply(to, 3, "some data"), kernelReply(to, 4, ""))
		got := g.sink.packets()
		wantEcho(t, got[0], to, 0x4711, 3, "some data")
		wantEcho(t, got[1], to, 0x4711, 4, "")
	}
}

// One socket for one identifier, whatever the destination; replies of others are filtered.
func TestEchoMapping(t *testing.T) {
	g := newRig(t, nil)
	second := netip.MustParseAddr("192.0.2.81")
	g.inject(ping(1, 1, web4.Addr(), ""), ping(1, 2, second, ""), ping(2, 1, web4.Addr(), ""), ping(1, 1, web6.Addr(), ""))
	if g.net.opened() != 3 || g.Stats().NAT.Echo != 3 {
		t.Fatalf("%d sockets", g.net.opened())
	}
	s := g.net.sock(t, 0)
	s.receive(kernelReply(second, 2, ""), kernelReply(evil4.Addr(), 2, ""))
	got := g.sink.packets()
	if len(got) != 1 || g.Stats().NAT.Filtered != 1 {
		t.Fatalf("%d packets", len(got))
	}
	wantEcho(t, got[0], second, 1, 2, "")
}

func TestEchoOnlyReplies(t *testing.T) {
	g := newRig(t, nil)
	g.inject(ping(1, 1, web4.Addr(), ""))
	from := netip.AddrPortFrom(web4.Addr(), 0)
	for name, payload := range map[string][]byte{
		"nothing":    nil,
		"short":      {0, 0, 0, 0, 0, 1, 0},
		"request":    echoMessage(false, 8, 0, 1, 1, ""),
		"code":       {0, 1, 0, 0, 0, 1, 0, 1},
		"icmp6":      echoMessage(true, 0, 129, 1, 1, ""),
		"impossible": make([]byte, 65516),
	} {
		g.net.sock(t, 0).receive(egress.Message{Addr: from, Payload: payload})
		if n := len(g.sink.take()); n != 0 {
			t.Errorf("%s passed", name)
		}
	}
	if n := g.Stats().Unexpected; n != 6 {
		t.Errorf("%d counted", n)
	}
}

// ping -s 8000: the network's reply comes whole and goes on in fragments.
func TestLongEcho(t *testing.T) {
	for _, to := range []netip.Addr{web4.Addr(), web6.Addr()} {
		g := newRig(t, nil)
		data := strings.Repeat("0123456789", 800)
		g.inject(ping(7, 1, to, data))
		g.net.sock(t, 0).receive(kernelReply(to, 1, data))
		wantEcho(t, reassemble(t, g.sink.packets(), 1400), to, 7, 1, data)
	}
}

// A host that forbids ping sockets: the client is told, the log once, and the
// kernel is not asked for every packet.
func TestPingForbidden(t *testing.T) {
	g := newRig(t, nil)
	g.net.openErr = fmt.Errorf("egress: ping socket: %w", syscall.EACCES)
	asked := 0
	g.net.opening = func() { asked++ }
	pkt := ping(1, 1, web4.Addr(), "x")
	orig := bytes.Clone(pkt)
	g.inject(pkt)
	g.sink.wait()
	wantError(t, g.sink.packets()[0], gw4, 3, 13, orig)
	pkt = ping(2, 1, web6.Addr(), "x")
	orig = bytes.Clone(pkt)
	g.inject(pkt)
	g.sink.wait()
	wantError(t, g.sink.packets()[0], gw6, 1, 1, orig)
	if asked != 1 || g.Stats().Prohibited != 2 || g.Stats().NAT.Echo != 0 {
		t.Errorf("asked %d times, %+v", asked, g.Stats())
	}
	g.clock.advance(pingRetry)
	g.inject(ping(1, 1, web4.Addr(), "x"))
	if asked != 2 {
		t.Errorf("asked %d times after a minute", asked)
	}
	if n := strings.Count(g.log.String(), "ping_group_range"); n != 1 {
		t.Errorf("logged %d times: %s", n, g.log)
	}
	g.net.openErr = nil
	g.clock.advance(pingRetry)
	g.inject(ping(1, 1, web4.Addr(), "x"))
	if g.Stats().Up.Packets != 1 {
		t.Error("did not recover")
	}
	if !errors.Is(errNoPing, egress.ErrProhibited) {
		t.Error("the remembered refusal is of another class")
	}
}

func TestEchoPolicy(t *testing.T) {
	g := newRig(t, nil)
	var asked []egress.Proto
	g.net.denied = func(p egress.Proto, dst netip.AddrPort) error {
		asked = append(asked, p)
		if dst.Port() != 0 {
			t.Errorf("asked about %v", dst)
		}
		return egress.ErrProhibited
	}
	g.inject(ping(1, 1, web4.Addr(), "x"), ping(1, 1, web6.Addr(), "x"))
	if fmt.Sprint(asked) != fmt.Sprint([]egress.Proto{egress.ICMP, egress.ICMPv6}) || g.Stats().Prohibited != 2 || g.net.opened() != 0 {
		t.Errorf("asked %v, %+v", asked, g.Stats())
	}
}

func TestEchoExpires(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Limits.Echo = 2 })
	for id := range uint16(5) {
		g.inject(ping(id, 1, web4.Addr(), ""))
		g.clock.advance(time.Second)
	}
	if g.net.openNow() != 2 || g.Stats().NAT.Evicted != 3 {
		t.Errorf("%d sockets", g.net.openNow())
	}
}
