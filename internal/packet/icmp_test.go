package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

func mustParse(t *testing.T, b []byte) Header {
	t.Helper()
	h, ok := Parse(b)
	if !ok {
		t.Fatalf("Parse refuses % x", b)
	}
	return h
}

// The numbers, against golang.org/x/net's reading of the message.
func TestPutError(t *testing.T) {
	gw4, gw6 := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd00::1")
	tests := []struct {
		p          Problem
		t4         icmp.Type
		c4, c6     int
		t6         icmp.Type
		rest4, mtu uint32 // second word of the message
	}{
		{NetUnreachable, ipv4.ICMPTypeDestinationUnreachable, 0, 0, ipv6.ICMPTypeDestinationUnreachable, 0, 0},
		{HostUnreachable, ipv4.ICMPTypeDestinationUnreachable, 1, 3, ipv6.ICMPTypeDestinationUnreachable, 0, 0},
		{ProtocolUnreachable, ipv4.ICMPTypeDestinationUnreachable, 2, 1, ipv6.ICMPTypeParameterProblem, 0, 6},
		{PortUnreachable, ipv4.ICMPTypeDestinationUnreachable, 3, 4, ipv6.ICMPTypeDestinationUnreachable, 0, 0},
		{TooBig, ipv4.ICMPTypeDestinationUnreachable, 4, 0, ipv6.ICMPTypePacketTooBig, 1280, 1280},
		{Prohibited, ipv4.ICMPTypeDestinationUnreachable, 13, 1, ipv6.ICMPTypeDestinationUnreachable, 0, 0},
		{TimeExceeded, ipv4.ICMPTypeTimeExceeded, 0, 0, ipv6.ICMPTypeTimeExceeded, 0, 0},
	}
	for _, tt := range tests {
		for _, size := range []int{0, 1, 100, 2000} {
			data := bytes.Repeat([]byte("x"), size)
			orig4 := make4(UDP, []byte{148, 4, 0, 0}, 0, data)
			checkError(t, tt.p, gw4, orig4, 576, tt.t4, tt.c4, tt.rest4)
			orig6 := make6(UDP, data)
			checkError(t, tt.p, gw6, orig6, 1280, tt.t6, tt.c6, tt.mtu)
		}
	}
}

func checkError(t *testing.T, p Problem, from netip.Addr, orig []byte, limit int, typ icmp.Type, code int, rest uint32) {
	t.Helper()
	h := mustParse(t, orig)
	b := bytes.Repeat([]byte{0xaa}, ErrorLen(&h)+5)
	b = b[:PutError(b, from, p.Error(&h, orig, 1280), &h, orig)]
	r := mustParse(t, b)
	if r.Src != from || r.Dst != h.Src || r.Length != len(b) || !HeaderSumOK(b) || !r.IsICMP() {
		t.Fatalf("problem %d: %+v", p, r)
	}
	if want := min(limit, r.L4+8+len(orig)); len(b) != want {
		t.Fatalf("problem %d about %d bytes: %d bytes, want %d", p, len(orig), len(b), want)
	}
	m := b[r.L4:]
	var pseudo []byte
	if r.V6() {
		pseudo = naivePseudo(r.Src, r.Dst, ICMPv6, len(m))
	}
	if naiveSum(pseudo, m) != 0xffff {
		t.Errorf("problem %d: wrong checksum", p)
	}
	if got := binary.BigEndian.Uint32(m[4:]); got != rest {
		t.Errorf("problem %d: second word %#x, want %#x", p, got, rest)
	}
	if !bytes.HasPrefix(orig, m[8:]) {
		t.Errorf("problem %d: quotes % x", p, m[8:])
	}
	msg, err := icmp.ParseMessage(int(r.Proto), m)
	if err != nil || msg.Type != typ || msg.Code != code {
		t.Errorf("problem %d: read as %+v, %v; want %v %d", p, msg, err, typ, code)
	}
}

// An error points at the number of the unknown protocol behind all extension headers.
func TestParameterProblemPointer(t *testing.T) {
	data := []byte("12345678")
	tests := []struct {
		b    []byte
		want uint32
	}{
		{make6(253, data), 6},
		{make6(hopByHop, ext(253, 1, 0, 0, data)), 40},
		{make6(hopByHop, ext(fragment, 1, 0, 0, ext(253, 9, 0, 0, data)[:16])), 56},
		{make6(authHeader, append(ext(destOptions, 1, 0, 0, nil)[:12], ext(253, 0, 0, 0, data)...)), 52},
	}
	for _, tt := range tests {
		if tt.b[6] == hopByHop && tt.want == 56 {
			tt.b[40+16+1] = 0 // the reserved byte of a fragment header is no length
		}
		h := mustParse(t, tt.b)
		e := ProtocolUnreachable.Error(&h, tt.b, 0)
		if e != (ICMPError{Type: 4, Code: 1, Info: tt.want}) {
			t.Errorf("% x: %+v, want pointer %d", tt.b[40:], e, tt.want)
		}
	}
}

func TestMayAnswer(t *testing.T) {
	with := func(b []byte, at int, addr string) []byte {
		copy(b[at:], netip.MustParseAddr(addr).AsSlice())
		return b
	}
	icmp4 := func(typ byte) []byte { return make4(ICMP, nil, 0, []byte{typ, 0, 0, 0, 0, 0, 0, 0}) }
	icmp6 := func(typ byte) []byte { return make6(ICMPv6, []byte{typ, 0, 0, 0, 0, 0, 0, 0}) }
	u4 := func() []byte { return make4(UDP, nil, 0, []byte("12345678")) }
	u6 := func() []byte { return make6(UDP, []byte("12345678")) }
	tests := []struct {
		name string
		b    []byte
		want bool
	}{
		{"udp", u4(), true}, {"udp6", u6(), true},
		{"first fragment", make4(UDP, nil, 0x2000, []byte("12345678")), true},
		{"later fragment", make4(UDP, nil, 0x2001, []byte("12345678")), false},
		{"later fragment6", make6(fragment, ext(UDP, 0, 1, 0, nil)), false},
		{"to multicast", with(u4(), 16, "239.1.2.3"), false},
		{"to broadcast", with(u4(), 16, "255.255.255.255"), false},
		{"to multicast6", with(u6(), 24, "ff02::fb"), false},
		{"from nobody", with(u4(), 12, "0.0.0.0"), false},
		{"from nobody6", with(u6(), 8, "::"), false},
		{"from loopback", with(u4(), 12, "127.0.0.1"), false},
		{"from multicast", with(u4(), 12, "224.0.0.1"), false},
		{"from class E", with(u4(), 12, "240.0.0.1"), false},
		{"echo request", icmp4(8), true}, {"echo reply", icmp4(0), true}, {"timestamp", icmp4(13), true},
		{"unreachable", icmp4(3), false}, {"source quench", icmp4(4), false}, {"redirect", icmp4(5), false},
		{"time exceeded", icmp4(11), false}, {"parameter problem", icmp4(12), false}, {"unknown", icmp4(42), false},
		{"no type", make4(ICMP, nil, 0, nil), false}, {"no type6", make6(ICMPv6, nil), false},
		{"echo request6", icmp6(128), true}, {"neighbour solicitation", icmp6(135), true}, {"redirect6", icmp6(137), false},
		{"unreachable6", icmp6(1), false}, {"too big", icmp6(2), false}, {"unknown error6", icmp6(127), false},
	}
	for _, tt := range tests {
		h := mustParse(t, tt.b)
		if got := MayAnswer(&h, tt.b); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// echo is an echo message as a packet, from client to server.
func echo(t *testing.T, v6, reply bool, id int, data string) []byte {
	t.Helper()
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: 3, Data: []byte(data)}}
	if reply {
		m.Type = ipv4.ICMPTypeEchoReply
	}
	var pseudo []byte
	if v6 {
		m.Type = ipv6.ICMPTypeEchoRequest
		if reply {
			m.Type = ipv6.ICMPTypeEchoReply
		}
		pseudo = icmp.IPv6PseudoHeader(c6.AsSlice(), s6.AsSlice())
	}
	b, err := m.Marshal(pseudo)
	if err != nil {
		t.Fatal(err)
	}
	if v6 {
		return make6(ICMPv6, b)
	}
	return make4(ICMP, nil, 0, b)
}

func TestEcho(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		b := echo(t, v6, false, 0x4711, "some data")
		h := mustParse(t, b)
		e, ok, err := ReadEcho(&h, b)
		if !ok || err != nil || !e.Request || e.ID != 0x4711 || &e.Msg[0] != &b[h.L4] {
			t.Fatalf("v6 %v: %+v, %v, %v", v6, e, ok, err)
		}
		out := make([]byte, EchoReplyLen(&h))
		out = out[:PutEchoReply(out, &h, b)]
		r := mustParse(t, out)
		e, ok, err = ReadEcho(&r, out)
		if !ok || err != nil || e.Request || e.ID != 0x4711 || !bytes.Equal(e.Msg[4:], b[h.L4+4:]) || r.Src != h.Dst || r.Dst != h.Src {
			t.Errorf("v6 %v: reply %+v, %+v, %v, %v", v6, r, e, ok, err)
		}
		if !IsEchoReply(v6, e.Msg) || IsEchoReply(!v6, e.Msg) || IsEchoReply(v6, b[h.L4:]) || IsEchoReply(v6, e.Msg[:7]) {
			t.Errorf("v6 %v: IsEchoReply", v6)
		}
	}
}

// The reply to a request with options has none.
func TestEchoReplyWithoutOptions(t *testing.T) {
	plain := echo(t, false, false, 1, "x")
	b := make4(ICMP, []byte{148, 4, 0, 0}, 0, plain[20:])
	h := mustParse(t, b)
	out := make([]byte, EchoReplyLen(&h))
	if n := PutEchoReply(out, &h, b); n != len(plain) {
		t.Errorf("%d bytes, want %d", n, len(plain))
	}
}

func TestReadEchoRefuses(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		bad := echo(t, v6, false, 1, "x")
		bad[len(bad)-1] ^= 1
		h := mustParse(t, bad)
		if _, ok, err := ReadEcho(&h, bad); ok || !errors.Is(err, ErrChecksum) {
			t.Errorf("flipped bit: %v, %v", ok, err)
		}
	}
	short := make4(ICMP, nil, 0, make([]byte, 7))
	h := mustParse(t, short)
	if _, ok, err := ReadEcho(&h, short); ok || !errors.Is(err, ErrLength) {
		t.Errorf("seven bytes: %v, %v", ok, err)
	}
	for name, msg := range map[string][]byte{"timestamp": {13, 0, 0, 0, 0, 1, 0, 1}, "code 1": {8, 1, 0, 0, 0, 1, 0, 1}} {
		binary.BigEndian.PutUint16(msg[2:], ^naiveSum(msg))
		b := make4(ICMP, nil, 0, msg)
		h := mustParse(t, b)
		if _, ok, err := ReadEcho(&h, b); ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
}

func FuzzPutError(f *testing.F) {
	f.Add(make4(UDP, []byte{131, 3, 4, 0}, 0x2000, []byte("12345678")), uint8(0), 1500)
	f.Add(make6(hopByHop, ext(fragment, 0, 0, 0, ext(253, 0, 0, 0, []byte("12345678")))), uint8(2), -1)
	f.Add(make6(ICMPv6, make([]byte, 1400)), uint8(6), 1<<40)
	f.Fuzz(func(t *testing.T, orig []byte, problem uint8, mtu int) {
		h, ok := Parse(orig)
		if !ok || !MayAnswer(&h, orig) {
			return
		}
		gw := c4
		if h.V6() {
			gw = c6
		}
		b := make([]byte, ErrorLen(&h))
		n := PutError(b, gw, Problem(problem%8).Error(&h, orig, mtu), &h, orig)
		r, ok := Parse(b[:n])
		if !ok || n != len(b) || r.Dst != h.Src || r.Fragment || r.Options || n > 1280 {
			t.Fatalf("%+v, %v", r, ok)
		}
		if r.V6() && TransportSum(&r, b) != 0xffff || !r.V6() && Sum(r.Payload(b), 0) != 0xffff || !HeaderSumOK(b) {
			t.Fatal("wrong checksum")
		}
		if MayAnswer(&r, b) {
			t.Fatal("an error about an error")
		}
	})
}
