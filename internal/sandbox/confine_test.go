package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const probeArg = "__probe" // ROLE PROBE [FOLDER ...]

// probes are what a confined process tries; each returns what came of it.
var probes = map[string]func(args []string) error{
	"open":     func(a []string) error { return open(a[1]) },
	"list":     func(a []string) error { _, err := os.ReadDir(a[0]); return err },
	"write":    func(a []string) error { return os.WriteFile(filepath.Join(a[0], "new"), nil, 0o600) },
	"passwd":   func([]string) error { return open("/etc/passwd") },
	"maps":     func([]string) error { return open("/proc/self/maps") },
	"unix":     func([]string) error { return makeSocket(unix.AF_UNIX, unix.SOCK_STREAM, 0) },
	"netlink":  func([]string) error { return makeSocket(unix.AF_NETLINK, unix.SOCK_RAW, 0) },
	"raw":      func([]string) error { return makeSocket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) },
	"udp":      func([]string) error { return makeSocket(unix.AF_INET, unix.SOCK_DGRAM, 0) },
	"exec":     func([]string) error { return syscall.Exec("/bin/true", []string{"true"}, nil) },
	"fork":     func([]string) error { return fork() },
	"ptrace":   func([]string) error { return unix.PtraceAttach(os.Getppid()) },
	"signal":   func([]string) error { return unix.Kill(os.Getppid(), syscall.SIGCONT) },
	"dumpable": func([]string) error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) },
	"work":     func([]string) error { return work() },
	"crash":    func([]string) error { panic("on purpose") },
}

func open(name string) error {
	f, err := os.Open(name)
	if err == nil {
		f.Close()
	}
	return err
}

// fork starts a program without opening anything for it.
func fork() error {
	pid, err := syscall.ForkExec("/bin/true", []string{"true"}, nil)
	if err == nil {
		_, err = syscall.Wait4(pid, nil, 0, nil)
	}
	return err
}

func makeSocket(domain, kind, proto int) error {
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, proto)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// work does what a Go process does: threads, collections, preemption, timers,
// sockets.
func work() error {
	rounds := 64
	if raceEnabled {
		rounds = 4
	}
	done := make(chan int)
	for range 8 {
		go func() {
			runtime.LockOSThread() // a thread of its own, which ends with it
			n := 0
			for i := range rounds * 400_000 {
				n += i // a loop that only a signal interrupts
			}
			done <- n
		}()
	}
	var keep [][]byte
	for i := range rounds {
		keep = append(keep, bytes.Repeat([]byte{byte(i)}, 1<<20))
		runtime.GC()
	}
	for range 8 {
		<-done
	}
	runtime.KeepAlive(keep)
	time.Sleep(time.Millisecond)
	l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	defer l.Close()
	c, err := net.DialUDP("udp4", nil, l.LocalAddr().(*net.UDPAddr))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err = l.Read(make([]byte, 1))
	return err
}

// outcome is what a probe prints.
type outcome struct {
	Report  Report
	Err     string
	Errno   syscall.Errno
	Confine string // why it is not confined
}

func probeMain(r Role, probe string, dirs []string) int {
	var o outcome
	opts := Options{Isolate: true, LimitMemory: !raceEnabled}
	if _, err := Prepare(r, opts); err != nil {
		o.Confine = err.Error()
	}
	var files Files
	if r == SecMod || r == Helper {
		files = Files{Read: []string{dirs[0]}}
	}
	rep, err := Confine(r, opts, files)
	o.Report = rep
	if err != nil {
		o.Confine = err.Error()
	}
	if err := probes[probe](dirs); err != nil {
		o.Err = err.Error()
		errors.As(err, &o.Errno)
	}
	json.NewEncoder(os.Stdout).Encode(o)
	return 0
}

// attempt runs a probe in a role with a binary. signal is what ended it, 0 if it ended by itself.
func attempt(t *testing.T, exe string, r Role, probe string, dirs ...string) (o outcome, signal syscall.Signal, stderr string) {
	t.Helper()
	cmd := exec.Command(exe, append([]string{probeArg, string(r), probe}, dirs...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return o, ee.Sys().(syscall.WaitStatus).Signal(), errs.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out.Bytes(), &o); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	return o, 0, errs.String()
}

// binaries are this test as it was built, and without cgo as releases are:
// the runtime starts threads and reaches them differently.
func binaries(t *testing.T) map[string]string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]string{"as built": self}
	if testing.Short() {
		return list
	}
	for _, cgo := range []string{"0", "1"} {
		exe := filepath.Join(t.TempDir(), "static")
		build := exec.Command("go", "test", "-c", "-o", exe, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		list["CGO_ENABLED="+cgo] = exe
	}
	return list
}

const sigsys = syscall.SIGSYS

func TestConfined(t *testing.T) {
	if auditArch == 0 {
		t.Skip("no list for this machine")
	}
	inside, outside := t.TempDir(), t.TempDir()
	fileIn, fileOut := filepath.Join(inside, "f"), filepath.Join(outside, "f")
	for _, f := range []string{fileIn, fileOut} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	landlocked := LandlockABI() > 0
	type want struct {
		errno  syscall.Errno
		signal syscall.Signal
	}
	eperm, eacces, ok, dead := want{errno: unix.EPERM}, want{errno: unix.EACCES}, want{}, want{signal: sigsys}
	if !landlocked {
		t.Log("no Landlock here: files of sec-mod are not tested")
	}
	tests := []struct {
		probe                        string
		dirs                         []string
		worker, secmod, helper, main want
	}{
		{"work", []string{inside}, ok, eperm, ok, ok}, // sec-mod makes no sockets
		{"open", []string{inside, fileIn}, eperm, ok, ok, ok},
		{"open", []string{inside, fileOut}, eperm, eacces, eacces, ok},
		{"list", []string{inside}, eperm, eacces, eacces, ok},
		{"write", []string{inside}, eperm, eacces, eacces, ok},
		{"passwd", []string{inside}, eperm, eacces, eacces, ok},
		{"maps", []string{inside}, eperm, eacces, eacces, want{errno: unix.EACCES}}, // not dumpable: root's, where the test is not root
		{"unix", []string{inside}, eperm, eperm, eperm, ok},
		{"netlink", []string{inside}, eperm, eperm, eperm, ok},
		{"raw", []string{inside}, eperm, eperm, eperm, ok},
		{"udp", []string{inside}, ok, eperm, ok, ok},
		{"dumpable", []string{inside}, eperm, eperm, eperm, ok},
		{"exec", []string{inside}, dead, dead, dead, want{}}, // and prints nothing
		{"fork", []string{inside}, dead, dead, dead, ok},
		{"ptrace", []string{inside}, dead, dead, dead, eperm},
		{"signal", []string{inside}, dead, dead, dead, ok},
	}
	for name, exe := range binaries(t) {
		t.Run(name, func(t *testing.T) {
			for _, tt := range tests {
				for _, p := range []struct {
					role Role
					want want
				}{{Worker, tt.worker}, {SecMod, tt.secmod}, {Helper, tt.helper}, {Main, tt.main}} {
					if p.role == Main && slices.Contains([]string{"exec", "maps", "raw", "signal"}, tt.probe) {
						continue // as any user's process
					}
					if p.want == eacces && !landlocked {
						continue
					}
					o, sig, stderr := attempt(t, exe, p.role, tt.probe, tt.dirs...)
					if o.Confine != "" {
						t.Errorf("%s: not confined: %s", p.role, o.Confine)
					}
					if sig != p.want.signal || o.Errno != p.want.errno || (o.Err != "") != (p.want.errno != 0) {
						t.Errorf("%s: %s: signal %d, %q, want %+v; %s", p.role, tt.probe, sig, o.Err, p.want, stderr)
					}
				}
			}
		})
	}
}

// A crash still writes its trace: a worker that panics must be found out about.
func TestCrash(t *testing.T) {
	self, _ := os.Executable()
	for _, r := range []Role{Worker, SecMod, Helper} {
		_, _, stderr := attempt(t, self, r, "crash", t.TempDir())
		if !strings.Contains(stderr, "panic: on purpose") || !strings.Contains(stderr, "goroutine 1") {
			t.Errorf("%s: trace %q", r, stderr)
		}
	}
}

func TestReport(t *testing.T) {
	o, _, _ := attempt(t, must(os.Executable()), Worker, "udp", t.TempDir())
	want := []string{"system call filter"}
	if abi := LandlockABI(); abi > 0 {
		want = []string{fmt.Sprintf("Landlock %d", abi), "system call filter"}
	} else if len(o.Report.Missing) != 1 || o.Report.Err() == nil {
		t.Errorf("Landlock is not said to be missing: %+v", o.Report)
	}
	if !slices.Equal(o.Report.Reached, want) {
		t.Errorf("reached %v, want %v", o.Report.Reached, want)
	}
	var r Report
	r.add("a", nil)
	if r.Err() != nil {
		t.Error("nothing is missing, and it is an error")
	}
	r.add("b", errors.New("gone"))
	if r.Err() == nil || r.String() != "a; missing: b (gone)" {
		t.Errorf("%q, %v", r.String(), r.Err())
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What links lead to is found, so that a file replaced the way tools do it can
// be opened again.
func TestFolders(t *testing.T) {
	top := must(filepath.EvalSymlinks(t.TempDir()))
	path := func(names ...string) string { return filepath.Join(append([]string{top}, names...)...) }
	for _, d := range []string{"live", "archive", "mount/..data1"} {
		must(0, os.MkdirAll(path(d), 0o700))
	}
	must(0, os.WriteFile(path("archive", "key1"), nil, 0o600))
	must(0, os.Symlink("../archive/key1", path("live", "key")))
	must(0, os.Symlink("..data1", path("mount", "..data")))
	must(0, os.Symlink("..data/key", path("mount", "key")))
	must(0, os.Symlink("loop", path("loop")))
	tests := []struct {
		file string
		want []string
	}{
		{path("archive", "key1"), []string{path("archive")}},
		{path("live", "key"), []string{path("live"), path("archive")}},
		{path("mount", "key"), []string{path("mount"), path("mount", "..data1")}},
		{path("gone", "key"), []string{path("gone")}},
		{path("loop"), []string{top}},
	}
	for _, tt := range tests {
		if got := Folders(tt.file); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.file, got, tt.want)
		}
	}
}
