package secmod

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
	"rocserv/internal/ocpasswd"
	"rocserv/internal/sandbox"
	"rocserv/internal/session"
	"rocserv/secmod/attempts"
)

// ErrMainGone is what Run returns when main's end of the channel is closed.
var ErrMainGone = errors.New("secmod: main is gone")

const (
	sweepEvery = 10 * time.Second
	maxPending = 4096 // logins under way, and cookies nobody used yet
	maxEnded   = 1000 // safe ids in one SECM_ENDED: a record holds twice as many
)

// Options are what Run needs.
type Options struct {
	Main *ipc.Conn        // the channel to main; Run closes it
	Log  *slog.Logger     // never nil
	Now  func() time.Time // nil: time.Now

	// Confine leaves this process these files and nothing else; it is called
	// once, with the first configuration. nil: it is not confined.
	Confine func(sandbox.Files) (sandbox.Report, error)
}

// Run is the life of sec-mod: it serves main, and the workers that main names,
// until main is gone (ErrMainGone) or breaks the protocol. Either is the end
// of the process; Run does not wait for what workers asked meanwhile.
func Run(o Options) error {
	s := newServer(o)
	defer s.stop()
	go s.sweeping()
	err := s.serve()
	if errors.Is(err, ErrMainGone) {
		s.accounts.finish(lastAccounts)
	}
	return err
}

// server is sec-mod.
type server struct {
	Options
	rows map[ipc.Type]row
	quit chan struct{} // closed by stop

	loading  sync.Mutex // held while a configuration is loaded
	fence    *fence     // what sec-mod may open; nil until confined. Of loading
	gens     atomic.Pointer[generations]
	sessions *session.Table[login]
	attempts *attempts.Table
	tickets  *tickets
	records  records
	accounts *accounts
	hashing  hashing
	signing  *slots // how many signatures are made at once
	helpers  helperRequests
	kdcs     kdcs
	browsers browsers
	blocked  blockLists

	mu      sync.Mutex
	workers map[uint64]*worker // by connection id; nil once stopped
	failure error              // why main's channel was closed from here

	counts counters
	times  authTimes
	quiet  noise
}

// hashing is how passwords are checked: how many at once, and by what.
type hashing struct {
	*slots
	check func(f *ocpasswd.File, user string, password []byte) (ocpasswd.Entry, bool, error)
}

// counters are what sec-mod counts of itself.
type counters struct {
	violations, panics, signatures, logins, refused, busy, limited atomic.Uint64
}

func newServer(o Options) *server {
	if o.Now == nil {
		o.Now = time.Now
	}
	cpus := runtime.GOMAXPROCS(0)
	s := &server{
		Options: o, rows: table(), quit: make(chan struct{}),
		sessions: session.New[login](o.Now, session.Limits{Pending: maxPending, Unopened: maxPending}),
		attempts: attempts.New(attempts.Policy{}),
		kdcs:     newKDCs(),
		tickets:  newTickets(o.Now),
		hashing:  hashing{slots: newSlots(max(1, cpus/2), maxHashQueue), check: (*ocpasswd.File).Check},
		signing:  newSlots(cpus, 0),
		blocked:  blockLists{warn: o.Log.Warn},
		workers:  map[uint64]*worker{},
	}
	s.helpers = helperRequests{s: s, waiting: map[uint64]chan helperReply{}}
	s.accounts = newAccounts(s)
	s.sessions.Dropped = login.drop
	s.hashing.behind, s.signing.behind = s.sayBehind, s.sayBehind
	return s
}

// sayBehind tells main, once a second while it lasts, that too many wait.
func (s *server) sayBehind() {
	if _, ok := s.quiet.behind.allow(s.Now()); ok {
		s.reply(ipc.SecmBehindT, 0, &ipc.Nothing{})
	}
}

// serve reads main's channel. A violation by main is fatal: who cannot trust
// main cannot trust anything.
func (s *server) serve() error {
	for {
		rec, err := s.Main.Recv()
		if err == nil {
			err = s.step(&rec)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return ErrMainGone
		case errors.Is(err, net.ErrClosed):
			return s.cause(err)
		default:
			return fmt.Errorf("secmod: main: %w", err)
		}
	}
}

// step deals with one record of main's.
func (s *server) step(rec *ipc.Record) error {
	defer rec.Close()
	defer rec.Clear()
	r, ok := s.rows[rec.Type]
	if !ok || r.main == nil {
		return violation("%v from main", rec.Type)
	}
	in := running
	if s.gens.Load() == nil {
		in = starting
	}
	if r.in&in == 0 {
		return violation("%v before a configuration is in effect", rec.Type)
	}
	return r.main(s, rec)
}

// reply answers main and closes the descriptors that go with the answer.
func (s *server) reply(t ipc.Type, id uint32, m ipc.Message, fds ...int) {
	defer closeAll(fds)
	// Where main hung up, serve finds the end of the channel.
	if err := s.Main.Send(t, id, m, fds...); err != nil && !hungUp(err) {
		s.fail(fmt.Errorf("answer to main: %w", err))
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// fail ends sec-mod from a goroutine other than serve's.
func (s *server) fail(err error) {
	s.mu.Lock()
	if s.failure == nil {
		s.failure = err
	}
	s.mu.Unlock()
	s.Main.Close()
}

func (s *server) cause(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		err = s.failure
	}
	return fmt.Errorf("secmod: %w", err)
}

// stop ends every channel; what serves them ends by it.
func (s *server) stop() {
	close(s.quit)
	s.Main.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.workers {
		w.conn.Close()
	}
	s.workers = nil
}

// sweeping forgets what is expired, now and then.
func (s *server) sweeping() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.sweep()
		case <-s.quit:
			return
		}
	}
}

// sweep forgets expired sessions and tells main, who holds addresses for them.
func (s *server) sweep() {
	s.records.mu.Lock() // what is saved before must not overtake what is ended
	defer s.records.mu.Unlock()
	ended := s.sessions.Sweep()
	s.accounts.ended(ipc.Reason_REASON_UNSPECIFIED, ended...)
	for len(ended) > 0 {
		n := min(len(ended), maxEnded)
		s.reply(ipc.SecmEndedT, 0, &ipc.SecmEnded{SafeIds: ended[:n]})
		ended = ended[n:]
	}
}

// noise keeps lines that strangers cause, or every session does, from filling the log.
type noise struct {
	violations, logins, sessions quietly
	behind                       quietly // of messages to main
	accounts                     quietly
	routes                       quietly // too many
}

// quietly lets one line through per second and counts the others.
type quietly struct {
	mu      sync.Mutex
	next    time.Time
	skipped uint64
}

// allow reports whether a line may be written, and how many were not since the last.
func (q *quietly) allow(now time.Time) (skipped uint64, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Before(q.next) {
		q.skipped++
		return 0, false
	}
	skipped, q.skipped, q.next = q.skipped, 0, now.Add(time.Second)
	return skipped, true
}
