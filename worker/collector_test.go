package worker

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// A worker collects nothing until there is traffic, and often enough from then
// on; when its memory has been given back it waits again.
func TestCollector(t *testing.T) {
	const asChild = "ROCSERV_TEST_COLLECTOR"
	if os.Getenv(asChild) == "" { // the settings are those of a process
		cmd := exec.Command(os.Args[0], "-test.run=^TestCollector$", "-test.v")
		cmd.Env = append(os.Environ(), asChild+"=1", "GOGC=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	const limit = 100 << 20
	c := &collector{limit: limit}
	for range 2 {
		c.quiet()
		before := collections()
		produce(1 << 20)
		if n := collections(); n != before {
			t.Fatalf("%d collections for one megabyte", n-before)
		}
		eventually(t, func() bool {
			produce(1 << 20)
			return percent() == busyPercent
		})
		if got := debug.SetMemoryLimit(-1); got != limit {
			t.Fatalf("limit %d", got)
		}
		if n := collections(); n == before {
			t.Fatal("busy without a collection")
		}
		garbage = make([]byte, 8<<20)
		garbage = nil
		c.trim()
		if got := percent(); got != -1 {
			t.Fatalf("collections at %d %% after the trim", got)
		}
	}
}

var garbage []byte

func produce(n int) {
	for ; n > 0; n -= 4096 {
		garbage = make([]byte, 4096)
	}
}

func percent() int {
	p := debug.SetGCPercent(-1)
	debug.SetGCPercent(p)
	return p
}

func collections() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumGC
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}
