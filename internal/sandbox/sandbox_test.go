package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// state is what a prepared process sees of itself.
type state struct {
	Report     string
	Err        string
	Comm       string
	NoNewPrivs int
	Dumpable   int
	Umask      int
	OOM        string
	Limits     map[string]uint64
	Ignored    []string
	Environ    string // why /proc/self/environ cannot be read
	Threads    map[string]int
}

const roleArg = "__sandbox"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == roleArg {
		json.NewEncoder(os.Stdout).Encode(prepared(Role(os.Args[2])))
		os.Exit(0)
	}
	if len(os.Args) == 5 && os.Args[1] == takenArg {
		json.NewEncoder(os.Stdout).Encode(taken(os.Args[2] == "all", os.Args[3], os.Args[4]))
		os.Exit(0)
	}
	if len(os.Args) > 3 && os.Args[1] == probeArg {
		os.Exit(probeMain(Role(os.Args[2]), os.Args[3], os.Args[4:]))
	}
	os.Exit(m.Run())
}

func prepared(r Role) state {
	// With cgo only the thread that Prepare runs on has no_new_privs: it is the one to ask.
	runtime.LockOSThread()
	var s state
	report, err := Prepare(r, Options{LimitMemory: true})
	s.Report = report.String()
	if err != nil {
		s.Err = err.Error()
	}
	comm, _ := os.ReadFile("/proc/self/comm")
	s.Comm = strings.TrimSpace(string(comm))
	oom, _ := os.ReadFile("/proc/self/oom_score_adj")
	s.OOM = strings.TrimSpace(string(oom))
	s.NoNewPrivs, _ = unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	s.Dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	s.Umask = unix.Umask(0)
	s.Limits = make(map[string]uint64)
	for name, resource := range map[string]int{"core": unix.RLIMIT_CORE, "nofile": unix.RLIMIT_NOFILE, "data": unix.RLIMIT_DATA} {
		var l unix.Rlimit
		unix.Getrlimit(resource, &l)
		s.Limits[name] = l.Max
	}
	for _, sig := range []syscall.Signal{syscall.SIGPIPE, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if signal.Ignored(sig) {
			s.Ignored = append(s.Ignored, sig.String())
		}
	}
	if _, err := os.ReadFile("/proc/self/environ"); err != nil {
		s.Environ = err.Error()
	}
	s.Threads = make(map[string]int)
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, task := range tasks {
		b, _ := os.ReadFile(task)
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "NoNewPrivs:"); ok {
				s.Threads[strings.TrimSpace(v)]++
			}
		}
	}
	return s
}

// asOther runs this binary in role r, as uid 65534 where the test is root.
func asOther(t *testing.T, r Role) state {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, roleArg, string(r))
	cmd.Stderr = os.Stderr
	if os.Getuid() == 0 {
		// The build's folder is closed to others: give them a copy.
		b, err := os.ReadFile(exe)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		os.Chmod(filepath.Dir(dir), 0o755)
		os.Chmod(dir, 0o755)
		cmd.Path = filepath.Join(dir, "exe")
		if err := os.WriteFile(cmd.Path, b, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var s state
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPrepare(t *testing.T) {
	// What is caught here begins anew in a child, though this process was started with it
	// ignored (SIGHUP under nohup).
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(caught)
	tests := []struct {
		role    Role
		comm    string
		oom     string
		limits  map[string]uint64 // at most
		ignored int
	}{
		{Main, "rocserv-main", "", map[string]uint64{"core": 0}, 1},
		{SecMod, "rocserv-secmod", "", map[string]uint64{"core": 0}, 4},
		{Helper, "rocserv-helper", "", map[string]uint64{"core": 0}, 4},
		{Worker, "rocserv-worker", "1000", map[string]uint64{"core": 0, "nofile": 4096, "data": 1 << 30}, 4},
	}
	for _, tt := range tests {
		t.Run(string(tt.role), func(t *testing.T) {
			s := asOther(t, tt.role)
			if s.Err != "" {
				t.Fatalf("error: %s", s.Err)
			}
			if s.Comm != tt.comm || s.NoNewPrivs != 1 || s.Dumpable != 0 || s.Umask != 0o077 {
				t.Errorf("state %+v", s)
			}
			if tt.oom != "" && s.OOM != tt.oom {
				t.Errorf("oom_score_adj = %s", s.OOM)
			}
			for name, most := range tt.limits {
				if s.Limits[name] > most {
					t.Errorf("limit %s = %d", name, s.Limits[name])
				}
			}
			if len(s.Ignored) != tt.ignored {
				t.Errorf("ignored: %v", s.Ignored)
			}
			if s.Environ == "" && os.Getuid() == 0 { // as 65534: root owns the file
				t.Error("/proc/self/environ can be read: others of the uid can read it too")
			}
			if s.Threads["1"] == 0 {
				t.Errorf("no thread has no_new_privs: %v", s.Threads)
			}
			for _, want := range []string{"no_new_privs", "not dumpable", "rlimit core"} {
				if !strings.Contains(s.Report, want) {
					t.Errorf("report %q lacks %q", s.Report, want)
				}
			}
		})
	}
}

// TestInherited: what is started with no_new_privs has it in all its threads, as
// all that main starts.
func TestInherited(t *testing.T) {
	said := make(chan state)
	go func() {
		defer close(said)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			t.Error(err)
			return
		}
		said <- asOther(t, Worker)
	}()
	s := <-said
	if s.Err != "" || s.NoNewPrivs != 1 || s.Threads["1"] < 2 || s.Threads["0"] != 0 || !strings.Contains(s.Report, "no_new_privs") {
		t.Errorf("state %+v", s)
	}
}

func TestUnknownRole(t *testing.T) {
	defer func() {
		if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), "internal error") {
			t.Errorf("recovered %v", r)
		}
	}()
	Prepare("nobody", Options{})
}

func TestProfiles(t *testing.T) {
	for role, p := range profiles {
		if len(p.comm) > 15 {
			t.Errorf("%s: name %q is cut by the kernel", role, p.comm)
		}
		for _, l := range p.limits {
			switch l.resource {
			case unix.RLIMIT_NPROC, unix.RLIMIT_FSIZE, unix.RLIMIT_AS:
				t.Errorf("%s: limit %s breaks a Go process, see doc.go", role, l.name)
			}
		}
	}
}
