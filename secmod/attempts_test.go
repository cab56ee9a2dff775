package secmod

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rocserv/internal/ipc"
)

// attemptsSite has two users and limits: a pair has 3 wrong answers, a source 6
// and a user 5, in an hour.
func attemptsSite(t testing.TB) *site {
	st := newSite(t, hashOf(t, "anna", "staff,ops", "secret"), hashOf(t, "bert", "*", "secret"))
	st.add("attempts-pair = 3", "attempts-source = 6", "attempts-user = 5", "attempts-time = 3600", "[vhost:b.example]")
	return st
}

const (
	away = "198.51.100.7"
	far  = "203.0.113.9"
)

// tryOnce is one answer on a connection of its own.
func (r *rig) tryOnce(peer, user, group, password string) string {
	r.t.Helper()
	c, _ := r.handshaken(peer)
	defer c.Close()
	rep := authInit(r.t, c, &ipc.AuthInit{User: user, Group: group})
	if rep.Status != ipc.AuthStatus_AUTH_MSG {
		return status(rep)
	}
	return "MSG " + status(authCont(r.t, c, rep.Sid, password))
}

// TestAttempts: past its limit an answer is refused like a wrong one, unseen:
// nothing is hashed, whether the user exists or not. Its points are a wrong
// answer's, but not where the user may be the one who is guessed at.
func TestAttempts(t *testing.T) {
	var hashes counting
	r := boot(t, attemptsSite(t), func(s *server) { s.hashing.check = hashes.check })
	for i, tt := range []struct {
		peer, user, group, password string
		want                        string
		hashes                      int64
		points                      uint32
	}{
		{home, "anna", "", "secret", "MSG OK", 1, 0}, // is known from now on

		{away, "anna", "", "guess", "MSG MSG", 1, 10},
		{away, "anna", "ops", "guess", "MSG MSG", 1, 10},
		{away, "anna", "board", "secret", "MSG MSG", 1, 10},
		{away, "anna", "", "secret", "FAILED", 0, 10},

		{away, "nobody", "", "guess", "MSG MSG", 1, 10},
		{away, "nobody", "", "guess", "MSG MSG", 1, 10},
		{away, "nobody", "", "guess", "MSG MSG", 1, 10},
		{away, "nobody", "", "guess", "FAILED", 0, 10},
		{away, "bert", "", "secret", "FAILED", 0, 10}, // the source's count is full

		{far, "anna", "", "guess", "MSG MSG", 1, 10},
		{far, "anna", "", "guess", "MSG MSG", 1, 10},
		{far, "anna", "", "secret", "FAILED", 0, 0}, // hers is
		{far, "bert", "", "secret", "MSG OK", 1, 0},
		{home, "anna", "", "secret", "MSG OK", 1, 0},
		{home, "anna", "", "guess", "MSG MSG", 1, 10},
	} {
		hashes.n.Store(0)
		if got := r.tryOnce(tt.peer, tt.user, tt.group, tt.password); got != tt.want {
			t.Errorf("%d, %s at %s: %s, want %s", i, tt.user, tt.peer, got, tt.want)
		}
		if n := hashes.n.Load(); n != tt.hashes {
			t.Errorf("%d, %s at %s: %d hashes, want %d", i, tt.user, tt.peer, n, tt.hashes)
		}
		r.clock.forward(time.Second) // so that its line is not left out of the log
		if n := r.bans()[tt.peer]; n != tt.points {
			t.Errorf("%d, %s at %s: %d points, want %d", i, tt.user, tt.peer, n, tt.points)
		}
	}
	m := r.stats()
	if m.LoginsLimited != 4 || m.UsersLimited != 1 || m.SourcesLimited != 1 {
		t.Errorf("%d limited, %d users and %d sources at their limit", m.LoginsLimited, m.UsersLimited, m.SourcesLimited)
	}
	if log := r.log.String(); !strings.Contains(log, "too many wrong answers") {
		t.Errorf("the log says %s", log)
	}
	r.clock.forward(time.Hour)
	for _, peer := range []string{away, far} {
		if got := r.tryOnce(peer, "anna", "", "secret"); got != "MSG OK" {
			t.Errorf("an hour later, at %s: %s", peer, got)
		}
	}
}

func (r *rig) stats() *ipc.SecmStats {
	r.t.Helper()
	m := new(ipc.SecmStats)
	if _, err := r.ask(ipc.SecmStatsReqT, &ipc.Nothing{}, m); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// TestAttemptsWithinALogin: the limit is reached between two answers of one
// login, at whichever virtual host the others were.
func TestAttemptsWithinALogin(t *testing.T) {
	r := boot(t, attemptsSite(t))
	c, _ := r.worker(home)
	req := signReq()
	req.Vhost = "b.example"
	call[ipc.SignRep](t, c, ipc.SignT, req, ipc.SignRepT)
	sid := authInit(t, c, &ipc.AuthInit{User: "anna", Vhost: "b.example"}).Sid
	if rep := authCont(t, c, sid, "guess"); status(rep) != "MSG" {
		t.Fatalf("the first answer: %v", rep)
	}
	for range 2 {
		r.tryOnce(home, "anna", "", "guess")
	}
	if rep := authCont(t, c, sid, "secret"); status(rep) != "FAILED" {
		t.Errorf("the right answer after three wrong ones: %v", rep)
	}
	if rep := authCont(t, c, sid, "secret"); status(rep) != "FAILED" {
		t.Errorf("the login goes on: %v", rep)
	}
}

// TestAttemptsThatCostNothing: what is not a wrong answer is not held against
// anybody: AUTH_BUSY, a step of several, a method that cannot say.
func TestAttemptsThatCostNothing(t *testing.T) {
	asks := verdict{outcome: ask, prompt: "P:"}
	r := boot(t, attemptsSite(t))
	r.reconfigured(func(v *vhost) {
		v.ways = []way{{method: &scripted{asks, []verdict{{outcome: busy}, asks, asks, asks, {why: "the backend is gone"}}}}}
	})
	for range 5 {
		c, _ := r.handshaken(home)
		rep := authInit(t, c, &ipc.AuthInit{User: "anna"})
		for range 4 {
			if rep = authCont(t, c, rep.Sid, "x"); status(rep) == "FAILED" {
				t.Fatalf("%v", rep)
			}
		}
		if rep = authCont(t, c, rep.Sid, "x"); status(rep) != "FAILED" {
			t.Errorf("%v", rep)
		}
	}
	if m := r.stats(); m.LoginsLimited != 0 {
		t.Errorf("%d limited", m.LoginsLimited)
	}
}

// TestAttemptsWithCertificates: without a password there is nothing to guess,
// and others' guesses do not concern who has none.
func TestAttemptsWithCertificates(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	st := certSite(t, ca, "auth = PLAIN", "enable-auth = certificate")
	st.add("attempts-pair = 2", "attempts-user = 2", "attempts-source = 2")
	r := boot(t, st)
	for range 2 {
		r.tryOnce(home, "anna", "", "guess")
	}
	if got := r.tryOnce(home, "anna", "", "secret"); got != "FAILED" {
		t.Fatalf("with the password: %s", got)
	}
	c, _ := r.handshaken(home)
	q := &ipc.AuthInit{Method: ipc.AuthMethod_AUTH_CERTIFICATE, ClientChain: ders(ca.client("anna", nil))}
	if rep := authInit(t, c, q); status(rep) != "OK" {
		t.Errorf("with the certificate: %v", rep)
	}
	if got := r.tryOnce(home, "anna", "", "secret"); got != "MSG OK" {
		t.Errorf("with the password, where she is known: %s", got)
	}
}

// TestKnownAfterwards: the sec-mod after this one knows users where their
// sessions are from.
func TestKnownAfterwards(t *testing.T) {
	st := attemptsSite(t)
	r := newRig(t)
	conf := r.configure(1, st.text())
	c, _ := r.handshaken(home)
	r.login(c, "anna", "secret")
	r.closeSession("nobody's", 0, 0) // all that was sent before is read
	again, _ := r.successor(st, conf, nil)
	for range 5 {
		again.tryOnce(away, "anna", "", "guess")
		again.tryOnce(far, "anna", "", "guess")
	}
	if got := again.tryOnce("192.0.2.99", "anna", "", "secret"); got != "FAILED" {
		t.Errorf("at a new place: %s", got)
	}
	if got := again.tryOnce(home, "anna", "", "secret"); got != "MSG OK" {
		t.Errorf("where her session is from: %s", got)
	}
}

// TestLift: an operator sees who is held off, and has him listened to again.
func TestLift(t *testing.T) {
	r := boot(t, attemptsSite(t))
	for range 3 {
		r.tryOnce(away, "Anna", "", "guess")
	}
	if got := r.tryOnce(away, "anna", "", "secret"); got != "FAILED" {
		t.Fatalf("after three wrong answers: %s", got)
	}
	list := func() *ipc.SecmLimits {
		m := new(ipc.SecmLimits)
		if _, err := r.ask(ipc.SecmListLimitsT, new(ipc.Nothing), m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	lift := func(q *ipc.SecmLift) uint32 {
		m := new(ipc.SecmLifted)
		if _, err := r.ask(ipc.SecmLiftT, q, m); err != nil {
			t.Fatal(err)
		}
		return m.Limits
	}
	m := list()
	if len(m.Limits) != 1 || m.Limits[0].User != "anna" || ipc.Prefix(m.Limits[0].Source).String() != away+"/32" ||
		time.UnixMilli(m.Limits[0].UntilUnixMs).Sub(r.clock.now()).Round(time.Minute) != 20*time.Minute {
		t.Errorf("limits: %v", m)
	}
	if n := lift(&ipc.SecmLift{User: "bert"}) + lift(&ipc.SecmLift{Source: ipc.PutAddr(netip.MustParseAddr(far))}); n != 0 {
		t.Errorf("%d limits of others are lifted", n)
	}
	if n := lift(&ipc.SecmLift{User: "ANNA"}); n != 1 || len(list().Limits) != 0 {
		t.Errorf("%d limits are lifted, left is %v", n, list())
	}
	if got := r.tryOnce(away, "anna", "", "secret"); got != "MSG OK" {
		t.Errorf("afterwards: %s", got)
	}
	for i := range maxLimits + 3 {
		for range 3 {
			r.s.attempts.Wrong(fmt.Sprint("user", i), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), r.clock.now())
		}
	}
	if m := list(); len(m.Limits) != maxLimits || m.More != 3 {
		t.Errorf("of many %d are listed, and %d more", len(m.Limits), m.More)
	}
}
