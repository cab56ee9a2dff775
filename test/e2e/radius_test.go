//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// radiusUsers is FreeRADIUS's file of users.
var radiusUsers = fmt.Sprintf(`
alice Cleartext-Password := "%[1]s"
	Class = "OU=staff;ops", Framed-IP-Address = 10.88.5.5, Framed-IP-Netmask = 255.255.0.0,
	Framed-Route = "10.77.0.0/16 0.0.0.0 1", MS-Primary-DNS-Server = 10.77.9.2, Session-Timeout = 7200, Idle-Timeout = 600, Acct-Interim-Interval = 5

bob Cleartext-Password := "%[1]s"

carol Cleartext-Password := "%[1]s", Tmp-String-0 := "246810"

slow Cleartext-Password := "%[1]s"

brief Cleartext-Password := "%[1]s"
	Session-Timeout = 8

expelled Cleartext-Password := "%[1]s"
	Framed-IP-Address = 10.88.6.6, Framed-IP-Netmask = 255.255.0.0

lost Cleartext-Password := "%[1]s"

idle Cleartext-Password := "%[1]s"
	Idle-Timeout = 4

locked Auth-Type := Reject
	Reply-Message = "account is locked"

expired Cleartext-Password := "%[1]s", Expiration := "1 Jan 2020 00:00:00"
`, lab.Password)

// withRADIUS is a rig whose users are those of a FreeRADIUS beside the server; it
// is the second of the servers, and nobody is at the first.
func withRADIUS(t *testing.T, lines ...string) (*rig, *lab.RADIUS) {
	t.Helper()
	rocservOnly(t, "the same by Debian's radcli")
	if _, err := exec.LookPath("freeradius"); errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	r := newLab(t, 1)
	rad, err := r.StartRADIUS(r.Srv, radiusUsers)
	if rad != nil && rad.Process != nil {
		t.Cleanup(func() {
			rad.Signal(syscall.SIGKILL)
			if r.Failed() {
				r.Log(tail(rad.Story()))
			}
		})
	}
	r.must(err)
	r.secrets[rad.Secret] = true
	dir := filepath.Join(r.Dir, "radcli") // not the server's own folder: the helper alone reads it
	r.must(os.Mkdir(dir, 0o755))
	write := func(name, text string) {
		r.must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		r.must(os.Chown(filepath.Join(dir, name), lab.ServerID, lab.ServerID))
	}
	write("servers", "127.0.0.1\t"+rad.Secret+"\n")
	write("radiusclient.conf", fmt.Sprintf("authserver 127.0.0.1:9,127.0.0.1:%d\nacctserver 127.0.0.1:9,127.0.0.1:%d\nservers %s/servers\n"+
		"dictionary /etc/radcli/dictionary\nradius_timeout 5\nradius_retries 1\nradius_deadtime 60\ndynauth-listen 127.0.0.1:3799\n", lab.RADIUSPort, lab.AccountPort, dir))
	conf := filepath.Join(dir, "radiusclient.conf")
	settings := []string{"auth = radius[config=" + conf + ",groupconfig=true,nas-identifier=lab]"}
	for _, l := range lines {
		settings = append(settings, strings.NewReplacer("%s", conf, "SOCKET", r.socket()).Replace(l))
	}
	r.must(r.state.Configure(settings...))
	r.start()
	return r, rad
}

// Logins by a FreeRADIUS: what it says of a user is what becomes of the login.
func TestRADIUS(t *testing.T) {
	r, rad := withRADIUS(t)
	never := []string{`CONNECT response`}
	for _, l := range []login{
		{name: "right", dial: as(lab.User, right),
			lines: []string{lineDTLS, `X-CSTP-Address: 10\.88\.5\.5`, `X-CSTP-Netmask: 255\.255\.0\.0`, `X-CSTP-Split-Include: 10\.77\.0\.0/255\.255\.0\.0`,
				`X-CSTP-DNS: 10\.77\.9\.2`, `X-CSTP-Idle-Timeout: 600`, `X-CSTP-Session-Timeout: 7200`}, checks: []check{hello4}},
		{name: "right, as the configuration has it", dial: as(lab.Other, right), lines: []string{lineDTLS}, checks: both},
		{name: "wrong, then right", dial: as(lab.Other, []string{wrong, lab.Password}), lines: []string{lineFailed, lineDTLS}},
		{name: "wrong", dial: as(lab.User, []string{wrong, wrong, wrong}), status: 1, lines: []string{lineFailed, `HTTP/1.1 401`}, never: never},
		{name: "unknown", dial: as("mallory", []string{wrong, wrong, wrong}), status: 1, lines: []string{lineFailed}, never: never},
		{name: "locked", dial: as("locked", right), status: 1, lines: []string{lineFailed}, never: append(never, `locked`)},
		{name: "expired", dial: as("expired", right), status: 1, lines: []string{lineFailed}, never: never},
		{name: "slow", dial: as("slow", right), lines: []string{lineDTLS}},
		{name: "a code too", dial: as("carol", []string{lab.Password, "246810"}), lines: []string{`Please enter the code of the day`, lineDTLS}},
		{name: "a wrong code", dial: as("carol", []string{lab.Password, "111111"}), status: 1, lines: []string{`code of the day`, `HTTP/1.1 401`}, never: never},
	} {
		t.Run(l.name, func(t *testing.T) { r.in(t).try(l) })
	}
	t.Run("a slow one holds up nobody", func(t *testing.T) {
		r := r.in(t)
		r.must(rad.Hold())
		slow := r.dial(lab.Dial{User: "slow", Input: right, Device: "oc1", Metric: 50})
		for deadline := time.Now().Add(10 * time.Second); !rad.Held(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the slow one does not wait")
			}
		}
		r.connect(lab.Dial{User: lab.Other, Input: right, Device: "oc2", Metric: 60})
		if slow.Has(`CONNECT response`) {
			t.Error("the slow one did not wait")
		}
		r.must(rad.Release())
		r.must(slow.WaitUp())
	})
	t.Run("nobody answers", func(t *testing.T) {
		r := r.in(t)
		rad.Signal(syscall.SIGKILL)
		r.try(login{dial: as(lab.Other, right), status: 1, lines: []string{`HTTP/1.1 503`}, never: append(never, lineFailed)})
		r.must(rad.Start(r.Srv))
		r.try(login{dial: as(lab.Other, right), lines: []string{lineDTLS}})
	})
	t.Run("the helper dies", func(t *testing.T) {
		r := r.in(t)
		roles, err := r.srv.Processes()
		r.must(err)
		helpers := roles[lab.RoleHelper]
		if len(helpers) != 1 {
			t.Fatalf("%d login helpers", len(helpers))
		}
		r.killed = true
		r.must(syscall.Kill(helpers[0].PID, syscall.SIGKILL))
		r.expect(r.srv.Process, `login helper ended`, 10*time.Second)
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			roles, err = r.srv.Processes()
			r.must(err)
			if now := roles[lab.RoleHelper]; len(now) == 1 && now[0].PID != helpers[0].PID {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no other login helper")
			}
		}
		time.Sleep(time.Second) // until it is ready
		r.try(login{dial: as(lab.Other, right), lines: []string{lineDTLS}})
	})
	r.killed = true
}

// accounted waits for a request that FreeRADIUS has written down.
func (r *rig) accounted(rad *lab.RADIUS, user, status string, limit time.Duration) map[string]string {
	r.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		for _, a := range rad.Accounts() {
			if a["User-Name"] == user && a["Acct-Status-Type"] == status {
				return a
			}
		}
		if time.Now().After(deadline) {
			r.Fatalf("no %s of %s is accounted: %v", status, user, rad.Accounts())
		}
	}
}

// Sessions are accounted by a FreeRADIUS: their beginning, course and end, with the
// cause of every way to end.
func TestRADIUSAccounting(t *testing.T) {
	r, rad := withRADIUS(t, "acct = radius[config=%s,nas-identifier=lab]", "use-occtl = true", "occtl-socket-file = SOCKET", "cookie-timeout = 1")
	end := func(user, cause string, limit time.Duration) map[string]string {
		t.Helper()
		stop := r.accounted(rad, user, "Stop", limit)
		if stop["Acct-Terminate-Cause"] != cause || stop["Acct-Session-Id"] != r.accounted(rad, user, "Start", 0)["Acct-Session-Id"] {
			t.Errorf("the end of %s: %v", user, stop)
		}
		return stop
	}
	n := 0
	up := func(user string) *lab.Client {
		t.Helper()
		n++
		c := r.dial(lab.Dial{User: user, Input: right, Device: fmt.Sprintf("oc%d", n), Metric: 50 + n})
		r.must(c.WaitUp())
		return c
	}
	c := up(lab.User)
	start := r.accounted(rad, lab.User, "Start", 10*time.Second)
	for name, want := range map[string]string{
		"Framed-IP-Address": "10.88.5.5", "NAS-Identifier": "lab", "Service-Type": "Framed-User", "Framed-Protocol": "PPP", "Acct-Authentic": "RADIUS",
	} {
		if start[name] != want {
			t.Errorf("%s = %s, want %s", name, start[name], want)
		}
	}
	if start["Calling-Station-Id"] == "" || start["Acct-Session-Id"] == "" || start["Event-Timestamp"] == "" || start["Connect-Info"] == "" {
		t.Errorf("the beginning: %v", start)
	}
	r.must(hello4.run(r, c))
	up("brief")
	up("idle")
	lost := up("lost")
	r.must(lost.Signal(syscall.SIGKILL))
	if interim := r.accounted(rad, lab.User, "Interim-Update", 30*time.Second); interim["Acct-Input-Octets"] == "0" || interim["Acct-Session-Time"] == "" {
		t.Errorf("in between: %v", interim)
	}
	if _, err := c.Quit(); err != nil {
		t.Error(err)
	}
	if stop := end(lab.User, "User-Request", 10*time.Second); stop["Acct-Output-Octets"] == "0" {
		t.Errorf("what was counted: %v", stop)
	}
	up(lab.Other)
	r.accounted(rad, lab.Other, "Start", 10*time.Second)
	r.wants("disconnect user "+lab.Other, "disconnected")
	end(lab.Other, "Admin-Reset", 10*time.Second)
	kicked := up("expelled")
	r.accounted(rad, "expelled", "Start", 10*time.Second)
	for secret, want := range map[string]string{"a guess": "No reply", rad.Secret: "Disconnect-ACK"} {
		says := fmt.Sprintf("User-Name = expelled, Framed-IP-Address = 10.88.6.6, Event-Timestamp = %d\n", time.Now().Unix())
		text, err := r.Srv.RunFor(20*time.Second, says, "radclient", "-x", "-r", "1", "-t", "2", "127.0.0.1:3799", "disconnect", secret)
		if got := text + fmt.Sprint(err); !strings.Contains(got, want) {
			t.Errorf("radclient: %s", got)
		}
	}
	end("expelled", "Admin-Reset", 10*time.Second)
	if _, err := kicked.Wait(20 * time.Second); err != nil {
		t.Error(err)
	}
	end("brief", "Session-Timeout", 40*time.Second)
	end("idle", "Idle-Timeout", 60*time.Second)
	end("lost", "Lost-Carrier", 60*time.Second)

	last := up("slow")
	r.accounted(rad, "slow", "Start", 10*time.Second)
	rad.Signal(syscall.SIGKILL) // nobody takes it now
	if _, err := last.Quit(); err != nil {
		t.Error(err)
	}
	r.expect(r.srv.Process, `session not accounted`, 20*time.Second)
	r.must(rad.Start(r.Srv))
	if stop := end("slow", "User-Request", 40*time.Second); stop["Acct-Delay-Time"] == "0" || stop["Acct-Delay-Time"] == "" {
		t.Errorf("told late: %v", stop)
	}
}
