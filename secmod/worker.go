package secmod

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"rocserv/internal/ipc"
	"rocserv/internal/session"
)

// worker is sec-mod's end of the channel to one worker.
type worker struct {
	s     *server
	conn  *ipc.Conn
	id    uint64
	peer  netip.Addr    // of the client, by main's word
	local netip.Addr    // that it reached; invalid: not known
	done  chan struct{} // closed when the last record is dealt with

	gens *generations               // owned by serve: whose keys its chains belong to; nil behind the handshake
	said map[ipc.Type]int           // owned by serve
	pace map[ipc.Type]*rate.Limiter // owned by serve

	begun session.SID // owned by serve: the last login begun here

	mu     sync.Mutex // protects what follows: main opens and closes sessions
	state  state
	vhost  *string           // the virtual host of the handshake; nil until it is known
	safeID string            // of the session, in state open
	wayKey map[string]wayKey // of the session's ways, by name; nil: not known
}

// nameWorker takes the channel of a worker that got a connection.
func (s *server) nameWorker(rec *ipc.Record) error {
	m := new(ipc.SecmWorker)
	if err := rec.Decode(m); err != nil {
		return err
	}
	peer := ipc.AddrPort(m.GetIdentity().GetPeer())
	id := m.GetIdentity().GetConnId()
	if id == 0 || !peer.IsValid() {
		return violation("worker without connection id or peer address")
	}
	conn, err := ipc.NewConn(rec.TakeFD(0))
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		s.Log.Error("worker not served", "conn", id, "err", err)
		return nil
	case err != nil:
		return violation("%v", err)
	}
	w := &worker{
		s: s, conn: conn, id: id, peer: peer.Addr().Unmap(),
		local: ipc.AddrPort(m.GetIdentity().GetLocal()).Addr().Unmap(), gens: s.gens.Load(), done: make(chan struct{}),
		said: map[ipc.Type]int{}, pace: map[ipc.Type]*rate.Limiter{}, state: fresh,
	}
	switch {
	case m.SafeId != "":
		w.state, w.safeID, w.gens = open, m.SafeId, nil
	case m.Rejoined:
		w.state = rejoined
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.workers[id] != nil {
		conn.Close()
		return violation("connection %d named twice", id)
	}
	if s.workers == nil { // stopped
		conn.Close()
		return nil
	}
	s.workers[id] = w
	go w.serve()
	return nil
}

// serve answers the worker, one request after the other, until its channel ends.
func (w *worker) serve() {
	defer close(w.done)
	defer w.drop()
	for {
		rec, err := w.conn.Recv()
		if err == nil {
			err = w.step(&rec)
		}
		if err != nil {
			w.ended(err)
			return
		}
	}
}

// step deals with one record. A panic costs this worker its channel, not the
// others their sec-mod.
func (w *worker) step(rec *ipc.Record) (err error) {
	defer rec.Close()
	defer rec.Clear()
	defer func() {
		if p := recover(); p != nil {
			w.s.counts.panics.Add(1)
			err = panicError(p)
		}
	}()
	return w.dispatch(rec)
}

// dispatch finds the record's line in the table and holds it against it.
func (w *worker) dispatch(rec *ipc.Record) error {
	r, ok := w.s.rows[rec.Type]
	if !ok || r.worker == nil {
		return violation("%v from a worker", rec.Type)
	}
	if rec.ID != 0 {
		return violation("%v with an id on a lock-step channel", rec.Type)
	}
	if in := w.where(); in&r.in == 0 {
		return violation("%v in state %v", rec.Type, in)
	}
	w.said[rec.Type]++
	if r.most > 0 && w.said[rec.Type] > r.most {
		return violation("%v more than %d times", rec.Type, r.most)
	}
	if r.perMinute > 0 && !w.paced(rec.Type, r.perMinute) {
		return violation("%v more than %d times a minute", rec.Type, r.perMinute)
	}
	err := r.worker(w, rec)
	if w.where()&(fresh|resumed|rejoined) == 0 {
		w.gens = nil // a tunnel that lives for days must not keep a key that was replaced
	}
	return err
}

func (w *worker) paced(t ipc.Type, perMinute int) bool {
	if w.pace[t] == nil {
		w.pace[t] = rate.NewLimiter(rate.Every(time.Minute/time.Duration(perMinute)), perMinute)
	}
	return w.pace[t].AllowN(w.s.Now(), 1)
}

// ended says why the channel ends, if anybody should know.
func (w *worker) ended(err error) {
	if hungUp(err) {
		return
	}
	if errors.Is(err, ipc.ErrViolation) {
		w.s.counts.violations.Add(1)
	}
	// A tunnel that is up survives the end of this channel: main must know.
	w.s.reply(ipc.SecmViolationT, 0, &ipc.SecmViolation{ConnId: w.id, What: err.Error()})
	if skipped, ok := w.s.quiet.violations.allow(w.s.Now()); ok {
		w.s.Log.Error("worker's channel closed", "conn", w.id, "peer", w.peer, "err", err, "skipped", skipped)
	}
}

// hungUp reports whether an error says that the other end is no more.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
}

// drop closes the channel and forgets the worker.
func (w *worker) drop() {
	w.conn.Close()
	w.mu.Lock()
	w.state = closed
	w.mu.Unlock()
	w.s.mu.Lock()
	if w.s.workers[w.id] == w {
		delete(w.s.workers, w.id)
	}
	w.s.mu.Unlock()
}

func (w *worker) where() state {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// move goes on to a state of the handshake or the login. Where main has opened
// a session meanwhile, or the channel is closed, it stays.
func (w *worker) move(to state) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state&(open|closed) == 0 {
		w.state = to
	}
}

// open puts the worker into the tunnel's state and returns the one before. It
// fails if the worker is gone or has a session.
func (w *worker) open(safeID string, ways map[string]wayKey) (was state, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state&(open|closed) != 0 {
		return w.state, false
	}
	was = w.state
	w.state, w.safeID, w.wayKey = open, safeID, ways
	return was, true
}

// unopen goes back to the state before open.
func (w *worker) unopen(was state) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == open {
		w.state, w.safeID, w.wayKey = was, "", nil
	}
}

// sessionID returns the safe id of the worker's session.
func (w *worker) sessionID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.safeID
}

// pin holds the worker to one virtual host: the one its handshake is for.
func (w *worker) pin(vhost string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.vhost == nil {
		if !w.gens.have(vhost) {
			return violation("unknown virtual host")
		}
		w.vhost = &vhost
	}
	if *w.vhost != vhost {
		return violation("virtual host changed within a connection")
	}
	return nil
}

// pinned returns the virtual host of the handshake, which is known in every
// state behind fresh but rejoined.
func (w *worker) pinned() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.vhost
}

// panicError describes a panic without what the program was working on: only
// the runtime's own errors are known to hold nothing of it.
func panicError(p any) error {
	what := fmt.Sprintf("value of type %T", p)
	if e, ok := p.(runtime.Error); ok {
		what = e.Error()
	}
	const most = 3 << 10
	stack := debug.Stack()
	return fmt.Errorf("panic: %s\n%s", what, stack[:min(most, len(stack))])
}
