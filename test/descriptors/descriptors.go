package descriptors

import (
	"os"
	"testing"
)

// Open is every descriptor that is open. It skips the test where there is no /proc.
func Open(t testing.TB) map[string]bool {
	t.Helper()
	const dir = "/proc/self/fd/"
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Skip(err)
	}
	open := map[string]bool{}
	for _, f := range files {
		if what, err := os.Readlink(dir + f.Name()); err == nil { // else it was ReadDir's own
			open[f.Name()+" "+what] = true
		}
	}
	return open
}

// Count is how many they are.
func Count(t testing.TB) int {
	t.Helper()
	return len(Open(t))
}

// NoneLeft fails the test if something is open that was not before. What an earlier
// test had open may be gone.
func NoneLeft(t testing.TB, before map[string]bool) {
	t.Helper()
	for what := range Open(t) {
		if !before[what] {
			t.Errorf("left open: %s", what)
		}
	}
}
