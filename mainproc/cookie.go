package mainproc

import (
	"crypto/sha256"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
	"rocserv/internal/lease"
	"rocserv/internal/secret"
)

const (
	sidLength = 32
	// replacedGrace is how long a new worker waits for the one before to be
	// gone: it has leaveGrace to answer, and is killed then.
	replacedGrace = leaveGrace + 2*time.Second
	closeRetry    = time.Second
)

// answerCookie opens the session that a client's cookie names, in seven steps:
// hash the SID and forget it; ask sec-mod; take the session over (attach);
// have the workers before retire (keepers.go); ask connect-script (hooks.go);
// open the tunnel (grant); answer.
// Only this worker's goroutine waits.
func (w *worker) answerCookie(rec *ipc.Record) error {
	req := new(ipc.AuthCookieReq)
	err := rec.Decode(req)
	rec.Clear()
	if err != nil {
		return err
	}
	if len(req.Sid) != sidLength {
		return violation("AUTH_COOKIE_REQ with %d bytes", len(req.Sid))
	}
	if !w.move(login, opening) { // was told to leave meanwhile
		clear(req.Sid)
		return nil
	}
	o := w.openSession(req)
	defer o.close()
	if o.err == nil {
		w.session = o.session
		w.describe(req, &o)
		w.makeRoom(&o)
	}
	if o.err == nil {
		o.err = w.askConnectScript(o.session)
	}
	if o.err == nil {
		o.err = w.openTunnel(&o)
	}
	if o.err != nil {
		w.refuse(o.err)
	}
	return nil
}

// opened is how far a request for a tunnel has come.
type opened struct {
	won
	reply        *ipc.SecmSessionReply
	config       int   // memfd with the SessionConfig, for the worker alone, or -1
	shown        int   // memfd with what main may read of it, or -1
	pairs        []int // the worker's ends of the pairs to keepers
	want4, want6 bool
	err          error
}

func (o *opened) close() {
	for _, fd := range []int{o.config, o.shown} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	closeAll(o.pairs)
}

var (
	errRefused    = errors.New("mainproc: the cookie is not acceptable")
	errOverridden = errors.New("mainproc: another worker took the session")
)

// unavailable is a refusal that is not the cookie's fault.
type unavailable struct{ reason string }

func (u unavailable) Error() string { return "mainproc: unavailable: " + u.reason }

// openSession asks sec-mod and, in the goroutine that reads its answers,
// attaches the worker to the session: in that order no end of a session can
// overtake its opening.
func (w *worker) openSession(req *ipc.AuthCookieReq) opened {
	c := claim{worker: w, key: sha256.Sum256(req.Sid), maxLive: w.srv.maxClients(), device: w.srv.settings().Device}
	v4, v6 := offered(w.srv.host.Load())
	c.want4, c.want6 = req.WantIpv4 && v4, req.WantIpv6 && v6
	result := make(chan opened, 1)
	var settled atomic.Bool
	w.srv.sec.call(outgoing{
		typ:    ipc.SecmSessionOpenT,
		msg:    w.openRequest(req),
		secret: secret.NewBytes(req.Sid),
	}, ipc.SecmSessionReplyT, func(rec *ipc.Record, err error) {
		if !settled.CompareAndSwap(false, true) {
			w.srv.giveBack(rec, err, w.who.conn)
			return
		}
		result <- w.claimSession(c, rec, err)
	})
	t := time.NewTimer(askTimeout)
	defer t.Stop()
	select {
	case o := <-result:
		return o
	case <-w.child.done:
	case <-t.C:
	}
	if settled.CompareAndSwap(false, true) {
		return opened{config: -1, shown: -1, err: errNoAnswer}
	}
	return <-result
}

func (w *worker) openRequest(req *ipc.AuthCookieReq) *ipc.SecmSessionOpen {
	return &ipc.SecmSessionOpen{
		Sid:       req.Sid,
		ConnId:    w.who.conn,
		Peer:      ipc.PutAddr(w.who.peer.Addr()),
		Hostname:  req.Hostname,
		UserAgent: req.UserAgent,
		Mobile:    req.Mobile,

		CertificateSha256: req.CertificateSha256,
	}
}

// claimSession turns sec-mod's answer into a session. What sec-mod has opened
// and main cannot give is closed again.
func (w *worker) claimSession(c claim, rec *ipc.Record, err error) (o opened) {
	o.config, o.shown = -1, -1
	if err != nil {
		o.err = err
		return o
	}
	o.reply = new(ipc.SecmSessionReply)
	if o.err = rec.Decode(o.reply); o.err != nil {
		return o
	}
	switch {
	case !o.reply.Ok && o.reply.Unavailable:
		o.err = unavailable{o.reply.Reason}
		return o
	case !o.reply.Ok:
		o.err = errRefused
		return o
	case len(rec.FDs) != 2:
		o.err = unavailable{"no configuration"}
	default:
		c.reply, c.now = o.reply, time.Now()
		o.want4, o.want6 = c.want4, c.want6
		o.won, o.err = w.srv.sessions.attach(c)
	}
	if o.err != nil {
		w.srv.closeOpened(o.reply.SafeId, w.who.conn)
		return o
	}
	o.config, o.shown = rec.TakeFD(0), rec.TakeFD(1)
	return o
}

// giveBack closes what sec-mod opened for a worker that waits no longer.
func (s *server) giveBack(rec *ipc.Record, err error, conn uint64) {
	var reply ipc.SecmSessionReply
	if err == nil && rec.Decode(&reply) == nil && reply.Ok {
		s.closeOpened(reply.SafeId, conn)
	}
}

// openTunnel makes the worker the one that datagrams of the session go to, and
// answers its request.
func (w *worker) openTunnel(o *opened) error {
	s := w.srv
	app, psk, ok := s.sessions.grant(w, o.session, o.generation, siteOf(o.reply, w.about.Load().config))
	if !ok {
		return errOverridden
	}
	if !w.enterTunnel(o.session) {
		return errOverridden
	}
	rep := &ipc.AuthCookieRep{
		Result:            ipc.CookieResult_COOKIE_OK,
		AppId:             app[:],
		Lease:             leaseMessage(o.session.lease, o.want4, o.want6),
		User:              o.session.user,
		Group:             o.reply.Group,
		Vhost:             o.reply.Vhost,
		ShortId:           o.session.shortID(),
		LoginUnixMs:       o.session.login,
		PreviousPskSha256: psk,
		Generation:        o.generation,
		Ports:             &ipc.Ports{More: uint32(s.credits.open(w, o.older))},
	}
	msg := msgNewSession
	if o.generation > 1 {
		msg = msgReconnected
	}
	w.log().Info(msg, append([]any{"user", o.session.user, "group", o.reply.Group}, addressAttrs(o.session.lease)...)...)
	fds := append([]int{o.config}, o.pairs...)
	o.config, o.pairs = -1, nil
	w.tell(ipc.AuthCookieRepT, rep, fds...)
	w.tellNets()
	w.granted = true
	s.tellLeased(o.session)
	s.console.connected(w, o.session)
	w.tellHostUpdate(o.session)
	return nil
}

// enterTunnel ends all that bounds a login.
func (w *worker) enterTunnel(s *session) bool {
	tag := s.shortID()
	w.mu.Lock()
	if w.state != opening {
		w.mu.Unlock()
		return false
	}
	w.enter(tunnel)
	if w.timer != nil {
		w.timer.Stop()
	}
	sl := w.slot
	w.slot = nil
	w.mu.Unlock()
	w.child.tag.Store(&tag)
	w.srv.door.logins.leave(sl)
	return true
}

// refuse answers a request for a tunnel that is not granted.
func (w *worker) refuse(cause error) {
	if !w.move(opening, login) {
		return // leaving: there is nobody to answer
	}
	rep := &ipc.AuthCookieRep{Result: ipc.CookieResult_COOKIE_REFUSED}
	var u unavailable
	switch {
	case errors.Is(cause, errRefused):
	case errors.Is(cause, errByScript):
		w.log().Info("failed authentication attempt for user", "user", w.session.user, "err", cause)
	case errors.Is(cause, errTooManyOfUser):
		w.log().Info("the user has too many sessions")
	case errors.Is(cause, errSecModGone):
		rep.Result, rep.Reason = ipc.CookieResult_COOKIE_UNAVAILABLE, "Security module is restarting"
		w.log().Warn("session not opened", "err", cause)
	case errors.As(cause, &u):
		rep.Result, rep.Reason = ipc.CookieResult_COOKIE_UNAVAILABLE, u.reason
	case errors.Is(cause, errServerFull):
		rep.Result, rep.Reason = ipc.CookieResult_COOKIE_UNAVAILABLE, "Server is full"
		w.srv.door.refused.Add(1)
		w.log().Warn(msgTooMany)
	case errors.Is(cause, errNoAddress):
		rep.Result, rep.Reason = ipc.CookieResult_COOKIE_UNAVAILABLE, "No address left"
		w.log().Error("no address for a session", "err", cause)
	default:
		rep.Result, rep.Reason = ipc.CookieResult_COOKIE_UNAVAILABLE, "Server error"
		w.log().Error("session not opened", "err", cause)
	}
	w.tell(ipc.AuthCookieRepT, rep)
}

// leaseMessage tells a worker its addresses, of the families its client asked for.
func leaseMessage(l lease.Lease, want4, want6 bool) *ipc.Lease {
	m := new(ipc.Lease)
	if want4 && l.IPv4.IsValid() {
		m.Ipv4, m.Ipv4Gateway, m.Ipv4Bits = ipc.PutAddr(l.IPv4), ipc.PutAddr(l.Gateway4), uint32(l.Bits4)
	}
	if want6 && l.IPv6.IsValid() {
		m.Ipv6, m.Ipv6Gateway, m.Ipv6Bits = ipc.PutAddr(l.IPv6), ipc.PutAddr(l.Gateway6), uint32(l.Bits6)
	}
	return m
}

// addressAttrs names a lease's addresses in the log.
func addressAttrs(l lease.Lease) (attrs []any) {
	if l.IPv4.IsValid() {
		attrs = append(attrs, "ipv4", l.IPv4)
	}
	if l.IPv6.IsValid() {
		attrs = append(attrs, "ipv6", l.IPv6)
	}
	return attrs
}

// closeOpened takes back an opening of a session that no worker got.
func (s *server) closeOpened(safeID string, conn uint64) {
	s.tellClosed(&ipc.SecmSessionClose{SafeId: safeID, ConnId: conn, Reason: ipc.Reason_REASON_ERROR})
}

// closeSession ends a worker's part in its session as far as sec-mod goes, once:
// when its client is gone, or when it is. Only by the goroutine that runs it.
func (s *server) closeSession(w *worker, end ending) {
	if w.parted {
		return
	}
	sess, reason := w.session, end.reasonFor()
	m := &ipc.SecmSessionClose{SafeId: sess.safeID, ConnId: w.who.conn, Reason: reason}
	s.closings.add(m) // before the session forgets the worker's part: openConns finds it here or there
	s.sessions.part(w)
	s.tellClosed(m)
	last, _ := w.counted()
	up, down := last.BytesUp, last.BytesDown
	s.console.disconnected(w, sess, reason)
	w.tellDisconnectScript(sess, reason, up, down)
	s.sessions.account(sess, traffic{up, down})
	w.log().Info(msgDisconnected, "user", sess.user, "reason", reasonText(reason), "up", up, "down", down)
}

// tellLeased says which addresses a session has, for its accounts. Where sec-mod is
// gone just now they say nothing of addresses.
func (s *server) tellLeased(sess *session) {
	l := sess.lease
	s.sec.post(outgoing{typ: ipc.SecmSessionLeasedT, msg: &ipc.SecmSessionLeased{
		SafeId: sess.safeID, Ipv4: ipc.PutAddr(l.IPv4), Ipv6: ipc.PutAddr(l.IPv6),
	}})
}

// tellClosed sends SECM_SESSION_CLOSE, of which none may be lost: it is among
// the closings until it is answered, and the next sec-mod is told those.
func (s *server) tellClosed(m *ipc.SecmSessionClose) {
	s.closings.add(m)
	s.sendClosed(s.sec, m)
}

// caller is a sec-mod, or that of the moment.
type caller interface {
	call(o outgoing, want ipc.Type, answer func(*ipc.Record, error))
}

// sendClosed sends it once. The answer says what became of the cookie.
func (s *server) sendClosed(to caller, m *ipc.SecmSessionClose) {
	to.call(outgoing{typ: ipc.SecmSessionCloseT, msg: m}, ipc.SecmCliStatsT, func(rec *ipc.Record, err error) {
		switch {
		case errors.Is(err, errSecModBusy):
			time.AfterFunc(closeRetry, func() { s.tellClosed(m) })
			return
		case errors.Is(err, errSecModGone):
			return
		}
		s.closings.remove(m)
		var total ipc.SecmCliStats
		if err == nil && rec.Decode(&total) == nil && total.Invalidated {
			s.endSessions(m.SafeId)
		}
	})
}

// endSessions forgets sessions whose cookies are no longer good, and has the
// workers leave that still have one of them.
func (s *server) endSessions(safeIDs ...string) {
	s.records.forget(safeIDs...)
	for _, w := range s.sessions.invalidate(safeIDs...) {
		w.leave(ipc.Reason_REASON_SERVER, true, leaveGrace)
	}
}

// reasonFor is main's own word if it had the worker leave, else the worker's.
func (e ending) reasonFor() ipc.Reason {
	switch {
	case e.cause != nil:
		return ipc.Reason_REASON_ERROR
	case e.reason != ipc.Reason_REASON_UNSPECIFIED:
		return e.reason
	case e.stats != nil && e.stats.Reason != ipc.Reason_REASON_UNSPECIFIED:
		return e.stats.Reason
	}
	return ipc.Reason_REASON_ERROR
}

var reasonTexts = map[ipc.Reason]string{
	ipc.Reason_REASON_USER:            "user disconnected",
	ipc.Reason_REASON_TEMPORARY:       "temporary disconnect",
	ipc.Reason_REASON_SERVER:          "server disconnected",
	ipc.Reason_REASON_IDLE_TIMEOUT:    "idle timeout",
	ipc.Reason_REASON_DPD_TIMEOUT:     "DPD timeout",
	ipc.Reason_REASON_ERROR:           "error",
	ipc.Reason_REASON_SESSION_TIMEOUT: "session timeout",
	ipc.Reason_REASON_HEALTH_PROBE:    "health probe",
	ipc.Reason_REASON_REPLACED:        "replaced by a new connection",
	ipc.Reason_REASON_CONNECTION_LOST: "connection lost",
}

func reasonText(r ipc.Reason) string {
	if t, ok := reasonTexts[r]; ok {
		return t
	}
	return "unspecified"
}
