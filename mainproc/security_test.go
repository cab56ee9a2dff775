package mainproc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/internal/ipc"
)

// TestSecModKilled: tunnels do not notice, logins go on, and the new sec-mod
// has what the one before left.
func TestSecModKilled(t *testing.T) {
	r := start(t, defaults())
	a, b, pooled := r.dial(), r.dial(), r.dial()
	a.ask("hello")
	b.ask("hello")
	sid := testSID(sidGood, 1, 0, false, 1)
	if got := a.open(sid); !strings.HasPrefix(got, "ok 10.9.") {
		t.Fatalf("open: %q", got)
	}
	old := r.children(roleSecMod.arg)[0]
	syscall.Kill(old, syscall.SIGKILL)
	for _, c := range []*peer{a, b} {
		if got := c.line(); got != "secmod" {
			t.Fatalf("a worker was told %q", got)
		}
		if got := c.ask("sign"); !strings.HasPrefix(got, "signed 127.0.0.1") {
			t.Errorf("the new sec-mod answers %q", got)
		}
	}
	r.waitLog("sec-mod replaced")
	for _, want := range []string{
		msgSecModDied, "secmod died with sig 9",
		"configuration generation=1 keyring=ring known=1",
		fmt.Sprintf("restored safe_id=%q sealed=%q conns=[1]", safeID(sid), "sealed user1"),
		fmt.Sprintf("rejoined conn=1 safe_id=%q", safeID(sid)), `rejoined conn=2 safe_id=""`,
	} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("no %q in the log", want)
		}
	}
	if now := r.children(roleSecMod.arg); len(now) != 1 || now[0] == old {
		t.Errorf("sec-mods: %v, before %d", now, old)
	}
	// Who comes later is served: by a pooled worker of before, and by the
	// session that is there.
	if got := pooled.ask("hello"); !strings.HasPrefix(got, "hi ") {
		t.Errorf("a new client: %q", got)
	}
	if got := pooled.ask("sign"); !strings.HasPrefix(got, "signed") {
		t.Errorf("a new client: %q", got)
	}
	if got := b.open(sid); !strings.Contains(got, "gen=2") {
		t.Errorf("reconnect: %q", got)
	}
	r.stop()
}

// What ends while there is no sec-mod, the next one is told.
func TestClosedMeanwhile(t *testing.T) {
	cfg := defaults()
	cfg.SecMod.DieOnClose = true
	r := start(t, cfg)
	c := r.dial()
	c.ask("hello")
	sid := testSID(sidGood, 1, 0, false, 1)
	c.open(sid)
	c.send("exit 1")
	r.waitLog("sec-mod replaced")
	eventually(t, "the second word of the end", func() bool {
		return strings.Count(r.log.String(), "session close") == 2
	})
	if !strings.Contains(r.log.String(), "conns=[1]") {
		t.Error("the new sec-mod was not told of the connection that is still to be closed")
	}
	// REASON_USER ends the cookie: main forgets the session and its record.
	syscall.Kill(r.children(roleSecMod.arg)[0], syscall.SIGKILL)
	eventually(t, "a third sec-mod", func() bool { return strings.Count(r.log.String(), "sec-mod replaced") == 2 })
	if n := strings.Count(r.log.String(), ": restored "); n != 1 {
		t.Errorf("%d records restored, want 1: the session has ended", n)
	}
	r.stop()
}

// A sec-mod that does not come up is tried again, ever less often, and the
// server stops when it is told to.
func TestSecModCrashLoop(t *testing.T) {
	cfg := defaults()
	r := start(t, cfg)
	a, b := r.dial(), r.dial()
	a.ask("hello")
	b.ask("hello")
	a.open(testSID(sidGood, 1, 0, false, 1))
	// Main keeps the configuration in effect: what a new sec-mod cannot do with
	// it comes from outside.
	must(os.WriteFile(filepath.Join(r.dir, "secmod-dies"), nil, 0o644))
	syscall.Kill(r.children(roleSecMod.arg)[0], syscall.SIGKILL)
	eventually(t, "several tries", func() bool { return strings.Count(r.log.String(), "sec-mod cannot be replaced yet") >= 3 })
	if !strings.Contains(r.log.String(), "failures=3") {
		t.Error("no back-off in the log")
	}
	if got := b.open(testSID(sidGood, 2, 0, false, 2)); got != "COOKIE_UNAVAILABLE Security module is restarting" {
		t.Errorf("a login meanwhile: %q", got)
	}
	must(os.Remove(filepath.Join(r.dir, "secmod-dies")))
	if got := a.line(); got != "secmod" {
		t.Errorf("the tunnel's worker: %q", got)
	}
	must(os.WriteFile(filepath.Join(r.dir, "secmod-dies"), nil, 0o644))
	syscall.Kill(r.children(roleSecMod.arg)[0], syscall.SIGKILL)
	r.waitLog("sec-mod cannot be replaced yet")
	r.stop()
}

// A sec-mod that is stopped delays what asks it, and nothing else.
func TestSecModStopped(t *testing.T) {
	r := start(t, defaults())
	a, b := r.dial(), r.dial()
	a.ask("hello")
	b.ask("hello")
	pid := r.children(roleSecMod.arg)[0]
	syscall.Kill(pid, syscall.SIGSTOP)
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGCONT) })
	b.send("open %x", testSID(sidGood, 1, 0, false, 1))
	if got := r.dial().ask("hello"); !strings.HasPrefix(got, "hi ") {
		t.Errorf("another client: %q", got)
	}
	syscall.Kill(pid, syscall.SIGCONT)
	if got := b.line(); !strings.HasPrefix(got, "ok ") {
		t.Errorf("late answer: %q", got)
	}
	if now := r.children(roleSecMod.arg); len(now) != 1 || now[0] != pid {
		t.Errorf("sec-mod was replaced: %v", now)
	}
	r.stop()
}

func TestRecords(t *testing.T) {
	r := newRecords()
	soon := time.Now().Add(time.Hour).UnixMilli()
	for _, m := range []*ipc.SecmRecord{
		{SafeId: "b", Sealed: []byte("1")}, {SafeId: "a", Sealed: []byte("2"), ExpiresUnixMs: soon},
		{SafeId: "gone", Sealed: []byte("3")}, {SafeId: "gone"},
		{SafeId: "old", Sealed: []byte("4"), ExpiresUnixMs: 1}, {SafeId: "b", Sealed: []byte("5")},
	} {
		if err := r.keep(m); err != nil {
			t.Fatal(err)
		}
	}
	got := r.held(map[string][]uint64{"b": {7}})
	if len(got.Records) != 2 || got.Records[0].SafeId != "a" || string(got.Records[1].Sealed) != "5" || got.Records[1].ConnIds[0] != 7 {
		t.Errorf("held %v", got)
	}
	for _, bad := range []*ipc.SecmRecord{{Sealed: []byte("x")}, {SafeId: "x", Sealed: make([]byte, ipc.MaxSession+1)}} {
		if err := r.keep(bad); !errors.Is(err, ipc.ErrViolation) {
			t.Errorf("%v", err)
		}
	}
}

func TestSecurityWait(t *testing.T) {
	near, _ := pair(t)
	s := newSecurity()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.wait(ctx); !errors.Is(err, errSecModGone) {
		t.Errorf("%v", err)
	}
	got := make(chan error)
	go func() { got <- s.wait(t.Context()) }()
	m := newSecMod(near, quiet, nil)
	s.enter(m, func() {})
	if err := <-got; err != nil {
		t.Error(err)
	}
	s.lost()
	fd, closed := pipeFD(t)
	if err := s.post(outgoing{typ: ipc.SecmWorkerT, fds: []int{fd}}); !errors.Is(err, errSecModGone) || !closed() {
		t.Errorf("post: %v, or the descriptor is left open", err)
	}
	close(s.closed)
	if err := s.wait(t.Context()); !errors.Is(err, errSecModGone) {
		t.Errorf("%v", err)
	}
	if s.enter(m, func() {}) {
		t.Error("a sec-mod comes into effect after the end")
	}
}
