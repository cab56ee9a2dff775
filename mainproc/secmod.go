package mainproc

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"rocserv/internal/ipc"
)

const (
	secModQueue  = 4096             // records not yet taken by sec-mod
	askTimeout   = 30 * time.Second // for what a client waits for
	loadTimeout  = 60 * time.Second // for reading keys and password files
	closingGrace = 2 * time.Second  // from the end of the channel to SIGKILL
	// deafTime is how long sec-mod may read nothing before it counts as dead.
	// One that is stopped, or starved, delays logins and nothing else.
	deafTime = 2 * time.Minute
)

var (
	errSecModBusy = errors.New("mainproc: sec-mod has too much to do")
	errSecModGone = errors.New("mainproc: sec-mod is gone")
	errElsewhere  = errors.New("mainproc: sec-mod cannot reach a file any more")
	errNoAnswer   = errors.New("mainproc: sec-mod did not answer in time")
)

// secmod is main's side of the channel to sec-mod. Any number of requests are
// outstanding; each carries an id that its answer repeats.
type secmod struct {
	log    *slog.Logger
	child  *child
	conn   *ipc.Conn
	out    *sender
	notify func(*ipc.Record) error // what sec-mod says unasked
	gone   chan struct{}           // closed when the channel ended
	err    error                   // why; valid once gone is closed

	mu      sync.Mutex
	closing bool // the end of the channel is our wish
	lastID  uint32
	waiting map[uint32]question // nil once the channel ended
}

type question struct {
	want   ipc.Type
	answer func(*ipc.Record, error)
}

// startSecMod starts the process and its channel.
func (s *server) startSecMod() (*secmod, error) { return s.startSecModOf(roleSecMod, s.fromSecMod) }

// startSecModOf is startSecMod with the role in another program, perhaps, and
// who hears what it says unasked.
func (s *server) startSecModOf(r *role, notify func(*ipc.Record) error) (*secmod, error) {
	conn, far, err := ipc.Pair()
	if err != nil {
		return nil, err
	}
	c, err := s.procs.spawn(r, s.confinement().Args(), conn, far)
	if err != nil {
		conn.Close()
		return nil, err
	}
	m := newSecMod(conn, s.log, nil)
	helper := *roleHelper
	helper.exe = r.exe
	m.notify = s.helpersOf(m, &helper, notify)
	m.child = c
	go m.out.run()
	go m.read()
	return m, nil
}

func newSecMod(conn *ipc.Conn, log *slog.Logger, notify func(*ipc.Record) error) *secmod {
	m := &secmod{
		log: log, conn: conn, notify: notify,
		gone:    make(chan struct{}),
		waiting: make(map[uint32]question),
	}
	m.out = newSender(conn, secModQueue, func(err error) {
		log.Error("sec-mod does not read", "err", err)
		conn.Close() // read ends, and another one is started
	})
	m.out.patience = deafTime
	return m
}

// post sends what has no answer.
func (m *secmod) post(o outgoing) error {
	if !m.out.post(o) {
		return errSecModBusy
	}
	return nil
}

// call sends a request. answer is called once: with the answer, on the
// goroutine that reads the channel, so in the order of sec-mod's records and
// not for long; or with an error. The descriptors of the answer that it does
// not take are closed after it.
func (m *secmod) call(o outgoing, want ipc.Type, answer func(*ipc.Record, error)) {
	m.mu.Lock()
	if m.waiting == nil {
		m.mu.Unlock()
		o.dispose()
		answer(nil, errSecModGone)
		return
	}
	o.id = m.nextID()
	m.waiting[o.id] = question{want, answer}
	m.mu.Unlock()
	if !m.out.post(o) {
		if q, ok := m.take(o.id); ok {
			q.answer(nil, errSecModBusy)
		}
	}
}

// ask is call for those who can wait. The answer's descriptors are closed.
func (m *secmod) ask(o outgoing, want ipc.Type, rep ipc.Message, timeout time.Duration) error {
	result := make(chan error, 1)
	m.call(o, want, func(rec *ipc.Record, err error) {
		if err == nil {
			err = rec.Decode(rep)
		}
		result <- err
	})
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case err := <-result:
		return err
	case <-t.C:
		return errNoAnswer
	}
}

// nextID returns a number that is neither 0 nor in use. m.mu is held.
func (m *secmod) nextID() uint32 {
	for {
		m.lastID++
		if _, used := m.waiting[m.lastID]; !used && m.lastID != 0 {
			return m.lastID
		}
	}
}

func (m *secmod) take(id uint32) (question, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q, ok := m.waiting[id]
	delete(m.waiting, id)
	return q, ok
}

func (m *secmod) read() {
	err := m.receive()
	m.mu.Lock()
	left := m.waiting
	m.waiting = nil
	m.mu.Unlock()
	for _, q := range left {
		q.answer(nil, errSecModGone)
	}
	m.out.close()
	m.conn.Close()
	m.err = err
	close(m.gone)
}

// receive dispatches until the channel ends. Sec-mod is no stranger, but a
// record out of place means that one of us is broken: another one is started.
func (m *secmod) receive() error {
	for {
		rec, err := m.conn.Recv()
		if err != nil {
			return err
		}
		err = m.dispatch(&rec)
		rec.Close()
		rec.Clear()
		if err != nil {
			return err
		}
	}
}

func (m *secmod) dispatch(rec *ipc.Record) error {
	if rec.ID == 0 {
		return m.notify(rec)
	}
	q, ok := m.take(rec.ID)
	if !ok {
		return fmt.Errorf("%w: %v answers nothing", ipc.ErrViolation, rec.Type)
	}
	if rec.Type != q.want {
		q.answer(nil, errSecModGone)
		return fmt.Errorf("%w: %v instead of %v", ipc.ErrViolation, rec.Type, q.want)
	}
	q.answer(rec, nil)
	return nil
}

// asker is a sec-mod, or that of the moment.
type asker interface {
	ask(o outgoing, want ipc.Type, rep ipc.Message, timeout time.Duration) error
}

// loadConfig gives sec-mod a configuration. fd is a sealed memfd with the
// file's bytes and is closed.
func loadConfig(m asker, q *ipc.SecmConfig, fd int) (*ipc.SecmConfigRep, error) {
	rep := new(ipc.SecmConfigRep)
	err := m.ask(outgoing{typ: ipc.SecmConfigT, msg: q, fds: []int{fd}}, ipc.SecmConfigRepT, rep, loadTimeout)
	if err != nil {
		return nil, fmt.Errorf("mainproc: sec-mod and the configuration: %w", err)
	}
	switch {
	case rep.Elsewhere:
		return nil, fmt.Errorf("%w: %s", errElsewhere, rep.Error)
	case rep.Error != "":
		return nil, errors.New(rep.Error)
	}
	return rep, nil
}

// close ends sec-mod in good order: it gets time for the answers under way,
// then the end of its channel, and SIGKILL only if it stays.
func (m *secmod) close(p *procs) {
	m.mu.Lock()
	m.closing = true
	m.mu.Unlock()
	for deadline := time.Now().Add(time.Second); m.outstanding() > 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	m.conn.Close()
	select {
	case <-m.child.done:
	case <-time.After(closingGrace):
		p.kill(m.child)
	}
}

func (m *secmod) outstanding() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.waiting)
}

// failure says why the channel ended, nil if that was our wish.
func (m *secmod) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing {
		return nil
	}
	return fmt.Errorf("mainproc: %s: %w", msgSecModDied, m.err)
}
