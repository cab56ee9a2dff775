//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"rocserv/test/e2e/lab"
)

// server is what is tested: rocserv, or the one that SERVER names.
var server = lab.Program{Kind: lab.Rocserv}

func TestMain(m *testing.M) {
	lab.Role()
	status, err := prepared(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// prepared runs the tests with a server to test.
func prepared(run func() int) (int, error) {
	if os.Geteuid() != 0 {
		return 0, fmt.Errorf("network namespaces need root; skipped: all of test/e2e")
	}
	if k := os.Getenv("SERVER"); k != "" {
		server.Kind = lab.Kind(k)
	}
	switch s := lab.Sandbox(os.Getenv("SANDBOX")); {
	case (s == lab.Bwrap || s == lab.Podman) && server.Kind == lab.Rocserv:
		server.Sandbox = s
	case s != lab.NoSandbox:
		return 0, fmt.Errorf("SANDBOX is bwrap or podman, for rocserv, not %q for %s", s, server.Kind)
	}
	switch server.Kind {
	case lab.Ocserv:
		path, err := exec.LookPath("ocserv")
		if err != nil {
			return 0, err
		}
		server.Path = path
	case lab.Rocserv:
		remove, err := findRocserv()
		if err != nil {
			return 0, err
		}
		defer remove()
	default:
		return 0, fmt.Errorf("SERVER is rocserv or ocserv, not %q", server.Kind)
	}
	return run(), nil
}

// findRocserv sets the path of the server: ROCSERV_BIN, or a binary built as
// releases are. An ordinary user must be able to run it.
func findRocserv() (remove func(), err error) {
	remove = func() {}
	server.Path = os.Getenv("ROCSERV_BIN")
	if server.Path == "" {
		dir, err := os.MkdirTemp("", "rocserv-bin-")
		if err != nil {
			return nil, err
		}
		remove = func() { os.RemoveAll(dir) }
		server.Path = filepath.Join(dir, "rocserv")
		if err := buildPrograms(dir); err != nil {
			remove()
			return nil, err
		}
	}
	if server.Path, err = filepath.Abs(server.Path); err != nil {
		return nil, err
	}
	try := lab.Ordinary("test", "-x", server.Path)
	if out, err := exec.Command(try[0], try[1:]...).CombinedOutput(); err != nil {
		remove()
		return nil, fmt.Errorf("an ordinary user cannot run %s: %w %s", server.Path, err, out)
	}
	return remove, nil
}

func buildPrograms(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for _, program := range [][]string{{"rocserv/cmd/rocserv"}, {"-tags", "lean", "rocserv/cmd/rocserv-worker"}} {
		cmd := exec.Command("go", append([]string{"build", "-trimpath", "-ldflags", "-s -w", "-o", dir + "/"}, program...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("no server to test: %w\n%s", err, out)
		}
	}
	return nil
}
