package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SandboxGID is the group of a server in a sandbox; the user is ServerID.
const SandboxGID = 0

// Sandbox is who makes a container for a server.
type Sandbox string

// The sandboxes.
const (
	NoSandbox Sandbox = ""
	Bwrap     Sandbox = "bwrap"
	Podman    Sandbox = "podman" // podman.go
)

// systemFolders are what a server in a sandbox sees of the host: programs for
// its scripts, the resolver's configuration, the sizes of the host.
var systemFolders = []string{"/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/sys"}

// Hosts that lack a layer of confinement.
var (
	NoLandlock = []uintptr{unix.SYS_LANDLOCK_CREATE_RULESET, unix.SYS_LANDLOCK_ADD_RULE, unix.SYS_LANDLOCK_RESTRICT_SELF}
	NoFilters  = []uintptr{unix.SYS_SECCOMP}
)

// filterRoom is what a pipe takes that nobody reads yet.
const filterRoom = 16 << 10

// startSandboxed starts a server in its sandbox. A host that lacks system calls
// is bubblewrap's in any case.
func (l *Lab) startSandboxed(by []string, p Program, args ...string) (*Process, error) {
	switch {
	case p.Kind != Rocserv:
		return nil, fmt.Errorf("%s needs root and devices: no sandbox for it", p.Kind)
	case p.Sandbox == Podman && len(p.Lacks) == 0:
		return l.startInPodman(by, p, args...)
	}
	return l.startInBwrap(by, p, args...)
}

// startInBwrap starts a server in bubblewrap as podman runs a container with
//
//	--user 12345:0 --cap-drop=ALL --security-opt=no-new-privileges --read-only
//
// and its default profile (profile.go): a pid namespace of its own, in which it
// is process 1, a root that is read-only, no devices but the usual, and writable
// only the folders of the lab that are the server's.
func (l *Lab) startInBwrap(by []string, p Program, args ...string) (*Process, error) {
	own, err := l.ownFolders()
	if err != nil {
		return nil, err
	}
	argv := slices.Concat(by, []string{"bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--as-pid-1", "--die-with-parent",
		"--tmpfs", "/", "--proc", "/proc", "--dev", "/dev"})
	for _, dir := range systemFolders {
		argv = append(argv, "--ro-bind-try", dir, dir)
	}
	for _, dir := range []string{filepath.Dir(p.Path), l.Dir} {
		argv = append(append(argv, above(dir)...), "--ro-bind", dir, dir)
	}
	for _, dir := range own {
		argv = append(argv, "--bind", dir, dir)
	}
	argv = append(argv, "--remount-ro", "/", "--chdir", "/", "--seccomp", "3", "--info-fd", "4")
	argv = slices.Concat(argv, ordinary(SandboxGID, append([]string{p.Path}, args...)...))

	filter, err := compiled(podmanProfile(p.Lacks...))
	if err != nil {
		return nil, err
	}
	filterIn, filterOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer filterIn.Close()
	_, err = filterOut.Write(filter)
	if err := errors.Join(err, filterOut.Close()); err != nil {
		return nil, err
	}
	infoIn, infoOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer infoIn.Close()
	proc, err := l.Srv.start(string(p.Kind), nil, nil, []*os.File{filterIn, infoOut}, argv...)
	infoOut.Close()
	if err != nil {
		return nil, err
	}
	if proc.inside, err = innerPID(infoIn); err != nil {
		proc.Wait(time.Second)
		return nil, fmt.Errorf("no sandbox: %w\n%s", err, proc.Story())
	}
	return proc, nil
}

// above makes the folders above one as all may enter them: bwrap's own are for
// root alone.
func above(dir string) (options []string) {
	if dir = filepath.Dir(dir); dir != "/" {
		options = append(above(dir), "--perms", "0755", "--dir", dir)
	}
	return options
}

// innerPID reads what bwrap says of the process it has started.
func innerPID(info *os.File) (int, error) {
	var said struct {
		PID int `json:"child-pid"`
	}
	info.SetReadDeadline(time.Now().Add(runLimit))
	if err := json.NewDecoder(info).Decode(&said); err != nil {
		return 0, err
	}
	if said.PID <= 1 {
		return 0, io.ErrUnexpectedEOF
	}
	return said.PID, nil
}

// ownFolders are the folders directly in the lab's that belong to the server.
func (l *Lab) ownFolders() (dirs []string, err error) {
	all, err := os.ReadDir(l.Dir)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		st, err := os.Stat(l.Path(e.Name()))
		if err != nil {
			return nil, err
		}
		if st.IsDir() && st.Sys().(*syscall.Stat_t).Uid == ServerID {
			dirs = append(dirs, l.Path(e.Name()))
		}
	}
	return dirs, nil
}
