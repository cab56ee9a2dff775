package mainproc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/internal/build"
)

// testBuild is what build the servers under test are of, and copies of them.
const testBuild = "test build"

// buildMark is in front of what a copy prints instead, at its end.
const buildMark = "\nbuild:"

// silent is the build of a copy that says nothing and stays.
const silent = "silent"

// fakeBuild is this program asked for its build.
func fakeBuild() {
	own := testBuild
	b, err := os.ReadFile("/proc/self/exe")
	must(err)
	if i := bytes.LastIndex(b, []byte(buildMark)); i > len(b)-64 {
		own = string(b[i+len(buildMark):])
	}
	if own == silent {
		time.Sleep(time.Minute)
	}
	fmt.Println(own)
}

// withPrograms makes a server in a folder of its own, not started yet, and returns
// the file in which it looks for the workers' program.
func withPrograms(t *testing.T, c *testConfig) (r *running, worker string) {
	t.Helper()
	r = prepare(t, c)
	dir := filepath.Join(r.dir, "bin")
	must(os.Mkdir(dir, 0o755))
	must(os.Chmod(dir, 0o755))
	r.cmd.Path = filepath.Join(dir, "rocserv")
	worker = filepath.Join(dir, build.WorkerName)
	putProgram(r.cmd.Path, "")
	return r, worker
}

// putProgram puts a copy of this program in a file's place, of another build unless
// that is empty.
func putProgram(file, other string) {
	b, err := os.ReadFile(testBinary())
	must(err)
	if other != "" {
		b = append(b, buildMark+other...)
	}
	putFile(file, b)
}

func putFile(file string, b []byte) {
	must(os.WriteFile(file+".new", b, 0o755))
	must(os.Chmod(file+".new", 0o755))
	must(os.Rename(file+".new", file))
}

// program is the file that a process executes.
func (r *running) program(pid int) string {
	r.t.Helper()
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		r.t.Fatal(err)
	}
	return name
}

// served lets a client in, and returns the program of its worker.
func (r *running) served() string {
	r.t.Helper()
	hi := r.dial().ask("hello")
	pid := 0
	if _, err := fmt.Sscanf(hi, "hi pid=%d ", &pid); err != nil {
		r.t.Fatalf("a worker said %q", hi)
	}
	return r.program(pid)
}

// TestWorkerProgram: workers are the program beside main's, the one that was there
// when main started, until another main takes over; nobody else is it.
func TestWorkerProgram(t *testing.T) {
	c := defaults()
	c.Config.Global.UseControl, c.Config.Global.ControlFile = true, "ctl"
	r, worker := withPrograms(t, c)
	putProgram(worker, "")
	r.begin(c)
	if got := r.served(); got != worker {
		t.Errorf("a worker is %s", got)
	}
	if got := r.program(r.children(roleSecMod.arg)[0]); got != r.cmd.Path {
		t.Errorf("sec-mod is %s", got)
	}
	putProgram(worker, "another")
	if got := r.served(); got != worker+deletedMark {
		t.Errorf("after its file was replaced a worker is %s", got)
	}
	ctl := r.upgrade(r.ctl(), 1)
	r.waitLog(errOtherBuild.Error() + `, \"another\"`)
	if got := r.served(); got != r.cmd.Path {
		t.Errorf("with a program of another build beside the new one a worker is %s", got)
	}
	putProgram(worker, "")
	r.upgrade(ctl, 2)
	if got := r.served(); got != worker {
		t.Errorf("with the right one a worker is %s", got)
	}
	r.stop()
}

// TestWorkerProgramRefused: a program that is not of main's build, or none, is named
// in the log, and main goes on by itself.
func TestWorkerProgramRefused(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		put        func(file string)
	}{
		{"another build", errOtherBuild.Error(), func(f string) { putProgram(f, "another") }},
		{"one that hangs", errNoBuild.Error() + " within", func(f string) { putProgram(f, silent) }},
		{"one that says nothing", errNoBuild.Error(), func(f string) {
			b, err := os.ReadFile("/bin/true")
			must(err)
			putFile(f, b)
		}},
		{"a script", "mainproc: ", func(f string) { putFile(f, []byte("#!/bin/sh\necho "+testBuild+"\n")) }},
		{"a text", "exec format error", func(f string) { putFile(f, []byte("x")) }},
		{"not executable", "permission denied", func(f string) { putProgram(f, ""); must(os.Chmod(f, 0o644)) }},
		{"a folder", "it is no file", func(f string) { must(os.Mkdir(f, 0o755)) }},
		{"for all to write", "more people may write", func(f string) { putProgram(f, ""); must(os.Chmod(f, 0o757)) }},
		{"somebody's", "belongs to neither", func(f string) {
			if os.Getuid() != 0 {
				t.Skip("only root can give a file away")
			}
			putProgram(f, "")
			must(os.Chown(f, 65534, 65534))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := defaults()
			r, worker := withPrograms(t, c)
			tt.put(worker)
			r.begin(c)
			line := r.logged(`(?m)^.*(the program for workers is not used.*)$`)
			if !strings.Contains(line, "program="+worker) || !strings.Contains(line, tt.want) {
				t.Errorf("the log says: %s", line)
			}
			if got := r.served(); got != r.cmd.Path {
				t.Errorf("a worker is %s", got)
			}
			if n := len(r.children(roleBuild.arg)); n != 0 {
				t.Errorf("%d processes that were asked are left", n)
			}
			r.stop()
		})
	}
}

// A program that is asked has nothing of main's.
func TestAskedWithNothing(t *testing.T) {
	r, worker := withPrograms(t, defaults())
	putProgram(worker, silent)
	r.launch()
	var pid int
	eventually(t, "a program that is asked", func() bool {
		for _, pid = range r.children(roleBuild.arg) {
			return true
		}
		return false
	})
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || len(env) != 0 {
		t.Errorf("environment %q, %v", env, err)
	}
	eventually(t, "no descriptor of main's", func() bool { // what it opens itself it closes
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		must(err)
		for _, fd := range fds {
			to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
			if err == nil && to != os.DevNull && !strings.HasPrefix(to, "pipe:") && !strings.HasPrefix(to, "anon_inode:") && !strings.Contains(to, "cgroup") {
				return false
			}
		}
		return len(fds) >= 3
	})
	r.cmd.Process.Signal(syscall.SIGKILL)
	r.wait()
	eventually(t, "its end with main", func() bool { return !alive(pid) })
}
