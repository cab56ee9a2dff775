package mainproc

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestSlots(t *testing.T) {
	// A step enters from a prefix at a time, or leaves ("-name").
	type step struct {
		at      int
		name    string
		source  string
		ok      bool
		evicted string
	}
	tests := []struct {
		name         string
		limit, share int
		grace        time.Duration
		steps        []step
	}{
		{"the oldest goes when all is full", 2, 2, 0, []step{
			{0, "a", "10.0.0.1", true, ""}, {1, "b", "10.0.1.1", true, ""}, {2, "c", "10.0.2.1", true, "a"}, {3, "d", "10.0.3.1", true, "b"},
		}},
		{"the oldest of the prefix when its share is full", 4, 2, 0, []step{
			{0, "x", "192.0.2.1", true, ""}, {1, "a", "10.0.0.1", true, ""}, {2, "b", "10.0.0.200", true, ""}, {3, "c", "10.0.0.3", true, "a"},
		}},
		{"a /64 is one prefix", 4, 1, 0, []step{
			{0, "a", "2001:db8::1", true, ""}, {1, "b", "2001:db8::2:3", true, "a"}, {2, "c", "2001:db8:0:1::1", true, ""},
		}},
		{"nothing young is put out", 1, 1, 5 * time.Second, []step{
			{0, "a", "10.0.0.1", true, ""}, {4, "b", "10.0.1.1", false, ""}, {5, "c", "10.0.1.1", true, "a"},
		}},
		{"who leaves makes room", 1, 1, time.Hour, []step{
			{0, "a", "10.0.0.1", true, ""}, {1, "-a", "", true, ""}, {1, "b", "10.0.0.1", true, ""}, {1, "-a", "", true, ""}, {1, "c", "10.0.0.1", false, ""},
		}},
		{"no places at all", 0, 0, 0, []step{
			{0, "a", "10.0.0.1", false, ""},
		}},
		{"leaving after an eviction changes nothing", 1, 1, 0, []step{
			{0, "a", "10.0.0.1", true, ""}, {1, "b", "10.0.1.1", true, "a"}, {2, "-a", "", true, ""}, {3, "c", "10.0.2.1", true, "b"},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSlots(tt.grace)
			held := make(map[string]*slot)
			for i, st := range tt.steps {
				if st.name[0] == '-' {
					s.leave(held[st.name[1:]])
					continue
				}
				var evicted string
				for n := range held { // what evict would name
					held[n].evict = func() { evicted = n }
				}
				n, ok := s.enter(bound{tt.limit, tt.share}, sourcePrefix(netip.MustParseAddr(st.source)), epoch.Add(time.Duration(st.at)*time.Second), nil)
				if ok != st.ok || evicted != st.evicted {
					t.Fatalf("step %d %+v: ok %v, evicted %q", i, st, ok, evicted)
				}
				if ok {
					held[st.name] = n
				}
			}
			if s.len() > tt.limit {
				t.Errorf("%d held, limit %d", s.len(), tt.limit)
			}
		})
	}
}

var epoch = time.Unix(1_800_000_000, 0)

// Whatever happens, the bounds hold and no prefix is remembered in vain.
func TestSlotsBounds(t *testing.T) {
	s := newSlots(0)
	var held []*slot
	for i := range 1000 {
		src := netip.MustParseAddr(fmt.Sprintf("10.0.%d.1", i*i%7))
		n, ok := s.enter(bound{10, 3}, sourcePrefix(src), epoch.Add(time.Duration(i)), func() {})
		if !ok {
			t.Fatal("no slot without grace")
		}
		held = append(held, n)
		if i%3 == 0 {
			s.leave(held[i/2])
		}
		if s.len() > 10 {
			t.Fatalf("%d held", s.len())
		}
		for p, l := range s.from {
			if l.Len() == 0 || l.Len() > 3 {
				t.Fatalf("%d of %v", l.Len(), p)
			}
		}
	}
	for _, n := range held {
		s.leave(n)
	}
	if s.len() != 0 || len(s.from) != 0 {
		t.Errorf("%d slots and %d prefixes left", s.len(), len(s.from))
	}
	if !slices.Contains([]int{0, 1}, len(s.freed)) {
		t.Error("tokens pile up")
	}
}

func TestFair(t *testing.T) {
	for limit, share := range map[int]int{0: 0, 1: 1, 5: 5, 8: 8, 20: 8, 100: 25, 256: 64} {
		if got := fair(limit); got != (bound{limit, share}) {
			t.Errorf("fair(%d) = %+v, want a share of %d", limit, got, share)
		}
	}
}
