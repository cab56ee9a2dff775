//go:build e2e

package e2e

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// loss is what a kill takes from the clients.
type loss struct {
	worker bool // each client's own
	secMod bool // and with it what it knows of a login half done
}

// stage is how far a client of the server has come, and what must be when a
// process was killed.
type stage struct {
	name string
	// reach brings a client, of which there is one for each stage, so far, and
	// returns what must hold afterwards.
	reach func(r *rig, from lab.Netns) (holds func(loss))
}

// stages are tried all at once.
var stages = []stage{
	{"pooled", func(r *rig, from lab.Netns) func(loss) {
		return func(loss) { r.must(hello4.run(r, r.connectTLS(lab.Dial{From: from}))) }
	}},
	{"TLS", func(r *rig, from lab.Netns) func(loss) {
		ask := r.handshaken(from)
		return func(lost loss) {
			if err := ask(); (err != nil) != lost.worker {
				r.Errorf("a request on the connection: %v", err)
			}
			if lost.worker {
				r.must(r.handshaken(from)())
			}
		}
	}},
	{"login asked", func(r *rig, from lab.Netns) func(loss) { return r.asked(from, nil) }},
	{"login asked again", func(r *rig, from lab.Netns) func(loss) { return r.asked(from, []string{wrong}) }},
	{"logged in", func(r *rig, from lab.Netns) func(loss) {
		cookie := r.cookie()
		return func(loss) { r.must(hello4.run(r, r.connectTLS(with(cookie, from)))) }
	}},
	{"CONNECT sent", func(r *rig, from lab.Netns) func(loss) {
		hold := r.state.Path("run", "hold")
		r.must(os.WriteFile(hold, nil, 0o644))
		d := lab.Dial{From: from, User: lab.Other, Input: right}
		c := r.dial(d)
		r.told("connect", lab.Other)
		return func(lost loss) {
			r.must(os.Remove(hold))
			if lost.worker && c.WaitUp() != nil { // it has tried once more at once, and given up
				_, err := c.Wait(30 * time.Second)
				r.must(err)
				c = r.dial(d)
			}
			r.must(c.WaitUp())
			r.must(hello4.run(r, c))
		}
	}},
	{"tunnel without DTLS", func(r *rig, from lab.Netns) func(loss) {
		return r.staysUp(r.connectTLS(lab.Dial{From: from}))
	}},
	{"tunnel with DTLS", func(r *rig, from lab.Netns) func(loss) {
		return r.staysUp(r.connect(lab.Dial{From: from}))
	}},
	{"detached", func(r *rig, from lab.Netns) func(loss) {
		cookie := r.cookie()
		c := r.connectTLS(with(cookie, from))
		before := r.addresses(c)
		_, err := c.End(syscall.SIGKILL, 10*time.Second)
		r.must(err)
		return func(loss) {
			c := r.connectTLS(with(cookie, from))
			if now := r.addresses(c); now != before {
				r.Errorf("detached: addresses were %s, are %s", before, now)
			}
		}
	}},
	{"roaming", func(r *rig, from lab.Netns) func(loss) {
		c := r.connect(lab.Dial{From: from})
		talk, err := lab.StartTalk(from, lab.Tgt4)
		r.must(err)
		r.Cleanup(talk.Close)
		r.must(talk.Exchange())
		r.again(c, func() error { return c.Signal(syscall.SIGUSR2) })
		r.must(talk.Exchange()) // by way of the worker before
		up := r.staysUp(c)
		return func(lost loss) {
			up(lost)
			if err := talk.Exchange(); (err != nil) != lost.worker {
				r.Errorf("a flow of the worker before: %v", err)
			}
		}
	}},
}

// handshaken makes a TLS connection, on which nothing was said yet. ask asks
// for a login there.
func (r *rig) handshaken(from lab.Netns) (ask func() error) {
	r.Helper()
	in, text, err := os.Pipe()
	r.must(err)
	c, err := from.Start("socat", in, nil, "socat", "-d", "-d", "-", "OPENSSL:"+lab.ServerAt(lab.Srv4)+",verify=0")
	r.must(err)
	in.Close()
	r.Cleanup(func() {
		text.Close()
		c.Signal(syscall.SIGKILL)
	})
	r.expect(c, `SSL connection using`, 20*time.Second)
	return func() error {
		text.WriteString("GET / HTTP/1.1\r\nHost: vpn.test\r\nUser-Agent: Open AnyConnect VPN Agent v9.12\r\n\r\n")
		_, err := c.Expect(`^HTTP/1\.1 200 OK`, 20*time.Second)
		return err
	}
}

// asked has a client wait for its user to type a password, after wrong ones.
func (r *rig) asked(from lab.Netns, before []string) func(loss) {
	r.Helper()
	in, typed, err := os.Pipe()
	r.must(err)
	c := r.dial(lab.Dial{From: from, User: lab.User, Typed: in})
	in.Close()
	r.Cleanup(func() { typed.Close() })
	r.expect(c.Process, `^Please enter your username`, 20*time.Second)
	for _, password := range before {
		typed.WriteString(password + "\n")
		r.expect(c.Process, lineFailed, 20*time.Second)
	}
	return func(lost loss) {
		typed.WriteString(lab.Password + "\n")
		if lost.secMod && len(before) > 0 { // who counted them is gone: he is told so, and starts anew
			r.expect(c.Process, `HTTP/1\.1 401`, 20*time.Second)
			c = r.connectTLS(lab.Dial{From: from})
		}
		r.must(c.WaitUp())
		r.must(hello4.run(r, c))
	}
}

// staysUp wants a client not to notice; one whose own worker died comes back.
func (r *rig) staysUp(c *lab.Client) func(loss) {
	before := r.addresses(c)
	r.must(c.Forget("reconnect"))
	times := c.Count(`(?i)reconnect`)
	return func(lost loss) {
		if lost.worker {
			r.must(c.WaitScript("reconnect", 60*time.Second))
		}
		r.must(hello4.run(r, c))
		r.must(hello6.run(r, c))
		if now := r.addresses(c); now != before {
			r.Errorf("addresses were %s, are %s", before, now)
		}
		if !lost.worker && c.Count(`(?i)reconnect`) != times {
			r.Error("a client whose worker was not killed lost its connection")
		}
	}
}

// victims are killed, each kind alone.
var victims = []struct {
	name string
	loss
	kill func(r *rig)
}{
	{"another worker", loss{}, func(r *rig) {
		w, err := r.srv.Worker(lab.ClientAddr4(len(stages)))
		r.must(err)
		r.kill(w.PID)
	}},
	{"sec-mod", loss{secMod: true}, func(r *rig) {
		r.kill(r.pids(lab.RoleSecMod)...)
		r.expect(r.srv.Process, `died unexpectedly`, 30*time.Second)
	}},
	{"every worker", loss{worker: true}, func(r *rig) { r.kill(r.pids(lab.RoleWorker)...) }},
	{"main", loss{worker: true, secMod: true}, func(r *rig) {
		roles, err := r.srv.Processes()
		r.must(err)
		r.kill(r.srv.PID())
		r.must(lab.Gone(slices.Concat(roles[lab.RoleMain], roles[lab.RoleSecMod], roles[lab.RoleWorker]), time.Second))
		r.start() // as who supervises it does
	}},
}

// TestStagesKilled kills a process of the server while clients are at all
// stages of their life: nobody loses more than has to be. What must survive
// main is what session-store is for.
func TestStagesKilled(t *testing.T) {
	rocservOnly(t, "1.1.6 ends without sec-mod")
	for _, v := range victims {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			r := newLab(t, len(stages)+1)
			r.hooked("auth-timeout = 240", "session-store = "+r.state.Path("run", "sessions"))
			r.start()
			r.killed = true
			var holds []func(loss)
			for i, s := range stages {
				holds = append(holds, s.reach(r, r.Cli[i]))
			}
			bystander := r.Cli[len(stages)]
			ip4, _, err := r.connectTLS(lab.Dial{From: bystander}).Addresses()
			r.must(err)
			r.stored(ip4) // and all before
			v.kill(r)
			if v.loss != (loss{}) {
				// A connection made at once may get a worker that is just dying:
				// from the first login on there is none of these in the pool.
				r.within(30*time.Second, func() error {
					_, err := lab.Authenticate(lab.Dial{From: bystander, To: lab.ServerAt(lab.Srv4), Pin: r.state.Pin, User: lab.User, Input: right})
					return err
				})
			}
			for i, hold := range holds {
				t.Logf("%s: %s", v.name, stages[i].name)
				hold(v.loss)
			}
		})
	}
}

// kill kills processes, some of which may just have left.
func (r *rig) kill(pids ...int) {
	r.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			r.Fatal(err)
		}
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
