package mainproc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/proto"

	"rocserv/internal/ipc"
)

// TestHelpers: sec-mod gets the login helper that it asks for, hears of its end,
// and is outlived by none: neither when it dies nor when another program takes over.
func TestHelpers(t *testing.T) {
	cfg := defaults()
	cfg.SecMod.Helper = "radius"
	cfg.Config.Global.Isolate = true
	cfg.Config.Global.UseControl, cfg.Config.Global.ControlFile = true, "ctl"
	r := start(t, cfg)
	ready := func(n int) int {
		t.Helper()
		eventually(t, "a login helper", func() bool { return strings.Count(r.log.String(), `login helper says="__helper radius isolate"`) == n })
		now := r.children(roleHelper.arg)
		if len(now) != 1 {
			t.Fatalf("%d login helpers", len(now))
		}
		return now[0]
	}
	first := ready(1)
	syscall.Kill(r.children(roleSecMod.arg)[0], syscall.SIGKILL)
	second := ready(2)
	r.upgrade(r.ctl(), 1)
	third := ready(3)
	if first == second || second == third {
		t.Errorf("login helpers %d, %d, %d", first, second, third)
	}
	syscall.Kill(third, syscall.SIGKILL)
	r.waitLog("login helper is gone err=EOF")
	r.waitLog(fmt.Sprintf(msgDiedBySignal, "helper", 9))
	r.stop()
}

// TestHelperForNothing: a method that needs no helper is nothing sec-mod asks one
// for, and neither is one that does not exist.
func TestHelperForNothing(t *testing.T) {
	hear := (&server{}).helpersOf(nil, roleHelper, nil)
	for _, method := range []string{"plain", "nonsense", ""} {
		body, err := proto.Marshal(&ipc.SecmHelperReq{Token: 1, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if err := hear(&ipc.Record{Type: ipc.SecmHelperReqT, Body: body}); !errors.Is(err, ipc.ErrViolation) {
			t.Errorf("%q: %v", method, err)
		}
	}
}

// TestBeside: a helper that is another program is looked for beside the server's.
func TestBeside(t *testing.T) {
	dir := t.TempDir()
	exe, link := filepath.Join(dir, "rocserv"), filepath.Join(t.TempDir(), "exe")
	if err := os.Symlink(exe, link); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, programs["pam"])
	for _, name := range []string{exe, link} {
		if _, err := beside(name, programs["pam"]); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{exe, link} {
		if got, err := beside(name, programs["pam"]); err != nil || got != path {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}
