package mainproc

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
)

const (
	// maxKeepers is how many workers before the newest may keep flows of a session.
	maxKeepers = 2
	// cookieGrace is what a cookie lives longer than its timeout: session.Grace.
	cookieGrace = 15 * time.Second
)

// A worker whose client has lost its network, or has come back by another one,
// keeps the client's TCP flows:
//
//	it says DETACHED         the session has no newest worker; the cookie's time
//	                         runs, and the worker's with it (startDeadline)
//	its client comes back    RETIRE, with a packet pair to the newer worker, and
//	                         RETIRED before that one is answered (makeRoom)
//
// It ends by itself with the last flow. Those that keep count as workers: the
// oldest goes where a login finds no place (door.enterLogin).

// answerDetached: the worker has lost its client.
func (w *worker) answerDetached(rec *ipc.Record) error {
	var m ipc.Detached
	if err := rec.Decode(&m); err != nil {
		return err
	}
	end := w.said(m.Stats)
	if !w.move(tunnel, detached) || w.session == nil {
		return nil // crossed with RETIRE or TERMINATE
	}
	w.log().Info(msgDetached, "user", w.session.user, "tcp", m.TcpFlows, "mappings", m.Mappings)
	w.srv.sessions.away(w, w.session)
	w.srv.closeSession(w, end)
	return nil
}

// answerRetired: the worker reads nothing of its client any more.
func (w *worker) answerRetired(rec *ipc.Record) error {
	var m ipc.Retired
	if err := rec.Decode(&m); err != nil {
		return err
	}
	w.mu.Lock()
	if len(w.retiring) == 0 {
		st := w.state
		w.mu.Unlock()
		if st == leaving {
			return nil
		}
		return violation("RETIRED without RETIRE")
	}
	done := w.retiring[0]
	w.retiring = w.retiring[1:]
	if len(w.retiring) == 0 && w.state == keeper {
		w.timer.Stop()
	}
	w.mu.Unlock()
	if w.session != nil {
		w.srv.closeSession(w, w.said(m.Stats))
	}
	close(done)
	return nil
}

// said keeps a worker's last counters, if it has not said any before.
func (w *worker) said(m *ipc.SessionStats) ending {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end.stats == nil {
		w.end.stats = m
	}
	return w.end
}

// retire makes the worker a keeper whose newest worker has the other end of fd,
// which is closed here. done is closed when the worker has answered, for which it
// has leaveGrace; nil if it cannot be a keeper.
func (w *worker) retire(generation uint32, fd int) (done chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state&hasTunnel == 0 {
		unix.Close(fd)
		return nil
	}
	w.enter(keeper)
	if w.end.reason == ipc.Reason_REASON_UNSPECIFIED && w.end.stats == nil {
		w.end.reason = ipc.Reason_REASON_REPLACED
	}
	done = make(chan struct{})
	w.retiring = append(w.retiring, done)
	w.killAfter(leaveGrace)
	w.out.post(outgoing{typ: ipc.RetireT, msg: &ipc.Retire{Generation: generation}, fds: []int{fd}})
	return done
}

// makeRoom has those leave whose place the worker takes, makes keepers of those
// that had its session, and waits until they have stopped reading. It collects
// the worker's ends of the pairs to them.
func (w *worker) makeRoom(o *opened) {
	for _, k := range o.kicked {
		k.leave(ipc.Reason_REASON_SERVER, true, leaveGrace)
	}
	t := time.NewTimer(replacedGrace)
	defer t.Stop()
	keep := o.older[max(0, len(o.older)-maxKeepers):]
	for _, before := range o.older[:len(o.older)-len(keep)] {
		before.leave(ipc.Reason_REASON_REPLACED, false, leaveGrace)
	}
	waits := make([]chan struct{}, len(keep))
	for i, before := range keep {
		waits[i] = w.pairWith(before, o)
	}
	for i, before := range keep {
		select {
		case <-waits[i]: // never, if it is nil
		case <-before.gone:
		case <-t.C:
			o.err = unavailable{"the tunnel before is still in use"}
			return
		}
	}
}

// pairWith makes a keeper of a worker before, or has it leave.
func (w *worker) pairWith(before *worker, o *opened) (done chan struct{}) {
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		w.log().Error("flows of the connection before are lost", "err", fmt.Errorf("socketpair: %w", err))
	} else if done = before.retire(o.generation, fd[1]); done != nil {
		o.pairs = append(o.pairs, fd[0])
		return done
	} else {
		unix.Close(fd[0])
	}
	before.leave(ipc.Reason_REASON_REPLACED, false, leaveGrace)
	return nil
}

// away says that the client of the session's newest worker is gone, but not the
// worker.
func (t *sessions) away(w *worker, s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.newest != w {
		return
	}
	s.older = append(s.older, w)
	t.keep(w)
	t.leaveNewest(s)
}

// leaveNewest leaves the session without a newest worker. t.mu is held.
func (t *sessions) leaveNewest(s *session) {
	t.forgetApp(s)
	s.newest = nil
	t.live--
	if len(s.older) > 0 {
		t.startDeadline(s)
	}
}

// startDeadline bounds how long the workers of a session wait for its client:
// as long as its cookie is good.
func (t *sessions) startDeadline(s *session) {
	s.stopDeadline()
	s.deadline = time.AfterFunc(s.cookieLife+cookieGrace, func() {
		for _, w := range t.overdue(s) {
			w.leave(ipc.Reason_REASON_CONNECTION_LOST, false, leaveGrace)
		}
	})
}

func (s *session) stopDeadline() {
	if s.deadline != nil {
		s.deadline.Stop()
		s.deadline = nil
	}
}

// overdue returns the workers of a session whose client did not come back.
func (t *sessions) overdue(s *session) []*worker {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.newest != nil {
		return nil
	}
	return slices.Clone(s.older)
}

// part notes that sec-mod is told of the end of a worker's part in its session.
func (t *sessions) part(w *worker) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w.parted = true
}

// keep counts a worker among those that have no client. t.mu is held.
func (t *sessions) keep(w *worker) {
	if !slices.Contains(t.kept, w) {
		t.kept = append(t.kept, w)
	}
}

func (t *sessions) unkeep(w *worker) {
	t.kept = slices.DeleteFunc(t.kept, func(o *worker) bool { return o == w })
}

// keepers is how many workers have flows but no client, and are not leaving.
func (t *sessions) keepers() (n int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, w := range t.kept {
		if w.current() != leaving {
			n++
		}
	}
	return n
}

// evictKeeper ends the oldest keeper: its place is needed. False if there is none.
func (t *sessions) evictKeeper() bool {
	t.mu.RLock()
	kept := slices.Clone(t.kept)
	t.mu.RUnlock()
	for _, w := range kept {
		if w.current() != leaving {
			w.log().Info("keeper gives its place to another client")
			w.leave(ipc.Reason_REASON_CONNECTION_LOST, false, leaveGrace)
			return true
		}
	}
	return false
}
