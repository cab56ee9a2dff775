package attempts

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"rocserv/internal/ban"
)

// Held is a count at its limit.
type Held struct {
	Limit  Limit
	User   string       // as counted: small letters; empty with Source
	Source netip.Prefix // invalid with User
	Until  time.Time    // when one more answer is listened to
}

// List is what is at its limit now, the latest first.
func (t *Table) List(now time.Time) (list []Held) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list = held(t, list, &t.users, t.policy.User, now, func(user string) Held { return Held{Limit: User, User: user} })
	list = held(t, list, &t.sources, t.policy.Source, now, func(from netip.Prefix) Held { return Held{Limit: Source, Source: from} })
	list = held(t, list, &t.pairs, t.policy.Pair, now, func(p pair) Held { return Held{Limit: Pair, User: p.user, Source: p.source} })
	slices.SortFunc(list, func(a, b Held) int {
		return cmp.Or(b.Until.Compare(a.Until), cmp.Compare(a.Limit, b.Limit), cmp.Compare(a.User, b.User), a.Source.Addr().Compare(b.Source.Addr()))
	})
	return list
}

func held[K comparable](t *Table, list []Held, l *ledger[K], limit int, now time.Time, is func(K) Held) []Held {
	for _, e := range l.heap {
		if t.over(e.until.Sub(now), limit) {
			h := is(e.key)
			h.Until = e.until.Add(t.cost(limit) - t.policy.Time)
			list = append(list, h)
		}
	}
	return list
}

// LiftUser forgets what is held against a user, wherever it came from, and returns how
// many counts that were at their limit.
func (t *Table) LiftUser(user string, now time.Time) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	user = spelling(user)
	return lift(t, &t.users, t.policy.User, now, func(u string) bool { return u == user }) +
		lift(t, &t.pairs, t.policy.Pair, now, func(p pair) bool { return p.user == user })
}

// LiftSource forgets what is held against the source of an address, whatever names it gave, and
// returns how many counts that were at their limit.
func (t *Table) LiftSource(from netip.Addr, now time.Time) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	source := ban.Source(from)
	return lift(t, &t.sources, t.policy.Source, now, func(p netip.Prefix) bool { return p == source }) +
		lift(t, &t.pairs, t.policy.Pair, now, func(p pair) bool { return p.source == source })
}

func lift[K comparable](t *Table, l *ledger[K], limit int, now time.Time, is func(K) bool) (n int) {
	var found []K
	for _, e := range l.heap {
		if is(e.key) {
			found = append(found, e.key)
			if t.over(e.until.Sub(now), limit) {
				n++
			}
		}
	}
	for _, k := range found {
		l.drop(k)
	}
	return n
}
