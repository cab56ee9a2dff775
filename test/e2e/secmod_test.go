//go:build e2e

package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// secMod is the process of sec-mod.
func (r *rig) secMod() int {
	r.Helper()
	roles, err := r.srv.Processes()
	r.must(err)
	if len(roles[lab.RoleSecMod]) != 1 {
		r.Fatalf("processes: %v", roles)
	}
	return roles[lab.RoleSecMod][0].PID
}

// killSecMod kills sec-mod and waits for the next one.
func (r *rig) killSecMod() {
	r.Helper()
	r.killed = true
	mark := r.srv.Mark()
	r.must(syscall.Kill(r.secMod(), syscall.SIGKILL))
	if _, err := r.srv.ExpectAfter(mark, `sec-mod replaced`, 20*time.Second); err != nil {
		r.Fatal(err)
	}
}

// Sec-mod's death ends no tunnel and no cookie, three times over.
func TestSecModKilled(t *testing.T) {
	rocservOnly(t, "it ends with sec-mod")
	r := newRig(t, 3)
	c := r.connect(lab.Dial{})
	unused := r.cookie()
	left := r.cookie()
	gone := r.connect(with(left, r.Cli[2], "--interface", "oc2"))
	if _, err := gone.Quit(); err != nil {
		t.Fatal(err)
	}
	workers, err := r.srv.Processes()
	r.must(err)
	arrived := r.steady(c, 8)
	for range 3 {
		r.killSecMod()
	}
	r.must(arrived())
	if c.Has(`(?i)reconnect`) {
		t.Error("the client has noticed")
	}
	now, err := r.srv.Processes()
	r.must(err)
	if len(workers[lab.RoleWorker]) == 0 || len(now[lab.RoleWorker]) == 0 {
		t.Errorf("workers: %v, then %v", workers, now)
	}
	// A login, a cookie of before that was never used, a reconnect: all as ever.
	other := r.connect(lab.Dial{From: r.Cli[1], User: lab.Other, Input: right})
	r.must(hello4.run(r, other))
	r.again(c, func() error { return c.Signal(syscall.SIGUSR2) })
	fresh := r.connect(with(unused, r.Cli[2]))
	r.must(hello4.run(r, fresh))
	r.dead(left, r.Cli[2])
	if got := r.srv.Count(`sessions restored.* refused=0`); got != 3 {
		t.Errorf("restored %d times", got)
	}
}

// What happens to a login that waits for sec-mod when that is killed: it fails at
// once, and the next one works.
func TestSecModKilledAtLogin(t *testing.T) {
	rocservOnly(t, "it ends with sec-mod")
	r := newRig(t, 1)
	r.must(syscall.Kill(r.secMod(), syscall.SIGSTOP))
	c := r.dial(lab.Dial{})
	time.Sleep(time.Second) // it waits for a signature now
	r.killSecMod()
	status, err := c.Wait(20 * time.Second)
	r.must(err)
	if status == 0 || !c.Has(`SSL connection failure|Failed to complete authentication|Unexpected 5`) {
		t.Errorf("the login under way ended with status %d", status)
	}
	again := r.connect(lab.Dial{})
	r.must(hello4.run(r, again))
}

// A sec-mod that is stopped delays logins, and nothing else.
func TestSecModStopped(t *testing.T) {
	t.Parallel()
	rocservOnly(t, "not so, there")
	r := newRig(t, 3)
	c := r.connect(lab.Dial{})
	cookie := r.cookie()
	pid := r.secMod()
	arrived := r.steady(c, 30)
	r.must(syscall.Kill(pid, syscall.SIGSTOP))
	began := time.Now()
	time.Sleep(2 * time.Second)
	login := r.dial(lab.Dial{From: r.Cli[1], User: lab.Other, Input: right})
	time.Sleep(time.Until(began.Add(30 * time.Second)))
	if login.Has(`^Configured as`) {
		t.Error("a login without sec-mod")
	}
	r.must(syscall.Kill(pid, syscall.SIGCONT))
	r.must(login.WaitUp())
	r.must(arrived())
	if now := r.secMod(); now != pid || c.Has(`(?i)reconnect`) {
		t.Errorf("sec-mod was %d, is %d", pid, now)
	}
	back := r.connect(with(cookie, r.Cli[2]))
	r.must(hello4.run(r, back))
	if strings.Contains(r.srv.Story(), "sec-mod replaced") {
		t.Error("sec-mod was replaced")
	}
}
