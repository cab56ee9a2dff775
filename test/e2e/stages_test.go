//go:build e2e

package e2e

import (
	"os"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// stage is how far a client of the server has come, and what must be when a
// process was killed.
type stage struct {
	name string
	// reach brings a client, of which there is one for each stage, so far, and
	// returns what must hold afterwards. own: its worker was the one killed.
	reach func(r *rig, from lab.Netns) (holds func(own bool))
}

// stages are tried all at once.
var stages = []stage{
	{"pooled", func(r *rig, from lab.Netns) func(bool) {
		return func(bool) { r.must(hello4.run(r, r.connectTLS(lab.Dial{From: from}))) }
	}},
	{"logged in", func(r *rig, from lab.Netns) func(bool) {
		cookie := r.cookie()
		return func(bool) { r.must(hello4.run(r, r.connectTLS(with(cookie, from)))) }
	}},
	{"CONNECT sent", func(r *rig, from lab.Netns) func(bool) {
		hold := r.state.Path("run", "hold")
		r.must(os.WriteFile(hold, nil, 0o644))
		d := lab.Dial{From: from, User: lab.Other, Input: right}
		c := r.dial(d)
		r.told("connect", lab.Other)
		return func(own bool) {
			r.must(os.Remove(hold))
			if own { // there is nobody to answer: openconnect gives up
				_, err := c.Wait(30 * time.Second)
				r.must(err)
				c = r.dial(d)
			}
			r.must(c.WaitUp())
			r.must(hello4.run(r, c))
		}
	}},
	{"tunnel without DTLS", func(r *rig, from lab.Netns) func(bool) {
		return r.staysUp(r.connectTLS(lab.Dial{From: from}))
	}},
	{"tunnel with DTLS", func(r *rig, from lab.Netns) func(bool) {
		return r.staysUp(r.connect(lab.Dial{From: from}))
	}},
	{"detached", func(r *rig, from lab.Netns) func(bool) {
		cookie := r.cookie()
		c := r.connectTLS(with(cookie, from))
		before := r.addresses(c)
		_, err := c.End(syscall.SIGKILL, 10*time.Second)
		r.must(err)
		return func(bool) {
			c := r.connectTLS(with(cookie, from))
			if now := r.addresses(c); now != before {
				r.Errorf("detached: addresses were %s, are %s", before, now)
			}
		}
	}},
}

// staysUp wants a client not to notice; one whose own worker died comes back.
func (r *rig) staysUp(c *lab.Client) func(bool) {
	before := r.addresses(c)
	r.must(c.Forget("reconnect"))
	return func(own bool) {
		if own {
			r.must(c.WaitScript("reconnect", 60*time.Second))
		}
		r.must(hello4.run(r, c))
		r.must(hello6.run(r, c))
		if now := r.addresses(c); now != before {
			r.Errorf("addresses were %s, are %s", before, now)
		}
		if !own && c.Has(`(?i)reconnect`) {
			r.Error("a client whose worker was not killed lost its connection")
		}
	}
}

// TestStagesKilled kills a process of the server while clients are at all
// stages of their life: nobody loses more than has to be.
func TestStagesKilled(t *testing.T) {
	rocservOnly(t, "1.1.6 ends without sec-mod")
	for _, k := range []struct {
		victim string
		own    bool // of every stage the own worker
		kill   func(r *rig, bystander lab.Netns) []int
	}{
		{"sec-mod", false, func(r *rig, _ lab.Netns) []int { return r.pids(lab.RoleSecMod) }},
		{"every worker", true, func(r *rig, _ lab.Netns) []int { return r.pids(lab.RoleWorker) }},
		{"another worker", false, func(r *rig, _ lab.Netns) []int {
			w, err := r.srv.Worker(lab.ClientAddr4(len(stages)))
			r.must(err)
			return []int{w.PID}
		}},
	} {
		t.Run(k.victim, func(t *testing.T) {
			t.Parallel()
			r := newHooked(t, len(stages)+1)
			r.killed = true
			bystander := r.Cli[len(stages)]
			r.connectTLS(lab.Dial{From: bystander})
			var holds []func(bool)
			for i, s := range stages {
				holds = append(holds, s.reach(r, r.Cli[i]))
			}
			for _, pid := range k.kill(r, bystander) {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH { // it may just have left
					t.Fatal(err)
				}
			}
			if k.victim == "sec-mod" {
				r.expect(r.srv.Process, `died unexpectedly`, 30*time.Second)
			}
			if k.victim != "another worker" {
				// A connection made at once may get a worker that is just dying:
				// from the first login on there is none of these in the pool.
				r.within(30*time.Second, func() error {
					_, err := lab.Authenticate(lab.Dial{From: bystander, To: lab.ServerAt(lab.Srv4), Pin: r.state.Pin, User: lab.User, Input: right})
					return err
				})
			}
			for i, hold := range holds {
				t.Logf("%s: %s", k.victim, stages[i].name)
				hold(k.own)
			}
		})
	}
}

func (r *rig) pids(role string) (pids []int) {
	r.Helper()
	roles, err := r.srv.Processes()
	r.must(err)
	for _, p := range roles[role] {
		pids = append(pids, p.PID)
	}
	return pids
}

// A keeper goes on without sec-mod, and after another roam under the next one.
// Its own death costs its flows and nothing else.
func TestKeeperAndDeaths(t *testing.T) {
	rocservOnly(t, "it has no keepers")
	t.Parallel()
	r := newRig(t, 1)
	r.killed = true
	c := r.connect(lab.Dial{})
	keeper, err := r.srv.Worker(lab.ClientAddr4(0))
	r.must(err)
	talk, err := lab.StartTalk(c.From, lab.Tgt4)
	r.must(err)
	t.Cleanup(talk.Close)
	r.must(talk.Exchange())
	usr2 := func() error { return c.Signal(syscall.SIGUSR2) }
	r.again(c, usr2)
	r.must(talk.Exchange())

	mark := r.srv.Mark()
	r.must(syscall.Kill(r.pids(lab.RoleSecMod)[0], syscall.SIGKILL))
	if _, err := r.srv.ExpectAfter(mark, `died unexpectedly`, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	r.must(talk.Exchange())
	r.within(60*time.Second, func() error {
		_, err := lab.Authenticate(lab.Dial{From: c.From, To: lab.ServerAt(lab.Srv4), Pin: r.state.Pin, User: lab.User, Input: right})
		return err
	})
	r.again(c, usr2)
	r.must(talk.Exchange())

	r.must(syscall.Kill(keeper.PID, syscall.SIGKILL))
	r.expect(r.srv.Process, `died with sig 9`, 30*time.Second)
	r.must(hello4.run(r, c))
	r.must(hello6.run(r, c))
}
