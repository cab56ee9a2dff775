package nat

import (
	"net/netip"
	"testing"
	"time"
)

// A mapping that is carried over has the time left, the peers and the state
// that it had.
func TestCarry(t *testing.T) {
	a := New[string](Limits{}, AddressDependent, epoch)
	web := mustAdd(t, a, udpKey(1), webSrv, epoch)
	a.Inbound(web, webSrv.Addr(), epoch)
	many := mustAdd(t, a, udpKey(2), webSrv, after(1))
	var peers []netip.Addr
	for i := range byte(20) {
		p := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 5000)
		a.Outbound(many, p, after(1))
		peers = append(peers, p.Addr())
	}
	mustAdd(t, a, udpKey(3), dnsSrv, after(2))
	mustAdd(t, a, echoKey(4), webSrv, after(3))

	b := New[string](Limits{}, AddressDependent, after(10))
	n := 0
	a.Carry(after(10), func(s Saved, m *Mapping[string]) {
		n++
		if r, ok := b.Restore(s, m.Value, after(10)); !ok || r.Key() != m.Key() || r.Value != m.Value {
			t.Errorf("%v was not restored", s)
		}
	})
	if n != 4 || a.Len() != 0 || b.Len() != 4 || a.Stats().UDP+a.Stats().Echo != 0 || b.Stats().UDP != 3 || b.Stats().Echo != 1 {
		t.Fatalf("%d carried, %d left, %+v", n, a.Len(), b.Stats())
	}
	m := b.Lookup(udpKey(2))
	for _, p := range peers {
		if !b.Inbound(m, p, after(10)) {
			t.Errorf("%v may not answer any more", p)
		}
	}
	if b.Inbound(m, other.Addr(), after(10)) {
		t.Error("a stranger may answer")
	}
	if !b.Inbound(b.Lookup(udpKey(3)), dnsSrv.Addr(), after(10)) || b.Lookup(udpKey(3)).class != answered {
		t.Error("the DNS query does not wait for its answer any more")
	}
	for _, step := range []struct {
		at   float64
		left int
	}{{11.9, 4}, {12, 3}, {62.9, 3}, {63, 2}, {299.9, 2}, {300, 1}, {310, 0}} {
		// answered at 10: 2 s. echo: 3 + 60. two-way: 0 + 300, and the answer at 10 made the other two-way.
		expired(b, after(step.at))
		if b.Len() != step.left {
			t.Errorf("after %v s: %d mappings, want %d", step.at, b.Len(), step.left)
		}
	}
}

// What another worker says is not believed blindly.
func TestRestoreRefuses(t *testing.T) {
	good := Saved{Key: udpKey(1), Class: uint8(twoWay)}
	tests := map[string]func(*Saved){
		"unknown class":            func(s *Saved) { s.Class = uint8(classes) },
		"unknown kind":             func(s *Saved) { s.Key.Kind = Echo + 1 },
		"echo that is UDP":         func(s *Saved) { s.Class = uint8(echo) },
		"UDP that is echo":         func(s *Saved) { s.Key.Kind = Echo },
		"younger than now":         func(s *Saved) { s.Idle = -time.Second },
		"more answers than asked":  func(s *Saved) { s.Pending = 1 },
		"one-shot without a query": func(s *Saved) { s.Class = uint8(oneShot) },
		"key that is taken":        func(s *Saved) { s.Key = udpKey(9) },
	}
	for name, spoil := range tests {
		tab := New[string](Limits{UDP: 2}, AddressDependent, epoch)
		mustAdd(t, tab, udpKey(9), webSrv, epoch)
		s := good
		spoil(&s)
		if _, ok := tab.Restore(s, "", epoch); ok {
			t.Errorf("%s was restored", name)
		}
		if _, ok := tab.Restore(good, "", epoch); !ok {
			t.Errorf("%s: then the good one was not", name)
		}
		s = good
		s.Key = udpKey(2)
		if _, ok := tab.Restore(s, "", epoch); ok || tab.Len() != 2 {
			t.Errorf("%s: beyond the limit", name)
		}
	}
}

// Restored in any order, the next to expire is the first in its queue.
func TestRestoreOrder(t *testing.T) {
	tab := New[string](Limits{}, AddressDependent, epoch)
	for i, idle := range []int{5, 9, 1, 7, 5, 0, 30} {
		s := Saved{Key: udpKey(uint16(i)), Class: uint8(oneWay), Idle: time.Duration(idle) * time.Second}
		if _, ok := tab.Restore(s, "", epoch); !ok {
			t.Fatal(i)
		}
	}
	last, n := time.Duration(-1<<62), 0
	q := &tab.queues[oneWay]
	for m := q.head; m != nil; m = m.next {
		if m.refreshed < last || m.next != nil && m.next.prev != m || m.next == nil && q.tail != m {
			t.Fatalf("mapping %d of the queue is out of order", n)
		}
		last = m.refreshed
		n++
	}
	if n != 7 {
		t.Errorf("%d in the queue", n)
	}
}
