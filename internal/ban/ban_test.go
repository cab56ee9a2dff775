package ban

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

var start = time.Unix(1_800_000_000, 0)

func policy() Policy {
	return Policy{MaxScore: 30, BanTime: 300 * time.Second, ResetTime: 1200 * time.Second}
}

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

// A step is one call; points < 0 is a connection of one point.
type step struct {
	at      int
	addr    string
	points  int
	refused bool
}

const connect = -1

func TestScores(t *testing.T) {
	tests := []struct {
		name  string
		steps []step
	}{
		{"points add up to a ban", []step{
			{0, "192.0.2.1", 10, false}, {1, "192.0.2.1", 10, false}, {2, "192.0.2.1", 10, true},
			{3, "192.0.2.1", connect, true}, {3, "192.0.2.2", connect, false},
		}},
		{"at the threshold, not above it", []step{
			{0, "192.0.2.1", 29, false}, {0, "192.0.2.1", connect, true},
		}},
		{"the ban ends after ban-time", []step{
			{0, "192.0.2.1", 30, true}, {299, "192.0.2.1", connect, true}, {300, "192.0.2.1", connect, false},
		}},
		{"points before the threshold move the end", []step{
			{0, "192.0.2.1", 20, false}, {100, "192.0.2.1", 10, true},
			{399, "192.0.2.1", connect, true}, {400, "192.0.2.1", connect, false},
		}},
		{"polling does not prolong a ban", []step{
			{0, "192.0.2.1", 30, true}, {100, "192.0.2.1", connect, true}, {200, "192.0.2.1", 10, true},
			{299, "192.0.2.1", 10, true}, {300, "192.0.2.1", connect, false},
		}},
		{"after a ban all starts from nothing", []step{
			{0, "192.0.2.1", 1000, true}, {300, "192.0.2.1", 29, false}, {301, "192.0.2.1", 1, true},
		}},
		{"the window starts with the first points", []step{
			{0, "192.0.2.1", 20, false}, {1199, "192.0.2.1", 9, false}, {1200, "192.0.2.1", 29, false},
		}},
		{"inside the window they add up", []step{
			{0, "192.0.2.1", 20, false}, {1199, "192.0.2.1", 10, true},
		}},
		{"a /64 is one source, its neighbour another", []step{
			{0, "2001:db8::1", 20, false}, {0, "2001:db8::ffff:2", 10, true},
			{0, "2001:db8::3", connect, true}, {0, "2001:db8:0:1::3", connect, false},
		}},
		{"a mapped address is the IPv4 address", []step{
			{0, "::ffff:192.0.2.1", 30, true}, {0, "192.0.2.1", connect, true}, {0, "192.0.2.2", connect, false},
		}},
		{"an exempt source is never refused", []step{
			{0, "10.1.2.3", 30, false}, {0, "10.1.2.3", connect, false}, {0, "10.2.0.1", 30, true},
		}},
		{"connections alone reach the threshold", func() (all []step) {
			for i := range 30 {
				all = append(all, step{i, "192.0.2.1", connect, i == 29})
			}
			return append(all, step{30, "192.0.2.1", connect, true})
		}()},
		{"negative and no points change nothing", []step{
			{0, "192.0.2.1", 29, false}, {0, "192.0.2.1", -5, false}, {0, "192.0.2.1", 0, false}, {0, "192.0.2.1", 1, true},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := policy()
			p.Exempt = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
			table := New(p)
			for i, s := range tt.steps {
				addr, refused := netip.MustParseAddr(s.addr), false
				if s.points == connect {
					refused = !table.Connect(addr, 1, at(s.at))
				} else {
					refused = table.Add(addr, s.points, at(s.at))
				}
				if refused != s.refused {
					t.Fatalf("step %d %+v: refused = %v", i, s, refused)
				}
				if b := table.Banned(addr, at(s.at)); b != s.refused {
					t.Fatalf("step %d %+v: Banned = %v", i, s, b)
				}
			}
		})
	}
}

func TestExemptCountsPasswords(t *testing.T) {
	p := policy()
	p.Exempt = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	table := New(p)
	addr := netip.MustParseAddr("10.0.0.9")
	table.Add(addr, 40, start)
	for range 50 {
		table.Connect(addr, 1, start)
	}
	got := table.List(start)
	if len(got) != 1 || got[0].Score != 40 || !got[0].Banned {
		t.Fatalf("list = %+v, want one banned entry of 40 points", got)
	}
	table.SetPolicy(policy())
	if !table.Banned(addr, start) {
		t.Error("no longer exempt, but not banned")
	}
}

func TestOff(t *testing.T) {
	table := New(Policy{})
	addr := netip.MustParseAddr("192.0.2.1")
	if table.Add(addr, 1000, start) || table.Banned(addr, start) || !table.Connect(addr, 1000, start) {
		t.Error("max-ban-score 0 bans")
	}
	if got := table.List(start); len(got) != 0 {
		t.Errorf("list = %v", got)
	}
}

func TestUnban(t *testing.T) {
	table := New(policy())
	addr := netip.MustParseAddr("2001:db8::1")
	if table.Unban(addr) {
		t.Error("unbanned a source nobody knows")
	}
	table.Add(addr, 30, start)
	if !table.Unban(netip.MustParseAddr("2001:db8::99")) {
		t.Error("the /64 was not found")
	}
	if table.Banned(addr, start) || table.Add(addr, 29, start) {
		t.Error("points survived")
	}
}

func TestListAndSweep(t *testing.T) {
	table := New(policy())
	table.Add(netip.MustParseAddr("192.0.2.1"), 5, at(0))
	table.Add(netip.MustParseAddr("192.0.2.2"), 50, at(1000))
	table.Add(netip.MustParseAddr("2001:db8::7"), 7, at(1000))
	want := []Entry{
		{netip.MustParsePrefix("192.0.2.2/32"), 50, true, at(1300)},
		{netip.MustParsePrefix("2001:db8::/64"), 7, false, time.Time{}},
		{netip.MustParsePrefix("192.0.2.1/32"), 5, false, time.Time{}},
	}
	check := func(now int, want []Entry) {
		t.Helper()
		got := table.List(at(now))
		if len(got) != len(want) {
			t.Fatalf("at %d: %+v, want %+v", now, got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("at %d: entry %d = %+v, want %+v", now, i, got[i], want[i])
			}
		}
	}
	check(1000, want)
	check(1200, want[:2])
	check(1300, want[1:2])
	table.Sweep(at(1300))
	if n := len(table.sources); n != 1 {
		t.Errorf("%d sources after the sweep", n)
	}
	if table.banned.Len() != 0 || table.quiet.Len() != 1 {
		t.Errorf("lists hold %d and %d", table.banned.Len(), table.quiet.Len())
	}
}

func TestBound(t *testing.T) {
	table := New(policy())
	table.max = 4
	addr := func(i byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, i}) }
	table.Add(addr(1), 30, at(0)) // a ban
	for i := range byte(3) {
		table.Add(addr(10+i), 20, at(1))
	}
	table.Add(addr(10), 1, at(2)) // 11 is quiet longest now
	table.Add(addr(20), 1, at(3))
	if len(table.sources) != 4 {
		t.Fatalf("%d sources", len(table.sources))
	}
	if !table.Banned(addr(1), at(3)) {
		t.Error("a ban was pushed out")
	}
	if table.sources[Source(addr(11))] != nil {
		t.Error("the quietest source was kept")
	}
	if table.sources[Source(addr(10))] == nil || table.sources[Source(addr(12))] == nil {
		t.Error("another than the quietest source was dropped")
	}
	for i := range byte(4) { // nothing but bans: the first one goes
		table.Add(addr(30+i), 30, at(4))
	}
	if table.Banned(addr(1), at(4)) || !table.Banned(addr(33), at(4)) {
		t.Error("the oldest ban is not the one that went")
	}
	if len(table.sources) != 4 || table.banned.Len()+table.quiet.Len() != 4 {
		t.Errorf("%d sources, lists %d and %d", len(table.sources), table.banned.Len(), table.quiet.Len())
	}
}

func TestZeroAddr(t *testing.T) {
	table := New(policy())
	if table.Add(netip.Addr{}, 100, start) || !table.Connect(netip.Addr{}, 100, start) {
		t.Error("the zero address has points")
	}
}

func BenchmarkConnect(b *testing.B) {
	table := New(Policy{MaxScore: 1 << 29, BanTime: time.Minute, ResetTime: time.Hour})
	addrs := make([]netip.Addr, 2*MaxEntries)
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		table.Connect(addrs[i%len(addrs)], 1, start)
	}
}

// What is saved and restored is banned as long, and counted as much.
func TestSaveAndRestore(t *testing.T) {
	p := Policy{MaxScore: 10, BanTime: time.Hour, ResetTime: time.Minute}
	now := time.Now()
	bad, worse := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	a := New(p)
	a.Add(bad, 5, now)
	a.Add(worse, 10, now)
	b := New(p)
	b.Restore(append(a.Save(now), Saved{}, Saved{Source: netip.MustParsePrefix("192.0.2.0/24"), Banned: true}))
	if x, y := fmt.Sprint(a.List(now)), fmt.Sprint(b.List(now)); x != y {
		t.Errorf("%s became %s", x, y)
	}
	if !b.Banned(worse, now.Add(time.Hour-1)) || b.Banned(worse, now.Add(time.Hour)) {
		t.Error("the ban has another end")
	}
	if !b.Add(bad, 5, now) {
		t.Error("the points are not what they were")
	}
	if left := b.Save(now.Add(2 * time.Hour)); len(left) != 0 {
		t.Errorf("saved what is over: %v", left)
	}
}
