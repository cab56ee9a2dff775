//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// invoked is what a program said and left behind.
type invoked struct {
	status     int
	out, first string // standard output; the first line of standard error
	files      string // "name:groups" of each line of the password file f
}

// invoke runs a program in a folder of its own.
func invoke(t *testing.T, program, stdin string, args ...string) (got invoked) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"f": "# kept\nanna:staff:$5$x$y\nbert:*:!$5$x$y\n", "other": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Args[0] = filepath.Base(program) // it is in messages
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
		got.status = exit.ExitCode()
	}
	got.out = out.String()
	got.first, _, _ = strings.Cut(errs.String(), "\n")
	b, err := os.ReadFile(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "#") {
			continue // ours keeps comments, Debian's does not
		}
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		got.files += strings.Join(f[:min(len(f), 2)], ":")
		if len(f) == 3 && strings.HasPrefix(f[2], "!") {
			got.files += ":!"
		}
		got.files += "\n"
	}
	return got
}

// named makes a link of that name to the server under test.
func named(t *testing.T, name string) string {
	t.Helper()
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(server.Path, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// says reports whether a line of ours says what the other program's does: the
// title of a usage text is each program's own, a reason may follow, and where
// the other says nothing at all a note is no harm.
func says(want, got, program string) bool {
	title := program + " - "
	switch {
	case want == "":
		return strings.HasPrefix(got, "note: ")
	case strings.HasPrefix(want, title):
		return strings.HasPrefix(got, title)
	}
	return strings.HasPrefix(got, strings.TrimSuffix(want, "."))
}

// Called by another program's name, it does as Debian's program of that name:
// exit codes, streams, first lines, and what becomes of a password file.
func TestNames(t *testing.T) {
	rocservOnly(t, "it is the program that is compared with")
	for _, program := range []struct {
		name string
		runs [][]string // arguments; "<TEXT" at the end is standard input
	}{
		{"ocpasswd", [][]string{
			{}, {"-h"}, {"--help"}, {"-x"}, {"--nonsense"}, {"-c"}, {"u", "v"}, {"-d", "-d", "-c", "f", "anna"}, {"-c", "f", "-c", "other", "anna"},
			{"-l", "-c", "nofile", "u"}, {"-u", "-c", "nofile", "u"}, {"-d", "-c", "nofile", "u"},
			{"-c", "f", "-l", "anna"}, {"-lc", "f", "anna"}, {"-cf", "-u", "bert"}, {"--lock", "--passwd=f", "anna"}, {"anna", "-c", "f", "--unl"},
			{"-c", "f", "-d", "anna"}, {"-c", "f", "-d", "nobody"}, {"-c", "f", "-l", "nobody"},
			{"-c", "f", "-g", "ops,board", "carl", "<new\nnew\n"}, {"-c", "f", "-g", "ops", "anna", "<new\nnew\n"}, {"-c", "f", "carl", "<new\nnew\n"},
		}},
		{"ocserv", [][]string{
			{"foo"}, {"-f", "foo"}, {"-t", "-c", "nofile"}, {"-tc", "nofile"}, {"--test-config", "--config=nofile"}, {"-tf", "-d9999", "-cnofile"},
		}},
	} {
		theirs, err := exec.LookPath(program.name)
		if err != nil {
			t.Fatal(err)
		}
		ours := named(t, program.name)
		for _, args := range program.runs {
			t.Run(program.name+" "+strings.ReplaceAll(strings.Join(args, " "), "\n", " "), func(t *testing.T) {
				stdin := ""
				if n := len(args); n > 0 && strings.HasPrefix(args[n-1], "<") {
					stdin, args = args[n-1][1:], args[:n-1]
				}
				want, got := invoke(t, theirs, stdin, args...), invoke(t, ours, stdin, args...)
				if says(want.first, got.first, program.name) {
					want.first = got.first
				}
				if got != want {
					t.Errorf("%v:\n got %+v\nwant %+v", args, got, want)
				}
			})
		}
	}
	bad := filepath.Join(t.TempDir(), "bad.conf")
	if err := os.WriteFile(bad, []byte("auth = \"plain[passwd=/nothing]\"\nnothing of the kind\ntcp-port = 443\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"ocserv", named(t, "ocserv")} {
		out, err := exec.Command(program, "-t", "-c", bad).CombinedOutput()
		if exitCode(err) != 1 || !strings.HasSuffix("\n"+string(out), "\nerror: config file error in line 2\n") {
			t.Errorf("%s: %v\n%s", program, err, out)
		}
	}
	version := exec.Command(named(t, "ocserv"), "--version")
	var errs bytes.Buffer
	version.Stderr = &errs
	if err := version.Run(); err != nil || !strings.HasPrefix(errs.String(), "ocserv ") || !strings.Contains(errs.String(), "oath") {
		t.Errorf("--version: %v, %q", err, errs.String())
	}
}
