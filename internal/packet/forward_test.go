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
