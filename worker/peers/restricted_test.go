package peers

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"rocserv/internal/packet"
)

// A user that is restricted reaches what is permitted, answers what others have
// begun, and no more.
func TestRestricted(t *testing.T) {
	c, a, b := couple(t, nil, func(c *Config) {
		c.Permit = func(proto uint8, dst netip.AddrPort) bool { return proto == packet.UDP && dst.Port() == 53 }
	})
	b.send(udp(at(ben4, 7), at(anna4, 53), "query"))
	a.arrives(at(ben4, 7), at(anna4, 53), "query")
	no := udp(at(ben4, 9), at(anna4, 9), "x")
	b.send(no)
	b.refused(packet.Prohibited, no, 0)
	b.send(udp(at(ben4, 2), at(anna4, 1), "answer to first"))
	a.arrives(at(ben4, 2), at(anna4, 1), "answer to first")
	c.pass(otherTalk - time.Second) // keeps it
	b.send(udp(at(ben4, 2), at(anna4, 1), "again"))
	a.arrives(at(ben4, 2), at(anna4, 1), "again")
	c.pass(otherTalk + time.Second)
	late := udp(at(ben4, 2), at(anna4, 1), "late")
	b.send(late)
	b.refused(packet.Prohibited, late, 0)
	fragment := udp(at(ben4, 7), at(anna4, 53), "part")
	fragment[6] = 0x20
	b.send(fragment)
	b.refused(packet.Prohibited, fragment, 0)
}

// errorTo makes the ICMP error about a packet, from where that went, to a client.
func errorTo(to netip.Addr, what packet.Problem, about []byte) []byte {
	h, _ := packet.Parse(about)
	e := what.Error(&h, about, 0)
	h.Src = to
	b := make([]byte, packet.ErrorLen(&h))
	packet.PutError(b, h.Dst, e, &h, about)
	return b
}

// Of a restricted user's ICMP errors those pass that are about what others have
// begun, or what the user may; with no exchange that is none does an error of one's
// own making.
func TestRestrictedErrors(t *testing.T) {
	_, a, b := couple(t, nil, func(c *Config) {
		c.Permit = func(proto uint8, dst netip.AddrPort) bool { return proto == packet.UDP && dst.Port() == 53 }
	})
	first, first6 := udp(at(anna4, 1), at(ben4, 2), "first"), udp(at(anna6, 1), at(ben6, 2), "first")
	a.send(first6)
	b.arrives(at(anna6, 1), at(ben6, 2), "first")
	long := udp(at(anna4, 1), at(ben4, 2), string(make([]byte, 1300)))
	later := slices.Clone(first)
	later[7] = 2 // not the first fragment
	noQuote := errorTo(anna4, packet.PortUnreachable, first)
	noQuote[20+8] = 0
	short := errorTo(anna4, packet.PortUnreachable, first)[:20+8+19]
	short[3] = byte(len(short))
	brief := errorTo(anna4, packet.PortUnreachable, first)[:20+8+28] // RFC 792: a header and 64 bits
	brief[3] = byte(len(brief))
	informational := errorTo(anna6, packet.PortUnreachable, first6)
	informational[40] = 100 // RFC 4443 section 2.1: for experiments
	redirect := errorTo(anna4, packet.PortUnreachable, first)
	redirect[20] = 5
	carol := netip.MustParseAddr("10.9.0.30")
	for _, tt := range []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"about what anna has begun", errorTo(anna4, packet.PortUnreachable, first), true},
		{"the same, IPv6", errorTo(anna6, packet.PortUnreachable, first6), true},
		{"about a longer packet", errorTo(anna4, packet.HostUnreachable, long), true},
		{"the least", brief, true},
		{"about what ben may do", errorTo(anna4, packet.PortUnreachable, udp(at(anna4, 53), at(ben4, 9), "answer")), true},
		{"about what nobody has begun", errorTo(anna4, packet.PortUnreachable, udp(at(anna4, 3), at(ben4, 4), "x")), false},
		{"the wrong way round", errorTo(anna4, packet.PortUnreachable, udp(at(ben4, 2), at(anna4, 1), "x")), false},
		{"about somebody else's", errorTo(anna4, packet.PortUnreachable, udp(at(carol, 1), at(ben4, 2), "x")), false},
		{"about a later fragment", errorTo(anna4, packet.HostUnreachable, later), false},
		{"about no packet", noQuote, false},
		{"about less than a header", short, false},
		{"IPv6, no error", informational, false},
		{"redirect", redirect, false},
	} {
		before := b.Stats().Refused
		b.send(tt.b)
		if refused := b.Stats().Refused != before; refused == tt.ok {
			t.Errorf("%s: refused %v", tt.name, refused)
		}
		if tt.ok {
			if h, _ := a.next(); !h.IsICMP() {
				t.Errorf("%s: %+v", tt.name, h)
			}
		}
	}
	b.quiet()
	a.quiet()
}

// What others have begun outlasts a pair, is remembered within bounds, and whoever
// begins very much loses its own.
func TestRestrictedBounds(t *testing.T) {
	none := func(c *Config) { c.Permit = func(uint8, netip.AddrPort) bool { return false } }
	c, a, b := couple(t, nil, none)
	hear := func(other netip.Addr, port uint16) {
		b.Peers.mu.Lock()
		defer b.Peers.mu.Unlock()
		pkt := udp(at(other, port), at(ben4, 2), "")
		h, _ := packet.Parse(pkt)
		b.with(other).heard(&h, pkt, c.Now())
	}
	carol := netip.MustParseAddr("10.9.0.30")
	for i := range 10 * maxTalks {
		hear(carol, uint16(i))
		if n := len(b.begun[carol].until); n > maxTalks || i >= maxTalks && n < maxTalks-maxTalks/8 {
			t.Fatalf("%d exchanges are remembered", n)
		}
		c.pass(time.Millisecond)
	}
	k := talk{packet.UDP, at(ben4, 2), at(carol, 10*maxTalks-1)}
	if !b.begun[carol].has(k, c.Now()) {
		t.Error("the newest is not remembered")
	}
	b.SetMTU(1300)
	b.waitFor(func() bool { return len(b.pairs) == 0 })
	b.send(udp(at(ben4, 2), at(anna4, 1), "answer to first"))
	connect(b, a, 2)
	a.arrives(at(ben4, 2), at(anna4, 1), "answer to first")
	for i := range 2 * MaxPairs {
		hear(netip.AddrFrom4([4]byte{10, 9, 0, byte(100 + i)}), 1)
	}
	if len(b.begun) != MaxPairs || b.begun[anna4] == nil {
		t.Errorf("%d clients are remembered", len(b.begun))
	}
	c.pass(otherTalk + time.Second)
	b.Tick()
	if len(b.begun) > 1 {
		t.Errorf("%d clients are remembered for nothing", len(b.begun))
	}
}

// Main may be slow to take a question: what it says meanwhile is taken.
