//go:build e2e

package e2e

import (
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// A source of too many wrong passwords is let in no more, others are. Neighbours
// on the server's own network are never banned, so this one lives elsewhere.
func TestBan(t *testing.T) {
	r := newRig(t, 2, "max-ban-score = 20", "ban-points-wrong-password = 10", "ban-points-connection = 1", "ban-time = 300")
	const elsewhere = "10.88.0.1"
	r.must(r.Cli[0].IP("addr add "+elsewhere+"/32 dev eth0", "route replace "+lab.Srv4+" dev eth0 src "+elsewhere))
	r.must(r.Srv.IP("route add " + elsewhere + " via " + lab.ClientAddr4(0)))
	guesser := r.dial(as(lab.User, []string{wrong, wrong, wrong, wrong}))
	status, err := guesser.Wait(30 * time.Second)
	r.must(err)
	if status != 1 {
		t.Errorf("openconnect ended with status %d", status)
	}
	banned := r.dial(lab.Dial{})
	status, err = banned.Wait(30 * time.Second)
	r.must(err)
	if status == 0 || banned.Has("CONNECT response") {
		t.Error("who is banned gets in")
	}
	other := r.connect(lab.Dial{From: r.Cli[1]})
	r.must(hello4.run(r, other))
}

// One user has no more sessions than allowed; who has one keeps it.
func TestMaxSameClients(t *testing.T) {
	r := newRig(t, 2, "max-same-clients = 1")
	c := r.connect(lab.Dial{})
	second := r.dial(lab.Dial{From: r.Cli[1]})
	status, err := second.Wait(30 * time.Second)
	r.must(err)
	if status == 0 || second.Has("200 CONNECTED") {
		t.Error("a second session of the user is let in")
	}
	r.must(hello4.run(r, c))
	r.again(c, func() error { return c.Signal(syscall.SIGUSR2) }) // is not a second one
	other := r.connect(lab.Dial{From: r.Cli[1], User: lab.Other, Input: right})
	r.must(hello4.run(r, other))
}

// A new configuration is for new sessions; a broken one is for nobody.
func TestReload(t *testing.T) {
	r := newRig(t, 2, "banner = first")
	c := r.connect(lab.Dial{})
	r.reload(`(?i)reload`, "banner = second")
	after := r.connect(lab.Dial{From: r.Cli[1]})
	r.wantEnv(after, map[string]string{"CISCO_BANNER": "second"})
	if _, err := after.Quit(); err != nil {
		t.Error(err)
	}
	if server.Kind == lab.Rocserv { // ocserv 1.1.6 ends
		r.reload(`not reloaded`, "banner = third", "rekey-method = fast")
		after = r.connect(lab.Dial{From: r.Cli[1]})
		r.wantEnv(after, map[string]string{"CISCO_BANNER": "second"})
	}
	r.each(c, hello4, hello6)
	if c.Has("(?i)reconnect") {
		t.Error("the session that was up did not stay up")
	}
}

// reload changes the configuration and waits for what the server says.
func (r *rig) reload(line string, settings ...string) {
	r.Helper()
	r.must(r.state.Configure(settings...))
	mark := r.srv.Mark()
	r.must(r.srv.Signal(syscall.SIGHUP))
	if _, err := r.srv.ExpectAfter(mark, line, 10*time.Second); err != nil {
		r.Fatal(err)
	}
}
