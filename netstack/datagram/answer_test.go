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
)

func TestPolicy(t *testing.T) {
	for _, to := range []netip.AddrPort{web4, web6} {
		g := newRig(t, nil)
		g.net.denied = func(p egress.Proto, dst netip.AddrPort) error {
			if p != egress.UDP || dst != to {
				return nil
			}
			return fmt.Errorf("test: %w", egress.ErrProhibited)
		}
		pkt := udp(5000, to, strings.Repeat("x", 1300))
		orig := bytes.Clone(pkt)
		g.inject(pkt)
		g.sink.wait()
		from, typ, code := gw4, byte(3), byte(13)
		if to.Addr().Is6() {
			from, typ, code = gw6, 1, 1
		}
		got := g.sink.packets()
		if len(got) != 1 {
			t.Fatalf("%d answers", len(got))
		}
		wantError(t, got[0], from, typ, code, orig)
		if g.net.opened() != 0 || g.Stats().Prohibited != 1 || g.Stats().Answered != 1 || g.Stats().NAT.Created != 0 {
			t.Errorf("%+v", g.Stats())
		}
	}
}

// The policy is asked once for a destination, and again when time has passed.
func TestPolicyIsAskedOnce(t *testing.T) {
	g := newRig(t, nil)
	for range 10 {
		g.inject(udp(5000, web4, "x"), udp(5000, dns4, "x"), udp(5001, web4, "x"))
	}
	if g.net.checks != 2 {
		t.Errorf("asked %d times about two destinations", g.net.checks)
	}
	g.net.denied = func(egress.Proto, netip.AddrPort) error { return egress.ErrProhibited }
	g.clock.advance(time.Second)
	g.inject(udp(5000, web4, "x"))
	if g.net.checks != 3 || g.Stats().Prohibited != 1 {
		t.Errorf("asked %d times; %+v", g.net.checks, g.Stats())
	}
	g.inject(udp(5000, web4, "x"))
	if g.net.checks != 4 { // a refusal is not remembered
		t.Errorf("asked %d times", g.net.checks)
	}
}

func TestTTL(t *testing.T) {
	tests := []struct {
		in   byte
		want int
	}{{2, 1}, {3, 2}, {30, 29}, {60, 59}, {61, 0}, {64, 0}, {128, 0}, {255, 0}}
	for _, to := range []netip.AddrPort{web4, web6} {
		for _, tt := range tests {
			g := newRig(t, nil)
			g.inject(withTTL(udp(5000, to, "x"), tt.in))
			if got := g.net.sock(t, 0).sent[0][0].TTL; got != tt.want {
				t.Errorf("%v: TTL %d leaves with %d, want %d", to, tt.in, got, tt.want)
			}
		}
		for _, ttl := range []byte{0, 1} {
			g := newRig(t, nil)
			pkt := withTTL(udp(5000, to, "x"), ttl)
			orig := bytes.Clone(pkt)
			g.inject(pkt)
			g.sink.wait()
			from, typ := gw4, byte(11)
			if to.Addr().Is6() {
				from, typ = gw6, 3
			}
			wantError(t, g.sink.packets()[0], from, typ, 0, orig)
			if g.net.opened() != 0 || g.Stats().Hops != 1 {
				t.Errorf("TTL %d: %+v", ttl, g.Stats())
			}
		}
	}
	for in, want := range map[int]uint8{0: 64, -1: 64, 256: 64, 1: 1, 2: 1, 64: 63, 255: 254} {
		if got := arrivingTTL(in); got != want {
			t.Errorf("arriving with %d: %d, want %d", in, got, want)
		}
	}
}

// What Send says about one message is told to the client; the others go on.
func TestSendErrors(t *testing.T) {
	tests := []struct {
		err        error
		to         netip.AddrPort
		from       netip.Addr // of the answer; invalid: silence
		typ, code  byte
		prohibited bool
	}{
		{egress.ErrProhibited, web4, gw4, 3, 13, true},
		{syscall.EACCES, web6, gw6, 1, 1, true},
		{syscall.ENETUNREACH, web4, gw4, 3, 0, false},
		{syscall.ENETUNREACH, web6, gw6, 1, 0, false},
		{syscall.EHOSTUNREACH, web4, gw4, 3, 1, false},
		{syscall.EHOSTUNREACH, web6, gw6, 1, 3, false},
		{syscall.ECONNREFUSED, web4, web4.Addr(), 3, 3, false},
		{syscall.ECONNREFUSED, web6, web6.Addr(), 1, 4, false},
		{syscall.EMSGSIZE, web6, gw6, 2, 0, false},
		{syscall.EMSGSIZE, web4, netip.Addr{}, 0, 0, false}, // no DF
		{syscall.ETIMEDOUT, web4, netip.Addr{}, 0, 0, false},
		{syscall.EINVAL, web4, netip.Addr{}, 0, 0, false},
	}
	for _, tt := range tests {
		g := newRig(t, nil)
		g.inject(udp(5000, tt.to, "open"))
		s := g.net.sock(t, 0)
		s.sent = nil
		s.script = func(msgs []egress.Message) (int, error) {
			for i, m := range msgs {
				if string(m.Payload) == "bad" {
					return i, tt.err
				}
			}
			return len(msgs), nil
		}
		bad := udp(5000, tt.to, "bad")
		orig := bytes.Clone(bad)
		g.inject(udp(5000, tt.to, "a"), udp(5000, tt.to, "b"), bad, udp(5001, tt.to, "other"), udp(5000, tt.to, "c"))
		if got := fmt.Sprint(payloads(s.sent)); got != "[[a b] [c]]" {
			t.Errorf("%v: sent %v", tt.err, got)
		}
		st := g.Stats()
		if (st.Prohibited == 1) != tt.prohibited || (st.Unsent == 1) == tt.prohibited || st.Up.Packets != 5 {
			t.Errorf("%v: %+v", tt.err, st)
		}
		if !tt.from.IsValid() {
			if st.Answered != 0 {
				t.Errorf("%v: answered", tt.err)
			}
			continue
		}
		g.sink.wait()
		wantError(t, g.sink.packets()[0], tt.from, tt.typ, tt.code, orig)
	}
}

// A protocol that cannot leave by a socket.
func TestUnknownProtocol(t *testing.T) {
	for _, to := range []netip.AddrPort{web4, web6} {
		g := newRig(t, nil)
		pkt := udp(5000, to, "gre")
		from, typ, code := gw4, byte(3), byte(2)
		if to.Addr().Is4() {
			pkt[9] = 47
			fixHeaderSum(pkt)
		} else {
			pkt[6] = 47
			from, typ, code = gw6, 4, 1
		}
		orig := bytes.Clone(pkt)
		g.inject(pkt)
		g.sink.wait()
		wantError(t, g.sink.packets()[0], from, typ, code, orig)
		if st := g.Stats(); st.Unsupported != 1 || st.NAT.Created != 0 {
			t.Errorf("%+v", st)
		}
	}
}

// Each failed message of a batch is answered with the packet it came in.
func TestSendErrorsAmongOthers(t *testing.T) {
	g := newRig(t, nil)
	g.inject(udp(5000, web4, "open"))
	s := g.net.sock(t, 0)
	s.script = func(msgs []egress.Message) (int, error) {
		for i, m := range msgs {
			if strings.HasPrefix(string(m.Payload), "bad") {
				return i, syscall.EHOSTUNREACH
			}
		}
		return len(msgs), nil
	}
	var pkts, bad [][]byte
	for _, p := range []string{"bad 1", "a", "b", "bad 2", "bad 3", "c", "bad 4"} {
		pkts = append(pkts, udp(5000, web4, p), udp(5001, web4, p[:1])) // chains of two flows
		if len(p) > 1 {
			bad = append(bad, bytes.Clone(pkts[len(pkts)-2]))
		}
	}
	g.inject(pkts...)
	g.sink.wait()
	got := g.sink.packets()
	if len(got) != len(bad) {
		t.Fatalf("%d answers, want %d", len(got), len(bad))
	}
	for i := range bad {
		wantError(t, got[i], gw4, 3, 1, bad[i])
	}
	if st := g.Stats(); st.Unsent != 4 || st.Up.Packets != 11 {
		t.Errorf("%+v", st)
	}
}

// When the socket's buffer is full the rest of the batch is lost, not tried again and again.
func TestSendExhausted(t *testing.T) {
	for _, err := range []error{syscall.EAGAIN, syscall.ENOBUFS, nil} {
		g := newRig(t, nil)
		g.inject(udp(5000, web4, "open"))
		calls := 0
		g.net.sock(t, 0).script = func([]egress.Message) (int, error) { calls++; return 1, err }
		g.inject(udp(5000, web4, "a"), udp(5000, web4, "b"), udp(5000, web4, "c"))
		if st := g.Stats(); calls != 1 || st.Unsent != 2 || st.Up.Packets != 2 || st.Answered != 0 {
			t.Errorf("%v: %d calls, %+v", err, calls, st)
		}
	}
}

// RFC 4787 REQ-13, as far as it goes without the path's MTU.
func TestTooBig(t *testing.T) {
	for size, want := range map[int]uint16{1400: 1280, 1200: 1006, 600: 508, 400: 296, 100: 68} {
		g := newRig(t, nil)
		g.inject(udp(5000, web4, "open"))
		g.net.sock(t, 0).script = func([]egress.Message) (int, error) { return 0, syscall.EMSGSIZE }
		pkt := udp(5000, web4, strings.Repeat("x", size-28))
		pkt[6] = 0x40
		fixHeaderSum(pkt)
		orig := bytes.Clone(pkt)
		g.inject(pkt)
		g.sink.wait()
		m := wantError(t, g.sink.packets()[0], gw4, 3, 4, orig)
		if got := binary.BigEndian.Uint16(m[6:]); got != want {
			t.Errorf("%d bytes: MTU %d, want %d", size, got, want)
		}
	}
}

// The goroutine that says answers ends with the last of them, and they stay bounded meanwhile.
func TestAnswersAreBounded(t *testing.T) {
	before := runtime.NumGoroutine()
	g := newRig(t, func(c *Config) { c.Limits.Errors = 1000 })
	g.sink.gate = make(chan struct{})
	for range 100 {
		g.inject(withTTL(udp(5000, web4, "z"), 1))
	}
	if n := runtime.NumGoroutine(); n > before+1 {
		t.Errorf("%d goroutines more", n-before)
	}
	st := g.Stats()
	if st.Answered+st.Suppressed != 100 || st.Answered < maxAnswers || st.Answered > 2*maxAnswers {
		t.Errorf("%+v", st)
	}
	close(g.sink.gate)
	for got := uint64(0); got < st.Answered; {
		g.sink.wait()
		got += uint64(len(g.sink.packets()))
	}
	for runtime.NumGoroutine() > before {
		runtime.Gosched()
	}
}

// RFC 1812 section 4.3.2.8.
func TestAnswersAreRateLimited(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Limits.Errors = 5 })
	for range 20 {
		g.inject(withTTL(udp(5000, web4, "z"), 1))
	}
	if st := g.Stats(); st.Answered != 5 || st.Suppressed != 15 {
		t.Errorf("%+v", st)
	}
	g.clock.advance(time.Second)
	g.inject(withTTL(udp(5000, web4, "z"), 1))
	if st := g.Stats(); st.Answered != 6 {
		t.Errorf("a second later: %+v", st)
	}
}

// Without a gateway address only hosts are quoted.
func TestNoGateway(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Gateway4, c.Gateway6 = gw6, gw4 }) // wrong families count as none
	g.inject(withTTL(udp(5000, web4, "z"), 1), withTTL(udp(5000, web6, "z"), 1), udp(5000, web4, "open"))
	if st := g.Stats(); st.Answered != 0 || st.Hops != 2 {
		t.Errorf("%+v", st)
	}
	g.net.sock(t, 0).script = func([]egress.Message) (int, error) { return 0, syscall.ECONNREFUSED }
	pkt := udp(5000, web4, "x")
	orig := bytes.Clone(pkt)
	g.inject(pkt)
	g.sink.wait()
	wantError(t, g.sink.packets()[0], web4.Addr(), 3, 3, orig)
}
