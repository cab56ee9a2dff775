package secmod

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
	"rocserv/internal/session"
)

// lastWords is how long the end of a session waits for what its worker sent
// last: the worker is gone, so only what is in the channel's buffer is read.
const lastWords = time.Second

// unconfigured is what the client may know of a session that could not be
// configured (ocserv, X-Reason).
const unconfigured = "Server configuration error"

var errConfiguration = errors.New("session cannot be configured")

// openSession answers SECM_SESSION_OPEN.
func (s *server) openSession(q *ipc.SecmSessionOpen) (rep *ipc.SecmSessionReply, fds []int, fatal error) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
			rep, fds, fatal = &ipc.SecmSessionReply{Unavailable: true, Reason: unconfigured}, nil, nil
		}
	}()
	sid, ok := session.ParseSID(q.Sid)
	clear(q.Sid)
	if !ok {
		return nil, nil, violation("SECM_SESSION_OPEN with a SID of %d bytes", len(q.Sid))
	}
	rep, fds, err := s.open(sid, q)
	if err == nil {
		return rep, fds, nil
	}
	if skipped, ok := s.quiet.sessions.allow(s.Now()); ok {
		s.Log.Warn("session not opened", "conn", q.ConnId, "err", err, "skipped", skipped)
	}
	if errors.Is(err, errConfiguration) {
		return &ipc.SecmSessionReply{Unavailable: true, Reason: unconfigured}, nil, nil
	}
	return &ipc.SecmSessionReply{Reason: err.Error()}, nil, nil
}

// open checks the cookie and makes the answer. Everything that can fail is done
// before the session is entered as open.
func (s *server) open(sid session.SID, q *ipc.SecmSessionOpen) (*ipc.SecmSessionReply, []int, error) {
	w := s.worker(q.ConnId)
	if w == nil {
		return nil, nil, errors.New("no such worker")
	}
	known, err := s.sessions.Lookup(sid)
	if err != nil {
		return nil, nil, err
	}
	if !ofCertificate(known, q.CertificateSha256) {
		return nil, nil, errors.New("without the certificate of the login")
	}
	gen := s.gens.Load().current
	v := gen.vhosts[known.Vhost]
	if v == nil {
		return nil, nil, errors.New("its virtual host is no more")
	}
	user, err := s.userConfig(v.Vhost, known.Account)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: user %q: %w", errConfiguration, known.User, err)
	}
	v.expose(user)
	aggregate(user)
	if _, why := tooMany(user); why != "" {
		if skipped, ok := s.quiet.routes.allow(s.Now()); ok {
			s.Log.Warn("more routes than clients take", "user", known.User, "why", why, "skipped", skipped)
		}
	}
	files, err := s.egressFiles(user)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: user %q: egress: %w", errConfiguration, known.User, err)
	}
	m := sessionConfig(gen.config, v.Vhost, user, known.Account, clientName(q.Hostname), files)
	ways := wayKeysOf(m.Egress, user, files)
	fds, err := sealSession(m)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errConfiguration, err)
	}
	opened, err := s.enter(sid, w, known.SafeID, ways, v.policy(user))
	if err != nil {
		closeAll(fds)
		return nil, nil, err
	}
	if v.account != nil {
		s.accounts.opened(opened, w.local)
	}
	s.record(opened.SafeID) // before main has the answer
	s.Log.Info("session opened", "user", opened.User, "vhost", opened.Vhost, "peer", w.peer, "session", session.ShortID(opened.SafeID))
	return sessionReply(v.Vhost, user, opened), fds, nil
}

// ofCertificate says whether the client has shown the certificate of its login, if
// that took one.
func ofCertificate(s session.Session, sha256 []byte) bool {
	return s.Certificate == (session.Fingerprint{}) || bytes.Equal(s.Certificate[:], sha256)
}

// sealSession makes what goes with SECM_SESSION_REPLY: the configuration for
// the worker, and what of it main may read to show it.
func sealSession(m *ipc.SessionConfig) ([]int, error) {
	whole, err := ipc.SealMessage("session", m)
	if err != nil {
		return nil, err
	}
	m.Egress = nil // has the passwords of ways out
	shown, err := ipc.SealMessage("session-shown", m)
	if err != nil {
		unix.Close(whole)
		return nil, err
	}
	return []int{whole, shown}, nil
}

// enter makes the worker the session's newest.
func (s *server) enter(sid session.SID, w *worker, safeID string, ways map[string]wayKey, p session.Policy) (session.Session, error) {
	was, ok := w.open(safeID, ways)
	if !ok {
		return session.Session{}, errors.New("its worker is gone, or has a session")
	}
	opened, err := s.sessions.Open(sid, w.id, w.peer, p)
	if err != nil {
		w.unopen(was)
	}
	return opened, err
}

func (s *server) worker(id uint64) *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.workers[id]
}

// closeSession answers SECM_SESSION_CLOSE: the worker is gone. Its channel is
// read to its end first, so that its last statistics count.
func (s *server) closeSession(q *ipc.SecmSessionClose) (rep *ipc.SecmCliStats, fds []int, fatal error) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
			rep, fds, fatal = &ipc.SecmCliStats{Invalidated: true}, nil, nil
		}
	}()
	if w := s.worker(q.ConnId); w != nil {
		timeout := time.NewTimer(lastWords)
		defer timeout.Stop()
		select {
		case <-w.done:
		case <-timeout.C:
			w.conn.Close()
		case <-s.quit:
		}
	}
	c := s.sessions.Close(q.SafeId, q.ConnId, reasons[q.Reason])
	s.accounts.closed(q.SafeId, q.Reason, c)
	s.record(q.SafeId)
	rep = &ipc.SecmCliStats{BytesUp: c.Totals.Up, BytesDown: c.Totals.Down, Invalidated: c.Gone}
	if !c.Expires.IsZero() {
		rep.ExpiresUnixMs = c.Expires.UnixMilli()
	}
	what := "temporarily closing session" // ocserv's words, which scripts look for
	if c.Gone {
		what = "permanently closing session"
	}
	s.Log.Info(what, "session", session.ShortID(q.SafeId), "reason", q.Reason, "invalidated", c.Gone, "up", c.Totals.Up, "down", c.Totals.Down)
	return rep, nil, nil
}

// reasons says what the end of a worker means for the cookie; all others are
// session.Lost (ocserv, sec-mod-db.c).
var reasons = map[ipc.Reason]session.Reason{
	ipc.Reason_REASON_USER:            session.UserLeft,
	ipc.Reason_REASON_SERVER:          session.Ended,
	ipc.Reason_REASON_SESSION_TIMEOUT: session.TimedOut,
}

// cliStats takes SEC_CLI_STATS, which has no answer.
func (w *worker) cliStats(q *ipc.CliStats) error {
	id := w.sessionID()
	total, ok := w.s.sessions.Count(id, w.id, session.Totals{Up: q.BytesUp, Down: q.BytesDown})
	if !ok {
		return nil
	}
	if !q.Final {
		w.s.accounts.interim(id, total)
	}
	w.s.record(id)
	return nil
}

// panicked counts and logs a panic in a request of main's; the request fails
// and sec-mod goes on. It returns a text for an answer.
func (s *server) panicked(p any) string {
	s.counts.panics.Add(1)
	s.Log.Error("request of main failed", "err", panicError(p))
	if _, ok := p.(runtime.Error); ok {
		return "internal error: " + p.(runtime.Error).Error()
	}
	return "internal error"
}

// sessionReply is what main needs of a session that is open.
func sessionReply(v *config.Vhost, u *config.User, s session.Session) *ipc.SecmSessionReply {
	return &ipc.SecmSessionReply{
		Ok: true, User: s.User, Group: s.Group, Vhost: s.Vhost, SafeId: s.SafeID, LoginUnixMs: s.Login.UnixMilli(),
		Lease: &ipc.LeaseRequest{
			Ipv4Network: ipc.PutPrefix(u.IPv4Network), Ipv6Network: ipc.PutPrefix(u.IPv6Network), Ipv6SubnetBits: uint32(u.IPv6SubnetBits),
			ExplicitIpv4: ipc.PutAddr(u.ExplicitIPv4), ExplicitIpv6: ipc.PutAddr(u.ExplicitIPv6),
			Predictable: v.PredictableIPs, Seed: s.User,
		},
		MaxSameClients: uint32(u.MaxSameClients), ReplaceOldest: u.ReplaceOldest,
		CookieTimeoutS: seconds(v.CookieTimeout), SessionTimeoutS: seconds(u.SessionTimeout),
	}
}
