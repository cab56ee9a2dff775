package attempts

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var start = time.Unix(1_800_000_000, 0)

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

// policy: a pair has 3 tries, a source 6, a user 9, in 18 minutes.
func policy() Policy { return Policy{Pair: 3, Source: 6, User: 9, Time: 18 * time.Minute} }

const minute = 60

// A step is answers of a user from an address, and what the last came to.
type step struct {
	at   int
	user string
	from string
	what string // wrong, right (and in), fine (neither: a step of several)
	n    int    // times
	want Limit
}

const (
	home  = "192.0.2.1"
	away  = "198.51.100.7"
	other = "203.0.113.9"
)

func TestLimits(t *testing.T) {
	// strangers makes wrong answers for a user, two from each of n sources.
	strangers := func(user string, n int) (all []step) {
		for i := range n {
			all = append(all, step{0, user, fmt.Sprintf("198.18.0.%d", i), "wrong", 2, None})
		}
		return all
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"a pair has its tries", []step{{0, "anna", home, "wrong", 3, None}, {0, "anna", home, "right", 1, Pair}}},
		{"others at that place have theirs", []step{{0, "anna", home, "wrong", 3, None}, {0, "bert", home, "wrong", 3, None}, {0, "cleo", home, "right", 1, Source}}},
		{"the user elsewhere has hers", []step{{0, "anna", home, "wrong", 3, None}, {0, "anna", away, "right", 1, None}}},
		{"right answers cost nothing", []step{{0, "anna", home, "right", 50, None}, {0, "anna", home, "fine", 50, None}, {0, "anna", home, "wrong", 3, None}}},
		{"one more with each part of the time", []step{
			{0, "anna", home, "wrong", 3, None}, {6*minute - 1, "anna", home, "wrong", 1, Pair},
			{6 * minute, "anna", home, "wrong", 1, None}, {6 * minute, "anna", home, "wrong", 1, Pair},
			{12 * minute, "anna", home, "wrong", 1, None},
		}},
		{"all of them after the time", []step{{0, "anna", home, "wrong", 3, None}, {18 * minute, "anna", home, "wrong", 3, None}, {18 * minute, "anna", home, "wrong", 1, Pair}}},
		{"who polls is not locked out for ever", []step{{0, "anna", home, "wrong", 3, None}, {5 * minute, "anna", home, "wrong", 1000, Pair}, {6 * minute, "anna", home, "right", 1, None}}},
		{"a login forgives the pair", []step{{0, "anna", home, "wrong", 2, None}, {0, "anna", home, "right", 1, None}, {0, "anna", home, "wrong", 3, None}, {0, "anna", home, "wrong", 1, Pair}}},
		{"a login does not forgive the source", []step{
			{0, "anna", home, "wrong", 3, None}, {0, "bert", home, "wrong", 2, None}, {0, "mallory", home, "right", 1, None},
			{0, "cleo", home, "wrong", 1, None}, {0, "dora", home, "right", 1, Source},
		}},
		{"strangers lock out strangers", append(strangers("anna", 4), step{0, "anna", away, "wrong", 1, None}, step{0, "anna", other, "right", 1, User})},
		{"but not from where she is known", append(append([]step{{0, "anna", home, "right", 1, None}}, strangers("anna", 4)...),
			step{0, "anna", away, "wrong", 1, None}, step{0, "anna", home, "wrong", 3, None}, step{0, "anna", home, "right", 1, Pair})},
		{"nor do her own typing errors lock her out elsewhere", []step{
			{0, "anna", home, "right", 1, None}, {0, "anna", home, "wrong", 2, None}, {0, "anna", home, "right", 1, None},
			{0, "anna", home, "wrong", 3, None}, {6 * minute, "anna", home, "wrong", 1, None}, {12 * minute, "anna", home, "wrong", 1, None},
			{12 * minute, "anna", "198.18.0.1", "wrong", 3, None}, {12 * minute, "anna", "198.18.0.2", "wrong", 3, None},
			{12 * minute, "anna", "198.18.0.3", "wrong", 3, None}, {12 * minute, "anna", "198.18.0.4", "wrong", 1, User},
		}},
		{"a sprayer at her place does not keep her out", []step{
			{0, "anna", home, "right", 1, None}, {0, "u1", home, "wrong", 3, None}, {0, "u2", home, "wrong", 3, None}, {0, "u3", home, "wrong", 1, Source},
			{0, "anna", home, "right", 1, None},
		}},
		{"a place is known for thirty days", append([]step{
			{0, "anna", home, "right", 1, None}, {29 * 24 * 60 * minute, "anna", home, "fine", 1, None}}, func() (all []step) {
			for _, s := range strangers("anna", 4) {
				s.at = 30 * 24 * 60 * minute
				all = append(all, s)
			}
			return append(all, step{30 * 24 * 60 * minute, "anna", away, "wrong", 1, None}, step{30 * 24 * 60 * minute, "anna", home, "right", 1, User})
		}()...)},
		{"a /64 is one source", []step{
			{0, "a", "2001:db8::1", "wrong", 3, None}, {0, "b", "2001:db8::ffff:2", "wrong", 3, None}, {0, "c", "2001:db8::3", "wrong", 1, Source},
			{0, "c", "2001:db8:0:1::3", "wrong", 1, None}, {0, "a", "2001:db8::9", "wrong", 1, Pair},
		}},
		{"a mapped address is the IPv4 address", []step{{0, "anna", home, "wrong", 3, None}, {0, "anna", "::ffff:" + home, "right", 1, Pair}}},
		{"spelling buys nothing", []step{
			{0, "anna lind", home, "wrong", 1, None}, {0, "ANNA LIND", home, "wrong", 1, None}, {0, " Anna  Lind", home, "wrong", 1, None},
			{0, "ａｎｎａ\u00a0lind", home, "right", 1, Pair},
		}},
		{"nobody named: the source alone", []step{{0, "", home, "wrong", 6, None}, {0, "", home, "right", 1, Source}, {0, "", away, "right", 1, None}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := New(policy())
			for i, s := range tt.steps {
				if got := table.play(s); got != s.want {
					t.Fatalf("step %d %+v: %d", i, s, got)
				}
			}
		})
	}
}

// play does a step: what is refused is not looked at, and counts for nothing.
func (t *Table) play(s step) (got Limit) {
	from := netip.MustParseAddr(s.from)
	for range s.n {
		got = t.Limited(s.user, from, at(s.at))
		switch {
		case got != None:
		case s.what == "wrong":
			t.Wrong(s.user, from, at(s.at))
		case s.what == "right":
			t.Know(s.user, from, at(s.at))
		}
	}
	return got
}

// TestBurst: answers that come at the same time and are all wrong get beyond the
// limit, and then it takes the longer.
func TestBurst(t *testing.T) {
	table, from := New(Policy{Pair: 3, Time: 18 * time.Minute}), netip.MustParseAddr(home)
	for range 10 {
		table.Wrong("anna", from, start)
	}
	for _, tt := range []struct {
		minutes int
		want    Limit
	}{{0, Pair}, {18, Pair}, {47, Pair}, {48, None}} {
		if l := table.Limited("anna", from, at(tt.minutes*minute)); l != tt.want {
			t.Errorf("after %d minutes: %v", tt.minutes, l)
		}
	}
}

// TestNoLimit: each of the limits alone, and none.
func TestNoLimit(t *testing.T) {
	for _, tt := range []struct {
		policy Policy
		most   int // wrong answers of one pair
		want   Limit
	}{
		{Policy{Time: time.Hour}, 1000, None},
		{Policy{Pair: 2, Time: time.Hour}, 2, Pair},
		{Policy{Source: 2, Time: time.Hour}, 2, Source},
		{Policy{User: 2, Time: time.Hour}, 2, User},
		{Policy{User: 7, Time: time.Second}, 7, User}, // a second is no multiple of the part
	} {
		table, from := New(tt.policy), netip.MustParseAddr(home)
		for i := range tt.most {
			if l := table.Limited("anna", from, start); l != None {
				t.Errorf("%+v: answer %d: %v", tt.policy, i, l)
			}
			table.Wrong("anna", from, start)
		}
		if l := table.Limited("anna", from, start); l != tt.want {
			t.Errorf("%+v: %v, want %v", tt.policy, l, tt.want)
		}
	}
	table, from := New(policy()), netip.MustParseAddr(home)
	table.play(step{0, "anna", home, "wrong", 3, None})
	table.SetPolicy(Policy{Time: time.Hour})
	if l := table.Limited("anna", from, start); l != None {
		t.Errorf("with no limit any more: %v", l)
	}
}

// TestBound: a full table stays full, and nobody's count gets lost by names
// that are invented to fill it.
func TestBound(t *testing.T) {
	p := Policy{User: 4, Time: time.Hour}
	table := New(p)
	table.users = newLedger[string](8)
	from := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
	n := 0
	wrong := func(user string) Limit {
		n++
		l := table.Limited(user, from(n), start)
		if l == None {
			table.Wrong(user, from(n), start)
		}
		return l
	}
	for range 4 {
		wrong("anna")
	}
	for i := range 100 {
		wrong(fmt.Sprint("invented", i))
	}
	if l := wrong("anna"); l != User {
		t.Errorf("the name at its limit: %v", l)
	}
	if len(table.users.of) != 8 || len(table.users.heap) != 8 {
		t.Errorf("%d names, %d in the heap", len(table.users.of), len(table.users.heap))
	}
	// With every place taken by names at their limit, turns do not help.
	got := map[Limit]int{}
	for i := range 100 {
		got[wrong([]string{"bert", "cleo"}[i%2])]++
	}
	if got[None] > 2*p.User {
		t.Errorf("two names in turns: %d answers", got[None])
	}
	table.Know("dora", from(1), start)
	if l := table.Limited("dora", from(1), start); l != None {
		t.Errorf("one who is known: %v", l)
	}
	// When all is forgotten there is room again.
	later := start.Add(2 * time.Hour)
	if l := table.Limited("emil", from(2), later); l != None {
		t.Errorf("later: %v", l)
	}
	if table.Wrong("emil", from(2), later); len(table.users.of) != 1 {
		t.Errorf("later: %d names", len(table.users.of))
	}
}

// TestKnownIsBounded: the pair that logged in longest ago makes room.
func TestKnownIsBounded(t *testing.T) {
	table := New(policy())
	table.known = newLedger[pair](3)
	addr := netip.MustParseAddr(home)
	for i, user := range []string{"a", "b", "c", "a", "d"} {
		table.Know(user, addr, at(i))
	}
	for user, want := range map[string]bool{"a": true, "b": false, "c": true, "d": true} {
		if got := table.known.has(pairOf(user, addr), at(10)); got != want {
			t.Errorf("%s is known: %t", user, got)
		}
	}
}

func TestCounts(t *testing.T) {
	table := New(policy())
	for i := range 3 {
		table.play(step{0, "anna", fmt.Sprintf("192.0.2.%d", i), "wrong", 3, None})
	}
	table.play(step{0, "bert", "192.0.2.2", "wrong", 3, None})
	if users, sources := table.Counts(start); users != 1 || sources != 1 {
		t.Errorf("%d users and %d sources at their limit", users, sources)
	}
	if users, sources := table.Counts(at(18 * minute)); users != 0 || sources != 0 {
		t.Errorf("later %d and %d", users, sources)
	}
}

// FuzzLedger holds the heap against a plain map.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{1, 2, 3, 200, 5, 6, 1, 1, 1, 255, 254, 9})
	f.Fuzz(func(t *testing.T, ops []byte) {
		l := newLedger[byte](6)
		now := start
		for i := 0; i+1 < len(ops); i += 2 {
			k, d := ops[i]%10, time.Duration(ops[i+1])
			switch ops[i] / 64 {
			case 0, 1:
				before := l.left(k, now)
				l.add(k, d, now)
				if d > 0 && l.left(k, now) < before+d {
					t.Fatalf("%d is forgotten in %d, not %d", k, l.left(k, now), before+d)
				}
			case 2:
				l.keep(k, now.Add(d), now)
				if d%7 == 0 {
					l.drop(k)
				}
			case 3:
				now = now.Add(d)
			}
			if len(l.of) != len(l.heap) || len(l.heap) > 6 {
				t.Fatalf("%d in the map, %d in the heap", len(l.of), len(l.heap))
			}
			for j, e := range l.heap {
				if e.place != j || l.of[e.key] != e || j > 0 && l.heap[(j-1)/2].until.After(e.until) {
					t.Fatalf("entry %d is in the wrong place", j)
				}
			}
		}
	})
}

// TestPace: a source does something so often, and no other is kept from it.
func TestPace(t *testing.T) {
	p := NewPace(3, 30*time.Second)
	for _, s := range []struct {
		at   int
		from string
		want bool
	}{
		{0, home, true}, {0, home, true}, {0, home, true}, {0, home, false}, {9, home, false}, {0, away, true}, {10, home, true}, {10, home, false},
		{100, home, true}, {100, home, true}, {100, home, true}, {100, home, false},
	} {
		if got := p.Allow(netip.MustParseAddr(s.from), at(s.at)); got != s.want {
			t.Errorf("%+v: %v", s, got)
		}
	}
}

// TestShare: a source has so many at a time, an IPv6 /64 being one.
func TestShare(t *testing.T) {
	s := NewShare(2)
	a, b, c := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8:0:1::1")
	for i, want := range []bool{s.Enter(a), s.Enter(b), !s.Enter(a), s.Enter(c)} {
		if !want {
			t.Errorf("step %d", i)
		}
	}
	s.Leave(b)
	if !s.Enter(a) {
		t.Error("no place after one was left")
	}
	for range 2 {
		s.Leave(a)
	}
	s.Leave(c)
	if len(s.now) != 0 {
		t.Errorf("%d sources are remembered", len(s.now))
	}
}

// TestList: what is at its limit, and what an operator's word lifts.
func TestList(t *testing.T) {
	tab := New(policy())
	wrong := func(n int, user, from string) {
		for range n {
			tab.Wrong(user, netip.MustParseAddr(from), at(0))
		}
	}
	list := func(seconds int) string {
		var all []string
		for _, h := range tab.List(at(seconds)) {
			from := "-"
			if h.Source.IsValid() {
				from = h.Source.String()
			}
			all = append(all, fmt.Sprintf("%q %s %v", h.User, from, h.Until.Sub(start)))
		}
		return strings.Join(all, ", ")
	}
	wrong(2, "Bert", home) // of three
	if got := list(0); got != "" {
		t.Errorf("with nobody at a limit: %s", got)
	}
	wrong(3, "Anna", home)
	wrong(1, "cleo", home) // the source's sixth
	wrong(3, "anna", "2001:db8::1")
	wrong(3, "anna", away) // hers, the ninth
	const pairs = `"anna" 192.0.2.1/32 6m0s, "anna" 198.51.100.7/32 6m0s, "anna" 2001:db8::/64 6m0s`
	if got, want := list(0), pairs+`, "" 192.0.2.1/32 3m0s, "anna" - 2m0s`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := list(3 * minute); got != pairs {
		t.Errorf("later: %s", got)
	}
	if n := tab.LiftSource(netip.MustParseAddr(home), at(0)); n != 2 {
		t.Errorf("%d limits of a source are lifted", n)
	}
	if got, want := list(0), `"anna" 198.51.100.7/32 6m0s, "anna" 2001:db8::/64 6m0s, "anna" - 2m0s`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if n := tab.LiftUser(" ANNA", at(0)); n != 3 || list(0) != "" {
		t.Errorf("%d limits of a user are lifted; left is %s", n, list(0))
	}
	if n := tab.LiftUser("anna", at(0)) + tab.LiftSource(netip.MustParseAddr(other), at(0)); n != 0 {
		t.Errorf("%d limits of nobody are lifted", n)
	}
	for _, from := range []string{home, away} {
		if l := tab.Limited("anna", netip.MustParseAddr(from), at(0)); l != None {
			t.Errorf("from %s: %v", from, l)
		}
	}
}
