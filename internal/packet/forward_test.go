package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

func TestHop(t *testing.T) {
	for _, b := range [][]byte{make4(UDP, nil, 0, make([]byte, 20)), make4(UDP, []byte{7, 4, 4, 0}, 0x4000, nil), make6(UDP, make([]byte, 9))} {
		h := mustParse(t, b)
		was := bytes.Clone(b)
		Hop(b)
		now := mustParse(t, b)
		if now.TTL != h.TTL-1 || !HeaderSumOK(b) {
			t.Errorf("TTL %d became %d, checksum %v", h.TTL, now.TTL, HeaderSumOK(b))
		}
		at := 8
		if h.V6() {
			at = 7
		}
		was[at]--
		if !h.V6() {
			copy(was[10:12], b[10:12])
		}
		if !bytes.Equal(was, b) {
			t.Error("something else was changed")
		}
	}
}

// Every fragment fits, and together they are the packet; also of what is itself
// a fragment.
func TestSplitter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		opts := []byte(nil)
		if r.IntN(2) == 0 {
			opts = []byte{7, 7, 4, 0, 0, 0, 0, 1, 0x94, 4, 0, 0} // record route is not copied, router alert is
		}
		first, more := r.IntN(3)*100, uint16(r.IntN(2))*0x2000
		n := 8 * (1 + r.IntN(250))
		if more == 0 {
			n -= r.IntN(8)
		}
		payload := randomBytes(r, n)
		pkt := make4(UDP, opts, uint16(first)|more, payload)
		h := mustParse(t, pkt)
		mtu := 68 + r.IntN(1000)
		got := make([]byte, 0, n)
		var s Splitter
		s.Reset(&h, pkt, mtu)
		for i := 0; s.Len() > 0; i++ {
			b := make([]byte, s.Len())
			if s.Put(b) > mtu || !HeaderSumOK(b) {
				t.Fatalf("fragment of %d bytes for an MTU of %d, checksum %v", len(b), mtu, HeaderSumOK(b))
			}
			f := mustParse(t, b)
			frag := binary.BigEndian.Uint16(b[6:])
			if int(frag&0x1fff) != first+len(got)/8 || f.Src != h.Src || f.Dst != h.Dst || f.Proto != h.Proto || f.TTL != h.TTL {
				t.Fatalf("fragment %d is %+v", i, f)
			}
			if opts != nil && (b[20] == 7) != (i == 0) || opts != nil && b[28] != 0x94 {
				t.Fatalf("options of fragment %d: % x", i, b[20:h.L4])
			}
			got = append(got, f.Payload(b)...)
			if end := frag&0x2000 == 0; end != (more == 0 && len(got) == n) {
				t.Fatalf("fragment %d of %d bytes: last %v", i, len(got), end)
			}
		}
		if !bytes.Equal(got, payload) {
			t.Fatalf("%d of %d bytes", len(got), n)
		}
	}
	pkt := make4(UDP, nil, 0, make([]byte, 100))
	h := mustParse(t, pkt)
	var s Splitter
	if s.Reset(&h, pkt, 27); s.Len() != 0 {
		t.Error("fragments of nothing")
	}
	pkt = make4(UDP, nil, 0x2000|0x1ff0, make([]byte, 400))
	h = mustParse(t, pkt)
	if s.Reset(&h, pkt, 68); s.Len() != 0 {
		t.Error("fragments beyond the longest datagram")
	}
}

// Whatever packet Parse accepts: its fragments fit, are packets themselves, and
// are its data, each where it belongs in the datagram.
func FuzzSplitter(f *testing.F) {
	f.Add(make4(UDP, []byte{7, 7, 4, 0, 0, 0, 0, 1, 0x94, 4, 0, 0}, 0, make([]byte, 1000)), 576)
	f.Add(make4(UDP, nil, 0x2000|100, make([]byte, 1001)), 68)
	f.Add(make4(UDP, []byte{0x94, 3, 0, 7, 99, 0, 0, 0}, 0x2000|0x1ff0, make([]byte, 400)), 60)
	f.Add(make4(TCP, nil, 0, nil), 1500)
	f.Fuzz(func(t *testing.T, pkt []byte, mtu int) {
		h, ok := Parse(pkt)
		if !ok || h.V6() || mtu > 0xffff {
			return
		}
		orig := binary.BigEndian.Uint16(pkt[6:])
		var s Splitter
		s.Reset(&h, pkt, mtu)
		var got []byte
		for s.Len() > 0 {
			b := make([]byte, s.Len())
			n := s.Put(b)
			r, ok := Parse(b)
			if !ok || n != len(b) || n > mtu || !HeaderSumOK(b) {
				t.Fatalf("fragment of %d bytes for an MTU of %d: %+v, %v", n, mtu, r, ok)
			}
			at := binary.BigEndian.Uint16(b[6:])
			if int(at&0x1fff) != int(orig&0x1fff)+len(got)/8 {
				t.Fatalf("%d bytes in, a fragment of a packet at %d is at %d", len(got), orig&0x1fff, at&0x1fff)
			}
			got = append(got, r.Payload(b)...)
			if end := at&0x2000 == 0; end != (orig&0x2000 == 0 && len(got) == len(h.Payload(pkt))) {
				t.Fatalf("the fragment with byte %d of %d: last %v", len(got), len(h.Payload(pkt)), end)
			}
		}
		if whole := h.Payload(pkt); len(got) > 0 && !bytes.Equal(got, whole) {
			t.Fatalf("%d of %d bytes", len(got), len(whole))
		}
	})
}

func TestIsICMPError(t *testing.T) {
	udp := make4(UDP, nil, 0, make([]byte, 8))
	h := mustParse(t, udp)
	e := make([]byte, ErrorLen(&h))
	PutError(e, h.Dst, HostUnreachable.Error(&h, udp, 0), &h, udp)
	udp6 := make6(UDP, make([]byte, 8))
	h6 := mustParse(t, udp6)
	e6 := make([]byte, ErrorLen(&h6))
	PutError(e6, h6.Dst, Prohibited.Error(&h6, udp6, 0), &h6, udp6)
	for name, tt := range map[string]struct {
		b    []byte
		want bool
	}{
		"error": {e, true}, "error 6": {e6, true}, "udp": {udp, false}, "udp 6": {udp6, false},
		"echo": {echo(t, false, false, 1, "x"), false}, "echo 6": {echo(t, true, true, 1, "x"), false},
		"short": {make4(ICMP, nil, 0, []byte{3, 0, 0}), false}, "fragment": {make4(ICMP, nil, 5, []byte{3, 0, 0, 0, 0, 0, 0, 0}), false},
	} {
		if h := mustParse(t, tt.b); IsICMPError(&h, tt.b) != tt.want {
			t.Errorf("%s: %v", name, !tt.want)
		}
	}
}

// What an ICMP error quotes, whole or in part.
func TestQuoted(t *testing.T) {
	about := make4(UDP, nil, 0, append([]byte{0, 1, 0, 2, 0, 0, 0, 0}, make([]byte, 1000)...))
	h := mustParse(t, about)
	about6 := make6(UDP, append([]byte{0, 1, 0, 2, 0, 0, 0, 0}, make([]byte, 1400)...))
	h6 := mustParse(t, about6)
	quoting := func(v6 bool, quote []byte) []byte {
		if v6 {
			return make6(ICMPv6, append([]byte{unreachable6, 0, 0, 0, 0, 0, 0, 0}, quote...))
		}
		return make4(ICMP, nil, 0, append([]byte{unreachable4, 0, 0, 0, 0, 0, 0, 0}, quote...))
	}
	for name, tt := range map[string]struct {
		b    []byte
		want *Header
		left int // bytes of the quote behind its header
	}{
		"whole": {quoting(false, about), &h, 1008}, "header and 64 bits": {quoting(false, about[:28]), &h, 8}, "header": {quoting(false, about[:20]), &h, 0},
		"less": {quoting(false, about[:19]), nil, 0}, "nothing": {quoting(false, nil), nil, 0}, "noise": {quoting(false, make([]byte, 100)), nil, 0},
		"whole 6": {quoting(true, about6), &h6, 1408}, "part 6": {quoting(true, about6[:100]), &h6, 60}, "less 6": {quoting(true, about6[:39]), nil, 0},
		"echo": {echo(t, false, false, 1, "x"), nil, 0},
	} {
		e := mustParse(t, tt.b)
		q, quote, ok := Quoted(&e, tt.b)
		if ok != (tt.want != nil) {
			t.Errorf("%s: %v", name, ok)
			continue
		}
		if ok && (q.Src != tt.want.Src || q.Dst != tt.want.Dst || q.Proto != UDP || len(q.Payload(quote)) != tt.left) {
			t.Errorf("%s: %+v, %d bytes", name, q, len(q.Payload(quote)))
		}
	}
	for typ, want := range map[byte]bool{0: false, 1: true, 2: true, 3: true, 4: true, 5: false, 100: false, 127: false, 128: false} {
		b := make6(ICMPv6, []byte{typ, 0, 0, 0, 0, 0, 0, 0})
		if h := mustParse(t, b); IsICMPError(&h, b) != want {
			t.Errorf("ICMPv6 type %d: %v", typ, !want)
		}
	}
}
