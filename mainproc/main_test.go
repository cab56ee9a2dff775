package mainproc

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/config"
	"rocserv/internal/rolelog"
)

// This binary is the test, and main, sec-mod and workers of the servers under
// test: they are started like the real ones, by the hidden role in argv[1].
// fakes_test.go has the two that main starts.

const mainArg = "__main" // followed by the configuration's name

func init() {
	if len(os.Args) > 1 && os.Args[1] == mainArg {
		runtime.LockOSThread() // as cmd does
	}
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case mainArg:
			os.Exit(testServer(os.Args[2], len(os.Args) > 3))
		case roleSecMod.arg:
			fakeSecMod()
			quit(0)
		case roleWorker.arg:
			fakeWorker()
			quit(0)
		case roleHelper.arg:
			fakeHelper()
			quit(0)
		case roleBuild.arg:
			fakeBuild()
			quit(0)
		case roleTrial.arg:
			os.Exit(Trial(os.Args[2:], testOptions("", false)))
		case orphanArg:
			time.Sleep(2 * time.Second)
			quit(0)
		}
	}
	status := m.Run()
	if binaryDir != "" {
		os.RemoveAll(binaryDir)
	}
	os.Exit(status)
}

// testConfig is the configuration file of these tests, in JSON: ours, and what
// the fake sec-mod shall do.
type testConfig struct {
	Config config.Config
	Broken string // Parse fails with this
	SecMod struct {
		Refuse string // the configuration is refused with this
		// Elsewhere: only a sec-mod that begins with this configuration can load it.
		Elsewhere bool
		Die       bool // instead of an answer to the configuration
		// DieOnClose: once, instead of an answer to SECM_SESSION_CLOSE.
		DieOnClose bool
		Network    string // of leases
		Helper     string // a login helper for this method is asked for
	}
}

func parseTestConfig(_ string, b []byte) (*config.Config, error) {
	var c testConfig
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, err
	}
	if c.Broken != "" {
		return nil, errors.New(c.Broken)
	}
	return &c.Config, nil
}

// orphanArg is a process that a worker leaves behind.
const orphanArg = "__orphan"

// testServer is main, and like process 1 of a container the parent of orphans.
func testServer(name string, background bool) int {
	must(unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	if err := Run(testOptions(name, background)); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}

func testOptions(name string, background bool) Options {
	level := new(slog.LevelVar)
	return Options{
		ConfigName: name,
		ReadConfig: func() ([]byte, error) { return os.ReadFile(name) },
		Parse:      parseTestConfig,
		Foreground: !background,
		Debug:      3,
		Version:    "test",
		Build:      testBuild,
		Logger:     slog.New(rolelog.NewTextHandler(os.Stderr, level)),
		Level:      level,
	}
}
