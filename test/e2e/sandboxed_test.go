//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"rocserv/test/e2e/lab"
)

// sandboxed are tests that TestSandboxed has once more, one of each kind.
var sandboxed = []struct {
	name string
	test func(*testing.T)
}{
	{"conditions", testSandboxConditions},
	{"logins", TestLogin},
	{"what a tunnel carries", TestEverydayOverDTLS},
	{"processes", TestConfinement},
	{"scripts", TestScriptsEnvironment},
	{"a killed worker", TestWorkerKilled},
	{"a killed sec-mod", TestSecModKilled},
	{"upgrade", TestUpgrade},
	{"stop", TestStop},
	{"what keeps it from starting", TestCannotStart},
}

// inPodman are those that TestInPodman has once more.
var inPodman = []string{"conditions", "logins", "processes", "a killed worker", "upgrade", "stop"}

// A server as in a container with podman's default profile does all that it
// does outside.
func TestSandboxed(t *testing.T) {
	runSandboxed(t, lab.Bwrap, func(string) bool { return true })
}

// And so does one in podman itself.
func TestInPodman(t *testing.T) {
	needsPodman(t)
	runSandboxed(t, lab.Podman, func(name string) bool { return slices.Contains(inPodman, name) })
}

// runSandboxed runs tests once more with the server in a sandbox. With
// SANDBOX=bwrap or SANDBOX=podman every test is: then it makes sure of that.
func runSandboxed(t *testing.T, in lab.Sandbox, wanted func(name string) bool) {
	rocservOnly(t, "it needs root and devices")
	if server.Sandbox != lab.NoSandbox {
		t.Run("conditions", testSandboxConditions)
		return
	}
	server.Sandbox = in
	t.Cleanup(func() { server.Sandbox = lab.NoSandbox })
	for _, s := range sandboxed {
		if wanted(s.name) {
			t.Run(s.name, s.test)
		}
	}
}

// needsPodman skips a test where there is no podman, which in CI is a failure,
// or where it makes no containers.
func needsPodman(t *testing.T) {
	t.Helper()
	needs(t, "podman", "crun")
	if err := newLab(t, 0).PodmanRuns(); err != nil {
		t.Skipf("podman makes no container here: %v", err)
	}
}

// testSandboxConditions makes sure that the sandbox is what it says.
func testSandboxConditions(t *testing.T) {
	r := newRig(t, 1)
	r.connect(lab.Dial{})
	roles, err := r.srv.Processes()
	r.must(err)
	for role, procs := range roles {
		for _, p := range procs {
			r.ordinary(role, p.PID, lab.ServerID)
			said, err := lab.Inspect(p.PID)
			r.must(err)
			if !regexp.MustCompile(`\nGid: 0 0 0 0\nGroups: 0?\n`).MatchString(said) {
				t.Errorf("%s: not in group 0 alone:\n%s", role, said)
			}
		}
	}
	main := r.srv.PID()
	if n := r.ownPID(main); n != 1 {
		t.Errorf("main is process %d of its namespace", n)
	}
	r.bareRoot(main)
	root := fmt.Sprintf("/proc/%d/root", main)
	for _, k := range []struct {
		where    string
		writable bool
	}{{"/", false}, {"/etc", false}, {r.Dir, false}, {filepath.Dir(server.Path), false}, {r.state.Dir, true}} {
		name := filepath.Join(root, k.where, "written")
		if err := os.WriteFile(name, nil, 0o600); (err == nil) != k.writable {
			t.Errorf("writing in %s: %v", k.where, err)
		}
		os.Remove(name)
	}
}
