package mainproc

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
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
	waiting *slots        // connections without a worker
	logins  *slots        // workers whose client has no tunnel
	turns   *turns        // while sec-mod is behind
	most    int           // workers that the machine allows
	queue   time.Duration // queueTimeout; tests do not wait so long
	conns   atomic.Uint64
	refused atomic.Uint64 // clients and sessions for which there was no place: max-clients
	late    atomic.Uint64 // logins that auth-timeout has ended
	hall    hall
	full    notice // of errFull
	trouble notice // of accept
	headers notice // of errNoHeader and errHeaderFrom
}

func newDoor(s *server, workers int) *door {
	return &door{
		srv:     s,
		most:    workers,
		queue:   queueTimeout,
		waiting: newSlots(0),
		logins:  newSlots(loginGrace),
		turns:   newTurns(),
		full:    notice{every: time.Minute},
		trouble: notice{every: time.Minute},
		headers: notice{every: time.Minute},
	}
}

// accept runs for each listener until that is closed.
func (d *door) accept(l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
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

// visitor is a connection without a worker.
type visitor struct {
	conn     *net.TCPConn
	from     origin
	proxied  bool  // a PROXY header comes first
	place    *slot // of door.waiting
	turnAway func()
	cancel   func()
}

// admit decides by the address alone and leaves the rest to a goroutine.
func (d *door) admit(c *net.TCPConn) {
	from := socketOrigin(c)
	d.receive(c, from, expectsHeader(d.srv.settings(), from.peer.Addr()))
}

// receive is admit for a connection of which it is known whether a header comes.
func (d *door) receive(c *net.TCPConn, from origin, proxied bool) {
	ctx, cancel := context.WithCancel(context.Background())
	v := &visitor{conn: c, from: from, proxied: proxied, cancel: cancel}
	v.turnAway = func() {
		cancel()
		c.Close()
	}
	if !v.proxied && d.srv.bans.Banned(from.peer.Addr(), time.Now()) {
		v.turnAway()
		d.note(from, errBanned)
		return
	}
	if !d.seat(v) || !d.hall.enter(v) {
		v.turnAway()
		return
	}
	go func() {
		err := d.hear(v)
		if err == nil {
			err = d.let(ctx, c, v.from)
		}
		if d.hall.leave(v, err) {
			return // it waits for the next main
		}
		v.turnAway() // the worker has a copy
		d.waiting.leave(v.place)
		d.note(v.from, err)
	}()
}

// seat gives a visitor a place in the hall, counted with its source's. A proxy
// that the operator named stands for many, until its header names one of them.
func (d *door) seat(v *visitor) (ok bool) {
	b := d.room()
	if v.proxied && !v.from.proxy.IsValid() && len(d.srv.settings().ProxyTrusted) > 0 {
		b.share = b.limit
	}
	v.place, ok = d.waiting.enter(b, sourcePrefix(v.from.peer.Addr()), time.Now(), v.turnAway)
	return ok
}

// hear waits until a visitor has something to say to a worker. Where a proxy
// announces it, this is where it gets its address, and its place as one.
func (d *door) hear(v *visitor) (err error) {
	if v.proxied {
		v.from, err = readHeader(v.conn, time.Now().Add(headerTimeout))
		if err != nil {
			return err
		}
		if !v.from.ownWord && d.srv.bans.Banned(v.from.peer.Addr(), time.Now()) {
			return errBanned
		}
		d.waiting.leave(v.place)
		if !d.seat(v) {
			return errFull
		}
	}
	if err := awaitFirstByte(v.conn, time.Now().Add(firstByteTimeout)); err != nil {
		return err
	}
	if !v.proxied && d.srv.settings().ListenProxyProto && beginsHeader(v.conn) {
		return errHeaderFrom
	}
	return nil
}

// room is how many connections may wait: each takes a descriptor, of which
// internal/capacity counts one for every worker.
func (d *door) room() bound { return fair(min(maxWaiting, max(d.most, 16))) }

// note logs why a connection got no worker. Who connects and says nothing pays
// for it like everybody else; who closes at once is a health probe.
func (d *door) note(from origin, err error) {
	peer, log := from.peer, d.srv.log
	if from.proxy.IsValid() {
		log = log.With("proxy", from.proxy)
	}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		log.Debug(msgHealthProbe, "peer", peer)
	case errors.Is(err, errBanned):
		log.Debug(msgBanned, "peer", peer)
	case errors.Is(err, errFull):
		d.refused.Add(1)
		if n := d.full.due(time.Now()); n > 0 {
			log.Warn(msgTooMany, "clients", d.srv.workers.clients(), "refused", n)
		}
	case errors.Is(err, errNoHeader), errors.Is(err, errHeaderFrom): // most often the configuration
		if n := d.headers.due(time.Now()); n > 0 {
			log.Warn("connection refused", "peer", peer, "err", err, "times", n)
		}
		if errors.Is(err, errHeaderFrom) {
			d.welcome(from)
		}
	case errors.Is(err, errSilent):
		d.welcome(from)
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

// welcome counts the points of a connection and says whether it is let in.
func (d *door) welcome(from origin) bool {
	return from.ownWord || d.srv.bans.Connect(from.peer.Addr(), d.srv.settings().BanPointsConnect, time.Now())
}

// let gives a connection that has something to say to a worker.
func (d *door) let(ctx context.Context, c *net.TCPConn, from origin) error {
	if !d.welcome(from) {
		return errBanned
	}
	ctx, cancel := context.WithTimeout(ctx, d.queue)
	defer cancel()
	source := sourcePrefix(from.peer.Addr())
	if err := d.turns.wait(ctx, source, d.srv.settings().RateLimit); err != nil {
		return err
	}
	a := &applicant{cancel: cancel}
	place, err := d.enterLogin(ctx, source, a.putOut)
	if err != nil {
		return err
	}
	if err := d.srv.sec.wait(ctx); err != nil { // without it there is not even a handshake
		d.logins.leave(place)
		return err
	}
	w, err := d.give(ctx, c, identity{d.conns.Add(1), from.peer, from.local, time.Now()}, place)
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
		places := min(maxLogins, d.srv.maxWorkers()-tunnels-d.srv.sessions.keepers())
		if places <= min(d.logins.len(), maxLogins-1) && d.srv.sessions.evictKeeper() {
			places++ // in a moment
		}
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
