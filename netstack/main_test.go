package netstack

import (
	"flag"
	"os"
	"testing"

	"gvisor.dev/gvisor/pkg/refs"
)

// TestMain has gVisor watch its reference counts: a packet, view or segment
// that nobody released ends the test run with a panic. (It takes a global lock
// per reference: not for benchmarks, and the race detector is slow enough.)
func TestMain(m *testing.M) {
	flag.Parse()
	watch := flag.Lookup("test.bench").Value.String() == "" && !raceDetector
	if watch {
		refs.SetLeakMode(refs.LeaksPanic)
	}
	code := m.Run()
	if watch && code == 0 {
		refs.DoLeakCheck()
	}
	os.Exit(code)
}

// countAllocations is for tests that count allocations or memory: watching
// references allocates, and so does the race detector.
func countAllocations(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	mode := refs.GetLeakMode()
	refs.SetLeakMode(refs.NoLeakChecking)
	t.Cleanup(func() { refs.SetLeakMode(mode) })
}
