package mainproc

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/build"
	"rocserv/internal/config"
	"rocserv/internal/ipc"
)

// maxHelpers is how many login helpers live at most: one per method, and those of
// the configurations before whose logins are not over.
const maxHelpers = 32

// helpersOf answers SECM_HELPER_REQ of a sec-mod, and passes everything else on.
// Login helpers are main's children, for what a confined sec-mod starts would be
// as confined as it; the channel is sec-mod's. They end when that does. r is their
// role, perhaps of another program.
func (s *server) helpersOf(m *secmod, r *role, notify func(*ipc.Record) error) func(*ipc.Record) error {
	return func(rec *ipc.Record) error {
		if rec.Type != ipc.SecmHelperReqT {
			return notify(rec)
		}
		q := new(ipc.SecmHelperReq)
		if err := rec.Decode(q); err != nil {
			return err
		}
		if q.Token == 0 || !(config.Method{Name: q.Method}).Remote() {
			return violation("a login helper for method %q", q.Method)
		}
		go s.startHelper(m, r, q)
		return nil
	}
}

// startHelper starts a login helper and gives sec-mod the other end of its channel.
func (s *server) startHelper(m *secmod, r *role, q *ipc.SecmHelperReq) {
	rep := &ipc.SecmHelper{Token: q.Token}
	fd, err := s.forkHelper(r, q.Method)
	var fds []int
	if err != nil {
		s.log.Error("login helper not started", "method", q.Method, "err", err)
		rep.Error = err.Error()
	} else {
		fds = append(fds, fd)
	}
	m.post(outgoing{typ: ipc.SecmHelperT, msg: rep, fds: fds})
}

func (s *server) forkHelper(r *role, method string) (fd int, err error) {
	if n := s.procs.count(r.arg); n >= maxHelpers {
		return -1, fmt.Errorf("mainproc: %d login helpers are running", n)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("mainproc: socketpair: %w", err)
	}
	args := append([]string{method}, s.confinement().Args()...)
	own := *r
	if name := programs[method]; name != "" {
		if own.exe, err = beside(cmp.Or(r.exe, s.procs.exe), name); err != nil {
			closeAll(pair[:])
			return -1, err
		}
	}
	c, err := s.procs.spawn(&own, args, io.NopCloser(nil), pair[1])
	if err != nil {
		unix.Close(pair[0])
		return -1, err
	}
	tag := method
	c.tag.Store(&tag)
	go func() {
		<-c.done
		if sig, died := c.diedBySignal(); died {
			s.log.Error(fmt.Sprintf(msgDiedBySignal, r.name, int(sig)), "method", method)
		}
	}()
	return pair[0], nil
}

// programs are the helpers that are not this program, by method.
var programs = map[string]string{"pam": "rocserv-pam"}

// beside finds a program in the folder of another, which may be named by a link of /proc.
func beside(exe, name string) (string, error) {
	path := build.Beside(exe, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("mainproc: the program %s is not there (%w): the server itself has nothing of what it does", path, err)
	}
	return path, nil
}

// count is how many children of a role there are.
func (p *procs) count(arg string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.alive {
		if c.role.arg == arg {
			n++
		}
	}
	return n
}

// finish waits until the children of a role are gone, and kills those that stay.
func (p *procs) finish(arg string, grace time.Duration) {
	p.mu.Lock()
	var list []*child
	for _, c := range p.alive {
		if c.role.arg == arg {
			list = append(list, c)
		}
	}
	p.mu.Unlock()
	late := time.NewTimer(grace)
	defer late.Stop()
	for _, c := range list {
		select {
		case <-c.done:
		case <-late.C:
			late.Reset(0)
			p.kill(c)
			<-c.done
		}
	}
}
