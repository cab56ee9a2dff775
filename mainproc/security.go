package mainproc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"rocserv/internal/ipc"
)

// security is sec-mod as the rest of main sees it: the process of the moment,
// or none while it is being replaced. What is asked then fails at once with
// errSecModGone.
type security struct {
	// Written while another sec-mod comes into effect or goes: who holds it for
	// reading knows that now stays.
	mu     sync.RWMutex
	now    *secmod
	up     chan struct{} // closed while now is set
	closed chan struct{} // closed when no other one is to come
}

func newSecurity() *security {
	return &security{up: make(chan struct{}), closed: make(chan struct{})}
}

func (s *security) current() *secmod {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.now
}

// post sends what has no answer.
func (s *security) post(o outgoing) error {
	m := s.current()
	if m == nil {
		o.dispose()
		return errSecModGone
	}
	return m.post(o)
}

// call sends a request; see secmod.call.
func (s *security) call(o outgoing, want ipc.Type, answer func(*ipc.Record, error)) {
	m := s.current()
	if m == nil {
		o.dispose()
		answer(nil, errSecModGone)
		return
	}
	m.call(o, want, answer)
}

// ask is call for those who can wait.
func (s *security) ask(o outgoing, want ipc.Type, rep ipc.Message, timeout time.Duration) error {
	m := s.current()
	if m == nil {
		o.dispose()
		return errSecModGone
	}
	return m.ask(o, want, rep, timeout)
}

// wait waits until there is a sec-mod.
func (s *security) wait(ctx context.Context) error {
	for {
		s.mu.RLock()
		m, up := s.now, s.up
		s.mu.RUnlock()
		if m != nil {
			return nil
		}
		select {
		case <-up:
		case <-s.closed:
			return errSecModGone
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errSecModGone, ctx.Err())
		}
	}
}

// enter puts a sec-mod into effect. before is what it is told first, with
// nobody else talking to it. It fails if the server stops.
func (s *security) enter(m *secmod, before func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		return false
	default:
	}
	before()
	s.now = m
	close(s.up)
	return true
}

// lost notes that the sec-mod in effect is no more.
func (s *security) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != nil {
		s.now, s.up = nil, make(chan struct{})
	}
}

// close ends sec-mod in good order, and lets no other one in.
func (s *security) close(p *procs) {
	s.mu.Lock()
	close(s.closed)
	m := s.now
	s.mu.Unlock()
	if m != nil {
		m.close(p)
	}
}

// replaceSecMod starts another sec-mod whenever one ends, until the server
// does. It returns an error if the server is to end with sec-mod.
func (s *server) replaceSecMod() error {
	var t trouble
	for {
		if m := s.sec.current(); m != nil { // else one is yet to start
			select {
			case <-m.gone:
			case <-s.sec.closed:
				return nil
			}
			err := m.failure()
			if err == nil { // by our wish
				select {
				case <-s.sec.closed:
					return nil
				default: // in favour of another one
				}
				s.loading.Lock() // until that is there
				t = trouble{}
				s.loading.Unlock()
				continue
			}
			s.sec.lost()
			s.mourn(m)
			if s.settings().ExitOnSecModDeath {
				return err
			}
		}
		for done := false; !done; {
			delay := t.failed(time.Now())
			s.log.Warn("starting another sec-mod", "in", delay, "failures", t.failures)
			select {
			case <-time.After(delay):
			case <-s.sec.closed:
				return nil
			}
			if err := s.succeed(); err == nil {
				done = true
			} else if errors.Is(err, errStopped) {
				return nil
			} else {
				s.log.Error("sec-mod cannot be replaced yet; tunnels stay up, logins fail", "err", err)
			}
		}
	}
}

// mourn says what sec-mod died of, and makes sure that it is dead.
func (s *server) mourn(m *secmod) {
	s.log.Error(msgSecModDied, "err", m.err)
	select {
	case <-m.child.done:
	case <-time.After(exitGrace):
		s.procs.kill(m.child)
		<-m.child.done
	}
	if sig, died := m.child.diedBySignal(); died {
		s.log.Error(fmt.Sprintf(msgDiedBySignal, "secmod", int(sig)))
	}
}

// succeed starts a sec-mod in place of one that died, gives it the
// configuration in effect and the records, and every worker a channel to it.
func (s *server) succeed() error {
	s.loading.Lock()
	defer s.loading.Unlock()
	if s.sec.current() != nil {
		return nil
	}
	gen := s.gen.Load()
	fd, err := gen.configText()
	if err != nil {
		return err
	}
	m, err := s.startSecMod()
	if err != nil {
		closeAll([]int{fd})
		return err
	}
	keys, err := loadConfig(m, &ipc.SecmConfig{
		Generation: gen.number, Name: s.opts.ConfigName, Keyring: s.records.lastKeyring(), Known: gen.chains(),
	}, fd)
	if err == nil {
		err = s.restore(m)
	}
	if err == nil {
		err = s.agree(gen, keys)
	}
	if err != nil {
		m.close(s.procs)
		return err
	}
	if !s.sec.enter(m, func() { s.rejoin(m) }) {
		m.close(s.procs)
		return errStopped
	}
	s.log.Info("sec-mod replaced", "pid", m.child.pid)
	return nil
}

// agree takes over what the new sec-mod found in the files that the
// configuration names: certificates can be others than when it was loaded.
func (s *server) agree(gen *generation, keys *ipc.SecmConfigRep) error {
	s.records.setKeyring(keys.Keyring)
	if proto.Equal(&ipc.SecmConfigRep{Vhosts: keys.Vhosts}, &ipc.SecmConfigRep{Vhosts: gen.keys.GetVhosts()}) {
		return nil
	}
	text, err := gen.configText()
	if err != nil {
		return err
	}
	next, err := newGeneration(gen.number, gen.cfg, keys, text, s.logLevel(&gen.cfg.Global))
	if err != nil {
		return err
	}
	s.gen.Store(next)
	s.pool.renew()
	return nil
}

// restore gives a sec-mod the sessions of the one before.
func (s *server) restore(m asker) error {
	refused, err := s.restoreSessions(m)
	if refused > 0 {
		s.log.Error("sessions lost with sec-mod; their tunnels stay up", "count", refused)
	}
	return err
}

func (s *server) restoreSessions(m asker) (refused uint32, err error) {
	all := s.records.held(s.openConns())
	fd, err := ipc.SealMessage("records", all)
	if err != nil {
		return 0, err
	}
	rep := new(ipc.SecmRestoreRep)
	err = m.ask(outgoing{typ: ipc.SecmRestoreT, msg: new(ipc.Nothing), fds: []int{fd}}, ipc.SecmRestoreRepT, rep, loadTimeout)
	if err != nil {
		return 0, fmt.Errorf("mainproc: sec-mod and the sessions: %w", err)
	}
	return rep.Refused, nil
}

// openConns returns, for each session, the connections that sec-mod is to know
// of: those of workers that are there, and those whose end it has not heard of.
func (s *server) openConns() map[string][]uint64 {
	conns := make(map[string][]uint64)
	for w, safeID := range s.sessions.bound() { // first: a worker is among the closings before it leaves here
		conns[safeID] = append(conns[safeID], w.connID())
	}
	for _, c := range s.closings.list() {
		conns[c.SafeId] = append(conns[c.SafeId], c.ConnId)
	}
	return conns
}

// rejoin gives every worker with a client a channel to the new sec-mod, and
// tells that what the one before may not have heard.
func (s *server) rejoin(m *secmod) {
	bound := s.sessions.bound()
	for _, w := range s.workers.list(false) {
		if err := w.rejoin(m, bound[w]); err != nil {
			w.log().Error("worker has no channel to sec-mod", "err", err)
		}
	}
	for _, c := range s.closings.list() {
		s.sendClosed(m, c)
	}
}
