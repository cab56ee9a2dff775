package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// tcpHead is an IP and TCP header with random contents, wrong lengths and
// wrong checksums, as a stack that leaves them to its link hands them out.
func tcpHead(r *rand.Rand, v6 bool) []byte {
	t := randomBytes(r, 20+4*r.IntN(11))
	t[12] = byte(len(t)/4)<<4 | t[12]&15
	if v6 {
		return append(make6(TCP, nil), t...)
	}
	b := make4(TCP, randomBytes(r, 4*r.IntN(11)), 0x4000, t)
	copy(b[2:], randomBytes(r, 4))  // length, id
	copy(b[10:], randomBytes(r, 2)) // checksum
	return b
}

// naiveSegments does the same one packet at a time, with everything made anew.
func naiveSegments(head, payload []byte, mss int) [][]byte {
	be := binary.BigEndian
	v6 := head[0]>>4 == 6
	l4 := int(head[0]&15) * 4
	if v6 {
		l4 = 40
	}
	var out [][]byte
	for off := 0; off < len(payload) || off == 0; off += mss {
		data := payload[off:min(off+mss, len(payload))]
		b := append(bytes.Clone(head), data...)
		t := b[l4:]
		be.PutUint32(t[4:], be.Uint32(t[4:])+uint32(off))
		if off+mss < len(payload) {
			t[13] &^= 1 | 8
		}
		if off > 0 {
			t[13] &^= 128
		}
		t[16], t[17] = 0, 0
		h := Header{Src: c4, Dst: s4}
		if v6 {
			be.PutUint16(b[4:], uint16(len(b)-40))
			h = Header{Src: c6, Dst: s6}
		} else {
			be.PutUint16(b[2:], uint16(len(b)))
			be.PutUint16(b[4:], be.Uint16(b[4:])+uint16(len(out)))
			b[10], b[11] = 0, 0
			be.PutUint16(b[10:], ^naiveSum(b[:l4]))
		}
		be.PutUint16(t[16:], ^naiveSum(naivePseudo(h.Src, h.Dst, TCP, len(t)), t))
		out = append(out, b)
		if mss == 0 {
			break
		}
	}
	return out
}

// split cuts b at random places, also into empty parts.
func split(r *rand.Rand, b []byte) (parts [][]byte) {
	for len(b) > 0 {
		n := r.IntN(len(b) + 1)
		if r.IntN(3) == 0 {
			n = min(n, 3)
		}
		parts = append(parts, b[:n])
		b = b[n:]
	}
	if r.IntN(2) == 0 {
		parts = append(parts, nil)
	}
	return parts
}

func TestSegmenterAgainstNaive(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	var s Segmenter
	for i := range 3000 {
		head := tcpHead(r, i%2 == 1)
		payload := randomBytes(r, r.IntN(1+r.IntN(8000)))
		mss := 1 + r.IntN(1500)
		if len(payload) > 0 && i%50 == 0 {
			mss = len(payload)
		}
		saved := bytes.Clone(head)
		if !s.Reset(head, split(r, payload), mss) {
			t.Fatalf("refused: % x, %d bytes, MSS %d", head, len(payload), mss)
		}
		got, want := collect(&s), naiveSegments(head, payload, mss)
		if len(got) != len(want) {
			t.Fatalf("%d packets, want %d (%d bytes, MSS %d)", len(got), len(want), len(payload), mss)
		}
		for j := range got {
			if !equalButZeroSums(got[j], want[j]) {
				t.Fatalf("packet %d of %d:\n% x, want\n% x", j, len(want), got[j], want[j])
			}
		}
		if !bytes.Equal(head, saved) {
			t.Fatal("the header was changed")
		}
	}
}

// equalButZeroSums: a TCP checksum of 0 and one of 0xffff say the same, and no
// rule chooses.
func equalButZeroSums(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	ha, ok := Parse(a)
	if !ok || len(a) != len(b) {
		return false
	}
	x, y := bytes.Clone(a), bytes.Clone(b)
	for _, p := range [][]byte{x, y} {
		at := ha.L4 + 16
		if p[at] == 0xff && p[at+1] == 0xff {
			p[at], p[at+1] = 0, 0
		}
	}
	return bytes.Equal(x, y)
}

func TestSegmenterFlags(t *testing.T) {
	head := tcpHead(rand.New(rand.NewPCG(1, 1)), false)
	l4 := int(head[0]&15) * 4
	head[l4+13] = 0xff
	var s Segmenter
	s.Reset(head, [][]byte{make([]byte, 30)}, 10)
	for i, want := range []byte{0xff &^ 0x09, 0xff &^ 0x89, 0x7f} {
		if got := collectOne(&s)[l4+13]; got != want {
			t.Errorf("packet %d: flags %#x, want %#x", i, got, want)
		}
	}
	if s.Len() != 0 {
		t.Error("a fourth packet")
	}
	s.Reset(head, nil, 10)
	if got := collectOne(&s)[l4+13]; got != 0xff {
		t.Errorf("pure ACK: flags %#x", got)
	}
}

func collectOne(s *Segmenter) []byte {
	b := make([]byte, s.Len())
	s.Put(b)
	return b
}

// MSS 0 leaves the segment whole.
func TestSegmenterWithoutMSS(t *testing.T) {
	var s Segmenter
	head := tcpHead(rand.New(rand.NewPCG(2, 2)), true)
	for _, n := range []int{0, 1, 60000} {
		if !s.Reset(head, [][]byte{make([]byte, n)}, 0) || s.Len() != len(head)+n || len(collect(&s)) != 1 {
			t.Errorf("%d bytes", n)
		}
	}
}

func TestSegmenterRefuses(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	good4, good6 := tcpHead(r, false), tcpHead(r, true)
	change := func(b []byte, at int, v byte) []byte { b = bytes.Clone(b); b[at] = v; return b }
	tests := []struct {
		name string
		head []byte
		n    int
		mss  int
	}{
		{"nothing", nil, 1, 1},
		{"version", change(good4, 0, 0x55), 1, 1},
		{"udp", change(good4, 9, UDP), 1, 1},
		{"udp6", change(good6, 6, UDP), 1, 1},
		{"extension header", change(good6, 6, destOptions), 1, 1},
		{"short ihl", change(good4, 0, 0x44), 1, 1},
		{"ihl beyond header", change(good4[:40], 0, 0x4f), 1, 1},
		{"short tcp header", change(good6, 52, 0x40), 1, 1},
		{"tcp header beyond", change(good6[:60], 52, 0xf0), 1, 1},
		{"payload in the header", append(bytes.Clone(good6), 0), 1, 1},
		{"too long for IP", good4, 70000, 65530},
		{"too long for one packet", good4, 70000, 0},
		{"head too long", make([]byte, maxHead+1), 1, 1},
	}
	var s Segmenter
	for _, tt := range tests {
		s.Reset(good4, [][]byte{{1}}, 1)
		if s.Reset(tt.head, [][]byte{make([]byte, tt.n)}, tt.mss) || s.Len() != 0 {
			t.Errorf("%s: accepted", tt.name)
		}
	}
	if !s.Reset(good4, [][]byte{make([]byte, 70000)}, 1400) {
		t.Error("good header refused")
	}
}

func TestSegmenterDoesNotAllocate(t *testing.T) {
	var s Segmenter
	head, b := tcpHead(rand.New(rand.NewPCG(4, 4)), false), make([]byte, 1500)
	payload := [][]byte{make([]byte, 5000), make([]byte, 5001), make([]byte, 5000)}
	if n := testing.AllocsPerRun(100, func() {
		s.Reset(head, payload, 1360)
		for s.Len() > 0 {
			s.Put(b)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzSegmenter(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 5))
	f.Add(tcpHead(r, false), []byte("payload of several segments"), 5)
	f.Add(tcpHead(r, true), []byte{}, 0)
	f.Fuzz(func(t *testing.T, head, payload []byte, mss int) {
		var s Segmenter
		if !s.Reset(head, [][]byte{payload}, mss) {
			return
		}
		total := 0
		for n := s.Len(); n > 0; n = s.Len() {
			b := make([]byte, n)
			s.Put(b)
			h, ok := Parse(b)
			if !ok || h.Length != n || TransportSum(&h, b) != 0xffff || !HeaderSumOK(b) {
				t.Fatalf("%+v, %v: % x", h, ok, b)
			}
			total += n - len(head)
		}
		if total != len(payload) {
			t.Fatalf("%d of %d bytes", total, len(payload))
		}
	})
}

func BenchmarkSegmenter(b *testing.B) {
	for _, v6 := range []bool{false, true} {
		name := "v4"
		if v6 {
			name = "v6"
		}
		b.Run(name, func(b *testing.B) {
			head := tcpHead(rand.New(rand.NewPCG(6, 6)), v6)
			payload := [][]byte{make([]byte, 32000), make([]byte, 28000)}
			out := make([]byte, 1500)
			var s Segmenter
			b.SetBytes(60000)
			b.ReportAllocs()
			for b.Loop() {
				s.Reset(head, payload, 1360)
				for s.Len() > 0 {
					s.Put(out)
				}
			}
		})
	}
}
