package mainproc

import (
	"fmt"

	"rocserv/internal/ipc"
)

// fromWorker is what a worker may say, and when. Whatever is not in the table,
// out of state, a second time, or beyond the rate costs the worker its life.
// A worker that was told to leave may still say what it had begun to.
var fromWorker = map[ipc.Type]struct {
	states state
	once   bool
	answer func(*worker, *ipc.Record) error
}{
	ipc.WorkerReadyT:   {starting | leaving, true, (*worker).answerReady},
	ipc.AuthCookieReqT: {login | leaving, true, (*worker).answerCookie},
	ipc.SessionInfoT:   {hasTunnel | leaving, false, (*worker).answerInfo},
	ipc.TunMTUT:        {hasTunnel | leaving, false, (*worker).answerMTU},
	ipc.BanIPT:         {login | hasTunnel | leaving, false, (*worker).answerBan},
	ipc.WorkerStatsT:   {^(starting | pooled), false, (*worker).answerCounters},
	ipc.SessionStatsT:  {login | hasTunnel | leaving, true, (*worker).answerStats},
	ipc.DetachedT:      {tunnel | keeper | leaving, true, (*worker).answerDetached},
	ipc.WhyAnswerT:     {hasTunnel | leaving, false, (*worker).answerWhy},
	ipc.PeerReqT:       {hasTunnel | leaving, false, (*worker).answerPeer},
	ipc.PortsReqT:      {hasTunnel | leaving, false, (*worker).answerPorts},
	ipc.RetiredT:       {keeper | leaving, false, (*worker).answerRetired},
}

// hasTunnel: main makes a worker a keeper without asking, so what it says of
// its tunnel may cross with that.
const hasTunnel = tunnel | detached | keeper

// dispatch acts on one record. An error is the end of the worker.
func (w *worker) dispatch(rec *ipc.Record) error {
	row, known := fromWorker[rec.Type]
	if !known {
		return violation("%v from a worker", rec.Type)
	}
	if st := w.current(); row.states&st == 0 {
		return violation("%v in state %v", rec.Type, st)
	}
	if row.once && w.conduct.seen[rec.Type] {
		return violation("%v twice", rec.Type)
	}
	if rec.ID != 0 {
		return violation("%v with an id", rec.Type)
	}
	if !w.owes(rec.Type) && !w.conduct.budget.Allow() {
		return violation("more than %d messages per second", messageRate)
	}
	w.conduct.seen[rec.Type] = true
	return row.answer(w, rec)
}

// owes says that main has asked for such a message and has not got it yet. It does
// not count: how many come is main's doing, and a client that reconnects as fast as
// it can must not cost a keeper its life.
func (w *worker) owes(t ipc.Type) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return t == ipc.RetiredT && len(w.retiring) > 0
}

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ipc.ErrViolation, fmt.Sprintf(format, args...))
}

func (w *worker) answerReady(rec *ipc.Record) error {
	m := new(ipc.WorkerReady)
	if err := rec.Decode(m); err != nil {
		return err
	}
	if w.move(starting, pooled) {
		w.ready <- m
	}
	return nil
}

func (w *worker) answerInfo(rec *ipc.Record) error {
	m := new(ipc.SessionInfo)
	if err := rec.Decode(m); err != nil {
		return err
	}
	w.srv.console.ledger.mtu(m.Mtu)
	if w.session != nil {
		w.srv.sessions.learn(w, w.session, m)
		at := ipc.AddrPort(m.DtlsPeer)
		w.sockets.claim(at.Addr())
		if d := w.srv.ports.demux.Load(); d != nil {
			d.moved(w, at)
		}
	}
	return nil
}

// answerMTU notes the new MTU for people. Main has no device to set.
func (w *worker) answerMTU(rec *ipc.Record) error {
	var m ipc.TunMtu
	if err := rec.Decode(&m); err != nil {
		return err
	}
	w.srv.console.ledger.mtu(m.Mtu)
	if w.session != nil {
		w.srv.sessions.setMTU(w, w.session, m.Mtu)
	}
	return nil
}

// answerBan counts points against the worker's own client. Its word cannot
// reach anyone else, and no more than a ban's worth counts at a time.
func (w *worker) answerBan(rec *ipc.Record) error {
	var m ipc.BanIP
	if err := rec.Decode(&m); err != nil {
		return err
	}
	w.mu.Lock()
	peer := w.who.peer.Addr()
	w.mu.Unlock()
	w.srv.addBanPoints(peer, m.Score, m.Cause)
	return nil
}

func (w *worker) answerStats(rec *ipc.Record) error {
	m := new(ipc.SessionStats)
	if err := rec.Decode(m); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end.stats = m
	return nil
}
