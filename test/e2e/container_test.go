//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/internal/sandbox"
	"rocserv/test/e2e/lab"
)

// containerUID is one as OpenShift gives: nobody's, in group 0.
const containerUID = 1000680000

// container is bubblewrap around a command: a root that has nothing but the
// program and is read-only, no devices but the usual, /state in memory.
func container(argv ...string) []string {
	wrap := []string{"setpriv", "--reuid", fmt.Sprint(containerUID), "--regid", "0", "--clear-groups",
		"--bounding-set=-all", "--inh-caps=-all", "--no-new-privs",
		"bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1", "--die-with-parent",
		"--tmpfs", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/state",
		"--ro-bind", server.Path, "/rocserv", "--ro-bind", "/etc/resolv.conf", "/etc/resolv.conf",
		"--remount-ro", "/", "--chdir", "/", "--clearenv", "/rocserv"}
	return append(wrap, argv...)
}

// In a container without any right, quickstart is all that it takes.
func TestContainer(t *testing.T) {
	rocservOnly(t, "it needs root and a tun device")
	r := newLab(t, 1)
	p, err := r.Srv.Start("container", nil, nil, container("quickstart", "--listen", fmt.Sprintf(":%d", lab.Port), "--state-dir", "/state")...)
	r.must(err)
	r.storyOf(p)
	r.expect(p, "initialized rocserv", 20*time.Second)
	offer := r.offer(p)

	c := r.connect(lab.Dial{User: offer.user, Input: []string{offer.password}, Pin: offer.pin})
	r.each(c, hello4, hello6, lookup, echoes)

	tree, err := lab.Tree(p.PID())
	r.must(err)
	main := 0
	for _, q := range tree {
		if q.Args[0] == "/rocserv" {
			main = q.PID
		}
	}
	roles, err := lab.ByRole(main)
	r.must(err)
	if len(roles[lab.RoleMain]) != 1 || len(roles[lab.RoleSecMod]) != 1 || len(roles[lab.RoleWorker]) < 1 {
		t.Fatalf("processes: %v", tree)
	}
	for role, procs := range roles {
		for _, q := range procs {
			r.ordinary(role, q.PID, containerUID)
		}
	}
	r.bareRoot(main)

	r.must(syscall.Kill(main, syscall.SIGTERM))
	if status, err := p.Wait(10 * time.Second); err != nil || status != 0 {
		t.Errorf("the container ended with status %d, %v", status, err)
	}
	r.must(lab.Gone(tree, time.Second))
}

// The image of deploy/container is built from its Containerfile and runs as its
// first lines say, with a folder of configuration and nothing else.
func TestContainerfile(t *testing.T) {
	rocservOnly(t, "it has none")
	needsPodman(t)
	r := newLab(t, 1)
	source, err := filepath.Abs("../..")
	r.must(err)
	r.must(r.BuildImage(source))
	conf, err := os.ReadFile(r.state.Config)
	r.must(err)
	r.must(os.WriteFile(r.state.Config, []byte(strings.ReplaceAll(string(conf), r.state.Dir, "/etc/rocserv")), 0o644))
	p, err := r.StartImage(r.state.Dir)
	r.must(err)
	r.storyOf(p)
	r.expect(p, "workers are a program of their own program=/rocserv-worker", 20*time.Second)
	r.expect(p, "initialized rocserv", 20*time.Second)
	c := r.connect(lab.Dial{})
	r.each(c, hello4, hello6, lookup, echoes)

	tree, err := lab.Tree(p.PID())
	r.must(err)
	roles, err := lab.ByRole(p.PID())
	r.must(err)
	if len(roles[lab.RoleMain]) != 1 || len(roles[lab.RoleSecMod]) != 1 || len(roles[lab.RoleWorker]) < 1 {
		t.Fatalf("processes: %v", tree)
	}
	for role, procs := range roles {
		for _, q := range procs {
			r.ordinary(role, q.PID, lab.ServerID)
		}
	}
	if n := r.ownPID(p.PID()); n != 1 {
		t.Errorf("main is process %d of its namespace", n)
	}
	r.bareRoot(p.PID())
	if sandbox.LandlockABI() != 0 && p.Has(`not confined by`) { // podman's profile lets a server confine itself
		t.Error("a layer of confinement is missing")
	}
	if status, err := p.End(syscall.SIGTERM, 20*time.Second); err != nil || status != 0 {
		t.Errorf("the container ended with status %d, %v", status, err)
	}
	r.must(lab.Gone(tree, time.Second))
}

// main is process 1 of the container: it inherits what others leave behind and
// reaps it, and its end is the end of all.
func TestFirstProcess(t *testing.T) {
	rocservOnly(t, "it needs root and a tun device")
	r := newLab(t, 0)
	p, err := r.Srv.Start("container", nil, nil, container("quickstart", "--listen", fmt.Sprintf(":%d", lab.Port), "--state-dir", "/state")...)
	r.must(err)
	r.storyOf(p)
	r.expect(p, "initialized rocserv", 20*time.Second)
	tree, err := lab.Tree(p.PID())
	r.must(err)
	main := tree[slices.IndexFunc(tree, func(q lab.Proc) bool { return q.Args[0] == "/rocserv" })].PID
	if n, err := lab.OwnPID(main); err != nil || n != 1 {
		t.Fatalf("main is process %d of its namespace, %v", n, err)
	}
	// A shell in the namespace that ends before its children do.
	enter := func(script string) {
		_, err := r.Srv.Run("nsenter", "--target", fmt.Sprint(main), "--pid", "sh", "-c", script)
		r.must(err)
	}
	const orphans = 40
	enter(fmt.Sprintf("for i in $(seq %d); do sleep 1000 >/dev/null 2>&1 & done", orphans))
	count := func(state string) int {
		n, err := lab.Children(main, "sleep", state)
		r.must(err)
		return n
	}
	if n := count(""); n != orphans {
		t.Fatalf("main inherited %d of %d", n, orphans)
	}
	tree, err = lab.Tree(main)
	r.must(err)
	for _, q := range tree {
		if q.Args[0] == "sleep" {
			r.must(syscall.Kill(q.PID, syscall.SIGKILL))
		}
	}
	r.within(10*time.Second, func() error {
		if n := count(""); n > 0 {
			return fmt.Errorf("%d orphans are left, %d of them as zombies", n, count("Z"))
		}
		return nil
	})
	enter("sleep 1000 >/dev/null 2>&1 &")
	if tree, err = lab.Tree(p.PID()); err != nil || count("") != 1 {
		t.Fatalf("%d orphans, %v", count(""), err)
	}
	r.must(syscall.Kill(main, syscall.SIGTERM))
	if status, err := p.Wait(10 * time.Second); err != nil || status != 0 {
		t.Errorf("the container ended with status %d, %v", status, err)
	}
	r.must(lab.Gone(tree, time.Second))
}

// bareRoot makes sure that the test is about what it says.
func (r *rig) bareRoot(pid int) {
	r.Helper()
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	r.must(err)
	const point, options = 4, 5
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[point] == "/" && !strings.HasPrefix(f[options], "ro") {
			r.Errorf("the root is not read-only: %s", line)
		}
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/dev/net/tun", pid)); !os.IsNotExist(err) {
		r.Errorf("there is a tun device: %v", err)
	}
}
