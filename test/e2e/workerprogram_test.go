//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"rocserv/internal/build"
	"rocserv/test/e2e/lab"
)

// The worker's program is one of its own, or the server's where there is none, or one
// of another build, or a broken one; upgrades go from each to the next, and a tunnel
// of the first hour does not notice.
func TestWorkerProgram(t *testing.T) {
	rocservOnly(t, "its workers are a program of their own")
	r := newLab(t, 2)
	r.must(r.state.Configure("use-occtl = true", "occtl-socket-file = "+r.socket()))
	whole := r.builtWorker("")
	program := r.own()
	os.Remove(workersOf(program))
	srv, err := r.StartServer(program, r.state)
	r.srv = srv
	r.must(err)
	first := r.connect(lab.Dial{})
	before, err := r.srv.Worker(lab.ClientAddr4(0))
	r.must(err)
	for i, s := range []struct {
		name   string
		file   []byte // nil: none
		own    bool   // workers are this file
		logged string
		said   string // by doctor
	}{
		{"none", nil, false, "", `gap  workers +the server's own program\n`},
		{"the right one", whole, true, "workers are a program of their own", `ok   workers +a program of their own`},
		{"of another build", r.builtWorker("another"), false, "the program for workers is not used.*of another build", `gap  workers +the server's own program: .* of another build`},
		{"broken", whole[:len(whole)/2], false, "the program for workers is not used", `gap  workers +the server's own program: .* is not used`},
		{"no program", []byte("x"), false, "the program for workers is not used.*exec format error", `gap  workers +the server's own program: .*exec format error`},
		{"the right one again", whole, true, "workers are a program of their own", `ok   workers +a program of their own`},
	} {
		if i > 0 {
			mark := r.srv.Mark()
			r.put(workersOf(program), s.file)
			r.wants("upgrade", "Server upgraded to ")
			for _, text := range []string{s.logged, "upgraded to rocserv"} {
				if _, err := r.srv.ExpectAfter(mark, text, 30*time.Second); err != nil {
					t.Fatalf("%s: %v", s.name, err)
				}
			}
		}
		c := r.connect(lab.Dial{From: r.Cli[1], User: lab.Other, Input: right})
		w, err := r.srv.Worker(lab.ClientAddr4(1))
		r.must(err)
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", w.PID))
		r.must(err)
		if want := map[bool]string{true: build.WorkerName, false: "rocserv"}[s.own]; filepath.Base(exe) != want {
			t.Errorf("%s: a worker is %s", s.name, exe)
		}
		r.each(c, hello4, hello6, lookup)
		r.must(hello4.run(r, first))
		c.Quit()
		if said := r.doctorOn(program, 0); !regexp.MustCompile(s.said).MatchString(said) {
			t.Errorf("%s: doctor does not say %s:\n%s", s.name, s.said, said)
		}
	}
	if now, err := r.srv.Worker(lab.ClientAddr4(0)); err != nil || now.PID != before.PID || first.Has(`(?i)reconnect`) {
		t.Errorf("the first client was disturbed: its worker was %v, is %v, %v", before, now, err)
	}
}

// builtWorker is the program for workers: the one beside the server's, or one of
// another version.
func (r *rig) builtWorker(version string) []byte {
	r.Helper()
	file := workersOf(server)
	if version != "" {
		file = r.Path("worker-" + version)
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X rocserv/internal/build.Version="+version, "-o", file, "rocserv/cmd/"+build.WorkerName)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			r.Fatalf("%v\n%s", err, out)
		}
	}
	text, err := os.ReadFile(file)
	r.must(err)
	return text
}
