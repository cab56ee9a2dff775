//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rocserv/internal/build"
	"rocserv/test/e2e/lab"
)

// Every process is an ordinary user's, without any capability, and can never
// have one.
func TestOrdinaryProcesses(t *testing.T) {
	rocservOnly(t, "it runs as root")
	r := newRig(t, 1)
	c := r.connect(lab.Dial{})
	r.must(hello4.run(r, c))
	roles, err := r.srv.Processes()
	r.must(err)
	if len(roles[lab.RoleMain]) != 1 || len(roles[lab.RoleSecMod]) != 1 || len(roles[lab.RoleWorker]) < 1 || len(roles) != 3 {
		t.Fatalf("processes: %v", roles)
	}
	for role, procs := range roles {
		for _, p := range procs {
			r.ordinary(role, p.PID, lab.ServerID)
		}
	}
}

// ordinary wants a process to be a user's who may do nothing special.
func (r *rig) ordinary(role string, pid, uid int) {
	r.Helper()
	got, err := lab.ReadConfinement(pid)
	if err != nil {
		r.Errorf("%s %d: %v", role, pid, err)
		return
	}
	const filter = 2 // mode, of /proc/PID/status
	want := lab.Confinement{NoNewPrivs: true, Seccomp: filter}
	for i := range want.UIDs {
		want.UIDs[i] = uid
	}
	if got != want {
		r.Errorf("%s %d is %+v, not %+v", role, pid, got, want)
	}
}

// leaky is a shell that gives the server a descriptor and an environment that
// no child may get, and none of who runs the tests (8 and 9 are locks, often).
var leaky = []string{"sh", "-c", `exec 7</etc/shadow 8<&- 9<&-; exec env --default-signal SECRET=of-the-shell "$@"`, "sh"}

// What each process is, seen from outside, is in a file (UPDATE=1 writes it):
// a difference is a decision. And nobody of the same uid gets into any of them.
func TestConfinement(t *testing.T) {
	rocservOnly(t, "it is confined otherwise")
	r := newLab(t, 1)
	srv, err := r.StartServerBy(leaky, server, r.state)
	r.srv = srv
	r.must(err)
	c := r.connect(lab.Dial{})
	r.must(hello4.run(r, c))
	tunnel, err := srv.Worker(lab.ClientAddr4(0))
	r.must(err)
	roles, err := srv.Processes()
	r.must(err)

	pids := []int{roles[lab.RoleMain][0].PID, roles[lab.RoleSecMod][0].PID, tunnel.PID}
	for i, name := range []string{"main", "sec-mod", "worker"} {
		got, err := lab.Inspect(pids[i])
		r.must(err)
		if name == "main" { // its environment is of who starts it
			got = regexp.MustCompile(`(?m)^environment:.*\n`).ReplaceAllString(got, "")
			got = strings.Replace(got, workersOf(server), ".../"+build.WorkerName, 1) // which it executes, and cannot read by this
		}
		golden := filepath.Join("testdata", "confinement", name)
		if os.Getenv("UPDATE") == "1" {
			r.must(os.WriteFile(golden, []byte(got), 0o644))
		}
		want, err := os.ReadFile(golden)
		r.must(err)
		if runtime.GOARCH != "amd64" {
			want = bytes.Replace(want, []byte(" GODEBUG=cpu.sse42=off"), nil, 1)
		}
		if server.Sandbox != lab.NoSandbox { // its group is 0, and it begins with a filter
			want = []byte(inSandbox(string(want)))
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (- testdata/confinement/%s, + is):\n%s", name, name, diff)
		}
	}
	for _, line := range []string{`main is confined`, `sec-mod is confined`, `workers are confined`} {
		r.expect(srv.Process, line, time.Second)
	}
	r.untraceable(append(pids, roles[lab.RoleWorker][0].PID))
}

// inSandbox is what differs in a sandbox of what Inspect says of a process.
func inSandbox(text string) string {
	text = strings.Replace(text, "Gid: "+strings.TrimSpace(strings.Repeat(fmt.Sprint(lab.ServerID)+" ", 4)), "Gid: 0 0 0 0", 1)
	if server.Sandbox == lab.Podman { // which also lists the group, and gives none of the caller's descriptors
		text = strings.Replace(text, "Groups: \n", "Groups: 0\n", 1)
		text = strings.Replace(text, ", /etc/shadow", "", 1)
	}
	return regexp.MustCompile(`(?m)^Seccomp_filters: (\d+)$`).ReplaceAllStringFunc(text, func(line string) string {
		var n int
		fmt.Sscanf(line, "Seccomp_filters: %d", &n)
		return fmt.Sprintf("Seccomp_filters: %d", n+1)
	})
}

// untraceable wants that a process of the server's uid gets into none of them,
// and that it does get into an ordinary one, or the test would prove nothing.
func (r *rig) untraceable(pids []int) {
	r.Helper()
	if b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(b)) != "0" {
		r.Log("Yama keeps processes apart here; the comparison with an ordinary one is left out")
	} else {
		argv := lab.Ordinary("sleep", "60")
		open := exec.Command(argv[0], argv[1:]...)
		r.must(open.Start())
		defer open.Wait()
		defer open.Process.Kill()
		time.Sleep(200 * time.Millisecond) // it executes sleep
		got, err := lab.Trace(lab.ServerID, open.Process.Pid)
		r.must(err)
		if n := len(got[open.Process.Pid]); n != lab.TraceWays() {
			r.Errorf("the test gets into an ordinary process by %d of %d ways only: %v", n, lab.TraceWays(), got)
		}
	}
	got, err := lab.Trace(server.GID(), pids...)
	r.must(err)
	for pid, ways := range got {
		r.Errorf("a process of the same uid gets into %d by: %v", pid, ways)
	}
}

// What sec-mod's configuration does not name it cannot read, whoever says so:
// a link out of its folders ends at Landlock.
func TestSecModFiles(t *testing.T) {
	rocservOnly(t, "it has no Landlock")
	needsLandlock(t)
	r := newLab(t, 1)
	link := r.state.Path("default")
	inside, outside := r.state.Path("inside"), r.Path("outside")
	for _, name := range []string{inside, outside} {
		r.must(os.WriteFile(name, []byte("mtu = 1400\n"), 0o644))
	}
	r.must(os.Symlink(inside, link))
	r.must(r.state.Configure("default-user-config = " + link))
	r.start()
	r.expect(r.srv.Process, `sec-mod is confined.*Landlock`, 5*time.Second)
	c := r.connectTLS(lab.Dial{})
	c.Quit()
	r.must(os.Remove(link))
	r.must(os.Symlink(outside, link))
	r.dial(lab.Dial{Args: []string{"--no-dtls"}})
	r.expect(r.srv.Process, regexp.QuoteMeta(link)+`: permission denied`, 20*time.Second)
}
