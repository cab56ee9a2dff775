package packet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// family is one pair of endpoints to test with.
type family struct {
	name     string
	src, dst netip.AddrPort
}

var families = []family{
	{"v4", netip.AddrPortFrom(s4, 53), netip.AddrPortFrom(c4, 40000)},
	{"v6", netip.AddrPortFrom(s6, 53), netip.AddrPortFrom(c6, 40000)},
}

func TestPutUDP(t *testing.T) {
	for _, f := range families {
		for _, n := range []int{0, 1, 7, 8, 1300} {
			v6 := f.src.Addr().Is6()
			payload := randomBytes(rand.New(rand.NewPCG(1, uint64(n))), n)
			b := append(bytes.Repeat([]byte{0xaa}, UDPOffset(v6)), payload...)
			PutUDP(b, f.src, f.dst, 57, 0x1234)
			h, ok := Parse(b)
			want := Header{Src: f.src.Addr(), Dst: f.dst.Addr(), Proto: UDP, TTL: 57, L4: UDPOffset(v6) - 8, Length: len(b), DF: v6}
			if !ok || h != want {
				t.Fatalf("%s, %d: header %+v, %v, want %+v", f.name, n, h, ok, want)
			}
			if !HeaderSumOK(b) || !v6 && binary.BigEndian.Uint16(b[4:]) != 0x1234 {
				t.Errorf("%s, %d: header % x", f.name, n, b[:20])
			}
			u := b[h.L4:]
			if sum := naiveSum(naivePseudo(h.Src, h.Dst, UDP, len(u)), u); sum != 0xffff {
				t.Errorf("%s, %d: sum %#x", f.name, n, sum)
			}
			d, err := ReadUDP(&h, b)
			if err != nil || d.SrcPort != 53 || d.DstPort != 40000 || !bytes.Equal(d.Payload, payload) {
				t.Errorf("%s, %d: read back %+v, %v", f.name, n, d, err)
			}
		}
	}
}

// A checksum that comes out as zero is sent as 0xffff.
func TestPutUDPZeroChecksum(t *testing.T) {
	for _, f := range families {
		b := make([]byte, UDPOffset(f.src.Addr().Is6())+2)
		PutUDP(b, f.src, f.dst, 64, 0)
		sum := binary.BigEndian.Uint16(b[len(b)-4:])
		copy(b[len(b)-2:], b[len(b)-4:len(b)-2]) // the payload that makes the sum 0xffff
		PutUDP(b, f.src, f.dst, 64, 0)
		if got := binary.BigEndian.Uint16(b[len(b)-4:]); sum == 0 || got != 0xffff {
			t.Errorf("%s: checksum %#x, then %#x, want 0xffff", f.name, sum, got)
		}
	}
}

func TestReadUDPRefuses(t *testing.T) {
	for _, f := range families {
		v6 := f.src.Addr().Is6()
		l4 := UDPOffset(v6) - 8
		packetOf := func() []byte {
			b := append(make([]byte, UDPOffset(v6)), "payload"...)
			PutUDP(b, f.src, f.dst, 64, 0)
			return b
		}
		set := func(at int, v uint16) func(b []byte) []byte {
			return func(b []byte) []byte { binary.BigEndian.PutUint16(b[l4+at:], v); return b }
		}
		zeroSum := ErrChecksum
		if !v6 {
			zeroSum = nil // no checksum: RFC 768
		}
		tests := []struct {
			name   string
			change func([]byte) []byte
			want   error
		}{
			{"intact", func(b []byte) []byte { return b }, nil},
			{"flipped bit", func(b []byte) []byte { b[len(b)-1] ^= 4; return b }, ErrChecksum},
			{"wrong port", set(0, 54), ErrChecksum},
			{"no checksum", set(6, 0), zeroSum},
			{"length 7", set(4, 7), ErrLength},
			{"length 0", set(4, 0), ErrLength}, // RFC 2675 only
			{"length beyond packet", set(4, 16), ErrLength},
			{"seven bytes", func(b []byte) []byte {
				b = b[:l4+7]
				n := len(b)
				if v6 {
					binary.BigEndian.PutUint16(b[4:], uint16(n-40))
				} else {
					binary.BigEndian.PutUint16(b[2:], uint16(n))
				}
				return b
			}, ErrLength},
		}
		for _, tt := range tests {
			b := tt.change(packetOf())
			h, ok := Parse(b)
			if !ok {
				t.Fatalf("%s %s: Parse", f.name, tt.name)
			}
			if _, err := ReadUDP(&h, b); !errors.Is(err, tt.want) {
				t.Errorf("%s %s: %v, want %v", f.name, tt.name, err, tt.want)
			}
		}
	}
}

// What stands between the end of the datagram and that of the packet is padding.
func TestReadUDPPadding(t *testing.T) {
	inner := append(make([]byte, 28), "payload"...)
	PutUDP(inner, netip.AddrPortFrom(c4, 1), netip.AddrPortFrom(s4, 2), 64, 0)
	b := make4(UDP, nil, 0, append(inner[20:], "surplus"...))
	h, _ := Parse(b)
	d, err := ReadUDP(&h, b)
	if err != nil || string(d.Payload) != "payload" {
		t.Errorf("%q, %v", d.Payload, err)
	}
}

// defragment puts fragments together the simple way and returns one packet's
// upper layer, or nil if they are not a complete datagram.
func defragment(t *testing.T, packets [][]byte, mtu int) (proto uint8, l4 []byte) {
	t.Helper()
	var id []byte
	for i, b := range packets {
		h, ok := Parse(b)
		if !ok || h.Length != len(b) || len(b) > mtu || !HeaderSumOK(b) {
			t.Fatalf("fragment %d of %d bytes for MTU %d: %+v, %v", i, len(b), mtu, h, ok)
		}
		if !h.Fragment && len(packets) == 1 && !h.Options {
			return h.Proto, b[h.L4:]
		}
		last := i == len(packets)-1
		var off int
		var more bool
		var ident []byte
		if h.V6() {
			f := b[h.L4-8 : h.L4]
			off, more, ident = int(binary.BigEndian.Uint16(f[2:])&^7), f[3]&1 == 1, f[4:8]
		} else {
			f := binary.BigEndian.Uint16(b[6:])
			off, more, ident = int(f&0x1fff)*8, f&0x2000 != 0, b[4:6]
		}
		if off != len(l4) || more == last || id != nil && !bytes.Equal(id, ident) {
			t.Fatalf("fragment %d of %d: offset %d at %d, more %v, id %x after %x", i, len(packets), off, len(l4), more, ident, id)
		}
		id, proto = ident, h.Proto
		l4 = append(l4, b[h.L4:]...)
	}
	return proto, l4
}

func collect(f interface {
	Len() int
	Put([]byte) int
}) [][]byte {
	var out [][]byte
	for n := f.Len(); n > 0; n = f.Len() {
		b := bytes.Repeat([]byte{0xaa}, n+3)
		out = append(out, b[:f.Put(b)])
		if len(out) > 100000 {
			panic("endless")
		}
	}
	return out
}

func TestFragmenterUDP(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var f Fragmenter
	for i := range 400 {
		fam := families[i%2]
		mtu := 68 + r.IntN(1500)
		payload := randomBytes(r, r.IntN(9000))
		if i < 20 {
			payload = payload[:min(len(payload), mtu-28-20+i)] // around the edge
		}
		f.ResetUDP(fam.src, fam.dst, 60, 0xabcd1234, payload, mtu)
		packets := collect(&f)
		proto, l4 := defragment(t, packets, mtu)
		sum := naiveSum(naivePseudo(fam.src.Addr(), fam.dst.Addr(), UDP, len(l4)), l4)
		if proto != UDP || sum != 0xffff || !bytes.Equal(l4[8:], payload) {
			t.Fatalf("%s: %d bytes, MTU %d: protocol %d, sum %#x, %d bytes", fam.name, len(payload), mtu, proto, sum, len(l4))
		}
		whole := UDPOffset(fam.src.Addr().Is6())+len(payload) <= mtu
		if whole != (len(packets) == 1) {
			t.Fatalf("%d packets for %d bytes, MTU %d", len(packets), len(payload), mtu)
		}
	}
}

func TestFragmenterEcho(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	var f Fragmenter
	for i := range 100 {
		fam := families[i%2]
		msg := append([]byte{0, 0, 0xde, 0xad, 0x99, 0x99, 0x00, 0x07}, randomBytes(r, r.IntN(4000))...)
		f.ResetEcho(fam.src.Addr(), fam.dst.Addr(), 60, 99, 0x4242, msg, 1280)
		proto, l4 := defragment(t, collect(&f), 1280)
		var pseudo []byte
		typ, wantProto := byte(0), uint8(ICMP)
		if fam.name == "v6" {
			typ, wantProto = 129, ICMPv6
			pseudo = naivePseudo(fam.src.Addr(), fam.dst.Addr(), ICMPv6, len(l4))
		}
		if naiveSum(pseudo, l4) != 0xffff || proto != wantProto || !bytes.Equal(l4[8:], msg[8:]) ||
			!bytes.Equal(append(bytes.Clone(l4[:2]), l4[4:8]...), []byte{typ, 0, 0x42, 0x42, 0, 7}) {
			t.Fatalf("%s: protocol %d, % x", fam.name, proto, l4[:8])
		}
	}
}

func TestFragmenterNothing(t *testing.T) {
	var f Fragmenter
	if f.Len() != 0 {
		t.Error("the zero value has a packet")
	}
	tests := []struct {
		fam, n, mtu int
		want        bool
	}{
		{0, 65507, 1400, true}, {0, 65508, 1400, false}, {0, 65507, 70000, true}, {0, 65508, 70000, false},
		{1, 65527, 1400, true}, {1, 65528, 1400, false}, {1, 65528, 70000, false},
		{0, 100, 28, true}, {0, 100, 27, false}, {1, 100, 56, true}, {1, 100, 55, false}, {0, 100, 0, false}, {1, 100, -5, false},
	}
	for _, tt := range tests {
		fam := families[tt.fam]
		f.ResetUDP(fam.src, fam.dst, 60, 1, make([]byte, tt.n), tt.mtu)
		if got := f.Len() > 0; got != tt.want {
			t.Errorf("%s: %d bytes, MTU %d: something %v", fam.name, tt.n, tt.mtu, got)
		}
	}
}

func TestBuildingDoesNotAllocate(t *testing.T) {
	var f Fragmenter
	b, payload := make([]byte, 2000), make([]byte, 4000)
	if n := testing.AllocsPerRun(100, func() {
		for _, fam := range families {
			PutUDP(b, fam.src, fam.dst, 64, 1)
			f.ResetUDP(fam.src, fam.dst, 64, 1, payload, 1400)
			for f.Len() > 0 {
				f.Put(b)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPutUDP(b *testing.B) {
	for _, fam := range families {
		for _, n := range []int{64, 1300} {
			b.Run(fam.name+"/"+sizeName(n), func(b *testing.B) {
				payload := make([]byte, n)
				buf := make([]byte, UDPOffset(fam.src.Addr().Is6())+n)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					copy(buf[len(buf)-n:], payload)
					PutUDP(buf, fam.src, fam.dst, 64, 1)
				}
			})
		}
	}
}
