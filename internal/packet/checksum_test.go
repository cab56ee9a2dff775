package packet

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// naiveSum is RFC 1071 to the letter: sixteen bits at a time.
func naiveSum(parts ...[]byte) uint16 {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	if len(all)%2 == 1 {
		all = append(all, 0)
	}
	var s uint32
	for i := 0; i < len(all); i += 2 {
		s += uint32(binary.BigEndian.Uint16(all[i:]))
		if s > 0xffff {
			s -= 0xffff
		}
	}
	return uint16(s)
}

// naivePseudo is the pseudo header as bytes.
func naivePseudo(src, dst netip.Addr, proto uint8, n int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return append(b, 0, 0, 0, proto)
}

// sameSum: 0 and 0xffff are the same number in ones' complement.
func sameSum(a, b uint16) bool {
	return a == b || a%0xffff == 0 && b%0xffff == 0
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
		if r.IntN(4) == 0 {
			b[i] = 0xff // carries
		}
	}
	return b
}

func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		b := randomBytes(r, n)
		if got, want := Sum(b, 0), naiveSum(b); !sameSum(got, want) {
			t.Fatalf("Sum of %d bytes: %#x, want %#x", n, got, want)
		}
		partial := uint16(r.Uint32())
		word := binary.BigEndian.AppendUint16(nil, partial)
		if got, want := Sum(b, partial), naiveSum(word, b); !sameSum(got, want) {
			t.Fatalf("Sum of %d bytes with %#x: %#x, want %#x", n, partial, got, want)
		}
	}
	ones := make([]byte, 70000)
	for i := range ones {
		ones[i] = 0xff
	}
	if got := Sum(ones, 0xffff); got != 0xffff {
		t.Errorf("sum of ones: %#x", got)
	}
}

// RFC 1071 section 3 has this example.
func TestSumExample(t *testing.T) {
	if got := Sum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, 0); got != 0xddf2 {
		t.Errorf("got %#x, want 0xddf2", got)
	}
}

func TestPseudoSum(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		src := netip.AddrFrom16([16]byte(randomBytes(r, 16)))
		dst := netip.AddrFrom16([16]byte(randomBytes(r, 16)))
		if r.IntN(2) == 0 {
			src, dst = netip.AddrFrom4([4]byte(randomBytes(r, 4))), netip.AddrFrom4([4]byte(randomBytes(r, 4)))
		}
		proto, n := uint8(r.Uint32()), r.IntN(65536)
		got, want := PseudoSum(src, dst, proto, n), naiveSum(naivePseudo(src, dst, proto, n))
		if !sameSum(got, want) {
			t.Fatalf("%v %v %d %d: %#x, want %#x", src, dst, proto, n, got, want)
		}
	}
}

func TestUpdateChecksum(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		b := randomBytes(r, 2+2*r.IntN(20))
		at := 2 * r.IntN(len(b)/2)
		old := ^Sum(b, 0)
		from, to := binary.BigEndian.Uint16(b[at:]), uint16(r.Uint32())
		binary.BigEndian.PutUint16(b[at:], to)
		if got, want := UpdateChecksum(old, from, to), ^Sum(b, 0); !sameSum(got, want) {
			t.Fatalf("%#x with %#x → %#x: %#x, want %#x", old, from, to, got, want)
		}
	}
	// RFC 1624 section 4: the case that equation 4 of RFC 1141 gets wrong.
	if got := UpdateChecksum(0xdd2f, 0x5555, 0x3285); got != 0x0000 {
		t.Errorf("RFC 1624's example: %#x, want 0", got)
	}
}

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 1400} {
		b.Run(sizeName(n), func(b *testing.B) {
			buf := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				Sum(buf, 0)
			}
		})
	}
}
