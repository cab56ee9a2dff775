package session

import (
	"cmp"
	"slices"
	"time"
)

// Info is an entry as an operator sees it. A login has no SafeID.
type Info struct {
	Session
	State   State
	Began   time.Time
	Expires time.Time // zero: not while the newest worker lives
	Workers int
	Opened  bool // there was a tunnel
	Totals  Totals
}

// List returns all logins and sessions, the oldest first.
func (t *Table[C]) List() []Info {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	all := make([]Info, 0, len(t.bySID))
	for _, e := range t.bySID {
		if e.expired(now) || e.void {
			continue
		}
		all = append(all, Info{
			Session: e.session, State: e.state, Began: e.began, Expires: e.expires,
			Workers: len(e.open.workers), Opened: e.open.ever, Totals: e.open.totals(),
		})
	}
	slices.SortFunc(all, func(a, b Info) int {
		return cmp.Or(a.Began.Compare(b.Began), cmp.Compare(a.SafeID, b.SafeID))
	})
	return all
}

// Describe notes who a login under way is about, for List.
func (t *Table[C]) Describe(sid SID, a Account) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.bySID[sid.key()]; e != nil && e.state != Completed {
		e.session.Account = a
	}
}

// Terminate makes the cookies of all sessions void for which match holds. It
// returns their safe ids: of those without a worker, which are gone, and of
// those whose tunnels go on.
func (t *Table[C]) Terminate(match func(Session) bool) (gone, live []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.byID {
		switch {
		case e.void || e.expired(t.now()) || !match(e.session):
		case len(e.open.workers) > 0:
			e.void = true
			live = append(live, e.session.SafeID)
		default:
			gone = append(gone, e.session.SafeID)
			t.remove(e)
		}
	}
	slices.Sort(gone)
	slices.Sort(live)
	return gone, live
}
