//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// A worker's death is its own client's matter, who hardly notices.
func TestWorkerKilled(t *testing.T) {
	r := newRig(t, 2)
	r.killed = true
	c, other := r.connect(lab.Dial{}), r.connect(lab.Dial{From: r.Cli[1], User: lab.Other, Input: right})
	worker, err := r.srv.Worker(lab.ClientAddr4(0))
	r.must(err)
	otherWorker, err := r.srv.Worker(lab.ClientAddr4(1))
	r.must(err)
	arrived := r.steady(other, 4)
	r.again(c, func() error { return syscall.Kill(worker.PID, syscall.SIGKILL) })
	r.must(arrived())
	if now, err := r.srv.Worker(lab.ClientAddr4(1)); err != nil || now.PID != otherWorker.PID || other.Has(`(?i)reconnect`) {
		t.Errorf("the other client was disturbed: its worker was %v, is %v, %v", otherWorker, now, err)
	}
	if server.Kind == lab.Rocserv {
		r.expect(r.srv.Process, `died with sig 9`, time.Second)
	}
}

// Without main there is nothing.
func TestMainKilled(t *testing.T) {
	rocservOnly(t, "its workers go on")
	r := newRig(t, 1)
	r.killed = true
	r.connect(lab.Dial{})
	tree, err := lab.Tree(r.srv.PID())
	r.must(err)
	if len(tree) < 3 {
		t.Fatalf("processes: %v", tree)
	}
	_, err = r.srv.End(syscall.SIGKILL, 10*time.Second) // a container takes a moment longer than main
	r.must(err)
	r.must(lab.Gone(tree, time.Second))
}

// A server without sec-mod ends where that is wanted, and says so by its status.
func TestExitOnSecModDeath(t *testing.T) {
	rocservOnly(t, "1.1.6 ends with status 0")
	r := newRig(t, 1, "exit-on-secmod-death = true")
	r.killed = true
	r.connect(lab.Dial{})
	tree, err := lab.Tree(r.srv.PID())
	r.must(err)
	roles, err := r.srv.Processes()
	r.must(err)
	if len(roles[lab.RoleSecMod]) != 1 {
		t.Fatalf("processes: %v", roles)
	}
	r.must(syscall.Kill(roles[lab.RoleSecMod][0].PID, syscall.SIGKILL))
	status, err := r.srv.Wait(10 * time.Second)
	r.must(err)
	if status == 0 {
		t.Error("the server ended with status 0")
	}
	r.must(lab.Gone(tree, 2*time.Second))
	r.noPIDFile()
}

// A server that is asked to end does so in order.
func TestStop(t *testing.T) {
	rocservOnly(t, "1.1.6 does not tell every client")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			r := newRig(t, 1)
			c := r.connect(lab.Dial{})
			b, err := os.ReadFile(r.srv.PIDFile)
			r.must(err)
			if got, want := strings.TrimSpace(string(b)), fmt.Sprint(r.ownPID(r.srv.PID())); got != want {
				t.Errorf("the pid file says %q, not %q", got, want)
			}
			tree, err := lab.Tree(r.srv.PID())
			r.must(err)
			status, err := r.srv.End(sig, 10*time.Second)
			r.must(err)
			r.killed = true // it was
			if status != 0 {
				t.Errorf("the server ended with status %d", status)
			}
			r.must(lab.Gone(tree, time.Second))
			r.noPIDFile()
			// The client is told, so that it does not try for minutes.
			if status, err := c.Wait(10 * time.Second); err != nil || status != 1 || !c.Has("Session terminated by server") {
				t.Errorf("openconnect: status %d, %v", status, err)
			}
		})
	}
}

func (r *rig) noPIDFile() {
	r.Helper()
	if _, err := os.Stat(r.srv.PIDFile); !os.IsNotExist(err) {
		r.Errorf("the pid file is still there (%v)", err)
	}
}
