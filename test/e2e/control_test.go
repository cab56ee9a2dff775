//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// ctl runs occtl for the rig's server, as root, as its operator would.
func (r *rig) ctl(args ...string) (string, error) {
	r.Helper()
	argv := []string{server.Path, "ctl"}
	if server.Kind == lab.Ocserv {
		argv = []string{"occtl"}
	}
	argv = append(append(argv, "-s", r.socket()), args...)
	return r.Srv.RunFor(20*time.Second, "", argv...)
}

func (r *rig) socket() string { return r.state.Path("run", "occtl.socket") }

// newControlled is a rig with a control socket.
func newControlled(t *testing.T, clients int, settings ...string) *rig {
	t.Helper()
	r := newLab(t, clients)
	r.must(r.state.Configure(append(settings, "use-occtl = true", "occtl-socket-file = "+r.socket())...))
	r.start()
	return r
}

// wants runs occtl and looks for texts in what it prints.
func (r *rig) wants(line string, texts ...string) string {
	r.Helper()
	out, err := r.ctl(strings.Fields(line)...)
	if err != nil {
		r.Fatalf("occtl %s: %v\n%s", line, err, out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			r.Errorf("occtl %s: no %q in\n%s", line, text, out)
		}
	}
	return out
}

func TestControl(t *testing.T) {
	r := newControlled(t, 2)
	c := r.connect(lab.Dial{})
	ip4, _, err := c.Addresses()
	r.must(err)
	r.wants("show status", "Status: online", "Server PID:", "Sec-mod PID", "Active sessions: 1")
	r.wants("show users", lab.User, "vpns0", ip4, "connected")
	r.wants("show user "+lab.User, "Username: "+lab.User, "vhost: default", "DTLS cipher: (DTLS1.2)-(PSK)-(AES-",
		"TLS ciphersuite: (TLS1.3)-(", "IPv4: "+ip4, "Remote IP: ", "User-Agent: Open AnyConnect VPN Agent v9")
	r.wants("show sessions all", "authenticated")
	if server.Kind == lab.Rocserv {
		r.counts()
	}
	r.wants("disconnect user "+lab.User, "user '"+lab.User+"' was disconnected")
	if status, err := c.Wait(20 * time.Second); err != nil {
		t.Errorf("the client goes on: status %d, %v", status, err)
	}
	for deadline := time.Now().Add(10 * time.Second); strings.Contains(r.wants("show users"), lab.User); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the session is still there")
		}
	}
	if out, err := r.ctl("show", "user", lab.User); err == nil {
		t.Errorf("a user who is not there: %s", out)
	}
	r.wants("reload", "Server scheduled to reload")
	if server.Kind == lab.Rocserv {
		r.expect(r.srv.Process, "configuration reloaded", 20*time.Second)
	}
}

// counts wants RX and TX to be those of the moment, give or take a quarter of a
// second.
func (r *rig) counts() {
	r.Helper()
	const size = 300000
	before := r.traffic()
	out, err := r.Cli[0].RunFor(20*time.Second, "", "curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", fmt.Sprintf("http://%s/bytes?n=%d", lab.Tgt4, size))
	r.must(err)
	if out != "300000" {
		r.Fatalf("downloaded %s", out)
	}
	got := 0
	for deadline := time.Now().Add(10 * time.Second); got < size && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		got = r.traffic() - before
	}
	if got < size || got > 2*size {
		r.Errorf("TX grew by %d after a download of %d", got, size)
	}
}

func (r *rig) traffic() int {
	r.Helper()
	var list []struct{ TX json.Number }
	text := r.wants("-j show user " + lab.User)
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 1 {
		r.Fatalf("%v in\n%s", err, text)
	}
	n, err := list[0].TX.Int64()
	r.must(err)
	return int(n)
}

// A terminated session's tunnel goes on, and its cookie does not.
func TestTerminate(t *testing.T) {
	rocservOnly(t, "1.1.6 has no such command")
	t.Parallel()
	r := newControlled(t, 2)
	cookie := r.cookie()
	c := r.connect(with(cookie, r.Cli[0]))
	r.wants("terminate user "+lab.User, "was terminated (session invalidated)")
	r.must(hello4.run(r, c))
	if _, err := c.Quit(); err != nil {
		t.Fatal(err)
	}
	r.dead(cookie, r.Cli[1])
}
