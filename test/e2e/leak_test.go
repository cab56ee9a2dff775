//go:build e2e

package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// holding is what a server holds that could leak.
type holding struct {
	workers int
	files   map[string]int   // descriptors
	memory  map[string]int64 // private, bytes
}

func (r *rig) holding() holding {
	r.Helper()
	h := holding{workers: r.workers(), files: map[string]int{}, memory: map[string]int64{}}
	roles, err := r.srv.Processes()
	r.must(err)
	for _, role := range []string{lab.RoleMain, lab.RoleSecMod} {
		pid := roles[role][0].PID
		h.files[role], err = lab.Descriptors(pid)
		r.must(err)
		h.memory[role], err = lab.Private(pid)
		r.must(err)
	}
	return h
}

// more says what a holding has that another has not.
func (h holding) more(before holding) string {
	if h.workers > before.workers {
		return fmt.Sprintf("%d workers, there were %d", h.workers, before.workers)
	}
	for role, n := range h.files {
		if n > before.files[role] {
			return fmt.Sprintf("%s has %d descriptors, it had %d", role, n, before.files[role])
		}
	}
	for role, n := range h.memory {
		if n > before.memory[role]+soakBudget {
			return fmt.Sprintf("%s holds %d bytes, it held %d", role, n, before.memory[role])
		}
	}
	return ""
}

// A hundred reconnects in a row leave nothing behind: no process, descriptor or
// memory, nor a lease, of which there are five. What went on before goes on,
// though it has nothing to say for most of the time.
func TestHundredReconnects(t *testing.T) {
	rocservOnly(t, "its flows are the kernel's")
	t.Parallel()
	r := newRig(t, 1, "ipv4-network = 10.66.0.0/29")
	c := r.connect(lab.Dial{})
	before := r.addresses(c)
	talk, err := lab.StartTalk(c.From, lab.Tgt4)
	r.must(err)
	t.Cleanup(talk.Close)
	r.must(talk.Exchange())
	reconnect := func() {
		t.Helper()
		r.must(c.Forget("reconnect"))
		r.must(c.Signal(syscall.SIGUSR2))
		r.must(c.WaitScript("reconnect", 60*time.Second))
	}
	// Heaps that have hardly been used grow by four megabytes, to where they are
	// collected for the first time, and from then on by next to nothing.
	for range 60 {
		reconnect()
	}
	r.must(talk.Exchange())
	time.Sleep(3 * time.Second) // the pool is full, and what had to end has
	had := r.holding()
	for range 100 {
		reconnect()
	}
	r.must(talk.Exchange())
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		more := r.holding().more(had)
		if more == "" {
			break
		}
		if time.Now().After(end) {
			t.Fatal(more)
		}
	}
	now, err := c.Env("reconnect")
	r.must(err)
	first, err := c.Env("connect")
	r.must(err)
	for _, name := range []string{"INTERNAL_IP4_ADDRESS", "INTERNAL_IP6_NETMASK"} {
		if first[name] != now[name] {
			t.Errorf("%s of %s is %q", name, before, now[name])
		}
	}
	r.must(hello4.run(r, c))
}
