package mainproc

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"rocserv/internal/slack"
)

// errStopped is what spawn returns once the leader forks no more.
var errStopped = errors.New("mainproc: the server is stopping")

// procs owns every child process: nobody else forks, reaps or kills.
//
// A child's parent-death signal is tied to the thread that forked it. So the
// goroutine that is locked to the process's leader thread, which lives as long
// as the process, does nothing but fork (serve); the others ask it.
type procs struct {
	log      *slog.Logger
	exe      string
	null     *os.File
	requests chan spawnRequest
	execs    chan execRequest
	beats    chan struct{} // nothing is to be done: the leader shows that it is there
	stopped  chan struct{} // closed when serve returns

	mu    sync.Mutex // held over fork and wait4, so that a pid is always what it seems
	alive map[int]*child
	keep  bool // what belongs to a child is not closed any more, even if it is gone
	held  bool // nothing is reaped any more
}

// child is a started process. Its pid means something only inside procs.
type child struct {
	role *role
	pid  int
	tag  atomic.Pointer[string] // short id, for the log
	done chan struct{}          // closed when it was reaped

	channel io.Closer     // our end of its channel, of a script that of its output
	logs    *os.File      // our end of its standard error
	logged  chan struct{} // closed when nobody reads logs any more

	status syscall.WaitStatus // valid once done is closed

	// Of procs.mu.
	reaped bool
	killed bool // by us
}

type spawnRequest struct {
	role    *role
	exe     string
	argv    []string
	env     []string // the whole environment
	channel io.Closer
	logs    *os.File
	files   []uintptr
	reply   chan spawned
}

type spawned struct {
	child *child
	err   error
}

func newProcs(exe string, log *slog.Logger) (*procs, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("mainproc: for the children's input and output: %w", err)
	}
	if exe == "" {
		if exe, err = selfExe(); err != nil {
			null.Close()
			return nil, err
		}
	}
	return &procs{
		log: log, exe: exe, null: null,
		requests: make(chan spawnRequest),
		execs:    make(chan execRequest),
		beats:    make(chan struct{}),
		stopped:  make(chan struct{}),
		alive:    make(map[int]*child),
	}, nil
}

// selfExe names this program for a new exec. /proc/self/exe is right even
// after the file was replaced; where no /proc is mounted the path must do.
func selfExe() (string, error) {
	const link = "/proc/self/exe"
	if _, err := os.Stat(link); err == nil {
		return link, nil
	}
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("mainproc: cannot find this program's file to start workers from: %w", err)
	}
	return path, nil
}

// serve forks on request until result has something, which it returns. It must
// run on the leader thread.
func (p *procs) serve(result <-chan error) error {
	defer close(p.stopped)
	for {
		select {
		case req := <-p.requests:
			c, err := p.fork(req)
			req.reply <- spawned{c, err}
		case <-p.beats:
		case req := <-p.execs:
			req.reply <- req.exec()
		case err := <-result:
			return err
		}
	}
}

// fork starts a process with exactly the descriptors of the request.
func (p *procs) fork(req spawnRequest) (*child, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	exe, done, err := outOfTheWay(req.exe, req.files)
	if err != nil {
		return nil, fmt.Errorf("mainproc: start of %s: %w", req.role.name, err)
	}
	defer done()
	if req.role == roleScript {
		defer slack.Lend()() // whose timers are the operator's
	}
	pid, err := syscall.ForkExec(exe, req.argv, &syscall.ProcAttr{
		Env:   req.env,
		Files: req.files,
		// Children have process groups of their own: a signal to main's, from a
		// terminal or "kill -- -PID", is main's to act on, in order.
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("mainproc: start of %s: %w", req.role.name, err)
	}
	c := &child{role: req.role, pid: pid, channel: req.channel, logs: req.logs, logged: make(chan struct{}), done: make(chan struct{})}
	p.alive[pid] = c
	return c, nil
}

// outOfTheWay names a program that is a descriptor by another one, which is the
// program in the child too until it executes it. The numbers that follow the
// greatest of its files are not: there ForkExec moves these and a pipe of its own.
func outOfTheWay(exe string, files []uintptr) (name string, done func(), err error) {
	number, is := strings.CutPrefix(exe, procFD)
	if !is {
		return exe, func() {}, nil
	}
	fd, err := strconv.Atoi(number)
	if err != nil {
		return "", nil, err
	}
	most := len(files)
	for _, f := range files {
		most = max(most, int(f))
	}
	other, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, most+len(files)+3)
	if err != nil {
		return "", nil, os.NewSyscallError("fcntl", err)
	}
	return procFD + strconv.Itoa(other), func() { unix.Close(other) }, nil
}

// spawn starts a process of that role with the descriptors fds at 3 and
// following, and args after the role. It closes fds in any case. What the child writes to standard
// error goes to the log. channel is our end of the one at 3: it is closed a
// while after the process was reaped, so that its reader comes to an end even
// if some descendant holds the other end.
func (p *procs) spawn(r *role, args []string, channel io.Closer, fds ...int) (*child, error) {
	defer closeAll(fds)
	if len(fds) != len(r.fds) {
		panic("mainproc: internal error: wrong number of descriptors for " + r.name)
	}
	logs, stderr, err := logPipe()
	if err != nil {
		return nil, err
	}
	defer unix.Close(stderr)
	files := []uintptr{p.null.Fd(), p.null.Fd(), uintptr(stderr)}
	for _, fd := range fds {
		files = append(files, uintptr(fd))
	}
	argv := append([]string{"rocserv-" + r.name, r.arg}, args...)
	return p.launch(spawnRequest{role: r, exe: cmp.Or(r.exe, p.exe), argv: argv, env: r.env, channel: channel, logs: logs, files: files})
}

// script starts an operator's program, without arguments and input. What it
// prints goes to the log, and nowhere a while after it has ended: what it
// leaves running holds nothing of ours.
func (p *procs) script(path string, env []string) (*child, error) {
	logs, out, err := logPipe()
	if err != nil {
		return nil, err
	}
	defer unix.Close(out)
	files := []uintptr{p.null.Fd(), uintptr(out), uintptr(out)}
	return p.launch(spawnRequest{role: roleScript, exe: path, argv: []string{path}, env: env, channel: logs, logs: logs, files: files})
}

// launch has the leader fork, and logs what comes from the child.
func (p *procs) launch(req spawnRequest) (*child, error) {
	req.reply = make(chan spawned, 1)
	var s spawned
	select {
	case p.requests <- req:
		s = <-req.reply
	case <-p.stopped:
		s.err = errStopped
	}
	if s.err != nil {
		req.logs.Close()
		return nil, s.err
	}
	p.copyLog(s.child)
	return s.child, nil
}

// copyLog logs what the child writes, until it is gone or handed over.
func (p *procs) copyLog(c *child) {
	go func() {
		newChildLog(p.log, c).copy(c.logs)
		p.mu.Lock()
		defer p.mu.Unlock()
		close(c.logged)
		if !p.keep {
			c.logs.Close()
		}
	}()
}

// logPipe makes the pipe for a child's standard error. Only the near end is
// non-blocking: the child's runtime writes traces to the other one.
func logPipe() (near *os.File, far int, err error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		return nil, -1, fmt.Errorf("mainproc: pipe: %w", err)
	}
	if err := unix.SetNonblock(fd[0], true); err != nil {
		closeAll(fd[:])
		return nil, -1, fmt.Errorf("mainproc: pipe: %w", err)
	}
	return os.NewFile(uintptr(fd[0]), "stderr of a child"), fd[1], nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// closeOnExec marks every descriptor this process was started with, so that
// none of the shell's reaches a worker. Sockets of a service manager
// (LISTEN_FDS) keep working: they are used here, not handed on by exec.
func closeOnExec() {
	const first = 3
	if unix.CloseRange(first, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	var l unix.Rlimit // Linux before 5.11
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		l.Cur = 1024
	}
	for fd := first; fd < int(min(l.Cur, 1<<16)); fd++ {
		unix.CloseOnExec(fd)
	}
}
