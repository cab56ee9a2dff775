//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"testing"
	"time"

	"rocserv/internal/sandbox"
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

// Those that TestInPodman and TestUnderKubernetesProfile have once more.
var (
	inPodman     = []string{"conditions", "logins", "processes", "a killed worker", "upgrade", "stop"}
	inKubernetes = []string{"conditions", "what a tunnel carries", "processes", "a killed worker", "upgrade"}
)

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
	runIn(t, in, "", wanted)
}

// runIn runs tests once more in a sandbox, with a profile of its own if one is
// named.
func runIn(t *testing.T, in lab.Sandbox, profile string, wanted func(name string) bool) {
	before := server
	t.Cleanup(func() { server = before })
	server.Sandbox, server.Profile = in, profile
	for _, s := range sandboxed {
		if wanted(s.name) {
			t.Run(s.name, s.test)
		}
	}
}

// The default profile of Kubernetes, of which podman's differs, takes no layer of
// confinement away either: the server says so, and works.
func TestUnderKubernetesProfile(t *testing.T) {
	rocservOnly(t, "it needs root and devices")
	needsPodman(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("the profile in testdata/kubernetes is amd64's")
	}
	profile, err := filepath.Abs("testdata/kubernetes/seccomp.json")
	if err != nil {
		t.Fatal(err)
	}
	runIn(t, lab.Podman, profile, func(name string) bool { return slices.Contains(inKubernetes, name) })
	t.Run("layers", testProfileLayers)
}

// testProfileLayers makes sure that the profile is in effect, and that every layer
// of the server's own is on top of it.
func testProfileLayers(t *testing.T) {
	r := newLab(t, 1)
	r.mayUnshare(true, lab.Program{Kind: lab.Rocserv, Path: "/usr/bin/unshare", Sandbox: lab.Podman})
	r.mayUnshare(false, lab.Program{Kind: lab.Rocserv, Path: "/usr/bin/unshare", Sandbox: lab.Podman, Profile: server.Profile})
	said := r.doctorSays(0)
	for _, layer := range []string{"Landlock", "system call filter"} {
		if !regexp.MustCompile(`ok +`+layer+` `).MatchString(said) && (layer != "Landlock" || sandbox.LandlockABI() != 0) {
			t.Errorf("doctor does not find the layer %s:\n%s", layer, said)
		}
	}
	r.start()
	r.each(r.connect(lab.Dial{}), hello4, hello6, lookup, echoes)
	for _, who := range []string{"main", "sec-mod", "workers"} {
		r.expect(r.srv.Process, who+` (is|are) confined reached=.*system call filter`, 10*time.Second)
	}
	if sandbox.LandlockABI() != 0 && r.srv.Has(` not confined by `) {
		t.Error("a layer of confinement is missing")
	}
}

// mayUnshare runs unshare, which makes a user namespace: podman's profile lets a
// container do so, that of Kubernetes does not.
func (r *rig) mayUnshare(may bool, unshare lab.Program) {
	r.Helper()
	p, err := r.Launch(unshare, "--user", "/bin/true")
	r.must(err)
	status, err := p.Wait(30 * time.Second)
	if err != nil || (status == 0) != may || !may && !p.Has("Operation not permitted") {
		r.Errorf("unshare with the profile %q: status %d, %v\n%s", unshare.Profile, status, err, p.Story())
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
