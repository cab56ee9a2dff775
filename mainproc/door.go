package mainproc

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
)

const (
	firstByteTimeout = 15 * time.Second // after TCP_DEFER_ACCEPT
	queueTimeout     = 15 * time.Second // for a place among the logins and a worker
	loginGrace       = 3 * time.Second  // a login younger than this is not put out
	maxWaiting       = 1024             // connections without a worker
	maxLogins        = 256              // workers before login
)

// door lets connections in: it accepts them, waits until they have something to
// say, and gives each a worker, in the bounds of what strangers may cost.
type door struct {
	srv     *server
	waiting *slots // connections without a worker
	logins  *slots // workers whose client has no tunnel
	most    int    // workers that the machine allows
	conns   atomic.Uint64
	full    notice // of errFull
	trouble notice // of accept
}

func newDoor(s *server, workers int) *door {
	return &door{
		srv:     s,
		most:    workers,
		waiting: newSlots(0),
		logins:  newSlots(loginGrace),
		full:    notice{every: time.Minute},
		trouble: notice{every: time.Minute},
	}
}

// accept runs for each listener until that is closed.
func (d *door) accept(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor or no memory left
			if n := d.trouble.due(time.Now()); n > 0 {
				d.srv.log.Error("connections cannot be accepted", "err", err, "times", n)
			}
			time.Sleep(50 * time.Millisecond)
			continue
		}
		d.admit(c)
	}
}

// admit decides by the address alone and leaves the rest to a goroutine.
func (d *door) admit(c *net.TCPConn) {
	peer := addrPort(c.RemoteAddr())
	if d.srv.bans.Banned(peer.Addr(), time.Now()) {
		d.srv.log.Debug(msgBanned, "peer", peer)
		c.Close()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	turnAway := func() {
		cancel()
		c.Close()
	}
	place, ok := d.waiting.enter(d.hall(), sourcePrefix(peer.Addr()), time.Now(), turnAway)
	if !ok {
		turnAway()
		return
	}
	go func() {
		defer turnAway() // the worker has a copy
		defer d.waiting.leave(place)
		err := awaitFirstByte(c, time.Now().Add(firstByteTimeout))
		if err == nil {
			err = d.let(ctx, c)
		}
		d.note(peer, err)
	}()
}

// hall is how many connections may wait: each takes a descriptor, of which
// capacity.go counts one for every worker.
func (d *door) hall() bound { return fair(min(maxWaiting, max(d.most, 16))) }

// note logs why a connection got no worker. Who connects and says nothing pays
// for it like everybody else; who closes at once is a health probe.
func (d *door) note(peer netip.AddrPort, err error) {
	log := d.srv.log
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		log.Debug(msgHealthProbe, "peer", peer)
	case errors.Is(err, errBanned):
		log.Debug(msgBanned, "peer", peer)
	case errors.Is(err, errFull):
		if n := d.full.due(time.Now()); n > 0 {
			log.Warn(msgTooMany, "clients", d.srv.workers.clients(), "refused", n)
		}
	case errors.Is(err, errSilent):
		d.srv.bans.Connect(peer.Addr(), d.srv.settings().BanPointsConnect, time.Now())
		fallthrough
	default:
		log.Debug("connection refused", "peer", peer, "err", err)
	}
}

var (
	errBanned = errors.New("mainproc: the source is banned")
	errFull   = errors.New("mainproc: no place for another client")
	errSilent = errors.New("mainproc: the client said nothing")
)

// awaitFirstByte waits until there is something to read, and leaves it there.
// A connection that ends before is io.EOF.
func awaitFirstByte(c *net.TCPConn, deadline time.Time) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	c.SetReadDeadline(deadline)
	var n int
	var rerr error
	err = rc.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, rerr = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return rerr != unix.EAGAIN && rerr != unix.EINTR
	})
	c.SetReadDeadline(time.Time{})
	switch {
	case err != nil: // the deadline, or the place was taken away
		return errors.Join(errSilent, err)
	case rerr != nil || n == 0: // reset or closed
		return io.EOF
	}
	return nil
}

// origin says who the client is and what address it reached. Where a trusted
// proxy is in front, this is where its PROXY header belongs: read exactly,
// before anything else is.
func origin(c *net.TCPConn) (peer, local netip.AddrPort) {
	return addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
}

// let gives a connection that has something to say to a worker.
func (d *door) let(ctx context.Context, c *net.TCPConn) error {
	peer, local := origin(c)
	if !d.srv.bans.Connect(peer.Addr(), d.srv.settings().BanPointsConnect, time.Now()) {
		return errBanned
	}
	ctx, cancel := context.WithTimeout(ctx, queueTimeout)
	defer cancel()
	a := &applicant{cancel: cancel}
	place, err := d.enterLogin(ctx, sourcePrefix(peer.Addr()), a.putOut)
	if err != nil {
		return err
	}
	w, err := d.give(ctx, c, identity{d.conns.Add(1), peer, local, time.Now()}, place)
	if err != nil {
		d.logins.leave(place)
		return err
	}
	d.srv.pool.proved()
	a.got(w)
	return nil
}

// enterLogin waits for a place among the logins. There are as many as the
// tunnels leave: none is errFull.
func (d *door) enterLogin(ctx context.Context, source netip.Prefix, putOut func()) (*slot, error) {
	for {
		tunnels, _ := d.srv.sessions.count()
		places := min(maxLogins, d.srv.maxWorkers()-tunnels)
		if places <= 0 {
			return nil, errFull
		}
		if place, ok := d.logins.enter(fair(places), source, time.Now(), putOut); ok {
			return place, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-d.logins.freed:
		case <-time.After(100 * time.Millisecond): // it was for another prefix, or time has made one old
		}
	}
}

// give takes a worker and makes it the connection's. One that died in the pool
// is replaced.
func (d *door) give(ctx context.Context, c *net.TCPConn, who identity, place *slot) (*worker, error) {
	for {
		w, err := d.srv.pool.take(ctx)
		if err != nil {
			return nil, err
		}
		fd, err := dupFile(c)
		if err != nil {
			w.leave(ipc.Reason_REASON_ERROR, false, leaveGrace)
			return nil, err
		}
		if err = w.assign(who, fd, place); !errors.Is(err, errWorkerLost) {
			return w, err
		}
	}
}

// applicant is a connection among the logins, which can lose its place before
// and after it has a worker.
type applicant struct {
	cancel func()

	mu     sync.Mutex
	out    bool
	worker *worker
}

func (a *applicant) putOut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.out = true
	a.cancel()
	if a.worker != nil {
		a.worker.leave(ipc.Reason_REASON_ERROR, false, leaveGrace)
	}
}

func (a *applicant) got(w *worker) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.worker = w
	if a.out {
		w.leave(ipc.Reason_REASON_ERROR, false, leaveGrace)
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := t.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}
