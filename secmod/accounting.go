package secmod

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/session"
)

const (
	// accountsAtOnce is how many sessions are told of at the same time; logins have
	// places of their own at a helper.
	accountsAtOnce = 16
	// accountPause, doubled up to accountLongPause, is between two tries to tell of a
	// beginning or an end, which is given up after accountKeep.
	accountPause, accountLongPause = 5 * time.Second, 5 * time.Minute
	accountKeep                    = time.Hour
	// maxUntold is how many sessions there are whose end is still to be told.
	maxUntold = 4096
	// lastAccounts is how long sec-mod stays for what is to be told when main is gone.
	lastAccounts = 1500 * time.Millisecond
)

// accounting is what is kept of a session to account for it.
type accounting struct {
	Local   netip.Addr     `json:",omitzero"` // that the client reached
	IPv4    netip.Addr     `json:",omitzero"`
	IPv6    netip.Addr     `json:",omitzero"`
	Started bool           `json:",omitempty"` // its beginning is to be told
	Told    bool           `json:",omitempty"` // and was, or given up
	Reason  ipc.Reason     `json:",omitempty"` // why it has no worker
	Totals  session.Totals `json:",omitzero"`
}

// account is a session that is accounted.
type account struct {
	accounting
	session session.Session

	events  []*ipc.HelperAccount // to be told in this order: a beginning, the last interim, an end
	telling bool                 // the first one is being told
	over    bool
}

// accounts tells the helper of `acct` what becomes of sessions: that the first tunnel
// is open, with its addresses; what the worker counts now and then; and that the
// cookie is no more, with the reason that its last worker left.
type accounts struct {
	s      *server
	places chan struct{} // taken while somebody is told
	pause  time.Duration // between the first two tries

	mu     sync.Mutex
	open   map[string]*account // by safe id: those that are not over
	active int                 // accounts with something to tell
	untold int                 // those among them that are over
}

func newAccounts(s *server) *accounts {
	return &accounts{s: s, places: make(chan struct{}, accountsAtOnce), pause: accountPause, open: map[string]*account{}}
}

// opened makes an account of a session that has none.
func (c *accounts) opened(s session.Session, local netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[s.SafeID] == nil {
		c.open[s.SafeID] = &account{session: s, accounting: accounting{Local: local}}
	}
}

// leased takes SECM_SESSION_LEASED: the tunnel is open.
func (s *server) leased(rec *ipc.Record) error {
	m := new(ipc.SecmSessionLeased)
	if err := rec.Decode(m); err != nil {
		return err
	}
	if s.accounts.leased(m.SafeId, ipc.Addr(m.Ipv4), ipc.Addr(m.Ipv6)) {
		s.record(m.SafeId)
	}
	return nil
}

func (c *accounts) leased(safeID string, v4, v6 netip.Addr) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.open[safeID]
	if a == nil || a.Started && a.IPv4 == v4 && a.IPv6 == v6 {
		return false
	}
	a.IPv4, a.IPv6 = v4, v6
	c.begun(a)
	return true
}

// begun tells of the beginning, once. c.mu is held.
func (c *accounts) begun(a *account) {
	if !a.Started {
		a.Started = true
		c.tell(a, ipc.AccountEvent_ACCOUNT_START)
	}
}

// interim tells what a worker has counted.
func (c *accounts) interim(safeID string, total session.Totals) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.open[safeID]
	if a == nil {
		return
	}
	a.Totals = total
	c.begun(a)
	c.tell(a, ipc.AccountEvent_ACCOUNT_INTERIM)
}

// closed notes that a worker has left.
func (c *accounts) closed(safeID string, why ipc.Reason, left session.Closed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.open[safeID]
	if a == nil {
		return
	}
	if left.Totals != (session.Totals{}) {
		a.Totals = left.Totals
	}
	if left.Gone || !left.Expires.IsZero() { // no other worker has the session
		a.Reason = why
	}
	if left.Gone {
		c.end(a)
	}
}

// ended tells that sessions are over; unspecified is the reason why they have no worker.
func (c *accounts) ended(why ipc.Reason, safeIDs ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range safeIDs {
		a := c.open[id]
		if a == nil {
			continue
		}
		if why != ipc.Reason_REASON_UNSPECIFIED {
			a.Reason = why
		}
		c.end(a)
	}
}

// end is the last that is told of a session. c.mu is held.
func (c *accounts) end(a *account) {
	delete(c.open, a.session.SafeID)
	if !a.Started {
		return
	}
	a.over = true
	if a.telling {
		c.untold++
	}
	c.tell(a, ipc.AccountEvent_ACCOUNT_STOP)
}

// tell has an event told after those before it. c.mu is held.
func (c *accounts) tell(a *account, what ipc.AccountEvent) {
	s := a.session
	e := &ipc.HelperAccount{
		Event: what, AtUnixMs: c.s.Now().UnixMilli(), SafeId: s.SafeID, User: s.User, Group: s.Group, Vhost: s.Vhost, Agent: s.Agent,
		Peer: ipc.PutAddr(s.Peer), Local: ipc.PutAddr(a.Local), Ipv4: ipc.PutAddr(a.IPv4), Ipv6: ipc.PutAddr(a.IPv6),
		LoginUnixMs: s.Login.UnixMilli(), BytesUp: a.Totals.Up, BytesDown: a.Totals.Down,
	}
	if what == ipc.AccountEvent_ACCOUNT_STOP {
		e.Reason = a.Reason
	}
	if n := len(a.events); n > 1 && a.events[n-1].Event == ipc.AccountEvent_ACCOUNT_INTERIM {
		a.events = a.events[:n-1] // it waits, and says less
	}
	a.events = append(a.events, e)
	if a.telling {
		return
	}
	a.telling = true
	c.active++
	if a.over {
		c.untold++
	}
	go c.deliver(a)
}

// deliver tells of one session until there is nothing more to tell.
func (c *accounts) deliver(a *account) {
	pause := c.pause
	for {
		e := c.next(a)
		if e == nil {
			return
		}
		err := c.ask(e)
		if err == nil || c.giveUp(e, err) {
			if c.told(a) {
				c.s.record(e.SafeId)
			}
			pause = c.pause
			continue
		}
		select {
		case <-time.After(pause):
		case <-c.s.quit:
			return
		}
		pause = min(2*pause, accountLongPause)
	}
}

// next is the first event that is to be told.
func (c *accounts) next(a *account) *ipc.HelperAccount {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(a.events) > 0 {
		return a.events[0]
	}
	a.telling = false
	c.active--
	if a.over {
		c.untold--
	}
	return nil
}

// told goes on to the next event. True: what is kept of the session has changed.
func (c *accounts) told(a *account) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	begun := a.events[0].Event == ipc.AccountEvent_ACCOUNT_START
	a.Told = a.Told || begun
	a.events = a.events[1:]
	return begun && !a.over
}

// giveUp says whether an event that nobody took is not worth another try: what was
// counted is told again by itself.
func (c *accounts) giveUp(e *ipc.HelperAccount, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	lost := e.Event == ipc.AccountEvent_ACCOUNT_INTERIM || c.untold > maxUntold || c.s.Now().Sub(time.UnixMilli(e.AtUnixMs)) > accountKeep
	if skipped, ok := c.s.quiet.accounts.allow(c.s.Now()); ok {
		c.s.Log.Warn("session not accounted", "session", session.ShortID(e.SafeId), "event", e.Event, "again", !lost, "err", err, "skipped", skipped)
	}
	return lost
}

// ask tells the helper of the configuration in effect, and waits for its word.
func (c *accounts) ask(e *ipc.HelperAccount) error {
	v := c.s.gens.Load().current.vhosts[e.Vhost]
	if v == nil || v.account == nil {
		return nil // nobody wants to know any more
	}
	select {
	case c.places <- struct{}{}:
	case <-c.s.quit:
		return errHelperGone
	}
	defer func() { <-c.places }()
	e.Method = v.account.method
	rep := new(ipc.HelperAccounted)
	if err := v.account.h.ask(ipc.HelperAccountT, e, ipc.HelperAccountedT, rep); err != nil {
		return err
	}
	if rep.Error != "" {
		return accountError(rep.Error)
	}
	return nil
}

// accountError is a helper's word why a session is not accounted.
type accountError string

func (e accountError) Error() string { return string(e) }

// save returns what the sec-mod after this one needs; nil: it is not accounted.
func (c *accounts) save(safeID string) *accounting {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.open[safeID]
	if a == nil {
		return nil
	}
	kept := a.accounting
	return &kept
}

// restore takes over what the sec-mod before has saved. A beginning that it may have
// told without our knowing is told again.
func (c *accounts) restore(s savedSession) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id := s.Session.SafeID; s.Accounting != nil && c.open[id] == nil {
		a := &account{session: s.Session, accounting: *s.Accounting}
		c.open[id] = a
		if a.Started && !a.Told {
			c.tell(a, ipc.AccountEvent_ACCOUNT_START)
		}
	}
}

// finish waits until everything is told, not longer than that.
func (c *accounts) finish(most time.Duration) {
	const look = 10 * time.Millisecond
	for deadline := time.Now().Add(most); time.Now().Before(deadline); time.Sleep(look) {
		c.mu.Lock()
		n := c.active
		c.mu.Unlock()
		if n == 0 {
			return
		}
	}
}

// disconnect answers HELPER_DISCONNECT: it ends sessions that are accounted by a line,
// if a server of that wants it.
func (h *helperLink) disconnect(conn *ipc.Conn, rec *ipc.Record) error {
	q := new(ipc.HelperDisconnect)
	if err := rec.Decode(q); err != nil {
		return err
	}
	if int(q.Method) >= len(h.conf.Methods) || !h.conf.Methods[q.Method].Account {
		return violation("sessions of method %d of %d", q.Method, len(h.conf.Methods))
	}
	ids := h.s.accounts.matching(&remote{h: h, method: q.Method}, q)
	if len(ids) > 0 {
		gone, live := h.s.sessions.Terminate(func(e session.Session) bool { return slices.Contains(ids, e.SafeID) })
		ids = h.s.terminated(gone, live)
		for part := range slices.Chunk(ids, maxEnded) {
			h.s.reply(ipc.SecmEndedT, 0, &ipc.SecmEnded{SafeIds: part}) // main has their workers leave
		}
	}
	return conn.Send(ipc.HelperDisconnectedT, rec.ID, &ipc.HelperDisconnected{Sessions: uint32(len(ids))})
}

// matching returns the safe ids of sessions that are all of what q says, in virtual
// hosts that account as by does.
func (c *accounts) matching(by *remote, q *ipc.HelperDisconnect) (ids []string) {
	vhosts := c.s.gens.Load().current.vhosts
	lease, peer := ipc.Addr(q.Lease), ipc.Addr(q.Peer)
	if q.SafeId == "" && q.User == "" && !lease.IsValid() {
		return nil // many are behind one address
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, a := range c.open {
		v := vhosts[a.session.Vhost]
		if v == nil || v.account == nil || !v.account.is(by) ||
			q.SafeId != "" && q.SafeId != id || q.User != "" && q.User != a.session.User ||
			lease.IsValid() && lease != a.IPv4 && lease != a.IPv6 || peer.IsValid() && peer != a.session.Peer {
			continue
		}
		ids = append(ids, id)
	}
	return ids
}
