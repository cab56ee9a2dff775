package mainproc

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
	"rocserv/internal/slack"
)

const stopGrace = 5 * time.Second // from TERMINATE to SIGKILL when the server stops

// Run is main. It must be called on the thread that the process began with, by
// a goroutine that is locked to it (runtime.LockOSThread in an init function):
// every child is tied to the thread that forked it, and this one ends last.
// The calling goroutine does nothing but fork.
//
// Run returns nil after SIGTERM or SIGINT, and an error if the server could
// not start or had to end by itself. Without Options.Foreground it returns nil
// once the server is up, in a process of its own.
func Run(opts Options) error {
	if unix.Gettid() != unix.Getpid() {
		panic("mainproc: internal error: Run is not on the leader thread")
	}
	var err error
	if opts.passed, err = passedSockets(os.Getpid()); err != nil {
		return err
	}
	closeOnExec()
	slack.Relax() // and all that is started; it may be impossible, and is no worse then
	st, err := inheritedState()
	if err != nil {
		return err
	}
	up := func() {}
	if !opts.Foreground && st == nil {
		if up = background(); up == nil {
			if len(opts.passed.fds) > 0 {
				return errors.New("mainproc: sockets of a service manager (LISTEN_FDS) are for a server that stays in the foreground: -f")
			}
			return detach(opts.SelfExe)
		}
	}
	var inForce []string
	if st != nil {
		inForce = st.Filters
	}
	confined, err := confineMain(inForce)
	if err != nil {
		return err
	}
	ownGroup()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // ignored, as it is now, it would be so in scripts too
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR2)
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)

	s, text, err := newServer(opts, confined, signals, st)
	if err != nil {
		return err
	}
	if st != nil {
		if err := s.takeOver(st); err != nil {
			return err
		}
	}
	result := make(chan error, 1)
	go s.reapOn(children)
	go func() { result <- s.live(text, signals, up) }()
	return s.procs.serve(result)
}

// ownGroup makes this process the leader of its process group, so that
// "kill -- -PID" means the server. Started in a terminal's foreground by
// something else that leads the group (go run), it stays in it: outside it, an
// interrupt from the terminal would not arrive. A script's background job
// ignores interrupts and loses nothing.
func ownGroup() {
	if signal.Ignored(syscall.SIGINT) || !inForeground() {
		unix.Setpgid(0, 0) // fails for a session leader, which leads its group already
	}
}

func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	front, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && front == unix.Getpgrp()
}

func (s *server) reapOn(children <-chan os.Signal) {
	for {
		s.procs.reap()
		select {
		case <-children:
		case <-s.ended:
			return
		}
	}
}

// live is the server from its first child to its last. It calls up when
// clients are let in.
func (s *server) live(text []byte, signals <-chan os.Signal, up func()) error {
	defer close(s.ended)
	defer s.procs.killAll()
	defer s.console.close()
	defer s.ports.close()
	if name := s.pidFile(); name != "" {
		if err := writePIDFile(name); err != nil {
			return err
		}
		defer removePIDFile(name)
	}
	if s.store != nil {
		go s.keepStore()
		defer s.closeStore()
	}
	defer s.sec.close(s.procs)
	files := new(watcher)
	files.look(watched(s.opts.ConfigName, s.gen.Load().cfg, nil)) // before they are read
	if p := s.workerBeside(s.procs.exe, s.opts.Build); p != nil {
		defer p.file.Close()
		s.workerRole = roleWorker.as(p)
		s.log.Info("workers are a program of their own", "program", p.path)
	}
	if err := s.begin(text, signals); err != nil {
		if errors.Is(err, errStopped) {
			return nil
		}
		return err
	}
	s.enlargeWorkers()
	s.pool.renew() // there are none: this starts the first
	s.ports.serve(s)
	go s.watchHost()
	go s.tellAllNets()
	go s.watchFiles(files)
	s.letIn()
	go s.watchdog()
	s.notify.say(sdReady, "STATUS=rocserv "+s.opts.Version)
	up()
	err := s.work(signals)
	s.stop(signals, err == nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error detected") // as ocserv says of an abnormal end, at whatever log there is
	}
	return err
}

// begin brings sec-mod and the configuration into effect: one of before (text is
// nil), for which sec-mod may also come later, or the one just read.
func (s *server) begin(text []byte, signals <-chan os.Signal) error {
	if text == nil {
		if err := s.succeed(); err != nil {
			s.log.Error("sec-mod cannot be started yet; tunnels stay up, logins fail", "err", err)
		}
		s.console.adapt(s.settings())
		return nil
	}
	m, err := s.startSecMod()
	if err != nil {
		return err
	}
	s.sec.enter(m, func() {})
	if err := s.load(text, signals); err != nil {
		return err
	}
	s.recall()
	return nil
}

// letIn says that clients are let in, and lets those in that waited for it.
func (s *server) letIn() {
	if s.console.upgrades == 0 {
		s.log.Info(fmt.Sprintf(msgInitialized, s.opts.Version))
		return
	}
	s.log.Info(fmt.Sprintf(msgUpgraded, s.opts.Version), "tunnels", s.workers.clients(), "upgrades", s.console.upgrades)
	for _, v := range s.visitors {
		s.door.receive(v.conn, v.from, v.proxied)
	}
	s.visitors = nil
}

func (s *server) pidFile() string {
	if s.opts.PIDFile != "" {
		return s.opts.PIDFile
	}
	return s.settings().PIDFile
}

// load gives sec-mod the first configuration. Keys can take long to open, and
// who gives up meanwhile is not kept waiting: then it is errStopped.
func (s *server) load(text []byte, signals <-chan os.Signal) error {
	loaded := make(chan error, 1)
	go func() { loaded <- s.adopt(s.gen.Load().cfg, text) }()
	for {
		select {
		case err := <-loaded:
			return err
		case sig := <-signals:
			if sig == syscall.SIGTERM || sig == syscall.SIGINT {
				s.log.Info(msgStopping, "signal", sig.String())
				return errStopped
			}
		}
	}
}

// work waits for signals, and for the end of sec-mod where that is the
// server's. nil is a signal to stop.
func (s *server) work(signals <-chan os.Signal) error {
	reloads := make(chan struct{}, 1)
	go func() {
		for range reloads {
			s.reload()
		}
	}()
	defer close(reloads)
	fatal := make(chan error, 1)
	go func() { // returns only if there is no way back
		for order := range s.upgrades {
			if err := s.upgrade(order); err != nil {
				fatal <- err
				return
			}
		}
	}()
	go func() {
		if err := s.replaceSecMod(); err != nil {
			fatal <- err
		}
	}()
	tick := time.NewTicker(maintenanceEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-fatal:
			return err
		case <-tick.C:
			s.maintain()
		case sig := <-signals:
			switch sig {
			case syscall.SIGHUP:
				select {
				case reloads <- struct{}{}:
				default: // one is waiting already and will read the same file
				}
			case syscall.SIGUSR2:
				s.log.Info(msgMaintenance)
				s.maintain()
			default:
				s.log.Info(msgStopping, "signal", sig.String())
				return nil
			}
		}
	}
}

// stop ends the server in good order. By wish, clients are told not to come
// back and there may be time for them to end by themselves; else, or if their
// cookies outlive the server, they are to try again. A second signal shortens each wait.
func (s *server) stop(again <-chan os.Signal, byWish bool) {
	s.notify.say(sdStopping)
	hurry := make(chan struct{})
	go func() {
		for {
			select {
			case sig := <-again:
				if sig == syscall.SIGTERM || sig == syscall.SIGINT {
					close(hurry)
					return
				}
			case <-s.ended:
				return
			}
		}
	}()
	s.ports.closeTCP()
	s.pool.close()
	if drain := s.settings().Drain; byWish && drain > 0 && s.workers.clients() > 0 {
		s.log.Info(msgDraining, "for", drain)
		s.workers.wait(true, drain, hurry)
	}
	reason := ipc.Reason_REASON_SERVER
	if s.store != nil {
		reason, byWish = ipc.Reason_REASON_CONNECTION_LOST, false
	}
	for _, w := range s.workers.list(false) {
		w.leave(reason, byWish, stopGrace)
	}
	s.waitForWorkers(hurry)
	if !s.hooks.order.Wait(scriptsGrace, hurry) {
		s.log.Warn("killing scripts that did not end")
	}
}

// waitForWorkers waits until those that were told to leave are gone.
func (s *server) waitForWorkers(hurry <-chan struct{}) {
	if s.workers.wait(false, stopGrace, hurry) {
		return
	}
	late := s.workers.list(false)
	s.log.Warn("killing workers that did not end", "count", len(late))
	for _, w := range late {
		s.procs.kill(w.child)
	}
	s.workers.wait(false, exitGrace, nil)
}
