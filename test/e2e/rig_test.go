//go:build e2e

package e2e

import (
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// rig is a lab for one test: services in tgt, a server, clients. What fails
// fails the test; the test's end takes everything down and, if it failed,
// prints what all programs have said.
type rig struct {
	*testing.T
	*lab.Lab
	state *lab.State
	srv   *lab.Server // nil until started, and where the test wants none
	tgt   *lab.Process

	killed  bool            // the test kills processes of the server
	secrets map[string]bool // that must not be in the server's log
}

// What the server is to do, and tests are to hold it to once it does.
const (
	keepersBuilt = true // a worker keeps its TCP flows for the one after it
)

// storyLines bounds what is printed of a program's log.
const storyLines = 300

// newLab is a rig without a server.
func newLab(t *testing.T, clients int, settings ...string) *rig {
	t.Helper()
	l, err := lab.Open(clients)
	if err != nil {
		t.Fatal(err)
	}
	return newLabOf(t, l, settings...)
}

// newLabOf is a rig without a server in this lab, which becomes the rig's.
func newLabOf(t *testing.T, l *lab.Lab, settings ...string) *rig {
	t.Helper()
	var err error
	r := &rig{T: t, Lab: l, secrets: map[string]bool{lab.Password: true}}
	t.Cleanup(r.close)
	r.state, err = l.MakeState("state", settings...)
	r.must(err)
	r.tgt, err = lab.StartTarget(l.Tgt)
	r.must(err)
	return r
}

// newRig is a rig with a server of these settings.
func newRig(t *testing.T, clients int, settings ...string) *rig {
	t.Helper()
	r := newLab(t, clients, settings...)
	r.start()
	return r
}

// in is the rig for a subtest.
func (r *rig) in(t *testing.T) *rig {
	sub := *r
	sub.T = t
	return &sub
}

// start starts the server with the rig's state.
func (r *rig) start() {
	r.Helper()
	srv, err := r.StartServer(server, r.state)
	if srv != nil {
		r.srv = srv
	}
	if err != nil {
		r.Fatalf("the server does not start: %v", err)
	}
}

// close stops the server, which so every test tests, and removes the lab.
func (r *rig) close() {
	if r.srv != nil {
		r.closeServer()
	}
	if err := r.Lab.Close(); err != nil {
		r.Error(err)
	}
}

func (r *rig) closeServer() {
	if r.srv.Running() {
		if err := r.srv.Stop(); err != nil {
			r.Errorf("stopping the server: %v", err)
		}
	} else if !r.killed {
		r.Error("the server has ended by itself")
	}
	if !r.killed && r.srv.Has(`panic|internal error|died with sig|protocol violation`) {
		r.Error("the server's log tells of a failure")
	}
	for secret := range r.secrets {
		if r.srv.Has(regexp.QuoteMeta(secret)) {
			r.Errorf("the server's log has the secret %q", secret)
		}
	}
	if r.Failed() {
		r.Log(tail(r.srv.Story()))
	}
}

func tail(s string) string {
	lines := strings.SplitAfter(s, "\n")
	if len(lines) <= storyLines {
		return s
	}
	return lines[0] + "…\n" + strings.Join(lines[len(lines)-storyLines:], "")
}

// dial starts a client: the first client's namespace, the server's IPv4 address
// and alice's right password are what is not said.
func (r *rig) dial(d lab.Dial) *lab.Client {
	r.Helper()
	if d.From.Name == "" {
		d.From = r.Cli[0]
	}
	if d.To == "" {
		d.To = lab.ServerAt(lab.Srv4)
	}
	if d.Pin == "" {
		d.Pin = r.state.Pin
	}
	if d.Input == nil && d.Typed == nil {
		d.User, d.Input = lab.User, []string{lab.Password}
	}
	c, err := r.Connect(d)
	r.must(err)
	r.Cleanup(func() {
		if c.Running() {
			c.Quit()
		}
		if c.Running() {
			c.Signal(syscall.SIGKILL)
		}
		if r.Failed() {
			r.Log(tail(c.Story()))
		}
	})
	return c
}

// connect is dial, and waits until DTLS is up.
func (r *rig) connect(d lab.Dial) *lab.Client {
	r.Helper()
	c := r.dial(d)
	r.must(c.WaitDTLS())
	return c
}

// connectTLS is dial without DTLS, and waits until the tunnel is up.
func (r *rig) connectTLS(d lab.Dial) *lab.Client {
	r.Helper()
	d.Args = append(d.Args, "--no-dtls")
	c := r.dial(d)
	r.must(c.WaitUp())
	return c
}

// must ends the test on an error.
func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// expect waits for a line of a program.
func (r *rig) expect(p *lab.Process, expr string, limit time.Duration) []string {
	r.Helper()
	m, err := p.Expect(expr, limit)
	if err != nil {
		r.Fatalf("%s: %v", p.Name, err)
	}
	return m
}

// ownPID is the number that a process of the server has for the server itself.
func (r *rig) ownPID(pid int) int {
	r.Helper()
	n, err := lab.OwnPID(pid)
	r.must(err)
	return n
}

// rocservOnly skips what another server is not made to do.
func rocservOnly(t *testing.T, why string) {
	t.Helper()
	if server.Kind != lab.Rocserv {
		t.Skipf("not for %s: %s", server.Kind, why)
	}
}
