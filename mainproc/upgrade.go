package mainproc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/config"
	"rocserv/internal/control"
	"rocserv/internal/ipc"
	"rocserv/internal/slack"
)

// Another program can take this one's place without an end of any tunnel:
//
//	tryProgram   a process of it reads our state and our configuration, its
//	             sec-mod loads the configuration and opens the sessions' records,
//	             and its worker becomes ready: rocserv-worker beside it, if that
//	             is of the same build (program.go). Otherwise it is refused, and
//	             nothing has changed
//	standStill   nobody is let in, no channel is read, scripts and sec-mod end
//	become       the leader executes it: same pid, same children, same sockets
//	takeOver     it goes on from the state (server.resume); a sec-mod of its own
//	             gets the records, as after a sec-mod's death
//
// Logins under way begin anew, as after a sec-mod's death. What is forgotten is
// whose datagrams follow, which is of use for seconds. The system call filter stays
// on the process: a program whose filter is the same puts no other one on it.

const (
	trialTime  = 30 * time.Second
	answerTime = 10 * time.Second // for a worker's request that is being carried out
	readyWord  = "ready"
)

// roleTrial is a program's look at the state it shall go on from.
var roleTrial = &role{
	name: "trial",
	arg:  "__trial",
	fds:  []string{"where it says that it is ready", "state", "configuration"},
}

// upgrade is the operator's order. It answers when the program has shown that it
// can take over; that it does is the next thing.
func (c *console) upgrade(ctx context.Context, _ nothing) (any, error) {
	s := c.srv
	s.loading.Lock()
	defer s.loading.Unlock()
	p, err := ownProgram()
	if err != nil {
		return nil, control.Errorf(control.Unavailable, "%v", err)
	}
	version, err := s.tryProgram(p)
	if err != nil {
		p.file.Close()
		s.log.Error("program not replaced, this one goes on", "program", p.path, "err", err)
		return nil, control.Errorf(control.Failed, "%s is refused: %v", p.path, err)
	}
	select {
	case s.upgrades <- p:
	default:
		p.file.Close()
		return nil, control.Errorf(control.Busy, "the program is being replaced already")
	}
	return control.Upgrade{Program: p.path, Version: version, Upgrades: c.upgrades}, nil
}

// tryProgram finds out whether a program can take over from this one.
func (s *server) tryProgram(p *program) (version string, err error) {
	version, build, err := s.tryState(p)
	if err != nil {
		return "", err
	}
	if err := s.trySecMod(p); err != nil {
		return "", err
	}
	if w := s.workerBeside(p.name(), build); w != nil {
		defer w.file.Close()
		p = w
	}
	return version, s.tryWorker(p)
}

// tryState has a process of it read the state. It says what version it is, and what
// build; programs of before say nothing of that.
func (s *server) tryState(p *program) (version, build string, err error) {
	st := s.save(false)
	st.consistent(s.log)
	state, err := st.seal()
	if err != nil {
		return "", "", err
	}
	defer state.Close()
	stateFD, err := dupFile(state)
	if err != nil {
		return "", "", err
	}
	text, err := s.gen.Load().configText()
	if err != nil {
		unix.Close(stateFD)
		return "", "", err
	}
	near, far, err := logPipe()
	if err != nil {
		closeAll([]int{stateFD, text})
		return "", "", err
	}
	c, err := s.procs.spawn(roleTrial.as(p), []string{s.opts.ConfigName}, near, far, stateFD, text)
	if err != nil {
		near.Close()
		return "", "", err
	}
	near.SetReadDeadline(time.Now().Add(trialTime))
	in := bufio.NewReader(near)
	line, err := in.ReadString('\n')
	if in.Buffered() > 0 { // both lines come at once
		build, _ = in.ReadString('\n')
	}
	s.procs.kill(c)
	<-c.done
	if word, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok && word == readyWord {
		return version, strings.TrimSpace(build), nil
	}
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return "", "", fmt.Errorf("mainproc: it does not become ready within %v", trialTime)
	}
	return "", "", fmt.Errorf("mainproc: it ended before it was ready (status %d)%s", c.status.ExitStatus(), clause(line))
}

// clause is what a program said last, if anything.
func clause(line string) string {
	if line = strings.TrimSpace(line); line == "" {
		return ""
	}
	return fmt.Sprintf(": %.200q", line)
}

// trySecMod has a sec-mod of it load the configuration and the records.
func (s *server) trySecMod(p *program) error {
	gen := s.gen.Load()
	m, err := s.startSecModOf(roleSecMod.as(p), func(*ipc.Record) error { return nil })
	if err != nil {
		return err
	}
	defer m.close(s.procs)
	fd, err := gen.configText()
	if err != nil {
		return err
	}
	_, err = loadConfig(m, &ipc.SecmConfig{
		Generation: gen.number, Name: s.opts.ConfigName, Keyring: s.records.lastKeyring(), Known: gen.chains(),
	}, fd)
	if err == nil {
		err = s.restore(m)
	}
	return err
}

// tryWorker waits until a worker of it is ready.
func (s *server) tryWorker(p *program) error {
	w, err := s.startWorkerOf(roleWorker.as(p))
	if err != nil {
		return err
	}
	w.leave(ipc.Reason_REASON_SERVER, false, leaveGrace)
	return nil
}

// upgrade makes this process one of that program. It returns only if that is
// impossible: then nothing is left to go on with.
func (s *server) upgrade(p *program) error {
	s.loading.Lock() // and never unlocked: neither a reload nor a sec-mod comes any more
	s.log.Info("replacing the program", "program", p.path)
	s.notify.reloading()
	st := s.standStill()
	state, err := st.seal()
	if err != nil {
		return err
	}
	req := execRequest{fds: append(st.descriptors(), int(state.Fd())), reply: make(chan error, 1)}
	req.env = append(os.Environ(), stateEnv+"="+strconv.Itoa(int(state.Fd())))
	// If it cannot be executed although it was a moment ago, the old one goes on.
	req.programs = []string{p.name(), "/proc/self/exe"}
	s.procs.execs <- req
	return <-req.reply
}

// standStill stops all that happens in this process, in an order in which
// nobody waits for what has stopped already, and returns what it knows.
func (s *server) standStill() *inherited {
	sock := s.console.release()
	s.ports.pause()
	visitors := s.door.hall.close()
	s.pool.close()
	s.procs.keepOpen()
	// First those that may be about to take a session over from others.
	var others []*worker
	var before []*worker
	for _, w := range s.workers.list(false) {
		switch w.current() {
		case starting, pooled:
			w.leave(ipc.Reason_REASON_SERVER, false, leaveGrace)
			others = append(others, w)
		case login, opening:
			before = append(before, w)
		default:
			others = append(others, w)
		}
	}
	s.hush(before)
	s.hush(others)
	s.hooks.order.Wait(scriptsGrace, nil)
	if m := s.sec.current(); m != nil {
		m.close(s.procs)
		<-m.gone
		<-m.child.done
	}
	s.procs.finish(roleHelper.arg, closingGrace) // sec-mod's end was theirs
	all := s.workers.list(false)
	for _, w := range all {
		w.out.finish()
	}
	for _, w := range all {
		<-w.out.done // it has ipc's deadline
		w.child.logs.SetReadDeadline(time.Now().Add(-time.Second))
		<-w.child.logged
	}
	s.closeStore()
	s.procs.hold(all)
	st := s.save(true)
	if sock != nil {
		st.Ports.Control, st.Ports.ControlName = descriptor(sock), sock.Name
	}
	for _, v := range visitors {
		st.Ports.Visitors = append(st.Ports.Visitors, visitorState{descriptor(v.conn), v.from.save(), v.from.proxy.IsValid()})
	}
	return st
}

// hush waits until nobody reads these workers' channels. What one of them has
// asked is answered first.
func (s *server) hush(ws []*worker) {
	for _, w := range ws {
		w.out.conn.Interrupt()
	}
	deadline := time.After(answerTime)
	for _, w := range ws {
		select {
		case <-w.quiet:
		case <-deadline:
			w.punish(errNoAnswer)
			<-w.quiet
		}
	}
}

// keepOpen has everything of children stay open.
func (p *procs) keepOpen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep = true
}

// hold reaps nothing any more. Those of the workers that were reaped and are
// being buried are so first; one whose channel was left alone is not buried here.
func (p *procs) hold(ws []*worker) {
	p.mu.Lock()
	p.held = true
	p.mu.Unlock()
	for _, w := range ws {
		select {
		case <-w.child.done:
			if w.handed {
				continue
			}
			select {
			case <-w.gone:
			case <-time.After(exitGrace):
			}
		default:
		}
	}
}

// execRequest asks the leader to become another program.
type execRequest struct {
	programs []string // the first that can be executed
	env      []string
	fds      []int // which stay open
	reply    chan error
}

// exec returns only if no program could be executed. A child dies with the
// thread that forked it: so this must be the leader, which exec keeps.
func (r execRequest) exec() error {
	for _, fd := range r.fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("mainproc: descriptor %d: %w", fd, err)
		}
	}
	defer slack.Lend()() // the program may be one that knows nothing of it
	// Until the program notices signals itself these would end it.
	signal.Ignore(syscall.SIGHUP, syscall.SIGUSR2)
	var errs []error
	for _, name := range r.programs {
		errs = append(errs, fmt.Errorf("mainproc: %s: %w", name, syscall.Exec(name, os.Args, r.env)))
	}
	return errors.Join(errs...)
}

// parse reads the configuration of the main before.
func (v configState) parse(opts Options) (cfg *config.Config, err error) {
	text, err := ipc.ReadSealed(v.Text)
	if err != nil {
		return nil, fmt.Errorf("%w: configuration: %w", errState, err)
	}
	defer clear(text)
	return opts.Parse(opts.ConfigName, text)
}

// takeOver goes on where the main before stopped.
func (s *server) takeOver(st *inherited) error {
	gen, err := s.inheritGeneration(st.Config)
	if err != nil {
		return err
	}
	s.gen.Store(gen)
	until, err := s.resume(st, func(v workerState) (*child, *ipc.Conn, error) { return s.procs.inherit(roleWorker, v) })
	if err != nil {
		return err
	}
	if st.Ports.Control >= 0 {
		if s.console.inherited, err = control.Inherit(st.Ports.Control, st.Ports.ControlName); err != nil {
			s.log.Warn("the control socket is opened anew", "err", err)
		}
	}
	for _, v := range st.Ports.Visitors {
		if c, err := inheritConn(v.Conn); err == nil {
			s.visitors = append(s.visitors, visitor{conn: c, from: v.From.origin()})
		}
	}
	for w, t := range until {
		w.proceed(t)
	}
	return nil
}

func (s *server) inheritGeneration(v configState) (*generation, error) {
	keys := new(ipc.SecmConfigRep)
	if err := decodeState(v.Keys, keys); err != nil {
		return nil, err
	}
	cfg := s.gen.Load().cfg
	return newGeneration(v.Generation, cfg, keys, v.Text, s.logLevel(&cfg.Global))
}

func inheritConn(fd int) (*net.TCPConn, error) {
	f := os.NewFile(uintptr(fd), "connection")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	t, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, errState
	}
	t.SetReadDeadline(time.Time{})
	return t, nil
}
