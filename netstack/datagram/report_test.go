package datagram

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
)

var (
	router4 = netip.MustParseAddr("203.0.113.1")
	router6 = netip.MustParseAddr("2001:db8:1::1")
)

// reported is the one answer that a report leads to.
func (g *rig) reported(sock int, rep egress.Report) []byte {
	g.t.Helper()
	s := g.net.sock(g.t, sock)
	rep.Quote = bytes.Clone(rep.Quote)
	s.r.Report(&rep)
	for i := range rep.Quote {
		rep.Quote[i] = 0xdb
	}
	g.sink.wait()
	got := g.sink.packets()
	if len(got) != 1 {
		g.t.Fatalf("%d packets to the client, want one", len(got))
	}
	return got[0]
}

// oneHop is a packet as the last router sees it.
func oneHop(b []byte) []byte { return withTTL(bytes.Clone(b), 1) }

// TestReportTraced: what a router says of a packet with few hops quotes the
// client's packet exactly, but for its TTL.
func TestReportTraced(t *testing.T) {
	for _, tt := range []struct {
		name      string
		pkt       []byte
		from      netip.Addr
		typ, code uint8
		dst       netip.AddrPort
	}{
		{"UDP", withTTL(udp(4000, web4, "probe"), 3), router4, 11, 0, web4},
		{"UDP over IPv6", withTTL(udp(4000, web6, "probe"), 3), router6, 3, 0, web6},
		{"echo", withTTL(ping(77, 5, web4.Addr(), "probe"), 2), router4, 11, 0, netip.AddrPortFrom(web4.Addr(), 0)},
		{"echo over IPv6", withTTL(ping(77, 5, web6.Addr(), "probe"), 2), router6, 3, 0, netip.AddrPortFrom(web6.Addr(), 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newRig(t, nil)
			want := oneHop(tt.pkt)
			h, _ := packet.Parse(tt.pkt)
			quoted := bytes.Clone(tt.pkt[h.L4:])
			if h.Proto == packet.UDP {
				quoted = quoted[8:]
			} else {
				binary.BigEndian.PutUint16(quoted[4:], 4711) // the kernel's identifier, and its checksum
				binary.BigEndian.PutUint16(quoted[2:], 0x1234)
			}
			g.inject(tt.pkt)
			if ttl := g.net.sock(t, 0).sent[0][0].TTL; ttl != int(h.TTL)-1 {
				t.Errorf("left with TTL %d", ttl)
			}
			got := g.reported(0, egress.Report{Dst: tt.dst, From: tt.from, Type: tt.typ, Code: tt.code, Quote: quoted})
			m := wantError(t, got, tt.from, tt.typ, tt.code, want)
			if !bytes.Equal(m[8:], want) {
				t.Errorf("quoted % x\nwant   % x", m[8:], want)
			}
			if st := g.Stats(); st.Reported != 1 || st.Answered != 1 || st.NAT.UDP+st.NAT.Echo != 1 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestReportAmbiguous: several probes of one flow to one port are told apart by
// what they carry; if only their first bytes are quoted, the latest is meant.
func TestReportAmbiguous(t *testing.T) {
	g := newRig(t, nil)
	a, b := withTTL(udp(4000, web4, "first"), 3), withTTL(udp(4000, web4, "second"), 4)
	wantA, wantB := oneHop(a), oneHop(b)
	g.inject(a, b)
	for quoted, want := range map[string][]byte{"first": wantA, "second": wantB, "": wantB} {
		got := g.reported(0, egress.Report{Dst: web4, From: router4, Type: 11, Quote: []byte(quoted)})
		m := wantError(t, got, router4, 11, 0, want)
		if len(m)-8 != 28+len(quoted) {
			t.Errorf("%q: quoted % x", quoted, m[8:])
		}
	}
}

// TestReportFilledUp: a router that appends something fills what it quotes up
// with zeros before (RFC 4884); the client's packet is quoted as it was.
func TestReportFilledUp(t *testing.T) {
	g := newRig(t, nil)
	a, b := withTTL(udp(4000, web4, "first"), 3), withTTL(udp(4000, web4, "second"), 4)
	echo := withTTL(ping(77, 5, web4.Addr(), "probe"), 2)
	wantA, wantB, wantEcho := oneHop(a), oneHop(b), oneHop(echo)
	quoted := bytes.Clone(echo[20:])
	g.inject(a, b, echo)
	fill := func(b []byte) []byte { return append(b, make([]byte, 100-len(b))...) }
	for _, tt := range []struct {
		sock  int
		dst   netip.AddrPort
		quote []byte
		want  []byte
	}{
		{0, web4, []byte("first"), wantA},
		{0, web4, []byte("second"), wantB},
		{1, netip.AddrPortFrom(web4.Addr(), 0), quoted, wantEcho},
	} {
		got := g.reported(tt.sock, egress.Report{Dst: tt.dst, From: router4, Type: 11, Quote: fill(tt.quote)})
		if m := wantError(t, got, router4, 11, 0, tt.want); !bytes.Equal(m[8:], tt.want) {
			t.Errorf("quoted % x\nwant   % x", m[8:], tt.want)
		}
	}
}

// TestReportUntraced: of an ordinary packet what came back is quoted under
// headers that the client knows.
func TestReportUntraced(t *testing.T) {
	g := newRig(t, nil)
	for i, tt := range []struct {
		dst       netip.AddrPort
		from      netip.Addr
		typ, code uint8
		info      uint32
	}{
		{web4, web4.Addr(), 3, 3, 0},
		{web6, web6.Addr(), 1, 4, 0},
		{web4, router4, 3, 4, 1280},
		{web6, router6, 2, 0, 1280},
		{web4, router4, 3, 13, 0},
		{web4, router4, 3, 1, 0},
	} {
		pkt := udp(uint16(5000+i), tt.dst, "question")
		want := oneHop(pkt)
		if want[0]>>4 == 4 {
			want[4], want[5] = 0, 0 // the identification is not known
			if tt.typ == 3 && tt.code == 4 {
				want[6] |= 0x40
			}
			fixHeaderSum(want)
		}
		g.inject(pkt)
		got := g.reported(i, egress.Report{Dst: tt.dst, From: tt.from, Type: tt.typ, Code: tt.code, Info: tt.info, Quote: []byte("question")})
		m := wantError(t, got, tt.from, tt.typ, tt.code, want)
		if info := binary.BigEndian.Uint32(m[4:]); info != tt.info || !bytes.Equal(m[8:], want) {
			t.Errorf("%v %d/%d: info %d, quoted % x, want % x", tt.dst, tt.typ, tt.code, info, m[8:], want)
		}
	}
}

// TestReportFrom: this host is the gateway to the client, and a router that has
// no address beyond its link is too.
func TestReportFrom(t *testing.T) {
	g := newRig(t, nil)
	g.inject(udp(4000, web4, "x"), udp(4000, web6, "x"))
	wantError(t, g.reported(0, egress.Report{Dst: web4, Type: 3, Code: 1}), gw4, 3, 1, oneHopAnonymous(udp(4000, web4, "")))
	for _, from := range []netip.Addr{{}, netip.MustParseAddr("fe80::1")} {
		got := g.reported(1, egress.Report{Dst: web6, From: from, Type: 1, Code: 3})
		wantError(t, got, gw6, 1, 3, oneHop(udp(4000, web6, "")))
	}
}

func oneHopAnonymous(b []byte) []byte {
	b = oneHop(b)
	b[4], b[5] = 0, 0
	return fixHeaderSum(b)
}

// TestReportRefused: reports about what the client has not sent, or that make
// no sense, go nowhere, and none ends or prolongs a mapping. RFC 4787 REQ-12,
// RFC 5508 REQ-6.
func TestReportRefused(t *testing.T) {
	g := newRig(t, nil)
	g.inject(udp(4000, web4, "x"), ping(9, 1, web4.Addr(), "x"))
	echo := netip.AddrPortFrom(web4.Addr(), 0)
	for _, rep := range []struct {
		sock int
		egress.Report
	}{
		{0, egress.Report{Dst: evil4, From: router4, Type: 3, Code: 3}},               // never sent to
		{0, egress.Report{Dst: web6, From: router6, Type: 1, Code: 4}},                // other family
		{0, egress.Report{From: router4, Type: 3, Code: 3}},                           // no destination
		{1, egress.Report{Dst: echo, From: router4, Type: 11, Quote: []byte("1234")}}, // no header
	} {
		g.net.sock(t, rep.sock).r.Report(&rep.Report)
	}
	if st := g.Stats(); st.Reported != 0 || st.Answered != 0 || st.NAT.Filtered != 2 || st.Unexpected != 1 {
		t.Errorf("%+v", st)
	}
	for range 4 {
		now := g.clock.advance(50 * time.Second)
		g.net.sock(t, 0).r.Report(&egress.Report{Dst: web4, From: router4, Type: 3, Code: 3})
		g.Tick(now)
	}
	if st := g.Stats(); st.NAT.UDP != 0 || st.Reported != 3 {
		t.Errorf("reports have kept a mapping: %+v", st)
	}
	g.net.sock(t, 0).r.Report(&egress.Report{Dst: web4, From: router4, Type: 3, Code: 3})
	if st := g.Stats(); st.Reported != 3 {
		t.Errorf("a report about a flow that is gone: %+v", st)
	}
}

// TestReportsLimited: a flood of reports costs the client's tunnel no more than
// Limits.Errors.
func TestReportsLimited(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Limits.Errors = 10 })
	g.inject(udp(4000, web4, "x"))
	for range 50 {
		g.net.sock(t, 0).r.Report(&egress.Report{Dst: web4, From: router4, Type: 3, Code: 3})
	}
	if st := g.Stats(); st.Reported != 50 || st.Answered != 10 || st.Suppressed != 40 {
		t.Errorf("%+v", st)
	}
}

// TestTooBigMTU: the MTU told is that of the way out, if the host knows it.
func TestTooBigMTU(t *testing.T) {
	g := newRig(t, nil)
	for i, tt := range []struct{ mtu, want int }{{1000, 1000}, {0, 1006}, {9000, 1006}} {
		pkt := withDF(udp(uint16(4000+i), web4, string(make([]byte, 1200))))
		want := bytes.Clone(pkt)
		h, _ := packet.Parse(pkt)
		g.Inject(h, pkt)
		g.net.sock(t, i).script = func([]egress.Message) (int, error) { return 0, egress.TooBigError{MTU: tt.mtu} }
		g.Flush()
		g.sink.wait()
		m := wantError(t, g.sink.packets()[0], gw4, 3, 4, want)
		if got := int(binary.BigEndian.Uint16(m[6:])); got != tt.want {
			t.Errorf("MTU %d of the host: told %d, want %d", tt.mtu, got, tt.want)
		}
	}
}

// TestDF: whether a packet may be cut is the client's to say.
func TestDF(t *testing.T) {
	g := newRig(t, nil)
	g.inject(udp(4000, web4, "may"), withDF(udp(4000, web4, "must not")), udp(4001, web6, "never"))
	for i, want := range [][]bool{{false, true}, {true}} {
		for j, df := range want {
			if m := g.net.sock(t, i).sent[0][j]; m.DF != df {
				t.Errorf("%q: DF %v", m.Payload, m.DF)
			}
		}
	}
}

func withDF(b []byte) []byte {
	b[6] |= 0x40
	return fixHeaderSum(b)
}
