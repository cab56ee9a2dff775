//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// A server as in a container with podman's default profile does all that it
// does outside. SANDBOX=bwrap runs every test so.
func TestSandboxed(t *testing.T) {
	rocservOnly(t, "it needs root and devices")
	if server.Sandbox {
		t.Skip("every test is in the sandbox: SANDBOX=bwrap")
	}
	server.Sandbox = true
	t.Cleanup(func() { server.Sandbox = false })
	for _, s := range sandboxed {
		t.Run(s.name, s.test)
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
			if !strings.Contains(said, "\nGid: 0 0 0 0\nGroups: \n") {
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
