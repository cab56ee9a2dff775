//go:build race

package recovery

import (
	"flag"
	"os"
	"testing"
)

// TestMain makes every run under the race detector a short one: minutes of virtual
// time in one goroutine are slow there, and there is nothing for it to find.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.short", "true"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
