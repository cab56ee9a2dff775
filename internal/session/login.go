package session

// Begin starts a login at a virtual host and returns its SID.
func (t *Table[C]) Begin(vhost string, p Policy, conv C) SID {
	sid := newSID()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &entry[C]{key: sid.key(), state: Init, policy: p, conv: conv, vhost: vhost, began: t.now()}
	e.expires = t.now().Add(p.CookieTimeout + Grace)
	t.enqueue(e, &t.pending, t.limits.Pending)
	t.bySID[e.key] = e
	return sid
}

// Admit makes a session without a dialogue, for a login that needs none.
func (t *Table[C]) Admit(a Account, p Policy) (SID, Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.complete(&entry[C]{policy: p}, a)
}

// Take gives the caller the login of that SID to answer: nobody else gets it
// until Ask, Complete, Fail or Release. The errors are ErrUnknown, ErrState
// (failed or completed, or begun at another virtual host) and ErrBusy.
func (t *Table[C]) Take(sid SID, vhost string) (conv C, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, err := t.find(sid)
	switch {
	case err != nil:
		return conv, err
	case e.state != Init && e.state != Cont, e.vhost != vhost:
		return conv, ErrState
	case e.taken:
		return conv, ErrBusy
	}
	e.taken = true
	return e.conv, nil
}

// Release gives a taken login back as if it had not been taken.
func (t *Table[C]) Release(sid SID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.taken(sid); e != nil {
		e.taken = false
	}
}

// Ask gives a taken login back: the client is asked once more.
func (t *Table[C]) Ask(sid SID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.taken(sid); e != nil {
		e.taken, e.state = false, Cont
	}
}

// Fail ends a taken login for good.
func (t *Table[C]) Fail(sid SID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.taken(sid); e != nil {
		t.forget(e)
		e.taken, e.state = false, Failed
	}
}

// Complete makes a taken login a session. The SID changes: the old one is
// unknown from now on. It fails with ErrUnknown if the login expired or made
// room for others meanwhile.
func (t *Table[C]) Complete(sid SID, a Account) (SID, Session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.taken(sid)
	if e == nil || e.expired(t.now()) {
		return SID{}, Session{}, ErrUnknown
	}
	t.remove(e)
	if a.Agent == "" {
		a.Agent = e.session.Agent
	}
	fresh, s := t.complete(&entry[C]{policy: e.policy, began: e.began}, a)
	return fresh, s, nil
}

// Abandon forgets a login under way that nobody is answering just now: its
// client began another. Any other SID is left alone.
func (t *Table[C]) Abandon(sid SID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.bySID[sid.key()]; e != nil && (e.state == Init || e.state == Cont) && !e.taken {
		t.remove(e)
	}
}

// taken returns the login of a SID that somebody took, or nil if it is gone.
func (t *Table[C]) taken(sid SID) *entry[C] {
	e := t.bySID[sid.key()]
	if e == nil {
		return nil
	}
	if !e.taken {
		panic("session: internal error: the outcome of a login that nobody took")
	}
	return e
}

// complete enters e as a session under a fresh SID.
func (t *Table[C]) complete(e *entry[C], a Account) (SID, Session) {
	sid := newSID()
	now := t.now()
	e.key, e.state = sid.key(), Completed
	e.session = Session{Account: a, SafeID: sid.SafeID(), Login: now}
	if e.began.IsZero() {
		e.began = now
	}
	e.session.Took = now.Sub(e.began)
	e.expires = e.deadline(now)
	t.enqueue(e, &t.unopened, t.limits.Unopened)
	t.bySID[e.key], t.byID[e.session.SafeID] = e, e
	return sid, e.session
}
