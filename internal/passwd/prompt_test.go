package passwd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the program that a terminal test runs.
func TestMain(m *testing.M) {
	if os.Getenv("PASSWD_TEST_ASK") == "" {
		os.Exit(m.Run())
	}
	pw, err := readPassword(os.Stdin, os.Stdout)
	fmt.Printf("[%s|%v]\n", pw, err)
	os.Exit(0)
}

// terminal returns both ends of a new pseudo-terminal.
func terminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { ours.Close() })
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { theirs.Close() })
	return ours, theirs
}

// start runs the test binary as a program that asks for a password on tty.
func start(t *testing.T, tty *os.File) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PASSWD_TEST_ASK=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// expect reads from the terminal until text has come, and returns all of it.
func expect(t *testing.T, tty *os.File, text string) string {
	t.Helper()
	var got bytes.Buffer
	var b [1]byte
	for !strings.Contains(got.String(), text) {
		if _, err := tty.Read(b[:]); err != nil {
			t.Fatalf("waiting for %q: %v; so far %q", text, err, got.String())
		}
		got.WriteByte(b[0])
	}
	return got.String()
}

func echo(t *testing.T, tty *os.File) bool {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag&unix.ECHO != 0
}

func TestPromptOnTerminal(t *testing.T) {
	for _, c := range []struct{ first, second, result string }{
		{"geheim", "geheim", "[geheim|<nil>]"},
		{"geheim", "other", "[|" + ErrMismatch.Error() + "]"},
		{"", "", "[|" + ErrNone.Error() + "]"},
	} {
		ours, theirs := terminal(t)
		cmd := start(t, theirs)
		seen := expect(t, ours, "Enter password: ")
		if echo(t, theirs) {
			t.Error("echo is on at the prompt")
		}
		fmt.Fprintln(ours, c.first)
		if c.first != "" {
			seen += expect(t, ours, "Re-enter password: ")
			fmt.Fprintln(ours, c.second)
		}
		last := expect(t, ours, "]")
		if !strings.HasSuffix(last, c.result) {
			t.Errorf("%q, %q: result %q, want %q", c.first, c.second, last, c.result)
		}
		if shown := seen + strings.TrimSuffix(last, c.result); c.first != "" && strings.Contains(shown, c.first) {
			t.Errorf("the password was shown: %q", shown)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		if !echo(t, theirs) {
			t.Error("echo is off afterwards")
		}
	}
}

func TestPromptInterrupted(t *testing.T) {
	ours, theirs := terminal(t)
	cmd := start(t, theirs)
	expect(t, ours, "Enter password: ")
	fmt.Fprint(ours, "half\x03") // ^C
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Errorf("after ^C: %v", err)
	}
	if !echo(t, theirs) {
		t.Error("echo is off after ^C")
	}
}

func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for _, c := range []struct{ in, want, rest string }{
		{"abc\ndef\n", "abc", "def\n"},
		{"abc\r\n", "abc", ""},
		{"abc", "abc", ""},
		{" a b \n", " a b ", ""},
		{"\n", "", ""},
		{"\r\n", "", ""},
		{"", "", ""},
		{long, long[:514], long[514:]},
	} {
		r := strings.NewReader(c.in)
		got, err := readLine(r)
		rest, _ := io.ReadAll(r)
		if string(got) != c.want || string(rest) != c.rest || (err != nil) != (c.want == "") {
			t.Errorf("%.20q: %.20q, %v; left %.20q", c.in, got, err, rest)
		}
	}
	boom := errors.New("boom")
	if _, err := readLine(io.MultiReader(strings.NewReader("a"), failing{boom})); !errors.Is(err, boom) {
		t.Errorf("error of the reader: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
