package mainproc

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"rocserv/internal/ipc"
)

const (
	readyTimeout = 10 * time.Second // from the start of a process to WORKER_READY
	leaveGrace   = 2 * time.Second  // from TERMINATE to SIGKILL
	exitGrace    = time.Second      // from the end of its channel to SIGKILL
	authGrace    = 5 * time.Second  // a worker's own auth-timeout goes first

	workerQueue  = 64 // records a worker has not read
	messageRate  = 10 // of a worker, per second
	messageBurst = 64
)

// state is where a worker is in its life. Only worker.enter changes it.
//
//	starting -> pooled -> login -> opening -> tunnel -> detached -> keeper
//	                        ^---------'         '-------------------^
//	                         (refused)
//
// Each of them can end in leaving, which only the end of the process ends.
type state uint8

const (
	starting state = 1 << iota // forked; may only say that it is ready
	pooled                     // nameless and confined; has nothing to say
	login                      // has a client that has not asked for a tunnel
	opening                    // has asked; nobody reads its channel until it is answered
	tunnel                     // has a session
	detached                   // has lost its client and keeps the flows
	keeper                     // a newer worker has the session; keeps flows of it
	leaving                    // was told to go, or killed
)

// follows says which states may come after one.
var follows = map[state]state{
	starting: pooled | leaving,
	pooled:   login | leaving,
	login:    opening | leaving,
	opening:  login | tunnel | leaving,
	tunnel:   detached | keeper | leaving,
	detached: keeper | leaving,
	keeper:   keeper | leaving,
	leaving:  leaving,
}

var stateNames = map[state]string{
	starting: "starting", pooled: "pooled", login: "login", opening: "opening", tunnel: "tunnel",
	detached: "detached", keeper: "keeper", leaving: "leaving",
}

func (s state) String() string { return stateNames[s] }

// identity is whom a worker serves: main's word, not the worker's.
type identity struct {
	conn        uint64
	peer, local netip.AddrPort
	start       time.Time
}

func (i identity) message() *ipc.Identity {
	return &ipc.Identity{
		ConnId:      i.conn,
		Peer:        ipc.PutAddrPort(i.peer),
		Local:       ipc.PutAddrPort(i.local),
		StartUnixMs: i.start.UnixMilli(),
	}
}

// worker is main's side of one worker process. One goroutine (run) reads its
// channel and lives as long as the process; another writes; a third reads its
// log. Whatever a worker sends or does not read ends that worker at most.
type worker struct {
	srv   *server
	child *child
	out   *sender // the channel
	ready chan *ipc.WorkerReady
	gone  chan struct{} // closed when process and session bookkeeping are over
	quiet chan struct{} // closed when nobody reads the channel any more

	handed bool // to the next main, without an end here; valid once quiet is closed

	mu    sync.Mutex
	state state
	who   identity    // set once, by assign
	secFD int         // sec-mod's end of the worker's channel to it, until assign; then -1
	slot  *slot       // of srv.door.logins, until the tunnel is up
	timer *time.Timer // to SIGKILL: auth-timeout, then the grace of leaving or of retiring
	until time.Time   // when timer fires
	end   ending
	// One for each RETIRE without an answer, closed when that comes.
	retiring []chan struct{}

	about    atomic.Pointer[detail] // set before the tunnel is
	counting counting
	asking   asking
	sockets  sockets

	// Of the goroutine run.
	session *session // from attach to the end
	parted  bool     // its part in the session is over as far as sec-mod goes; read elsewhere under sessions.mu
	granted bool     // the session's tunnel was this worker's
	hooked  bool     // connect-script has let the client in
	conduct conduct
}

// conduct is what counts a worker's messages.
type conduct struct {
	budget *rate.Limiter
	peers  *rate.Limiter // of PEER_REQ
	seen   map[ipc.Type]bool
}

func newConduct() conduct {
	return conduct{
		rate.NewLimiter(messageRate, messageBurst),
		rate.NewLimiter(2*ipc.PeerRate, 2*ipc.PeerBurst),
		make(map[ipc.Type]bool),
	}
}

// ending is why a worker goes and what it leaves behind.
type ending struct {
	reason ipc.Reason // main's, if it told the worker to leave
	cause  error      // a violation, or another misdeed main killed it for
	stats  *ipc.SessionStats
}

var (
	errNotReady   = errors.New("mainproc: the worker was not ready in time")
	errDiedEarly  = errors.New("mainproc: the worker ended before it was ready")
	errWorkerLost = errors.New("mainproc: the worker is gone")
	errNotReading = errors.New("mainproc: the worker does not read")
)

// startWorker starts a worker process and returns it once it is confined and
// ready for a connection.
func (s *server) startWorker() (*worker, error) { return s.startWorkerOf(s.workerRole) }

func (s *server) startWorkerOf(r *role) (*worker, error) {
	w, err := s.forkWorker(r)
	if err != nil {
		return nil, err
	}
	t := time.NewTimer(readyTimeout)
	defer t.Stop()
	select {
	case m := <-w.ready:
		s.log.Debug("worker is ready", "pid", w.child.pid)
		s.logConfinement(m)
		return w, nil
	case <-w.gone:
		return nil, errDiedEarly
	case <-t.C:
		w.punish(errNotReady)
		return nil, errNotReady
	}
}

func (s *server) forkWorker(r *role) (*worker, error) {
	conn, far, err := ipc.Pair()
	if err != nil {
		return nil, err
	}
	sec, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		conn.Close()
		unix.Close(far)
		return nil, fmt.Errorf("mainproc: socketpair: %w", err)
	}
	c, err := s.procs.spawn(r, s.confinement().Args(), conn, far, sec[1])
	if err != nil {
		conn.Close()
		unix.Close(sec[0])
		return nil, err
	}
	w := &worker{
		srv: s, child: c, state: starting, secFD: sec[0],
		ready:   make(chan *ipc.WorkerReady, 1),
		gone:    make(chan struct{}),
		quiet:   make(chan struct{}),
		conduct: newConduct(),
	}
	w.out = newSender(conn, workerQueue, w.unsent)
	s.workers.add(w)
	go w.out.run()
	go w.run()
	return w, nil
}

// enter changes the state. w.mu is held.
func (w *worker) enter(to state) {
	if follows[w.state]&to == 0 {
		panic(fmt.Sprintf("mainproc: internal error: worker from %v to %v", w.state, to))
	}
	w.state = to
}

// move changes the state if it is one of from.
func (w *worker) move(from, to state) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state&from == 0 {
		return false
	}
	w.enter(to)
	return true
}

func (w *worker) current() state {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// assign gives the worker its client: conn is a descriptor of the connection,
// which is closed in any case. It fails if the worker died in the pool.
func (w *worker) assign(who identity, conn int, sl *slot) error {
	s := w.srv
	gen := s.gen.Load()
	cfg, err := gen.workerConfig()
	if err != nil {
		unix.Close(conn)
		return err
	}
	named, err := w.nameTo(s.sec, who, sl, gen.cfg.Global.AuthTimeout)
	if !named {
		closeAll([]int{conn, cfg})
		return errWorkerLost
	}
	if err != nil {
		closeAll([]int{conn, cfg})
		w.punish(err)
		return err
	}
	host := s.host.Load()
	start := &ipc.WorkerStartup{Identity: who.message(), Generation: gen.number, Host: host}
	if !w.out.post(outgoing{typ: ipc.WorkerStartupT, msg: start, fds: []int{conn, cfg}}) {
		w.punish(errWorkerLost)
		return errWorkerLost
	}
	s.workers.name(w) // only now: WORKER_STARTUP is the first it hears
	if now := s.host.Load(); now != host {
		w.tell(ipc.HostInfoT, now)
	}
	return nil
}

// nameTo makes the worker that client's, and tells sec-mod. Both happen in the
// life of one sec-mod: the next one is told of the worker by rejoin.
func (w *worker) nameTo(sec *security, who identity, sl *slot, authTimeout time.Duration) (named bool, err error) {
	sec.mu.RLock()
	defer sec.mu.RUnlock()
	secFD, named := w.name(who, sl, authTimeout)
	if !named {
		return false, nil
	}
	o := outgoing{typ: ipc.SecmWorkerT, msg: &ipc.SecmWorker{Identity: who.message()}, fds: []int{secFD}}
	if sec.now == nil {
		o.dispose()
		return true, errSecModGone
	}
	return true, sec.now.post(o)
}

// rejoin gives a worker that has a client a channel to a new sec-mod. safeID
// is of its session, empty if it has none.
func (w *worker) rejoin(m *secmod, safeID string) error {
	w.mu.Lock()
	who, st := w.who, w.state
	w.mu.Unlock()
	if st&(login|opening|tunnel) == 0 {
		return nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("mainproc: socketpair: %w", err)
	}
	msg := &ipc.SecmWorker{Identity: who.message(), Rejoined: true, SafeId: safeID}
	if err := m.post(outgoing{typ: ipc.SecmWorkerT, msg: msg, fds: []int{pair[0]}}); err != nil {
		unix.Close(pair[1])
		return err
	}
	w.tell(ipc.SecModFdT, new(ipc.Nothing), pair[1])
	return nil
}

// connID is the client's connection, 0 while there is none.
func (w *worker) connID() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.who.conn
}

// name takes the worker out of its namelessness and gives away sec-mod's end of
// its channel.
func (w *worker) name(who identity, sl *slot, authTimeout time.Duration) (secFD int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != pooled {
		return -1, false
	}
	w.enter(login)
	w.who, w.slot = who, sl
	secFD, w.secFD = w.secFD, -1
	if authTimeout > 0 {
		w.boundLogin(authTimeout + authGrace)
	}
	tag := "conn-" + strconv.FormatUint(who.conn, 10)
	w.child.tag.Store(&tag)
	return secFD, true
}

// boundLogin sets how long the login may take. w.mu is held.
func (w *worker) boundLogin(d time.Duration) {
	w.until = time.Now().Add(d)
	w.timer = time.AfterFunc(d, w.loginTooLong)
}

func (w *worker) loginTooLong() {
	if w.move(login|opening, leaving) {
		w.srv.door.late.Add(1)
		w.log().Info("authentication took too long")
		w.srv.procs.kill(w.child)
	}
}

// noteLate counts a login that its worker has ended itself because of auth-timeout.
func (w *worker) noteLate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state&(login|opening) != 0 && w.timer != nil && time.Until(w.until) <= authGrace {
		w.srv.door.late.Add(1)
	}
}

// tell queues a message for the worker. One that has not read the last
// workerQueue messages is killed.
func (w *worker) tell(t ipc.Type, m ipc.Message, fds ...int) bool {
	if w.out.post(outgoing{typ: t, msg: m, fds: fds}) {
		return true
	}
	if w.current() != leaving {
		w.punish(errNotReading)
	}
	return false
}

// unsent is told by the sender that a message did not get through.
func (w *worker) unsent(err error) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.punish(errNotReading)
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET), errors.Is(err, net.ErrClosed):
		// It is on its way out, and run will notice.
	default:
		w.punish(err)
	}
}

// leave asks the worker to go and makes sure that it is gone after grace. With
// tellClient the client learns that it shall not come back by itself.
func (w *worker) leave(reason ipc.Reason, tellClient bool, grace time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == leaving {
		return
	}
	w.enter(leaving)
	w.end.reason = reason
	w.killAfter(grace)
	w.out.post(outgoing{typ: ipc.TerminateT, msg: &ipc.Terminate{Reason: reason, TellClient: tellClient}})
}

// killAfter replaces the worker's timer. w.mu is held.
func (w *worker) killAfter(d time.Duration) {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.until = time.Now().Add(d)
	w.timer = time.AfterFunc(d, func() { w.srv.procs.kill(w.child) })
}

// punish kills a worker that broke the rules. The first cause is kept.
func (w *worker) punish(cause error) {
	w.mu.Lock()
	if w.end.cause == nil {
		w.end.cause = cause
	}
	w.enter(leaving)
	w.mu.Unlock()
	w.srv.procs.kill(w.child)
}

// run reads the channel until its end and then takes the worker out of all
// tables.
func (w *worker) run() {
	err := w.receive()
	w.handed = errors.Is(err, os.ErrDeadlineExceeded)
	close(w.quiet)
	if w.handed {
		return
	}
	if !errors.Is(err, io.EOF) {
		w.srv.workers.violations.Add(1)
		w.punish(err)
	}
	w.noteLate()
	w.move(^leaving, leaving)
	grace := time.AfterFunc(exitGrace, func() { w.srv.procs.kill(w.child) })
	<-w.child.done
	grace.Stop()
	if w.forbiddenCall() {
		w.srv.workers.violations.Add(1)
		w.mu.Lock()
		w.end.cause = violation("a system call that no worker makes")
		w.mu.Unlock()
	}
	w.bury()
	close(w.gone)
}

// receive reads and dispatches. It returns io.EOF when the worker is gone, or
// what it did wrong. A mistake of ours that a worker's bytes bring to light
// must not cost the others their tunnels.
func (w *worker) receive() (err error) {
	defer func() {
		if r := recover(); r != nil {
			w.log().Error("internal error", "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("mainproc: internal error: %v", r)
		}
	}()
	for {
		rec, err := w.out.conn.Recv()
		if err != nil {
			if errors.Is(err, ipc.ErrViolation) || errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
			return io.EOF // closed, reset: the process is on its way out
		}
		err = w.dispatch(&rec)
		rec.Close()
		rec.Clear()
		if err != nil {
			return err
		}
	}
}

// bury takes a worker whose process is gone out of all tables.
func (w *worker) bury() {
	s := w.srv
	w.mu.Lock()
	if w.timer != nil {
		w.timer.Stop()
	}
	if w.secFD >= 0 {
		unix.Close(w.secFD)
		w.secFD = -1
	}
	sl, end, assigned := w.slot, w.end, w.who.conn != 0
	w.mu.Unlock()
	w.out.close()
	w.out.conn.Close()
	s.door.logins.leave(sl)
	s.credits.leave(w)
	w.logEnd(end)
	if w.session != nil {
		s.closeSession(w, end)
		s.sessions.detach(w, w.session)
	}
	s.workers.remove(w) // the last: who waits for it finds the disconnect-script begun
	if !assigned {
		s.pool.lost(w)
	}
}

func (w *worker) logEnd(end ending) {
	w.mu.Lock()
	assigned := w.who.conn != 0
	w.mu.Unlock()
	switch sig, died := w.child.diedBySignal(); {
	case errors.Is(end.cause, ipc.ErrViolation):
		w.log().Error(msgViolation, "err", end.cause)
	case end.cause != nil:
		w.log().Error("worker killed", "err", end.cause)
	case died && sig == syscall.SIGTERM && !assigned: // a stop by the group's signal met it before it could ignore that
		w.log().Info("worker without a client terminated")
	case died:
		w.log().Error(fmt.Sprintf(msgDiedBySignal, "worker", int(sig)))
	case w.child.status.ExitStatus() > 0:
		w.log().Warn("worker failed", "status", w.child.status.ExitStatus())
	}
}

// log names the worker and its client.
func (w *worker) log() *slog.Logger {
	l := w.srv.log.With("pid", w.child.pid)
	if tag := w.child.tag.Load(); tag != nil {
		l = l.With("id", *tag)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.who.peer.IsValid() {
		l = l.With("peer", w.who.peer)
	}
	return l
}
