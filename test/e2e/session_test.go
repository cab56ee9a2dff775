//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// cookie logs in and returns the cookie, for tests that use it several times.
func (r *rig) cookie() string {
	r.Helper()
	cookie, err := lab.Authenticate(lab.Dial{From: r.Cli[0], To: lab.ServerAt(lab.Srv4), Pin: r.state.Pin, User: lab.User, Input: right})
	r.must(err)
	r.secrets[cookie] = true
	return cookie
}

func with(cookie string, from lab.Netns, args ...string) lab.Dial {
	return lab.Dial{From: from, Input: []string{cookie}, Args: append(args, "--cookie-on-stdin")}
}

// addresses are the tunnel's, both together.
func (r *rig) addresses(c *lab.Client) string {
	r.Helper()
	ip4, ip6, err := c.Addresses()
	r.must(err)
	if ip4 == "" || ip6 == "" {
		r.Fatalf("addresses are %q and %q", ip4, ip6)
	}
	return ip4 + " " + ip6
}

// again has a client lose its connection, waits until it has reconnected and
// DTLS is up, and says what is not as it was.
func (r *rig) again(c *lab.Client, lose func() error) {
	r.Helper()
	mark := c.Mark()
	r.must(c.Forget("reconnect"))
	r.must(lose())
	r.must(c.WaitScript("reconnect", 60*time.Second))
	if _, err := c.ExpectAfter(mark, lineDTLS, 30*time.Second); err != nil {
		r.Fatal(err)
	}
	first, err := c.Env("connect")
	r.must(err)
	now, err := c.Env("reconnect")
	r.must(err)
	for _, name := range []string{"INTERNAL_IP4_ADDRESS", "INTERNAL_IP6_NETMASK"} {
		if first[name] != now[name] {
			r.Errorf("%s was %q, is %q", name, first[name], now[name])
		}
	}
	r.must(hello4.run(r, c))
	r.must(hello6.run(r, c))
}

// dead wants the cookie to be refused.
func (r *rig) dead(cookie string, from lab.Netns) {
	r.Helper()
	c := r.dial(with(cookie, from))
	status, err := c.Wait(20 * time.Second)
	r.must(err)
	rejected := status == 2 || status == 1 && server.Kind == lab.Ocserv // 1.1.6 may answer 503
	if !rejected || c.Has(`HTTP/1.1 200 CONNECTED`) {
		r.Errorf("openconnect with a cookie that should be dead ended with status %d", status)
	}
}

// goesOn wants a transfer to survive a new tunnel, of a server that can do
// that; else it must at least not hang.
func (r *rig) goesOn(arrived func() error) {
	r.Helper()
	err := arrived()
	switch {
	case err == nil:
	case keepersBuilt || server.Kind == lab.Ocserv: // whose flows are the kernel's
		r.Error(err)
	case strings.Contains(err.Error(), "connection reset"):
		r.Logf("there are no keepers yet: %v", err)
	default:
		r.Errorf("the flow did not go on and was not reset: %v", err)
	}
}

// A client that reconnects has its address, and its flows go on.
func TestReconnect(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	for _, k := range []struct {
		name string
		args []string
	}{
		{"with another UDP port", nil},
		{"with the same UDP port", []string{"--dtls-local-port", "20000"}},
	} {
		t.Run(k.name, func(t *testing.T) {
			r := r.in(t)
			c := r.connect(as(lab.User, right, k.args...))
			arrived := r.steady(c, 6)
			for range 2 {
				r.again(c, func() error { return c.Signal(syscall.SIGUSR2) })
			}
			r.goesOn(arrived)
		})
	}
}

// A client that went without a word comes back from elsewhere, with its cookie.
func TestDetachAndRoam(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	cookie := r.cookie()
	c := r.connect(with(cookie, r.Cli[0]))
	before := r.addresses(c)
	if _, err := c.End(syscall.SIGHUP, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	c = r.connect(with(cookie, r.Cli[1]))
	if now := r.addresses(c); now != before {
		t.Errorf("addresses were %s, are %s", before, now)
	}
	r.must(hello4.run(r, c))
}

// A client that says goodbye has no session any more.
func TestLogout(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	cookie := r.cookie()
	c := r.connect(with(cookie, r.Cli[0]))
	status, err := c.Quit()
	r.must(err)
	if status != 0 {
		t.Errorf("openconnect ended with status %d", status)
	}
	r.dead(cookie, r.Cli[0])
}

// The newest connection has the session, without a word to the one before: it
// might take it for an order not to come back.
func TestTakeover(t *testing.T) {
	rocservOnly(t, "1.1.6 tells the one before to end")
	t.Parallel()
	r := newRig(t, 2)
	cookie := r.cookie()
	first := r.connect(with(cookie, r.Cli[0]))
	before := r.addresses(first)
	r.must(first.Signal(syscall.SIGSTOP))
	second := r.connect(with(cookie, r.Cli[1]))
	if now := r.addresses(second); now != before {
		t.Errorf("addresses were %s, are %s", before, now)
	}
	r.must(hello4.run(r, second))

	// The first finds its connection closed, and cannot take the session back.
	r.must(r.Cli[0].Nft("still", fmt.Sprintf("output tcp dport %d tcp flags syn / syn,ack drop", lab.Port)))
	mark := first.Mark()
	r.must(first.Signal(syscall.SIGCONT))
	if _, err := first.ExpectAfter(mark, `^Read error on SSL session|(?i)reconnect`, 15*time.Second); err != nil {
		t.Error(err)
	}
	if first.Has(`Received server disconnect|Session terminated`) {
		t.Error("the first client was told to end")
	}
	r.must(first.Signal(syscall.SIGKILL))
	r.must(hello6.run(r, second))
	if second.Has(`(?i)reconnect`) {
		t.Error("the second client lost its connection")
	}
}

// A client makes its tunnel anew when it is told to, and flows go on.
func TestRekey(t *testing.T) {
	t.Parallel()
	const every = 8
	r := newRig(t, 1, fmt.Sprintf("rekey-time = %d", every), "rekey-method = new-tunnel")
	c := r.connect(lab.Dial{})
	arrived := r.steady(c, 3*every)
	// ocserv adds up to half a minute, so that not all clients come at once.
	for range 2 {
		mark := c.Mark()
		r.again(c, func() error {
			_, err := c.ExpectAfter(mark, `CSTP rekey due`, (every+35)*time.Second)
			return err
		})
	}
	r.goesOn(arrived)
}

// A session ends when its time is over, and is not taken up again.
func TestSessionTimeout(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, "session-timeout = 8")
	cookie := r.cookie()
	c := r.connect(with(cookie, r.Cli[0]))
	r.ended(c, func() { hello4.run(r, c) })
	r.dead(cookie, r.Cli[0])
}

// A session that carries nothing ends, though there is DPD, and may be taken
// up again, as ocserv has it.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, "idle-timeout = 6", "dpd = 2")
	cookie := r.cookie()
	c := r.connect(with(cookie, r.Cli[0]))
	before := r.addresses(c)
	r.ended(c, func() {})
	c = r.connect(with(cookie, r.Cli[0]))
	if now := r.addresses(c); now != before {
		t.Errorf("addresses were %s, are %s", before, now)
	}
}

// ended waits for the server to end the session, while the client does
// something.
func (r *rig) ended(c *lab.Client, meanwhile func()) {
	r.Helper()
	// ocserv looks every half minute.
	for deadline := time.Now().Add(75 * time.Second); c.Running() && time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		meanwhile()
	}
	status, err := c.Wait(time.Second)
	r.must(err)
	if status != 1 || !c.Has("Received server disconnect") {
		r.Errorf("openconnect ended with status %d", status)
	}
}
