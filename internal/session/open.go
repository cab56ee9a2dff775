package session

import (
	"net/netip"
	"time"
)

// opened is the part of an entry that its tunnels make.
type opened struct {
	ever    bool
	newest  uint64            // conn id of the worker that is the session; 0: none
	workers map[uint64]Totals // the live ones, at their maximum
	gone    Totals            // of the workers that are no more
}

func (o *opened) totals() Totals {
	sum := o.gone
	for _, w := range o.workers {
		sum = sum.plus(w)
	}
	return sum
}

func (a Totals) plus(b Totals) Totals { return Totals{a.Up + b.Up, a.Down + b.Down} }

// Lookup returns the session of a cookie. The errors are ErrUnknown and
// ErrState (the login is not completed).
func (t *Table[C]) Lookup(sid SID) (Session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, err := t.completed(sid)
	if err != nil {
		return Session{}, err
	}
	return e.session, nil
}

// Open gives the session to the worker of connection conn, whose client is at
// peer; it is the newest from now on. p is the configuration of the moment and
// holds until the next Open. The errors are those of Lookup, ErrTimedOut and
// ErrRoamed, and ErrState for a connection that has the session already.
func (t *Table[C]) Open(sid SID, conn uint64, peer netip.Addr, p Policy) (Session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, err := t.completed(sid)
	if err != nil {
		return Session{}, err
	}
	if p.SessionTimeout > 0 && !t.now().Before(e.session.Login.Add(p.SessionTimeout)) {
		return Session{}, ErrTimedOut
	}
	if p.DenyRoaming && peer != e.session.Peer {
		return Session{}, ErrRoamed
	}
	if _, twice := e.open.workers[conn]; twice || conn == 0 {
		return Session{}, ErrState
	}
	t.leaveQueue(e)
	if e.open.workers == nil {
		e.open.workers = map[uint64]Totals{}
	}
	e.open.workers[conn] = Totals{}
	e.open.newest, e.open.ever = conn, true
	e.policy, e.expires = p, time.Time{}
	return e.session, nil
}

func (t *Table[C]) completed(sid SID) (*entry[C], error) {
	e, err := t.find(sid)
	if err != nil {
		return nil, err
	}
	if e.state != Completed {
		return nil, ErrState
	}
	if e.void {
		return nil, ErrUnknown
	}
	return e, nil
}

// Count takes the counters of a worker of the session; smaller ones than
// before are ignored. It returns those of the session, and reports whether the
// worker has it.
func (t *Table[C]) Count(safeID string, conn uint64, n Totals) (total Totals, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[safeID]
	if e == nil {
		return Totals{}, false
	}
	was, ok := e.open.workers[conn]
	if ok {
		e.open.workers[conn] = Totals{max(was.Up, n.Up), max(was.Down, n.Down)}
	}
	return e.open.totals(), ok
}

// Closed is what Close leaves of a session.
type Closed struct {
	Totals  Totals
	Gone    bool      // the cookie is no longer good
	Expires time.Time // of the cookie; zero: gone, or a newer worker has the session
}

// Close takes the session from the worker of connection conn. A session that
// is not known any more is Gone, with no counters.
func (t *Table[C]) Close(safeID string, conn uint64, why Reason) Closed {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byID[safeID]
	if e == nil {
		return Closed{Gone: true}
	}
	if w, ok := e.open.workers[conn]; ok {
		e.open.gone = e.open.gone.plus(w)
		delete(e.open.workers, conn)
	}
	if e.open.newest != 0 && e.open.newest == conn {
		e.open.newest = 0
		e.expires = e.deadline(t.now())
		if why.ends(e.policy) || e.void || e.expired(t.now()) {
			t.remove(e)
			return Closed{Totals: e.open.totals(), Gone: true}
		}
	}
	return Closed{Totals: e.open.totals(), Expires: e.expires}
}

// ends reports whether the cookie goes with the worker.
func (r Reason) ends(p Policy) bool {
	switch r {
	case TimedOut:
		return true
	case UserLeft, Ended:
		return !p.Persistent
	}
	return false
}

// deadline is when the cookie ends if nobody opens it from now on.
func (e *entry[C]) deadline(now time.Time) time.Time {
	d := now.Add(e.policy.CookieTimeout + Grace)
	if e.policy.SessionTimeout > 0 {
		if end := e.session.Login.Add(e.policy.SessionTimeout); end.Before(d) {
			return end
		}
	}
	return d
}
