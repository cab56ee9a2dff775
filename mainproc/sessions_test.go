package mainproc

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rocserv/internal/ipc"
)

// claimOf is a claim of a new worker for the session sid of a user.
func claimOf(sid byte, user string, change func(*claim)) claim {
	c := claim{
		worker: new(worker), key: sidHash{sid}, want4: true, maxLive: 100, now: epoch,
		reply: &ipc.SecmSessionReply{
			Ok: true, User: user, SafeId: "safe-" + string('A'+rune(sid)),
			Lease: &ipc.LeaseRequest{Ipv4Network: ipc.PutPrefix(netip.MustParsePrefix("10.0.0.0/24"))},
		},
	}
	if change != nil {
		change(&c)
	}
	return c
}

func mustAttach(t *testing.T, s *sessions, c claim) won {
	t.Helper()
	w, err := s.attach(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (t *sessions) check(tb testing.TB) {
	tb.Helper()
	live, apps := 0, 0
	for key, s := range t.bySID {
		if s.key != key || t.bySafeID[s.safeID] != s {
			tb.Errorf("session %s is in one table only", s.safeID)
		}
		if s.newest != nil {
			live++
		}
		if s.answered {
			apps++
			if t.byApp[s.app] != s.newest || s.newest == nil {
				tb.Errorf("session %s: App-ID of another worker", s.safeID)
			}
		}
	}
	if live != t.live || len(t.bySafeID) != len(t.bySID) || apps != len(t.byApp) || t.leases.Len() != len(t.bySID) {
		tb.Errorf("live %d/%d, sessions %d/%d, App-IDs %d/%d, leases %d", live, t.live, len(t.bySID), len(t.bySafeID), apps, len(t.byApp), t.leases.Len())
	}
}

func TestSessionLife(t *testing.T) {
	s := newSessions()
	c1 := claimOf(1, "ann", nil)
	a := mustAttach(t, s, c1)
	if a.generation != 1 || len(a.older) != 0 || len(a.kicked) != 0 || !a.session.lease.IPv4.IsValid() {
		t.Fatalf("first: %+v", a)
	}
	app, psk, ok := s.grant(c1.worker, a.session, 1, nil)
	if !ok || psk != nil || s.byAppID(app[:]) != c1.worker {
		t.Fatal("not granted")
	}
	s.check(t)
	hash := []byte(strings.Repeat("h", 32))
	s.learn(c1.worker, a.session, &ipc.SessionInfo{PskSha256: hash})

	// A second CONNECT: the address stays, the App-ID goes, the PSK is handed on.
	c2 := claimOf(1, "ann", nil)
	b := mustAttach(t, s, c2)
	if b.session != a.session || b.generation != 2 || len(b.older) != 1 || b.older[0] != c1.worker {
		t.Fatalf("second: %+v", b)
	}
	if s.byAppID(app[:]) != nil {
		t.Error("the old App-ID still works")
	}
	s.learn(c1.worker, a.session, &ipc.SessionInfo{PskSha256: []byte(strings.Repeat("x", 32))}) // outdated
	if _, _, ok := s.grant(c1.worker, a.session, 1, nil); ok {
		t.Error("granted to the worker before")
	}
	s.detach(c1.worker, a.session)
	app2, psk, ok := s.grant(c2.worker, b.session, 2, nil)
	if !ok || string(psk) != string(hash) || app2 == app {
		t.Errorf("second grant: psk %q, ok %v", psk, ok)
	}
	s.check(t)

	// The client is away: session and lease stay until the cookie is void.
	s.detach(c2.worker, b.session)
	if live, all := s.count(); live != 0 || all != 1 {
		t.Errorf("live %d, all %d", live, all)
	}
	if s.byAppID(app2[:]) != nil {
		t.Error("the App-ID of nobody")
	}
	s.check(t)
	if leave := s.invalidate("safe-B", "unknown"); len(leave) != 0 {
		t.Errorf("to leave: %v", leave)
	}
	if _, all := s.count(); all != 0 {
		t.Errorf("%d sessions left", all)
	}
	s.check(t)
}

func TestSessionEndedWithWorkers(t *testing.T) {
	s := newSessions()
	c1, c2 := claimOf(1, "ann", nil), claimOf(1, "ann", nil)
	a := mustAttach(t, s, c1)
	mustAttach(t, s, c2)
	leave := s.invalidate(a.session.safeID)
	if len(leave) != 2 {
		t.Fatalf("%d to leave", len(leave))
	}
	if _, _, ok := s.grant(c2.worker, a.session, 2, nil); ok {
		t.Error("an ended session was granted")
	}
	s.detach(c2.worker, a.session)
	if s.leases.Len() != 1 {
		t.Error("the address is free while a worker uses it")
	}
	s.detach(c1.worker, a.session)
	s.check(t)
	if s.leases.Len() != 0 {
		t.Error("the address is not free")
	}
	s.invalidate(a.session.safeID) // again
	s.check(t)
}

func TestAttachRefused(t *testing.T) {
	full := func(c *claim) { c.maxLive = 1 }
	two := func(c *claim) { c.reply.MaxSameClients = 1 }
	tests := []struct {
		name   string
		before []claim
		c      claim
		want   error
	}{
		{"full", []claim{claimOf(1, "ann", nil)}, claimOf(2, "bob", full), errServerFull},
		{"full, but it is one of them", []claim{claimOf(1, "ann", nil)}, claimOf(1, "ann", full), nil},
		{"another user", []claim{claimOf(1, "ann", nil)}, claimOf(1, "bob", nil), errOtherUser},
		{"another safe id", []claim{claimOf(1, "ann", nil)}, claimOf(1, "ann", func(c *claim) { c.reply.SafeId = "x" }), errOtherUser},
		{"somebody's safe id", []claim{claimOf(1, "ann", nil)}, claimOf(2, "ann", func(c *claim) { c.reply.SafeId = "safe-B" }), errOtherUser},
		{"no safe id", nil, claimOf(2, "ann", func(c *claim) { c.reply.SafeId = "" }), errOtherUser},
		{"too many of the user", []claim{claimOf(1, "ann", nil)}, claimOf(2, "ann", two), errTooManyOfUser},
		{"as many as allowed", []claim{claimOf(1, "ann", nil)}, claimOf(1, "ann", two), nil},
		{"somebody else's do not count", []claim{claimOf(1, "bob", nil)}, claimOf(2, "ann", two), nil},
		{"no network", nil, claimOf(1, "ann", func(c *claim) { c.reply.Lease = nil }), errNoAddress},
		{"no family wanted", nil, claimOf(1, "ann", func(c *claim) { c.want4 = false }), errNoAddress},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSessions()
			for _, b := range tt.before {
				mustAttach(t, s, b)
			}
			_, all := s.count()
			_, err := s.attach(tt.c)
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			s.check(t)
			if _, now := s.count(); tt.want != nil && now != all {
				t.Error("a refused claim left something behind")
			}
		})
	}
}

func TestReplaceOldest(t *testing.T) {
	s := newSessions()
	var claims []claim
	for i := range byte(3) {
		c := claimOf(i, "ann", func(c *claim) { c.now = epoch.Add(time.Duration(10-i) * time.Second) })
		claims = append(claims, c)
		mustAttach(t, s, c)
	}
	w := mustAttach(t, s, claimOf(9, "ann", func(c *claim) { c.reply.MaxSameClients, c.reply.ReplaceOldest = 2, true }))
	if len(w.kicked) != 2 || w.kicked[0] != claims[2].worker || w.kicked[1] != claims[1].worker {
		t.Errorf("kicked %v", w.kicked)
	}
}

func TestByAppIDAllocates(t *testing.T) {
	s := newSessions()
	c := claimOf(1, "ann", nil)
	a := mustAttach(t, s, c)
	app, _, _ := s.grant(c.worker, a.session, 1, nil)
	if n := testing.AllocsPerRun(100, func() { s.byAppID(app[:]); s.byAppID(app[:31]); s.byAppID(nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if s.byAppID(app[:31]) != nil || s.byAppID(nil) != nil {
		t.Error("found by a part of the id")
	}
}
