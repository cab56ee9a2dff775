package lease

import (
	"fmt"
	"net/netip"
	"testing"
)

// A /16 with ten addresses left: the walk is as long as it gets.
func BenchmarkTakeNearlyFull(b *testing.B) {
	tab := New(pseudo(1))
	r := Request{Net4: netip.MustParsePrefix("10.0.0.0/16"), Want4: true}
	for i := range 1<<16 - 3 - 10 {
		if _, err := tab.Take(fmt.Sprint(i), r); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tab.Take("x", r); err != nil {
			b.Fatal(err)
		}
		tab.Free("x")
	}
}

func BenchmarkTakeEmpty(b *testing.B) {
	tab := New(pseudo(1))
	r := both("10.0.0.0/16", "fd00::/48", 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tab.Take("x", r); err != nil {
			b.Fatal(err)
		}
		tab.Free("x")
	}
}
