package secmod

import (
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"rocserv/internal/ipc"
	"rocserv/internal/session"
)

// What main asks on behalf of an operator.

// authTimes is how long logins took, from the first question to the verdict.
type authTimes struct {
	mu    sync.Mutex
	sum   time.Duration
	count uint64
	most  time.Duration // since it was last read
}

func (a *authTimes) add(d time.Duration) {
	if d <= 0 {
		return // there was no dialogue
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sum, a.count, a.most = a.sum+d, a.count+1, max(a.most, d)
}

// statistics answers SECM_STATS_REQ.
func (s *server) statistics(*ipc.Nothing) (*ipc.SecmStats, []int, error) {
	n := s.sessions.Counts()
	m := &ipc.SecmStats{
		Logins: s.counts.logins.Load(), LoginsRefused: s.counts.refused.Load(), LoginsBusy: s.counts.busy.Load(),
		Signatures: s.counts.signatures.Load(), Violations: s.counts.violations.Load(), Panics: s.counts.panics.Load(),
		LoginsPending: uint32(n.Pending), SessionsUnopened: uint32(n.Unopened), Sessions: uint32(n.Completed),
		LoginsLimited: s.counts.limited.Load(),
	}
	users, sources := s.attempts.Counts(s.Now())
	m.UsersLimited, m.SourcesLimited = uint32(users), uint32(sources)
	s.times.mu.Lock()
	defer s.times.mu.Unlock()
	m.AuthTimeMs, m.AuthTimes, m.MaxAuthTimeMs = uint64(s.times.sum.Milliseconds()), s.times.count, uint64(s.times.most.Milliseconds())
	s.times.most = 0
	return m, nil, nil
}

// listCookies answers SECM_LIST_COOKIES.
func (s *server) listCookies(*ipc.Nothing) (*ipc.Nothing, []int, error) {
	all := new(ipc.SecmCookies)
	for _, e := range s.sessions.List() {
		c := &ipc.SecmCookie{
			SafeId: e.SafeID, State: uint32(e.State), User: e.User, Group: e.Group, Vhost: e.Vhost, UserAgent: e.Agent,
			Peer: ipc.PutAddr(e.Peer), CreatedUnixMs: e.Began.UnixMilli(), InUse: uint32(e.Workers), Opened: e.Opened,
			BytesUp: e.Totals.Up, BytesDown: e.Totals.Down,
		}
		if !e.Expires.IsZero() {
			c.ExpiresUnixMs = e.Expires.UnixMilli()
		}
		all.Cookies = append(all.Cookies, c)
	}
	fd, err := ipc.SealMessage("cookies", all)
	if err != nil { // no descriptor, no memory: main gets none, and the next time may be better
		s.Log.Error("cookies not listed", "err", err)
		fd, err = ipc.Seal("cookies", nil)
	}
	if err != nil {
		return nil, nil, err
	}
	return new(ipc.Nothing), []int{fd}, nil
}

// maxLimits is how many limits a message has.
const maxLimits = 200

// listLimits answers SECM_LIST_LIMITS.
func (s *server) listLimits(*ipc.Nothing) (*ipc.SecmLimits, []int, error) {
	all, m := s.attempts.List(s.Now()), new(ipc.SecmLimits)
	if n := len(all); n > maxLimits {
		all, m.More = all[:maxLimits], uint32(n-maxLimits)
	}
	for _, h := range all {
		one := &ipc.SecmLimit{User: h.User, UntilUnixMs: h.Until.UnixMilli()}
		if h.Source.IsValid() {
			one.Source = ipc.PutPrefix(h.Source)
		}
		m.Limits = append(m.Limits, one)
	}
	return m, nil, nil
}

// lift answers SECM_LIFT.
func (s *server) lift(q *ipc.SecmLift) (*ipc.SecmLifted, []int, error) {
	n := 0
	if from := ipc.Addr(q.Source); from.IsValid() {
		n = s.attempts.LiftSource(from, s.Now())
	} else {
		n = s.attempts.LiftUser(q.User, s.Now())
	}
	return &ipc.SecmLifted{Limits: uint32(n)}, nil, nil
}

// terminate answers SECM_TERMINATE_SESSION.
func (s *server) terminate(q *ipc.SecmTerminate) (*ipc.SecmTerminateRep, []int, error) {
	gone, live := s.sessions.Terminate(func(e session.Session) bool {
		return q.User != "" && e.User == q.User || slices.Contains(q.SafeIds, e.SafeID)
	})
	s.terminated(gone, live)
	return &ipc.SecmTerminateRep{Ended: gone, Live: live}, nil, nil
}

// terminated notes that sessions were, and returns them.
func (s *server) terminated(gone, live []string) []string {
	s.accounts.ended(ipc.Reason_REASON_SERVER, gone...)
	all := slices.Concat(gone, live)
	for _, id := range all {
		s.record(id)
		s.Log.Info("session terminated", "session", session.ShortID(id))
	}
	return all
}

// agentName bounds what a client says it is.
func agentName(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	const most = 128
	for i := range s {
		if i > most {
			return s[:i]
		}
	}
	return s
}
