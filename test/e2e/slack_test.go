//go:build e2e

package e2e

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

const (
	usualSlack   = 50 * time.Microsecond
	relaxedSlack = time.Millisecond
)

// Every thread of every process has much timer slack, but for those of a worker with a
// tunnel; what the server starts for the operator has the usual one. After an upgrade
// it is the same.
func TestTimerSlack(t *testing.T) {
	rocservOnly(t, "it has no threads that look after others")
	r := newLab(t, 1)
	script, said := r.state.Path("slack"), r.state.Path("run", "slack")
	r.must(os.WriteFile(script, []byte("#!/bin/sh\ncat /proc/self/timerslack_ns > "+said+"\n"), 0o755))
	r.must(r.state.Configure("use-occtl = true", "occtl-socket-file = "+r.socket(), "connect-script = "+script))
	program := r.own()
	srv, err := r.StartServer(program, r.state)
	r.srv = srv
	r.must(err)
	c := r.connect(lab.Dial{})
	r.must(hello4.run(r, c))
	tunnel, err := srv.Worker(lab.ClientAddr4(0))
	r.must(err)
	r.punctual(tunnel.PID)
	r.relaxed(tunnel.PID)
	b, err := os.ReadFile(said)
	r.must(err)
	if got := strings.TrimSpace(string(b)); got != "50000" {
		t.Errorf("a script has %s ns", got)
	}

	mark := srv.Mark()
	r.replace(program)
	r.wants("upgrade", "Server upgraded to ")
	if _, err := srv.ExpectAfter(mark, "upgraded to rocserv", 30*time.Second); err != nil {
		t.Fatal(err)
	}
	r.must(hello4.run(r, c))
	r.punctual(tunnel.PID)
	r.relaxed(tunnel.PID)
}

// punctual wants a worker with a tunnel to have timers that are on time.
func (r *rig) punctual(pid int) {
	r.Helper()
	if !r.slack("worker with a tunnel", pid, usualSlack) {
		r.Errorf("worker %d is gone", pid)
	}
}

// relaxed wants it of every process but one.
func (r *rig) relaxed(but int) {
	r.Helper()
	roles, err := r.srv.Processes()
	r.must(err)
	for _, role := range []string{lab.RoleMain, lab.RoleSecMod, lab.RoleWorker} {
		n := 0
		for _, p := range roles[role] {
			if p.PID != but && r.slack(role, p.PID, relaxedSlack) {
				n++
			}
		}
		if n == 0 {
			r.Errorf("there is no %s to look at", role)
		}
	}
}

// slack looks at all threads of a process, if it has not just ended.
func (r *rig) slack(who string, pid int, want time.Duration) bool {
	r.Helper()
	got, err := lab.TimerSlack(pid)
	r.must(err)
	if slices.ContainsFunc(got, func(d time.Duration) bool { return d != want }) {
		r.Errorf("threads of %s %d have a slack of %v, not %v", who, pid, got, want)
	}
	return len(got) > 0
}
