package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Prepare is the first stage. The report lists what was reached, and what was
// not with the reason. An error means that the process is not what it should
// be and must not go on.
//
// It changes the whole process and is to be called once, early, from main().
func Prepare(r Role, o Options) (Report, error) {
	p, ok := profiles[r]
	if !ok {
		panic("sandbox: internal error: no profile for role " + string(r))
	}
	var done Report
	note := func(what string, err error) {
		if err != nil {
			what = fmt.Sprintf("no %s (%v)", what, err) // nobody's safety depends on it
		}
		done.Reached = append(done.Reached, what)
	}
	note("name", writeProc("comm", p.comm))
	if p.oom != 0 {
		note("oom_score_adj", writeProc("oom_score_adj", strconv.Itoa(p.oom)))
	}
	signal.Ignore(append([]os.Signal{syscall.SIGPIPE}, p.ignored...)...)
	unix.Umask(0o077)
	for _, l := range p.limits {
		note("rlimit "+l.name, lower(l.resource, l.value))
	}
	if p.flows {
		note("rlimit nofile", lower(unix.RLIMIT_NOFILE, uint64(cmp.Or(o.OpenFiles, DefaultOpenFiles))))
	}
	if p.data && o.LimitMemory {
		note("rlimit data", limitData())
	}
	err := errors.Join(
		named("rlimit core", lower(unix.RLIMIT_CORE, 0)),
		named("no_new_privs", noNewPrivs()),
		named("not dumpable", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)),
	)
	if err != nil {
		return done, fmt.Errorf("sandbox: %w", err)
	}
	done.Reached = append(done.Reached, "rlimit core", "no_new_privs", "not dumpable")
	return done, nil
}

func named(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// writeProc writes a file of this process's, without package os, which would have the
// poller try each of them.
func writeProc(name, value string) error {
	fd, err := unix.Open("/proc/self/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(value))
	return err
}

// readProc reads one, at once if it is as long as they are.
func readProc(name string) ([]byte, error) {
	fd, err := unix.Open("/proc/self/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 2<<10)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		if n <= 0 || err != nil {
			return b, err
		}
		if b = b[:len(b)+n]; len(b) == cap(b) {
			b = slices.Grow(b, 4<<10)
		}
	}
}

// lower sets soft and hard limit to value, or to the hard limit if that is lower already.
func lower(resource int, value uint64) error {
	var old unix.Rlimit
	if err := unix.Getrlimit(resource, &old); err != nil {
		return err
	}
	value = min(value, old.Max)
	return unix.Setrlimit(resource, &unix.Rlimit{Cur: value, Max: value})
}

// noNewPrivs sets no_new_privs on every thread. It is an attribute of a
// thread that new threads and children inherit; main sets it before it starts
// a child, so that in a child all threads have it from birth: a process begins with
// one thread, and if this one has it, that one had, for nobody here sets it on one
// alone. To set it again would stop each thread for nothing.
func noNewPrivs() error {
	if has, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && has == 1 {
		return nil
	}
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno == 0 {
		return nil
	}
	if errno != syscall.ENOTSUP {
		return errno
	}
	// A binary with cgo cannot reach its other threads.
	return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}
