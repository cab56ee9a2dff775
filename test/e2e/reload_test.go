//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// mount puts files into the folder tls of the rig's state as Kubernetes does:
// links to ..data/FILE, where ..data is a link that is replaced.
func (r *rig) mount(version int, files map[string][]byte) {
	r.Helper()
	dir := r.state.Path("tls")
	name := fmt.Sprintf("..%d", version)
	r.must(os.MkdirAll(filepath.Join(dir, name), 0o755))
	for file, content := range files {
		at := filepath.Join(dir, name, file)
		r.must(os.WriteFile(at, content, 0o600))
		r.must(os.Lchown(at, lab.ServerID, lab.ServerID))
		os.Symlink(filepath.Join("..data", file), filepath.Join(dir, file))
	}
	r.must(os.Symlink(name, filepath.Join(dir, "..new")))
	r.must(os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")))
}

func (r *rig) certificate(s *lab.State) map[string][]byte {
	r.Helper()
	files := map[string][]byte{}
	for _, name := range []string{"cert.pem", "key.pem"} {
		b, err := os.ReadFile(s.Path(name))
		r.must(err)
		files[name] = b
	}
	return files
}

// A certificate that is swapped in its mount takes effect by itself, a broken one
// does not, and one in another folder after a reload; who is connected notices
// nothing of it.
func TestReplacedFiles(t *testing.T) {
	rocservOnly(t, "it watches no files")
	r := newLab(t, 2)
	second, err := r.MakeState("second")
	r.must(err)
	third, err := r.MakeState("third")
	r.must(err)
	r.mount(1, r.certificate(r.state))
	r.must(r.state.Configure("server-cert = "+r.state.Path("tls", "cert.pem"), "server-key = "+r.state.Path("tls", "key.pem")))
	r.start()
	c := r.connect(lab.Dial{})
	arrived := r.steady(c, 12)
	as := func(pin string) {
		t.Helper()
		_, err := lab.Authenticate(lab.Dial{From: r.Cli[1], To: lab.ServerAt(lab.Srv4), Pin: pin, User: lab.Other, Input: right})
		r.must(err)
	}
	swap := func(version int, files map[string][]byte, line string) {
		t.Helper()
		mark := r.srv.Mark()
		r.mount(version, files)
		if _, err := r.srv.ExpectAfter(mark, line, 30*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	as(r.state.Pin)
	swap(2, r.certificate(second), "configuration reloaded")
	as(second.Pin)
	broken := r.certificate(third)
	broken["cert.pem"] = []byte("none")
	swap(3, broken, "configuration not reloaded")
	as(second.Pin)
	r.reload("configuration reloaded", "server-cert = "+third.Path("cert.pem"), "server-key = "+third.Path("key.pem"))
	if !r.srv.Has("sec-mod replaced") {
		t.Error("sec-mod can open files that it could not")
	}
	as(third.Pin)
	r.must(arrived())
	if c.Has(`(?i)reconnect`) {
		t.Error("the client was disturbed")
	}
	r.must(hello4.run(r, c))
}

// The server runs with the sample file. Whatever line of it is broken, a reload
// changes nothing, says which line it was, and disturbs nobody.
func TestBrokenReload(t *testing.T) {
	rocservOnly(t, "it ends by a broken file")
	r := newLab(t, 1)
	b, err := os.ReadFile("../../doc/sample.config")
	r.must(err)
	text := string(b)
	for _, change := range [][2]string{
		{"/etc/rocserv/ocpasswd", r.state.Path("users")},
		{"/etc/rocserv/server-cert.pem", r.state.Path("cert.pem")},
		{"/etc/rocserv/server-key.pem", r.state.Path("key.pem")},
		{"/run/rocserv/socket", r.state.Path("run", "sock")},
		{"-port = 443", fmt.Sprintf("-port = %d", lab.Port)},
	} {
		if !strings.Contains(text, change[0]) {
			t.Fatalf("the sample has no %s", change[0])
		}
		text = strings.ReplaceAll(text, change[0], change[1])
	}
	write := func(text string) { r.must(os.WriteFile(r.state.Config, []byte(text), 0o644)) }
	write(text)
	r.start()
	c := r.connect(lab.Dial{})
	lines := strings.SplitAfter(text, "\n")
	tried := 0
	for i, line := range lines {
		if line == "\n" || strings.HasPrefix(line, "#") {
			continue
		}
		tried++
		write(strings.Join(lines[:i], "") + "nothing of the kind\n" + strings.Join(lines[i+1:], ""))
		mark := r.srv.Mark()
		r.must(r.srv.Signal(syscall.SIGHUP))
		if _, err := r.srv.ExpectAfter(mark, fmt.Sprintf("configuration not reloaded.*ocserv.conf:%d: ", i+1), 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if tried < 10 {
		t.Errorf("%d lines were broken", tried)
	}
	r.must(hello4.run(r, c))
	write(text)
	mark := r.srv.Mark()
	r.must(r.srv.Signal(syscall.SIGHUP))
	if _, err := r.srv.ExpectAfter(mark, "configuration reloaded", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	r.must(hello4.run(r, c))
	if c.Has(`(?i)reconnect`) {
		t.Error("the client was disturbed")
	}
}
