//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/internal/build"
	"rocserv/test/e2e/lab"
)

// own copies the server's program, and that of its workers if there is one, to where
// a test can replace it.
func (r *rig) own() lab.Program {
	r.Helper()
	p := server
	p.Path = r.state.Path("bin", "rocserv")
	r.must(os.Mkdir(filepath.Dir(p.Path), 0o755))
	r.must(os.Chmod(filepath.Dir(p.Path), 0o755))
	r.replace(p)
	if text, err := os.ReadFile(workersOf(server)); err == nil {
		r.put(workersOf(p), text)
	}
	return p
}

// workersOf is where the program of a server's workers is looked for.
func workersOf(p lab.Program) string { return build.Beside(p.Path, build.WorkerName) }

// replace puts the server's program in place of p, or another text.
func (r *rig) replace(p lab.Program, text ...byte) {
	r.Helper()
	var err error
	if text == nil {
		text, err = os.ReadFile(server.Path)
		r.must(err)
	}
	r.put(p.Path, text)
}

// put makes a file a program, in one step.
func (r *rig) put(path string, text []byte) {
	r.Helper()
	r.must(os.WriteFile(path+".new", text, 0o755))
	r.must(os.Chmod(path+".new", 0o755))
	r.must(os.Rename(path+".new", path))
}

// The program is replaced, again and again, and a download does not notice. One
// that is broken is refused.
func TestUpgrade(t *testing.T) {
	rocservOnly(t, "it cannot")
	r := newLab(t, 2)
	r.must(r.state.Configure("use-occtl = true", "occtl-socket-file = "+r.socket()))
	program := r.own()
	srv, err := r.StartServer(program, r.state)
	r.srv = srv
	r.must(err)
	c := r.connect(lab.Dial{})
	worker, err := r.srv.Worker(lab.ClientAddr4(0))
	r.must(err)
	arrived := r.steady(c, 12)
	for range 3 {
		mark := r.srv.Mark()
		r.replace(program)
		r.wants("upgrade", "Server upgraded to ")
		if _, err := r.srv.ExpectAfter(mark, "upgraded to rocserv", 30*time.Second); err != nil {
			t.Fatal(err)
		}
		r.must(hello4.run(r, c))
	}
	r.broken(program)
	r.must(arrived())
	if now, err := r.srv.Worker(lab.ClientAddr4(0)); err != nil || now.PID != worker.PID || c.Has(`(?i)reconnect`) {
		t.Errorf("the client was disturbed: its worker was %v, is %v, %v", worker, now, err)
	}
	r.wants("show users", lab.User, "vpns0")
	// What was known before is known, and new clients come.
	r.again(c, func() error { return c.Signal(syscall.SIGUSR2) })
	r.connect(lab.Dial{From: r.Cli[1], User: lab.Other, Input: right})
}

// broken tries programs that are none.
func (r *rig) broken(program lab.Program) {
	r.Helper()
	whole, err := os.ReadFile(program.Path)
	r.must(err)
	for _, text := range [][]byte{[]byte("#!/bin/sh\nexit 0\n"), whole[:len(whole)/2], []byte("x")} {
		r.replace(program, text...)
		if out, err := r.ctl("upgrade"); err == nil || !strings.Contains(out, "is refused") {
			r.Errorf("a program of %d bytes: %v, %s", len(text), err, out)
		}
	}
}
