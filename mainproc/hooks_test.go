package mainproc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rocserv/internal/ipc"
)

// hookScript refuses user3, and waits while there is a file hold-USER.
const hookScript = `#!/bin/sh
dir=${0%/*}
echo "$REASON $USERNAME $REMOTE_HOSTNAME $ID $STATS_BYTES_IN $STATS_BYTES_OUT $DISCONNECT_REASON" >> "$dir/told"
echo "for $USERNAME" >&1
while test "$REASON" = connect && test -e "$dir/hold-$USERNAME"; do sleep 0.02; done
test "$USERNAME" != user3
`

func (r *running) told() []string {
	b, _ := os.ReadFile(filepath.Join(r.dir, "told"))
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func startHooked(t *testing.T) *running {
	c := defaults()
	r := prepare(t, c)
	name := filepath.Join(r.dir, "hook")
	must(os.WriteFile(name, []byte(hookScript), 0o755))
	g := &c.Config.Global
	g.ConnectScript, g.DisconnectScript, g.HostUpdateScript = name, name, name
	r.configure(c)
	r.launch()
	r.waitLog("initialized rocserv test")
	r.tcp = r.logged(`listening \(TCP\) on (\S+)\.\.\.`)
	return r
}

// Scripts run in the order of the session, and see each connection of it.
func TestScriptsInOrder(t *testing.T) {
	r := startHooked(t)
	sid := testSID(sidGood, 1, 0, false, 1)
	a := r.dial()
	pidA := value(a.ask("hello"), "pid")
	if got := a.open(sid); !strings.HasPrefix(got, "ok") {
		t.Fatalf("first: %q", got)
	}
	b := r.dial()
	pidB := value(b.ask("hello"), "pid")
	if got := b.open(sid); !strings.HasPrefix(got, "ok") {
		t.Fatalf("second: %q", got)
	}
	b.send("exit %d", ipc.Reason_REASON_IDLE_TIMEOUT)
	b.closed()
	want := []string{
		"connect user1 laptop " + pidA, "host-update user1 laptop " + pidA,
		"disconnect user1 laptop " + pidA + " 3 4 replaced by a new connection",
		"connect user1 laptop " + pidB, "host-update user1 laptop " + pidB,
		"disconnect user1 laptop " + pidB + " 10 20 idle timeout",
	}
	eventually(t, "six scripts", func() bool { return len(r.told()) == len(want) })
	for i, line := range r.told() {
		if strings.TrimSpace(line) != want[i] {
			t.Errorf("call %d: %q, want %q", i, line, want[i])
		}
	}
	r.waitLog("for user1") // standard output is the log
	r.stop()
}

func TestConnectScriptRefuses(t *testing.T) {
	r := startHooked(t)
	if got := r.dial().open(testSID(sidGood, 3, 0, false, 1)); got != "COOKIE_REFUSED " {
		t.Errorf("got %q", got)
	}
	r.waitLog("failed authentication attempt for user")
	r.stop()
	if got := strings.Join(r.told(), "\n"); !strings.HasPrefix(got, "connect user3") || strings.Contains(got, "disconnect") {
		t.Errorf("told %q", got)
	}
}

// A script that takes its time delays its own client, and what it let in for
// nothing is undone. When the server stops the last words are still said.
func TestSlowScript(t *testing.T) {
	r := startHooked(t)
	hold := filepath.Join(r.dir, "hold-user1")
	must(os.WriteFile(hold, nil, 0o644))
	slow := r.dial()
	slow.send("open %x", testSID(sidGood, 1, 0, false, 1))
	eventually(t, "the slow script", func() bool { return strings.HasPrefix(r.told()[0], "connect user1") })
	if got := r.dial().open(testSID(sidGood, 2, 0, false, 1)); !strings.HasPrefix(got, "ok") {
		t.Errorf("another user: %q", got)
	}
	slow.Close()
	r.waitLog("reason=error up=0")
	must(os.Remove(hold))
	eventually(t, "it is undone", func() bool {
		last := r.told()
		return strings.HasPrefix(last[len(last)-1], "disconnect user1")
	})
	r.stop()
	if got := fmt.Sprint(r.told()); !strings.Contains(got, "disconnect user2 laptop") {
		t.Errorf("nobody was told of the end: %s", got)
	}
}
