package secmod

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"rocserv/internal/ipc"
	"rocserv/secmod/helper"
)

// leased says as main does that a session's tunnel is open.
func (r *rig) leased(safeID string) {
	r.t.Helper()
	m := &ipc.SecmSessionLeased{SafeId: safeID, Ipv4: []byte{10, 9, 7, 7}}
	if err := r.main.Send(ipc.SecmSessionLeasedT, 0, m); err != nil {
		r.t.Fatal(err)
	}
}

// awaits waits until so much was told, and returns it in short.
func (b *backend) awaits(t *testing.T, n int) (list []string) {
	t.Helper()
	var all []helper.Accounting
	eventually(t, fmt.Sprintf("%d accounts", n), func() bool {
		all = append(all, b.accounted()...)
		return len(all) >= n
	})
	for _, a := range all {
		s := [...]string{"start", "interim", "stop"}[a.Event]
		if a.Event != helper.Start {
			s += fmt.Sprintf(" %d/%d", a.Up, a.Down)
		}
		if a.Event == helper.Stop {
			s += " " + strings.TrimPrefix(a.Reason.String(), "REASON_")
		}
		list = append(list, s)
	}
	return list
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestAccounting: a session is accounted from its first tunnel until its cookie is
// no more, with the reason its last worker left.
func TestAccounting(t *testing.T) {
	r, b, _ := remotely(t, time.Minute)
	for _, tt := range []struct {
		reason ipc.Reason
		lives  bool // the cookie does
		then   func(safeID string)
		want   string
	}{
		{reason: ipc.Reason_REASON_USER, want: "USER"},
		{reason: ipc.Reason_REASON_SERVER, want: "SERVER"},
		{reason: ipc.Reason_REASON_SESSION_TIMEOUT, want: "SESSION_TIMEOUT"},
		{reason: ipc.Reason_REASON_DPD_TIMEOUT, lives: true, want: "DPD_TIMEOUT", then: func(string) { r.clock.forward(10 * time.Minute); r.s.sweep() }},
		{reason: ipc.Reason_REASON_IDLE_TIMEOUT, lives: true, want: "IDLE_TIMEOUT", then: func(string) { r.clock.forward(10 * time.Minute); r.s.sweep() }},
		{reason: ipc.Reason_REASON_CONNECTION_LOST, lives: true, want: "SERVER", then: func(id string) {
			if _, err := r.ask(ipc.SecmTerminateT, &ipc.SecmTerminate{SafeIds: []string{id}}, new(ipc.SecmTerminateRep)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		c, id := r.handshaken(home)
		cookie := r.login(c, "anna", "right")
		rep, _ := r.openSession(cookie, id)
		r.leased(rep.SafeId)
		r.leased(rep.SafeId) // as for the next worker: it begins once
		c.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: 10, BytesDown: 20})
		same(t, "up", b.awaits(t, 2), "start", "interim 10/20")
		c.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: 11, BytesDown: 21, Final: true})
		c.Close()
		if left := r.closeSession(rep.SafeId, id, tt.reason); left.Invalidated == tt.lives {
			t.Fatalf("%v: the cookie is gone: %v", tt.reason, left.Invalidated)
		}
		if tt.then != nil {
			if told := b.accounted(); len(told) > 0 {
				t.Errorf("%v: told while the cookie lives: %+v", tt.reason, told)
			}
			tt.then(rep.SafeId)
		}
		same(t, tt.reason.String(), b.awaits(t, 1), "stop 11/21 "+tt.want)
	}
}

// TestAccountsOf: what is told of a session, which may have several workers.
func TestAccountsOf(t *testing.T) {
	r, b, _ := remotely(t, time.Minute)
	c, id := r.handshaken(home)
	cookie := r.login(c, "anna", "right")
	rep, _ := r.openSession(cookie, id)
	r.leased(rep.SafeId)
	eventually(t, "the beginning", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.told) == 1
	})
	a := b.accounted()[0]
	if a.User != "anna" || a.Group != "staff" || a.SafeID != rep.SafeId || a.Peer.String() != home || a.Vhost != "" ||
		len(a.Lease) != 1 || a.Lease[0].String() != "10.9.7.7" || !a.Login.Equal(time.UnixMilli(rep.LoginUnixMs)) {
		t.Errorf("%+v", a)
	}
	c.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: 10, BytesDown: 20})
	same(t, "the first worker", b.awaits(t, 1), "interim 10/20")
	c2, id2 := r.handshaken(home)
	r.openSession(cookie, id2)
	r.leased(rep.SafeId)
	c.Close()
	r.closeSession(rep.SafeId, id, ipc.Reason_REASON_REPLACED)
	c2.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: 1, BytesDown: 2})
	same(t, "the second worker", b.awaits(t, 1), "interim 11/22")
	c2.Close()
	r.closeSession(rep.SafeId, id2, ipc.Reason_REASON_USER)
	same(t, "the end", b.awaits(t, 1), "stop 11/22 USER")
	c3, id3 := r.handshaken(home)
	other, _ := r.openSession(r.login(c3, "anna", "right"), id3)
	r.closeSession(other.SafeId, id3, ipc.Reason_REASON_USER) // main could not give it an address
	if told := b.accounted(); len(told) > 0 {
		t.Errorf("a session that had no tunnel is accounted: %+v", told)
	}
}

// TestAccountsWait: while nobody takes them, beginnings and ends are kept, in order,
// and of what is counted the last.
func TestAccountsWait(t *testing.T) {
	r, b, run := remotely(t, time.Minute)
	b.mu.Lock()
	b.deaf = 1 << 30
	b.mu.Unlock()
	c, id := r.handshaken(home)
	rep, _ := r.openSession(r.login(c, "anna", "right"), id)
	r.leased(rep.SafeId)
	for n := range uint64(3) {
		c.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: n, BytesDown: n})
	}
	eventually(t, "a word in the log", func() bool { return strings.Contains(r.log.String(), "session not accounted") })
	eventually(t, "the counters", func() bool {
		e := r.s.accounts.save(rep.SafeId)
		return e != nil && e.Totals.Up == 2
	})
	run.kill() // another helper hears of it
	b.mu.Lock()
	b.deaf = 0
	b.mu.Unlock()
	same(t, "at last", b.awaits(t, 2), "start", "interim 2/2")
	b.mu.Lock()
	b.deaf = 3
	b.mu.Unlock()
	c.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: 5, BytesDown: 5, Final: true})
	c.Close()
	r.closeSession(rep.SafeId, id, ipc.Reason_REASON_USER)
	same(t, "the end", b.awaits(t, 1), "stop 5/5 USER")
	r.s.accounts.finish(10 * time.Second)
	if n := r.s.accounts.active; n != 0 {
		t.Errorf("%d are still told", n)
	}
}

// TestAccountsOfSuccessor: the sec-mod after this one goes on with them. A beginning
// that nobody had taken it tells again.
func TestAccountsOfSuccessor(t *testing.T) {
	r, b, _ := remotely(t, time.Minute)
	c, id := r.handshaken(home)
	rep, _ := r.openSession(r.login(c, "anna", "right"), id)
	record := func(what string, enough func(a *accounting) bool) (back savedSession) {
		t.Helper()
		eventually(t, what, func() bool {
			r.mu.Lock()
			sealed := r.held[rep.SafeId]
			r.mu.Unlock()
			var err error
			back, err = r.s.unseal(sealed)
			return err == nil && back.Session.SafeID == rep.SafeId && back.Accounting != nil && enough(back.Accounting)
		})
		return back
	}
	succeed := func(back savedSession) {
		again := newAccounts(r.s)
		again.restore(back)
		again.ended(ipc.Reason_REASON_UNSPECIFIED, rep.SafeId)
	}
	b.mu.Lock()
	b.deaf = 1 << 30
	b.mu.Unlock()
	r.leased(rep.SafeId)
	begun := record("a record of who has begun", func(a *accounting) bool { return a.Started })
	if a := begun.Accounting; a.Told || a.IPv4.String() != "10.9.7.7" {
		t.Fatalf("saved: %+v", a)
	}
	b.mu.Lock()
	b.deaf = 0
	b.mu.Unlock()
	same(t, "its beginning", b.awaits(t, 1), "start")
	succeed(begun)
	same(t, "all of it", b.awaits(t, 2), "start", "stop 0/0 UNSPECIFIED")
	c.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: 10, BytesDown: 20})
	same(t, "what was counted", b.awaits(t, 1), "interim 10/20")
	succeed(record("a record that has all of it", func(a *accounting) bool { return a.Told && a.Totals.Down == 20 }))
	same(t, "its end", b.awaits(t, 1), "stop 10/20 UNSPECIFIED")
}

// TestAccountsAreBounded: who is told at the same time, and that logins are not held up.
func TestAccountsAreBounded(t *testing.T) {
	r, b, _ := remotely(t, time.Minute)
	release, cancel := context.WithCancel(t.Context())
	defer cancel()
	b.mu.Lock()
	b.wait = release.Done()
	b.mu.Unlock()
	for n := range accountsAtOnce + 10 {
		c, id := r.handshaken(fmt.Sprintf("192.0.2.%d", n+1))
		rep, _ := r.openSession(r.login(c, "anna", "right"), id)
		r.leased(rep.SafeId)
	}
	eventually(t, "as many as may be", func() bool { return b.telling.Load() == accountsAtOnce })
	c, _ := r.handshaken(home)
	r.login(c, "anna", "right")
	if n := b.telling.Load(); n != accountsAtOnce {
		t.Errorf("%d are told at once", n)
	}
	cancel()
	if got := b.awaits(t, accountsAtOnce+10); slices.ContainsFunc(got, func(s string) bool { return s != "start" }) {
		t.Errorf("told %q", got)
	}
}

// TestDisconnect: a server of the method's has sessions ended that are accounted at
// it, and no others.
func TestDisconnect(t *testing.T) {
	r, b, _ := remotely(t, time.Minute)
	var ids []string
	for _, user := range []string{"anna", "anna", "ben"} {
		c, id := r.handshaken(home)
		rep, _ := r.openSession(r.login(c, user, "right"), id)
		r.leased(rep.SafeId)
		ids = append(ids, rep.SafeId)
		if len(ids) == 2 { // the client is away
			c.Close()
			r.closeSession(rep.SafeId, id, ipc.Reason_REASON_CONNECTION_LOST)
		}
	}
	b.awaits(t, 3)
	eventually(t, "the helper's ears", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.end) == 2 })
	if n, err := b.end["another"](t.Context(), helper.Target{User: "anna"}); err != nil || n != 0 {
		t.Errorf("a server of another line ends %d sessions, %v", n, err)
	}
	for _, tt := range []struct {
		of   helper.Target
		want int
	}{
		{helper.Target{}, 0},
		{helper.Target{Peer: netip.MustParseAddr(home)}, 0},
		{helper.Target{User: "anna", Lease: netip.MustParseAddr("10.9.7.8")}, 0},
		{helper.Target{User: "ben", SafeID: ids[0]}, 0},
		{helper.Target{User: "anna", Peer: netip.MustParseAddr("192.0.2.99")}, 0},
		{helper.Target{User: "anna", Lease: netip.MustParseAddr("10.9.7.7"), Peer: netip.MustParseAddr(home)}, 2},
		{helper.Target{User: "carl"}, 0},
		{helper.Target{SafeID: ids[2]}, 1},
	} {
		if n, err := b.end["x"](t.Context(), tt.of); err != nil || n != tt.want {
			t.Errorf("%+v: %d, %v; want %d", tt.of, n, err, tt.want)
		}
	}
	var ended []string
	eventually(t, "main's part", func() bool {
		select {
		case rec := <-r.notes:
			m := new(ipc.SecmEnded)
			if rec.Type == ipc.SecmEndedT && rec.Decode(m) == nil {
				ended = append(ended, m.SafeIds...)
			}
		default:
		}
		return len(ended) == 3
	})
	slices.Sort(ended)
	slices.Sort(ids)
	same(t, "ended", ended, ids...)
	same(t, "the one that was away", b.awaits(t, 1), "stop 0/0 SERVER")
	r.reconfigured(func(v *vhost) { v.account = nil })
	c, id := r.handshaken(home)
	r.openSession(r.login(c, "anna", "right"), id)
	if n, err := b.end["x"](t.Context(), helper.Target{User: "anna"}); err != nil || n != 0 {
		t.Errorf("a session that is not accounted: %d, %v", n, err)
	}
}
