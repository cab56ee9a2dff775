package sandbox

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"syscall"
	"testing"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// takenArg is a process that has Landlock and no filter, and tries what it can do:
// followed by whose Landlock, a folder, and the name of an abstract socket.
const takenArg = "__taken"

// tried is what a worker's Landlock takes.
var tried = map[string]func(dir, socket string) error{
	"read":  func(dir, _ string) error { return openClose(filepath.Join(dir, "f"), unix.O_RDONLY) },
	"write": func(dir, _ string) error { return openClose(filepath.Join(dir, "f"), unix.O_WRONLY) },
	"cut":   func(dir, _ string) error { return unix.Truncate(filepath.Join(dir, "f"), 0) },
	"list":  func(dir, _ string) error { return openClose(dir, unix.O_RDONLY|unix.O_DIRECTORY) },
	"make":  func(dir, _ string) error { return openClose(filepath.Join(dir, "new"), unix.O_WRONLY|unix.O_CREAT) },
	"mkdir": func(dir, _ string) error { return unix.Mkdir(filepath.Join(dir, "d"), 0o700) },
	"fifo":  func(dir, _ string) error { return unix.Mkfifo(filepath.Join(dir, "p"), 0o600) },
	"link":  func(dir, _ string) error { return unix.Symlink("f", filepath.Join(dir, "l")) },
	"unlink": func(dir, _ string) error {
		return unix.Unlink(filepath.Join(dir, "f"))
	},
	"rmdir":  func(dir, _ string) error { return unix.Rmdir(filepath.Join(dir, "sub")) },
	"rename": func(dir, _ string) error { return unix.Rename(filepath.Join(dir, "f"), filepath.Join(dir, "sub", "f")) },
	"device": func(string, string) error {
		fd, err := unix.Open("/dev/null", unix.O_RDWR, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	},
	"program": func(string, string) error {
		return unix.Exec("/bin/true", []string{"true"}, nil)
	},
	"signal": func(string, string) error { return unix.Kill(os.Getppid(), 0) },
	"socket": func(_, socket string) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	},
}

func openClose(name string, flags int) error {
	fd, err := unix.Open(name, flags, 0o600)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// taken is what each attempt comes to, in threads that were there before and in new ones.
func taken(all bool, dir, socket string) []map[string]syscall.Errno {
	before, go1 := make(chan struct{}), make(chan map[string]syscall.Errno)
	try := func() map[string]syscall.Errno {
		said := map[string]syscall.Errno{}
		for name, attempt := range tried {
			var errno syscall.Errno
			if err := attempt(dir, socket); err != nil && !errors.As(err, &errno) {
				panic(err)
			}
			said[name] = errno
		}
		return said
	}
	const threads = 4
	there := make(chan struct{})
	thread := func() {
		runtime.LockOSThread()
		there <- struct{}{}
		<-before
		go1 <- try()
	}
	for range threads {
		go thread()
		<-there
	}
	if _, err := Prepare(Worker, Options{}); err != nil {
		panic(err)
	}
	scoped := landlock.V6.Scoped
	if LandlockABI() >= firstScoped && !threadsMaySignal() {
		scoped &^= landlock.ScopedSet(ll.ScopeSignal)
	}
	var err error
	if all {
		err = takeAll(LandlockABI(), scoped)
	} else {
		err = Files{}.leave(scoped)
	}
	if err != nil {
		panic(err)
	}
	go thread()
	<-there
	close(before)
	list := []map[string]syscall.Errno{try()}
	for range threads + 1 {
		list = append(list, <-go1)
	}
	return list
}

// TestTakeAll: a worker's Landlock is the library's without files to leave, in every
// thread, and takes all there is to take.
func TestTakeAll(t *testing.T) {
	abi := LandlockABI()
	if abi == 0 || abi >= firstAtOnce {
		t.Skipf("Landlock %d: takeAll is not what workers have here", abi)
	}
	if testing.Short() {
		t.Skip("it builds a program")
	}
	exe := filepath.Join(t.TempDir(), "static")
	build := exec.Command("go", "test", "-c", "-o", exe, ".") // as releases are
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const socket = "@rocserv-sandbox-test"
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	said := map[string][]map[string]syscall.Errno{}
	for _, by := range []string{"all", "library"} {
		dir := t.TempDir()
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600), os.Mkdir(filepath.Join(dir, "sub"), 0o700)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(exe, takenArg, by, dir, socket)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", by, err)
		}
		var list []map[string]syscall.Errno
		if err := json.Unmarshal(out, &list); err != nil {
			t.Fatalf("%s: %v in %q", by, err, out)
		}
		said[by] = list
	}
	if !reflect.DeepEqual(said["all"], said["library"]) {
		t.Errorf("takeAll: %v\nlibrary: %v", said["all"], said["library"])
	}
	for i, thread := range said["all"] {
		for name, errno := range thread {
			if errno == 0 && !(abi < firstScoped && (name == "signal" || name == "socket") || abi < 3 && name == "cut") {
				t.Errorf("thread %d: %s is not taken", i, name)
			}
		}
	}
	if n := len(said["all"]); n != 6 {
		t.Errorf("%d threads", n)
	}
}
