package mainproc

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reap collects every child that has ended, and every orphan that became ours
// because we are process 1 of a container. To be called on SIGCHLD.
func (p *procs) reap() {
	for p.reapOne() {
	}
}

// reapOne holds the lock from before a pid becomes free until it is forgotten:
// kill never reaches a stranger that got the number next.
func (p *procs) reapOne() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held {
		return false
	}
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if err == syscall.EINTR {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	c := p.alive[pid]
	if c == nil {
		p.log.Debug("reaped an orphan", "pid", pid)
		return true
	}
	delete(p.alive, pid)
	c.status, c.reaped = status, true
	close(c.done)
	time.AfterFunc(exitGrace, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.keep {
			c.channel.Close()
		}
	})
	return true
}

// kill ends a child at once, and what it has started in its process group. One
// that has ended already is left alone.
func (p *procs) kill(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.reaped {
		return
	}
	c.killed = true
	unix.Kill(-c.pid, unix.SIGKILL)
}

// endOf says whether a child has ended and how, and whether by us: a timer may
// kill one at any moment.
func (p *procs) endOf(c *child) (reaped bool, status uint32, killed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.reaped, uint32(c.status), c.killed
}

// killAll ends every child.
func (p *procs) killAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pid, c := range p.alive {
		c.killed = true
		unix.Kill(-pid, unix.SIGKILL)
	}
}

// diedBySignal returns the signal that ended a reaped child, unless it was ours.
func (c *child) diedBySignal() (syscall.Signal, bool) {
	return c.status.Signal(), c.status.Signaled() && !c.killed
}
