package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// podmanConf is what podman does without here: a cgroup, which it may not make
// everywhere, limits beyond the caller's own, and a log and locks that are the
// host's.
const podmanConf = `[containers]
cgroups = "disabled"
default_ulimits = []
log_driver = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
`

// podmanScript hides the host's cgroups, of which crun does not take every
// layout, and executes the rest.
const podmanScript = `mount -t tmpfs none /sys/fs/cgroup && exec "$@"`

// podmanRights is what podman is asked for, as deploy/container has it.
var podmanRights = []string{"--user", fmt.Sprintf("%d:%d", ServerID, SandboxGID), "--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only"}

// podman is a command line of podman with a store of the lab's own.
func (l *Lab) podman(args ...string) []string {
	return append([]string{"podman", "--log-level=error", "--storage-driver=vfs",
		"--root=" + l.Path("podman", "store"), "--runroot=" + l.Path("podman", "run"), "--tmpdir=" + l.Path("podman", "tmp")}, args...)
}

// podmanEnv writes podman's configuration and returns the environment with it.
func (l *Lab) podmanEnv() ([]string, error) {
	dir := l.Path("podman")
	conf := filepath.Join(dir, "containers.conf")
	if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		return nil, err
	}
	return []string{"CONTAINERS_CONF=" + conf}, os.WriteFile(conf, []byte(podmanConf), 0o644)
}

// PodmanRuns says why podman makes no container here, if it does not.
func (l *Lab) PodmanRuns() error {
	p, err := l.runInPodman(nil, "podman", append(l.host(), "/bin/true")...)
	if err != nil {
		return err
	}
	return succeeded(p, runLimit)
}

func succeeded(p *Process, limit time.Duration) error {
	if status, err := p.Wait(limit); err != nil || status != 0 {
		return fmt.Errorf("status %d, %w\n%s", status, err, p.Story())
	}
	return nil
}

// startInPodman starts a server in a container with podman's own profile, or
// the program's, and what startInBwrap makes.
func (l *Lab) startInPodman(by []string, p Program, args ...string) (*Process, error) {
	own, err := l.ownFolders()
	if err != nil {
		return nil, err
	}
	var options []string
	if p.Profile != "" {
		options = append(options, "--security-opt=seccomp="+p.Profile)
	}
	for _, dir := range []string{filepath.Dir(p.Path), l.Dir} {
		if !slices.Contains(own, dir) {
			options = append(options, "--volume="+dir+":"+dir+":ro")
		}
	}
	for _, dir := range own {
		options = append(options, "--volume="+dir+":"+dir)
	}
	return l.runInPodman(by, string(p.Kind), slices.Concat(options, l.host(), []string{p.Path}, args)...)
}

// hostVolumes are the host's programs.
func hostVolumes() (volumes []string) {
	for _, dir := range systemFolders {
		if st, err := os.Stat(dir); err == nil && st.IsDir() && dir != "/sys" { // podman makes its own
			volumes = append(volumes, "--volume="+dir+":"+dir+":ro")
		}
	}
	return volumes
}

// host is in place of an image: a root with nothing but the host's programs.
func (l *Lab) host() []string {
	return append(hostVolumes(), "--rootfs", l.Path("podman", "rootfs"))
}

// runInPodman runs a container in the namespace srv. The arguments are options,
// the image and a command.
func (l *Lab) runInPodman(by []string, name string, args ...string) (*Process, error) {
	env, err := l.podmanEnv()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.Path("podman"), "container-")
	if err != nil {
		return nil, err
	}
	pidFile := filepath.Join(dir, "pid")
	run := slices.Concat([]string{"run", "--rm", "--network=host", "--no-hosts", "--dns=none", "--pidfile=" + pidFile}, podmanRights, args)
	proc, err := l.Srv.start(name, nil, env, nil, slices.Concat([]string{"sh", "-c", podmanScript, "sh"}, by, l.podman(run...))...)
	if err != nil {
		return nil, err
	}
	if proc.inside, err = writtenPID(proc, pidFile); err != nil {
		proc.Wait(time.Second)
		return nil, fmt.Errorf("no container: %w\n%s", err, proc.Story())
	}
	return proc, nil
}

// writtenPID waits for the file with the pid of the process in the container.
func writtenPID(p *Process, file string) (int, error) {
	for deadline := time.Now().Add(runLimit); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(file)
		if n, nerr := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && nerr == nil && n > 1 {
			return n, nil
		}
		if !p.Running() || time.Now().After(deadline) {
			return 0, fmt.Errorf("podman has not written %s", file)
		}
	}
}

// goImage has the name of the image with Go that the Containerfile begins with,
// and nothing in it: there is no registry in the lab.
const goImage = `FROM scratch
ENV PATH=/goroot/bin:/usr/bin:/bin GOROOT=/goroot GOMODCACHE=/modules GOCACHE=/built GOPROXY=off GOTOOLCHAIN=local HOME=/tmp
`

// BuildImage builds the image of deploy/container from the source in this
// folder, with the host's Go and modules.
func (l *Lab) BuildImage(source string) error {
	env, err := l.podmanEnv()
	if err != nil {
		return err
	}
	goFile := l.Path("podman", "Containerfile")
	if err := os.WriteFile(goFile, []byte(goImage), 0o644); err != nil {
		return err
	}
	out, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE", "GOCACHE").Output()
	folders := strings.Fields(string(out))
	if err != nil || len(folders) != 3 {
		return fmt.Errorf("go env: %w, %q", err, out)
	}
	volumes := append(hostVolumes(), "--volume="+folders[0]+":/goroot:ro", "--volume="+folders[1]+":/modules", "--volume="+folders[2]+":/built")
	for _, args := range [][]string{
		{"-t", "docker.io/library/golang:1.26", "-f", goFile, l.Path("podman", "rootfs")},
		append(volumes, "-t", image, "-f", filepath.Join(source, "deploy", "container", "Containerfile"), source),
	} {
		build := l.podman(append([]string{"build", "--isolation=chroot", "--pull=never", "--layers=false"}, args...)...)
		p, err := l.Srv.start("podman build", nil, env, nil, slices.Concat([]string{"sh", "-c", podmanScript, "sh"}, build)...)
		if err != nil {
			return err
		}
		if err := succeeded(p, buildLimit); err != nil {
			return err
		}
	}
	return nil
}

const (
	image      = "localhost/rocserv"
	buildLimit = 10 * time.Minute
)

// StartImage starts a container of the image as deploy/container says, with a
// folder for its configuration.
func (l *Lab) StartImage(conf string) (*Process, error) {
	return l.runInPodman(nil, image, "--volume="+conf+":/etc/rocserv:ro", image)
}
