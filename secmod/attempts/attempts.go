package attempts

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/unicode/norm"

	"rocserv/internal/ban"
)

// How much a table remembers.
const (
	maxKeys   = 16 << 10            // of each count
	maxKnown  = 64 << 10            // pairs
	knownTime = 30 * 24 * time.Hour // since the last login of a pair
)

// Policy says how many wrong answers are listened to.
type Policy struct {
	User, Source, Pair int           // at once, and again in each Time; 0: no limit
	Time               time.Duration // in which a full count leaks away
}

// Limit is what an answer is refused for.
type Limit uint8

// The limits.
const (
	None   Limit = iota
	Pair         // this user from this source
	Source       // this source, whatever the names
	User         // this user, from places he is not known at
)

func (l Limit) String() string {
	return [...]string{"", "too many wrong answers for this user from there", "too many wrong answers from there", "too many wrong answers for this user from strangers"}[l]
}

// Table is safe for use by several goroutines.
type Table struct {
	mu      sync.Mutex
	policy  Policy
	users   ledger[string]
	sources ledger[netip.Prefix]
	pairs   ledger[pair]
	known   ledger[pair]
}

// pair is a user at a place.
type pair struct {
	user   string // as spelled by spelling; empty: nobody named
	source netip.Prefix
}

// New returns an empty table.
func New(p Policy) *Table {
	return &Table{
		policy: p, users: newLedger[string](maxKeys), sources: newLedger[netip.Prefix](maxKeys),
		pairs: newLedger[pair](maxKeys), known: newLedger[pair](maxKnown),
	}
}

// SetPolicy changes the policy. What is counted stays.
func (t *Table) SetPolicy(p Policy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.policy = p
}

// Limited says whether an answer of that user from there is refused now.
func (t *Table) Limited(user string, from netip.Addr, now time.Time) Limit {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := pairOf(user, from)
	switch {
	case k.user != "" && t.over(t.pairs.left(k, now), t.policy.Pair):
		return Pair
	case t.known.has(k, now):
		return None
	case t.over(t.sources.left(k.source, now), t.policy.Source):
		return Source
	case k.user != "" && t.over(t.users.left(k.user, now), t.policy.User):
		return User
	}
	return None
}

// Wrong counts a wrong answer of that user from there. With an empty name it
// is held against the source alone.
func (t *Table) Wrong(user string, from netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := pairOf(user, from)
	t.sources.add(k.source, t.cost(t.policy.Source), now)
	if k.user == "" {
		return
	}
	t.pairs.add(k, t.cost(t.policy.Pair), now)
	if !t.known.has(k, now) {
		t.users.add(k.user, t.cost(t.policy.User), now)
	}
}

// Know remembers that this user logged in from there.
func (t *Table) Know(user string, from netip.Addr, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := pairOf(user, from)
	if k.user == "" {
		return
	}
	t.known.keep(k, now.Add(knownTime), now)
	t.pairs.drop(k)
}

// Counts says how many names and sources are at their limit.
func (t *Table) Counts(now time.Time) (users, sources int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return full(t, &t.users, t.policy.User, now), full(t, &t.sources, t.policy.Source, now)
}

func full[K comparable](t *Table, l *ledger[K], limit int, now time.Time) (n int) {
	for _, e := range l.heap {
		if t.over(e.until.Sub(now), limit) {
			n++
		}
	}
	return n
}

// over says whether a count that is left has no room for one more.
func (t *Table) over(left time.Duration, limit int) bool {
	return limit > 0 && left+t.cost(limit) > t.policy.Time
}

// cost is how long one wrong answer takes to leak away.
func (t *Table) cost(limit int) time.Duration {
	if limit <= 0 {
		return 0
	}
	return t.policy.Time / time.Duration(limit)
}

func pairOf(user string, from netip.Addr) pair {
	return pair{spelling(user), ban.Source(from)}
}

// spelling is the same for all spellings that a directory may take for the same
// name (RFC 4518, sections 2.2 to 2.6).
func spelling(user string) string {
	return strings.Join(strings.Fields(norm.NFKC.String(strings.ToLower(norm.NFKC.String(user)))), " ")
}
