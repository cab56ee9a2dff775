package passwd

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"rocserv/internal/ocpasswd"
)

// call runs the command as cmd wires it and returns its exit status and what it printed.
func call(t *testing.T, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	app := &cli.App{
		Name: "rocserv", Commands: []*cli.Command{Command()},
		Reader: strings.NewReader(stdin), Writer: &out, ErrWriter: &errs,
		ExitErrHandler: func(_ *cli.Context, err error) {
			var coder cli.ExitCoder
			if errors.As(err, &coder) {
				status = coder.ExitCode()
				errs.WriteString(err.Error())
			}
		},
	}
	if err := app.Run(append([]string{"rocserv", "passwd"}, args...)); err != nil && status == 0 {
		status = 1
		errs.WriteString(err.Error())
	}
	return status, out.String(), errs.String()
}

func lookup(t *testing.T, path, user string) (ocpasswd.Entry, bool) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := ocpasswd.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return f.Lookup(user)
}

func TestCommand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocpasswd")
	for _, c := range []struct {
		name, stdin string
		args        []string
		status      int
		stderr      string // contained
	}{
		{"add", "first\n", []string{"-c", path, "-g", "g1,g2", "u"}, 0, ""},
		{"long options", "second\n", []string{"--passwd", path, "--groupname", "g3", "--hash", "sha512", "v"}, 0, ""},
		{"change, other lines of input ignored", "third\r\nmore", []string{"-c", path, "u"}, 0, ""},
		{"lock", "", []string{"-c", path, "-l", "v"}, 0, ""},
		{"lock nobody", "", []string{"-c", path, "-l", "x"}, 0, "there is no user 'x'"},
		{"empty password", "\n", []string{"-c", path, "w"}, 1, "please specify a password"},
		{"no input", "", []string{"-c", path, "w"}, 1, "please specify a password"},
		{"too long", strings.Repeat("x", 600), []string{"-c", path, "w"}, 1, "too long"},
		{"no user", "x\n", []string{"-c", path}, 1, "USAGE"},
		{"two actions", "", []string{"-c", path, "-l", "-u", "u"}, 1, "USAGE"},
		{"groups with delete", "", []string{"-c", path, "-g", "x", "-d", "u"}, 1, "USAGE"},
		{"option after user", "x\n", []string{"-c", path, "u", "-l"}, 1, "options before the name"},
		{"unknown hash", "x\n", []string{"-c", path, "--hash", "md5", "u"}, 1, "unknown kind"},
		{"unknown option", "", []string{"-c", path, "-z", "u"}, 1, "not defined"},
		{"bad name", "x\n", []string{"-c", path, "a:b"}, 1, "colon"},
		{"bad group", "x\n", []string{"-c", path, "-g", "a:b", "u"}, 1, "group"},
		{"missing file", "", []string{"-c", path + "x", "-d", "u"}, 1, "for reading"},
	} {
		status, _, stderr := call(t, c.stdin, c.args...)
		if status != c.status || !strings.Contains(stderr, c.stderr) || strings.Contains(stderr, "third") {
			t.Errorf("%s: status %d, stderr %q; want %d, %q", c.name, status, stderr, c.status, c.stderr)
		}
	}

	u, _ := lookup(t, path, "u")
	if ok, err := ocpasswd.Verify(u.Hash, []byte("third")); !ok || err != nil || strings.Join(u.Groups, ",") != "g1,g2" || u.Locked {
		t.Errorf("u is %+v; its password fits: %v, %v", u, ok, err)
	}
	v, _ := lookup(t, path, "v")
	if ok, err := ocpasswd.Verify(v.Hash, []byte("second")); !ok || err != nil || !strings.HasPrefix(v.Hash, "$6$") || !v.Locked {
		t.Errorf("v is %+v; its password fits: %v, %v", v, ok, err)
	}
	if _, ok := lookup(t, path, "w"); ok {
		t.Error("w exists")
	}

	if status, _, stderr := call(t, "", "-c", path, "-u", "v"); status != 0 {
		t.Error(stderr)
	}
	if v, _ := lookup(t, path, "v"); v.Locked {
		t.Error("v is still locked")
	}
	if status, _, stderr := call(t, "", "-c", path, "-d", "v"); status != 0 {
		t.Error(stderr)
	}
	if _, ok := lookup(t, path, "v"); ok {
		t.Error("v still exists")
	}
	if status, stdout, _ := call(t, "", "-h"); status != 0 || !strings.Contains(stdout, "passwd") {
		t.Errorf("help: %d, %q", status, stdout)
	}
}

// A file that is locked stays as it is, and the message says what to do.
func TestCommandLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ocpasswd")
	if err := os.WriteFile(path+".tmp", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	status, _, stderr := call(t, "x\n", "-c", path, "u")
	if status != 1 || !strings.Contains(stderr, "file '"+path+"' is locked.") || !strings.Contains(stderr, path+".tmp") {
		t.Errorf("status %d, %q", status, stderr)
	}
	if _, err := os.Stat(path + ".tmp"); err != nil {
		t.Errorf("another's lock is gone: %v", err)
	}
}
