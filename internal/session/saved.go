package session

import (
	"slices"
	"time"
)

// Saved is a completed entry outside the table: what another table, of a later
// process, needs to go on with the session.
type Saved struct {
	SID     [32]byte // its SHA-256
	Session Session
	Began   time.Time
	Void    bool // an administrator ended it; its tunnels may go on
	Policy  Policy
	Expires time.Time // zero: not while the newest worker lives
	Opened  bool      // at least once
	Newest  uint64    // conn id of the worker that is the session; 0: none
	Workers map[uint64]Totals
	Gone    Totals // of the workers that are no more
}

// Save returns a session as it is now; ok is false if it is not known.
func (t *Table[C]) Save(safeID string) (s Saved, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[safeID]
	if e == nil {
		return Saved{}, false
	}
	s = Saved{
		SID: e.key, Session: e.session, Began: e.began, Void: e.void, Policy: e.policy, Expires: e.expires,
		Opened: e.open.ever, Newest: e.open.newest, Gone: e.open.gone, Workers: make(map[uint64]Totals, len(e.open.workers)),
	}
	for conn, n := range e.open.workers {
		s.Workers[conn] = n
	}
	return s, true
}

// Restore takes over a session that another table saved. conns are the workers
// that are still there, or whose end is still to be told by Close; any other is
// gone, as if lost. It reports whether the session is in the table afterwards:
// an expired one is not, and one that is known already stays as it is.
func (t *Table[C]) Restore(s Saved, conns []uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bySID[s.SID] != nil || t.byID[s.Session.SafeID] != nil {
		return false
	}
	e := &entry[C]{key: s.SID, state: Completed, began: s.Began, void: s.Void, expires: s.Expires, policy: s.Policy, session: s.Session}
	e.open = opened{ever: s.Opened, newest: s.Newest, gone: s.Gone, workers: make(map[uint64]Totals, len(s.Workers))}
	for conn, n := range s.Workers {
		if slices.Contains(conns, conn) {
			e.open.workers[conn] = n
		} else {
			e.open.gone = e.open.gone.plus(n)
		}
	}
	if _, there := e.open.workers[e.open.newest]; !there {
		if e.open.newest != 0 {
			e.expires = e.deadline(t.now())
		}
		e.open.newest = 0
	}
	if e.expired(t.now()) || e.void && e.open.newest == 0 {
		return false
	}
	if !e.open.ever {
		t.enqueue(e, &t.unopened, t.limits.Unopened)
	}
	t.bySID[e.key], t.byID[e.session.SafeID] = e, e
	return true
}
