package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"
	"testing"
)

func sizeName(n int) string { return strconv.Itoa(n) + "B" }

var (
	c4 = netip.MustParseAddr("10.9.0.2")
	s4 = netip.MustParseAddr("192.0.2.7")
	c6 = netip.MustParseAddr("fd00::2")
	s6 = netip.MustParseAddr("2001:db8::7")
)

// make4 is an IPv4 packet by hand.
func make4(proto uint8, opts []byte, frag uint16, payload []byte) []byte {
	hl := 20 + len(opts)
	b := make([]byte, hl, hl+len(payload))
	b[0] = 0x40 | byte(hl/4)
	binary.BigEndian.PutUint16(b[2:], uint16(hl+len(payload)))
	binary.BigEndian.PutUint16(b[6:], frag)
	b[8], b[9] = 61, proto
	copy(b[12:], c4.AsSlice())
	copy(b[16:], s4.AsSlice())
	copy(b[20:], opts)
	binary.BigEndian.PutUint16(b[10:], ^naiveSum(b))
	return append(b, payload...)
}

// make6 is an IPv6 packet by hand; next is the first next header.
func make6(next uint8, payload []byte) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	b[6], b[7] = next, 62
	copy(b[8:], c6.AsSlice())
	copy(b[24:], s6.AsSlice())
	return append(b, payload...)
}

// ext is an extension header of 8*(1+more) bytes, followed by rest.
func ext(next, more, third, fourth byte, rest []byte) []byte {
	b := make([]byte, 8+8*int(more))
	b[0], b[1], b[2], b[3] = next, more, third, fourth
	return append(b, rest...)
}

func TestParse4(t *testing.T) {
	data := []byte("12345678")
	tests := []struct {
		name string
		b    []byte
		want Header
		ok   bool
	}{
		{"plain", make4(UDP, nil, 0, data), Header{Proto: UDP, L4: 20, Length: 28}, true},
		{"df", make4(TCP, nil, 0x4000, data), Header{Proto: TCP, L4: 20, Length: 28, DF: true}, true},
		{"reserved bit", make4(TCP, nil, 0x8000, data), Header{Proto: TCP, L4: 20, Length: 28}, true},
		{"padding", append(make4(UDP, nil, 0, data), 1, 2, 3), Header{Proto: UDP, L4: 20, Length: 28}, true},
		{"first fragment", make4(UDP, nil, 0x2000, data), Header{Proto: UDP, L4: 20, Length: 28, Fragment: true, First: true}, true},
		{"middle fragment", make4(UDP, nil, 0x2001, data), Header{Proto: UDP, L4: 20, Length: 28, Fragment: true}, true},
		{"last fragment", make4(UDP, nil, 0x1fff, data), Header{Proto: UDP, L4: 20, Length: 28, Fragment: true}, true},
		{"router alert", make4(UDP, []byte{148, 4, 0, 0}, 0, data), Header{Proto: UDP, L4: 24, Length: 32, Options: true}, true},
		{"loose source route", make4(UDP, []byte{1, 131, 3, 4}, 0, data), Header{Proto: UDP, L4: 24, Length: 32, Options: true, SourceRouted: true}, true},
		{"strict after another", make4(UDP, []byte{148, 4, 0, 0, 137, 3, 4, 0}, 0, data), Header{Proto: UDP, L4: 28, Length: 36, Options: true, SourceRouted: true}, true},
		{"source route behind the end", make4(UDP, []byte{0, 131, 3, 4}, 0, data), Header{Proto: UDP, L4: 24, Length: 32, Options: true}, true},
		{"garbled option", make4(UDP, []byte{7, 1, 131, 3}, 0, data), Header{Proto: UDP, L4: 24, Length: 32, Options: true}, true},
		{"option beyond header", make4(UDP, []byte{7, 9, 131, 3}, 0, data), Header{Proto: UDP, L4: 24, Length: 32, Options: true}, true},
		{"no payload", make4(UDP, nil, 0, nil), Header{Proto: UDP, L4: 20, Length: 20}, true},
		{"empty", nil, Header{}, false},
		{"short", make4(UDP, nil, 0, nil)[:19], Header{}, false},
		{"cut off", make4(UDP, nil, 0, data)[:27], Header{}, false},
		{"version 5", append([]byte{0x55}, make([]byte, 30)...), Header{}, false},
		{"ihl 4", append([]byte{0x44, 0, 0, 28}, make([]byte, 24)...), Header{}, false},
		{"ihl beyond length", append([]byte{0x4f, 0, 0, 28}, make([]byte, 60)...), Header{}, false},
	}
	for _, tt := range tests {
		tt.want.Src, tt.want.Dst, tt.want.TTL = c4, s4, 61
		checkParse(t, tt.name, tt.b, tt.want, tt.ok)
	}
}

func checkParse(t *testing.T, name string, b []byte, want Header, ok bool) {
	t.Helper()
	got, gotOK := Parse(b)
	if gotOK != ok || ok && got != want {
		t.Errorf("%s: got %+v, %v; want %+v, %v", name, got, gotOK, want, ok)
	}
	if !ok {
		return
	}
	if src, ok := Source(b); !ok || src != want.Src {
		t.Errorf("%s: Source %v, %v", name, src, ok)
	}
	if dst, ok := Destination(b); !ok || dst != want.Dst {
		t.Errorf("%s: Destination %v, %v", name, dst, ok)
	}
}

func TestParse6(t *testing.T) {
	data := []byte("12345678")
	deep := func(n int) []byte {
		b := ext(UDP, 0, 0, 0, data)
		for range n - 1 {
			b = ext(destOptions, 0, 0, 0, b)
		}
		return make6(destOptions, b)
	}
	plain := func(proto uint8, l4, length int) Header { return Header{Proto: proto, L4: l4, Length: length} }
	opts := func(h Header) Header { h.Options = true; return h }
	frag := func(h Header, first bool) Header { h.Fragment, h.First = true, first; return opts(h) }
	routed := func(h Header) Header { h.SourceRouted = true; return opts(h) }
	tests := []struct {
		name string
		b    []byte
		want Header
		ok   bool
	}{
		{"udp", make6(UDP, data), plain(UDP, 40, 48), true},
		{"tcp and padding", append(make6(TCP, data), 0), plain(TCP, 40, 48), true},
		{"nothing follows", make6(NoHeader, nil), plain(NoHeader, 40, 40), true},
		{"unknown protocol", make6(253, data), plain(253, 40, 48), true},
		{"hop by hop", make6(hopByHop, ext(ICMPv6, 0, 0, 0, data)), opts(plain(ICMPv6, 48, 56)), true},
		{"long options", make6(destOptions, ext(UDP, 2, 0, 0, data)), opts(plain(UDP, 64, 72)), true},
		{"auth header", make6(authHeader, append(ext(UDP, 1, 0, 0, nil)[:12], data...)), opts(plain(UDP, 52, 60)), true},
		{"first fragment", make6(fragment, ext(UDP, 0, 0, 1, data)), frag(plain(UDP, 48, 56), true), true},
		{"later fragment", make6(fragment, ext(UDP, 0, 1, 0, data)), frag(plain(UDP, 48, 56), false), true},
		{"later fragment hiding a chain", make6(fragment, ext(destOptions, 0, 1, 1, data)), frag(plain(destOptions, 48, 56), false), true},
		{"atomic fragment", make6(fragment, ext(UDP, 0, 0, 0, data)), opts(plain(UDP, 48, 56)), true},
		{"fragment, reserved bits", make6(fragment, ext(UDP, 0, 0, 6, data)), opts(plain(UDP, 48, 56)), true},
		{"routing done", make6(routing, ext(UDP, 0, 0, 0, data)), opts(plain(UDP, 48, 56)), true},
		{"routing to go", make6(routing, ext(UDP, 0, 0, 1, data)), routed(plain(UDP, 48, 56)), true},
		{"as many as are allowed", deep(maxExtensions), opts(plain(UDP, 40+8*maxExtensions, 48+8*maxExtensions)), true},
		{"one more", deep(maxExtensions + 1), Header{}, false},
		{"hop by hop not first", make6(destOptions, ext(hopByHop, 0, 0, 0, ext(UDP, 0, 0, 0, data))), Header{}, false},
		{"chain without end", make6(destOptions, ext(destOptions, 0, 0, 0, nil)), Header{}, false},
		{"header cut off", make6(destOptions, ext(UDP, 3, 0, 0, nil)[:16]), Header{}, false},
		{"chain beyond first fragment", make6(fragment, ext(destOptions, 0, 0, 1, data[:4])), Header{}, false},
		{"jumbogram", append(make6(hopByHop, nil), data...), Header{}, false},
		{"short", make6(UDP, nil)[:39], Header{}, false},
		{"cut off", make6(UDP, data)[:47], Header{}, false},
	}
	for _, tt := range tests {
		tt.want.Src, tt.want.Dst, tt.want.TTL, tt.want.DF = c6, s6, 62, true
		checkParse(t, tt.name, tt.b, tt.want, tt.ok)
	}
}

func TestAddressesOfNoPacket(t *testing.T) {
	for _, b := range [][]byte{nil, {0x45}, {0x60}, make([]byte, 64), make4(UDP, nil, 0, nil)[:19], make6(UDP, nil)[:39]} {
		if a, ok := Source(b); ok || a.IsValid() {
			t.Errorf("Source(%x) = %v, %v", b, a, ok)
		}
		if a, ok := Destination(b); ok || a.IsValid() {
			t.Errorf("Destination(%x) = %v, %v", b, a, ok)
		}
	}
}

func TestHeaderSum(t *testing.T) {
	b := make4(UDP, []byte{148, 4, 0, 0}, 0, nil)
	if !HeaderSumOK(b) {
		t.Error("right checksum refused")
	}
	b[8]--
	if HeaderSumOK(b) {
		t.Error("wrong checksum accepted")
	}
	if !HeaderSumOK(make6(UDP, nil)) {
		t.Error("IPv6 has no checksum to be wrong")
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	p4, p6 := make4(UDP, nil, 0, make([]byte, 100)), make6(hopByHop, ext(UDP, 0, 0, 0, make([]byte, 100)))
	if n := testing.AllocsPerRun(100, func() {
		Parse(p4)
		h, _ := Parse(p6)
		ReadUDP(&h, p6)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(make4(UDP, []byte{131, 3, 4, 0}, 0x2000, []byte("12345678")))
	f.Add(make6(hopByHop, ext(fragment, 0, 0, 0, ext(UDP, 0, 0, 1, []byte("12345678")))))
	f.Add(make6(routing, ext(authHeader, 1, 0, 1, ext(ICMPv6, 1, 0, 0, nil))))
	f.Add(make4(ICMP, nil, 0, []byte{8, 0, 0, 0, 0, 1, 0, 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		orig := bytes.Clone(b)
		h, ok := Parse(b)
		if !ok {
			return
		}
		if h.L4 > h.Length || h.Length > len(b) || h.L4 < 20 || h.First && !h.Fragment {
			t.Fatalf("%+v of %d bytes", h, len(b))
		}
		if src, ok := Source(b); !ok || src != h.Src {
			t.Fatalf("Source %v, header %v", src, h.Src)
		}
		if dst, ok := Destination(b); !ok || dst != h.Dst {
			t.Fatalf("Destination %v, header %v", dst, h.Dst)
		}
		HeaderSumOK(b)
		TransportSum(&h, b)
		if d, err := ReadUDP(&h, b); err == nil && len(d.Payload) > h.Length-h.L4-8 {
			t.Fatalf("payload of %d bytes in %+v", len(d.Payload), h)
		}
		ReadEcho(&h, b)
		MayAnswer(&h, b)
		if !bytes.Equal(b, orig) {
			t.Fatal("reading changed the packet")
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for name, p := range map[string][]byte{
		"v4": make4(UDP, nil, 0, make([]byte, 64)), "v6": make6(UDP, make([]byte, 64)),
		"v6ext": make6(hopByHop, ext(UDP, 0, 0, 0, make([]byte, 64))),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if h, ok := Parse(p); !ok || h.L4 == 0 {
					b.Fatal("refused")
				}
			}
		})
	}
}
