package slack

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// staticEnv marks the process of TestStatic.
const staticEnv = "ROCSERV_TEST_STATIC"

// threads keeps a few threads and asks each for its slack.
type threads []chan chan time.Duration

func newThreads(t *testing.T, n int) threads {
	all := make(threads, n)
	for i := range all {
		all[i] = make(chan chan time.Duration)
		go func() {
			runtime.LockOSThread()
			for reply := range all[i] {
				reply <- get()
			}
		}()
	}
	t.Cleanup(func() {
		for _, c := range all {
			close(c)
		}
	})
	return all
}

func (all threads) want(t *testing.T, want time.Duration) {
	t.Helper()
	for i, c := range all {
		reply := make(chan time.Duration)
		c <- reply
		if got := <-reply; got != want {
			t.Errorf("thread %d has %v, not %v", i, got, want)
		}
	}
}

// wantChild is about a process that this thread starts.
func wantChild(t *testing.T, want time.Duration) {
	t.Helper()
	out, err := exec.Command("cat", "/proc/self/timerslack_ns").Output()
	if err != nil {
		t.Fatal(err)
	}
	d, err := time.ParseDuration(strings.TrimSpace(string(out)) + "ns")
	if err != nil {
		t.Fatal(err)
	}
	if d != want {
		t.Errorf("a child has %v, not %v", d, want)
	}
}

// TestRelax: every thread there is, and what is started, is relaxed and restored; with
// cgo none is.
func TestRelax(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := get()
	defer set(began)
	all := newThreads(t, 4)
	all.want(t, began)
	want, after := relaxed, usual
	switch err := Relax(); {
	case errors.Is(err, syscall.ENOTSUP):
		want, after = began, began
		if os.Getenv(staticEnv) != "" {
			t.Fatal("nothing is relaxed in a program without cgo")
		}
	case err != nil:
		t.Fatal(err)
	}
	all.want(t, want)
	newThreads(t, 2).want(t, want)
	wantChild(t, want)
	if err := Restore(); err != nil && !errors.Is(err, syscall.ENOTSUP) {
		t.Fatal(err)
	}
	all.want(t, after)
	wantChild(t, after)
}

// TestStatic runs TestRelax in a program as releases are: without cgo.
func TestStatic(t *testing.T) {
	if os.Getenv(staticEnv) != "" {
		return
	}
	if testing.Short() {
		t.Skip("it builds a program")
	}
	exe := filepath.Join(t.TempDir(), "static")
	build := exec.Command("go", "test", "-c", "-o", exe, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := exec.Command(exe, "-test.run", "^TestRelax$", "-test.v")
	run.Env = append(os.Environ(), staticEnv+"=1")
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestRelax") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestLend: what is started meanwhile has the usual slack, and this thread what it had
// afterwards. Other threads notice nothing.
func TestLend(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := get()
	defer set(began)
	others := newThreads(t, 2)
	others.want(t, began)
	set(relaxed)
	back := Lend()
	wantChild(t, usual)
	back()
	wantChild(t, relaxed)
	others.want(t, began)
}
