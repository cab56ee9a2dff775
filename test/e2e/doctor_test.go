//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"rocserv/internal/doctor"
	"rocserv/test/e2e/lab"
)

// doctorSays runs doctor as the server's user in srv.
func (r *rig) doctorSays(status int, args ...string) string {
	r.Helper()
	return r.doctorOn(server, status, args...)
}

// doctorOn is doctorSays with another program.
func (r *rig) doctorOn(program lab.Program, status int, args ...string) string {
	r.Helper()
	p, err := r.Launch(program, append([]string{"doctor", "-c", r.state.Config}, args...)...)
	r.must(err)
	got, err := p.Wait(30 * time.Second)
	r.must(err)
	if got != status {
		r.Errorf("doctor %v ends with %d, not %d:\n%s", args, got, status, p.Story())
	}
	return p.Story()
}

// What doctor says of a host is so: pings, ports, files, and the room for
// clients, which is what the server says at start.
func TestDoctor(t *testing.T) {
	rocservOnly(t, "it has no doctor")
	r := newLab(t, 1, "max-clients = 7")
	r.must(r.OpenPing(false))
	said := r.doctorSays(0)
	for _, line := range []string{`gap  ping sockets .*denied`, `ok   TCP 0\.0\.0\.0:4443 +free`, `Room for clients: 7`, `max-clients .*<- decides`, `ok   plain`, workersSaid()} {
		if !regexp.MustCompile(line).MatchString(said) {
			t.Errorf("doctor does not say %q:\n%s", line, said)
		}
	}
	r.must(r.OpenPing(true))
	r.must(r.state.Configure())
	r.start()
	room := r.expect(r.srv.Process, `room for clients.* workers=(\d+)`, time.Second)
	rep := r.doctorJSON(0)
	find := func(list []doctor.Finding, name string) (f doctor.Finding) {
		for _, f = range list {
			if f.Name == name {
				return f
			}
		}
		t.Errorf("nothing about %q", name)
		return f
	}
	if f := find(rep.Host, "ping sockets"); f.State != doctor.OK {
		t.Errorf("%+v", f)
	}
	if f := find(rep.Config, "TCP 0.0.0.0:4443"); f.State != doctor.Gap || !strings.Contains(f.Have, "in use") {
		t.Errorf("%+v", f)
	}
	// The server itself has taken some of what there was.
	if n, _ := strconv.Atoi(room[1]); rep.Clients > n*11/10 || rep.Clients < n/2 {
		t.Errorf("the server has room for %d, doctor says %d", n, rep.Clients)
	}
	key := r.state.Path("key.pem")
	r.must(os.Chmod(key, 0))
	if f := find(r.doctorJSON(1).Config, key); f.State != doctor.Bad {
		t.Errorf("%+v", f)
	}
	r.must(os.Chmod(key, 0o600))
}

// workersSaid is what doctor says of the workers' program.
func workersSaid() string {
	if _, err := os.Stat(workersOf(server)); err != nil {
		return `gap  workers +the server's own program\n`
	}
	return `ok   workers +a program of their own, ` + regexp.QuoteMeta(workersOf(server)) + `\n`
}

// logTime is what a log puts in front of a line.
var logTime = regexp.MustCompile(`(?m)^ *\d+\.\d{3} `)

// doctorJSON is doctorSays --json.
func (r *rig) doctorJSON(status int) (rep doctor.Report) {
	r.Helper()
	said := logTime.ReplaceAllString(r.doctorSays(status, "--json"), "")
	from, to := strings.Index(said, "{"), strings.LastIndex(said, "}")
	if from < 0 || to < from {
		r.Fatalf("no JSON: %s", said)
	}
	r.must(json.Unmarshal([]byte(said[from:to+1]), &rep))
	return rep
}
