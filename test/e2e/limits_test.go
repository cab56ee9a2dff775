//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/internal/control"
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

// spoken runs something that says a text to the server by TLS, holds the
// connection open, and ends when the server does.
func (r *rig) spoken(from lab.Netns, text string) *lab.Process {
	r.Helper()
	script := `mkfifo "$3"; (printf '%b' "$1"; exec sleep 60) >"$3" & socat -t 0.1 - "OPENSSL:$2,verify=0" <"$3"; echo; echo over; kill $!`
	p, err := from.Start("talker", nil, nil, "sh", "-c", script, "sh", text, lab.ServerAt(lab.Srv4), r.Path("says-"+from.Name))
	r.must(err)
	r.storyOf(p)
	return p
}

// Who does not log in within auth-timeout is put out then and not before,
// whatever it has said until then; it is counted and said. Who has a tunnel
// keeps it.
func TestAuthTimeout(t *testing.T) {
	rocservOnly(t, "it says other things")
	const limit = 4 * time.Second
	r := newControlled(t, 3, "auth-timeout = 4")
	c := r.connect(lab.Dial{})
	const start = `POST / HTTP/1.1\r\nHost: vpn\r\nContent-Length: 0\r\n\r\n`
	mute := r.spoken(r.Cli[1], "")
	asked := r.spoken(r.Cli[2], start)
	began := time.Now()
	r.expect(asked, `<auth id="main">`, limit)
	for _, p := range []*lab.Process{mute, asked} {
		r.expect(p, `^over$`, limit+loginSlack)
		if took := time.Since(began); took < limit-time.Second {
			t.Errorf("put out after %v", took)
		}
	}
	r.within(10*time.Second, func() error {
		if n := r.srv.Count(`authentication took too long`); n != 2 {
			return fmt.Errorf("it is said %d times, not twice", n)
		}
		return nil
	})
	if n := r.counter("main", "logins_late"); n != 2 {
		t.Errorf("%d late logins are counted", n)
	}
	r.must(hello4.run(r, c))
	if c.Has(`(?i)reconnect`) {
		t.Error("who had a tunnel lost it")
	}
	r.connect(lab.Dial{From: r.Cli[1], User: lab.Other, Input: right})
}

// loginSlack is what main waits longer than auth-timeout before it kills a
// worker that does not end a login itself.
const loginSlack = 5 * time.Second

// With max-clients tunnels there is no other one: openconnect and a plain
// request are told why, it is counted and said, and who is in does not notice.
// When one leaves, the cookie that was refused is as good as before.
func TestMaxClients(t *testing.T) {
	rocservOnly(t, "it says other things")
	r := newControlled(t, 2, "max-clients = 1")
	first := r.connect(lab.Dial{})
	cookie, err := lab.Authenticate(lab.Dial{From: r.Cli[1], To: lab.ServerAt(lab.Srv4), Pin: r.state.Pin, User: lab.Other, Input: right})
	r.must(err)
	second := r.dial(with(cookie, r.Cli[1]))
	status, err := second.Wait(30 * time.Second)
	r.must(err)
	if status == 0 || second.Has(`200 CONNECTED`) || !second.Has(`VPN service unavailable; reason: Server is full`) {
		t.Errorf("openconnect ended with status %d, and was not told why", status)
	}
	_, sid, _ := strings.Cut(cookie, "; webvpn=") // after openconnect's own
	if sid == "" {
		sid = cookie
	}
	plain := r.spoken(r.Cli[1], `CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nHost: vpn\r\nCookie: webvpn=`+sid+`\r\n\r\n`)
	r.expect(plain, `^HTTP/1.1 503 `, 10*time.Second)
	r.expect(plain, `^X-Reason: Server is full`, time.Second)
	r.expect(plain, `^over$`, 10*time.Second)
	r.within(5*time.Second, func() error {
		if n := r.srv.Count(`reached maximum client limit`); n != 2 {
			return fmt.Errorf("it is said %d times, not twice", n)
		}
		return nil
	})
	if n := r.counter("main", "clients_refused"); n != 2 {
		t.Errorf("%d refusals are counted", n)
	}
	r.must(hello4.run(r, first))
	r.untouched(first)
	r.quit(first)
	third := r.connect(with(cookie, r.Cli[1]))
	r.must(hello4.run(r, third))
}

// counter is one of those that the control socket tells.
func (r *rig) counter(process, name string) uint64 {
	r.Helper()
	c, err := control.Dial(r.socket())
	r.must(err)
	defer c.Close()
	var st control.Status
	r.must(c.Call(control.CmdStatus, nil, &st))
	n, ok := st.Counters[process][name]
	if !ok {
		r.Errorf("%s has no counter %s: %v", process, name, st.Counters[process])
	}
	return n
}
