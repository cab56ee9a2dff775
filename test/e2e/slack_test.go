//go:build e2e

package e2e

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

const (
	usualSlack   = 50 * time.Microsecond
	relaxedSlack = time.Millisecond
)

// Every thread of every process has much timer slack, but for those of a worker whose
// client is to say its password, has its tunnel, or came back to it; what the server
// starts for the operator has the usual one. After an upgrade it is the same.
func TestTimerSlack(t *testing.T) {
	rocservOnly(t, "it has no threads that look after others")
	r := newLab(t, 2)
	script, said := r.state.Path("slack"), r.state.Path("run", "slack")
	r.must(os.WriteFile(script, []byte("#!/bin/sh\ncat /proc/self/timerslack_ns > "+said+"\n"), 0o755))
	r.must(r.state.Configure("use-occtl = true", "occtl-socket-file = "+r.socket(), "connect-script = "+script))
	program := r.own()
	srv, err := r.StartServer(program, r.state)
	r.srv = srv
	r.must(err)
	c := r.connect(lab.Dial{})
	r.must(hello4.run(r, c))
	goOn := r.asked(r.Cli[1], nil)
	tunnel, asks := r.punctual(0), r.punctual(1)
	r.relaxed(tunnel, asks)
	goOn(loss{})
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
	r.relaxed(r.punctual(0), r.punctual(1))
	r.again(c, func() error { return c.Signal(syscall.SIGUSR2) }) // its new worker's first request is CONNECT
	if now := r.punctual(0); now == tunnel {
		t.Error("the client has the worker it had")
	}
}

// punctual wants the worker of a client to have timers that are on time, and returns its pid.
func (r *rig) punctual(client int) int {
	r.Helper()
	p, err := r.srv.Worker(lab.ClientAddr4(client))
	r.must(err)
	if !r.slack("worker of a client", p.PID, usualSlack) {
		r.Errorf("worker %d is gone", p.PID)
	}
	return p.PID
}

// relaxed wants it of every process but these.
func (r *rig) relaxed(but ...int) {
	r.Helper()
	roles, err := r.srv.Processes()
	r.must(err)
	for _, role := range []string{lab.RoleMain, lab.RoleSecMod, lab.RoleWorker} {
		n := 0
		for _, p := range roles[role] {
			if !slices.Contains(but, p.PID) && r.slack(role, p.PID, relaxedSlack) {
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
