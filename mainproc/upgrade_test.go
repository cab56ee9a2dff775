package mainproc

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/control"
	"rocserv/internal/ipc"
)

func (r *running) upgrade(c *control.Client, upgrades int) *control.Client {
	r.t.Helper()
	got := ask[control.Upgrade](r.t, c, control.CmdUpgrade, nil)
	if got.Version != "test" || got.Upgrades != upgrades-1 || got.Program == "" {
		r.t.Fatalf("answer %+v", got)
	}
	eventually(r.t, "the new program", func() bool { return strings.Count(r.log.String(), "upgraded to rocserv test") == upgrades })
	return r.ctl()
}

// filters is what the kernel says of main's system call filters.
func (r *running) filters() string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	must(err)
	return strings.Join(regexp.MustCompile(`(?m)^Seccomp.*$`).FindAllString(string(b), -1), " ")
}

// TestHellosAreHandedOver: a hello that has led to a socket is a replay for the
// next main too, and what it may still open is as it was.
func TestHellosAreHandedOver(t *testing.T) {
	b, next := newBench(t, 2), newBench(t, 2)
	b.local = endpoint{addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(freeUDPPort()))}
	next.local = b.local
	b.give("127.0.0.2:1", hello(app(1), 1, 'A'))
	st := &inherited{Version: stateVersion, Hellos: b.seen()}
	f, err := st.seal()
	must(err)
	defer f.Close()
	if st, err = readState(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
	next.hellos.take(append(st.Hellos, helloState{App: []byte("short")}))
	next.give("127.0.0.3:1", hello(app(1), 1, 'A'))
	if n, _ := next.targets[1].counts(); n != 0 || next.count.replayed.Load() != 1 {
		t.Errorf("a replay has %d sockets", n)
	}
	next.give("127.0.0.2:1", hello(app(1), 2, 'A'))
	next.give("127.0.0.2:1", hello(app(1), 3, 'A')) // the third in ten seconds
	if n, _ := next.targets[1].counts(); n != 1 || next.count.limited.Load() != 1 {
		t.Errorf("%d sockets", n)
	}
	next.give("127.0.0.3:1", hello(app(2), 1, 'A'))
	if n, _ := next.targets[2].counts(); n != 1 {
		t.Errorf("the other session has %d sockets", n)
	}
}

// TestUpgrade: workers in every state, sessions, cookies, points, counts and who
// has no worker yet are as they were, and what sec-mod had is with another one.
func TestUpgrade(t *testing.T) {
	r, ctl := controlled(t)
	sid := testSID(sidGood, 1, 0, false, 1)
	kept, tunnel, login, silent := r.dial(), r.dial(), r.dial(), r.dial()
	kept.ask("keep")
	if got := kept.open(sid); !strings.HasPrefix(got, "ok") {
		t.Fatal(got)
	}
	if got := tunnel.open(sid); !strings.Contains(got, "gen=2") {
		t.Fatal(got)
	}
	if got := kept.line(); got != "retire gen=2" {
		t.Fatal(got)
	}
	login.ask("hello")
	before := ask[control.Sessions](t, ctl, control.CmdSessions, nil)
	bans := ask[control.Bans](t, ctl, control.CmdBans, nil)
	filters := r.filters()
	for n := 1; n <= 3; n++ {
		ctl = r.upgrade(ctl, n)
		if now := r.filters(); now != filters || filters == "" {
			t.Errorf("system call filters were %q, are %q", filters, now)
		}
		for _, p := range []*peer{tunnel, login} {
			if got := p.line(); got != "secmod" {
				t.Fatalf("a worker was told %q", got)
			}
			if got := p.ask("sign"); !strings.HasPrefix(got, "signed 127.0.0.1") {
				t.Errorf("the new sec-mod answers %q", got)
			}
		}
	}
	if got := silent.ask("hello"); !strings.HasPrefix(got, "hi ") {
		t.Errorf("who had not said anything: %q", got)
	}
	now := ask[control.Sessions](t, ctl, control.CmdSessions, nil)
	if len(now.Sessions) != 1 || now.Sessions[0].ID != before.Sessions[0].ID || now.Sessions[0].IPv4 != before.Sessions[0].IPv4 ||
		now.Sessions[0].Device != before.Sessions[0].Device {
		t.Errorf("sessions %+v, were %+v", now, before)
	}
	if got := ask[control.Bans](t, ctl, control.CmdBans, nil); len(got.Bans) != len(bans.Bans) {
		t.Errorf("bans %+v, were %+v", got, bans)
	}
	if st := ask[control.Status](t, ctl, control.CmdStatus, nil); st.Upgrades != 3 || st.PID != r.cmd.Process.Pid {
		t.Errorf("status %+v", st)
	}
	if got := login.open(sid); !strings.Contains(got, "gen=3") {
		t.Errorf("reconnect: %q", got)
	}
	for _, p := range []*peer{kept, tunnel} {
		if got := p.line(); got != "retire gen=3" {
			t.Errorf("told %q", got)
		}
	}
	r.stop()
}

// TestProgramBesideTheFiles: a program whose descriptor follows those of a child, as
// in a main with many connections, can be started all the same.
func TestProgramBesideTheFiles(t *testing.T) {
	path, err := exec.LookPath("true")
	must(err)
	p, err := openProgram(path)
	must(err)
	defer p.file.Close()
	procs, err := newProcs("", slog.New(slog.DiscardHandler))
	must(err)
	defer procs.null.Close()
	const free = 500 // nothing of the test's is there
	for after := 1; after <= 6; after++ {
		last, err := unix.FcntlInt(procs.null.Fd(), unix.F_DUPFD_CLOEXEC, free)
		must(err)
		at, err := unix.FcntlInt(p.file.Fd(), unix.F_DUPFD_CLOEXEC, last+after)
		must(err)
		null := procs.null.Fd()
		c, err := procs.fork(spawnRequest{role: roleTrial, exe: procFD + strconv.Itoa(at), argv: []string{"true"}, files: []uintptr{null, null, null, uintptr(last)}})
		closeAll([]int{last, at})
		if err != nil {
			t.Errorf("%d after the last of its files: %v", after, err)
			continue
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(c.pid, &status, 0, nil); err != nil || status.ExitStatus() != 0 {
			t.Errorf("%d after: %v, %v", after, status, err)
		}
	}
}

// The configuration in effect counts, not the file; and a file is refused that
// is no program.
func TestUpgradeIgnoresTheFile(t *testing.T) {
	r, ctl := controlled(t)
	if _, err := openProgram(filepath.Join(r.dir, "none")); err == nil {
		t.Error("a program that is not there was opened")
	}
	r.configure(&testConfig{Broken: "later"})
	r.upgrade(ctl, 1)
	r.stop()
}

// The state that a program reads is judged as a whole.
func TestResume(t *testing.T) {
	text := func() int {
		fd, err := ipc.Seal("config", []byte(`{"Config":{"Vhosts":[{}]}}`))
		must(err)
		return fd
	}
	session := func(change func(*sessionState)) sessionState {
		s := sessionState{SafeID: "abcdef", User: "u", Key: make([]byte, 32), Newest: 7, App: make([]byte, 32), Generation: 1}
		s.Lease.IPv4 = netip.MustParseAddr("10.9.0.5")
		change(&s)
		return s
	}
	worker := workerState{PID: 7, Channel: -1, Logs: -1, State: tunnel, Conn: 3, Start: time.Now()}
	same := func(*sessionState) {}
	for _, tt := range []struct {
		name string
		st   inherited
		ok   bool
	}{
		{"nothing", inherited{}, true},
		{"a tunnel", inherited{Workers: []workerState{worker}, Sessions: []sessionState{session(same)}}, true},
		{"a session without its worker", inherited{Sessions: []sessionState{session(same)}}, false},
		{"a tunnel without its session", inherited{Workers: []workerState{worker}}, false},
		{"a worker in no state", inherited{Workers: []workerState{{PID: 7, State: 3}}}, false},
		{"a worker that is being started", inherited{Workers: []workerState{{PID: 7, State: starting}}}, false},
		{"half a key", inherited{Workers: []workerState{worker}, Sessions: []sessionState{session(func(s *sessionState) { s.Key = s.Key[:16] })}}, false},
		{"no lease", inherited{Workers: []workerState{worker}, Sessions: []sessionState{session(func(s *sessionState) { s.Lease.IPv4 = netip.Addr{} })}}, false},
		{"a session twice", inherited{Workers: []workerState{worker}, Sessions: []sessionState{session(same), session(same)}}, false},
		{"words that are none", inherited{SecMod: secModState{Closings: [][]byte{{0xff}}}}, false},
	} {
		tt.st.Version = stateVersion
		f, err := tt.st.seal()
		must(err)
		st, err := readState(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		fd := text()
		err = tryResume(testOptions("", false), st, fd)
		closeAll([]int{fd})
		f.Close()
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, errState) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	f, err := (&inherited{Version: stateVersion + 1}).seal()
	must(err)
	defer f.Close()
	if _, err := readState(int(f.Fd())); !errors.Is(err, errState) || !strings.Contains(err.Error(), fmt.Sprint(stateVersion+1)) {
		t.Errorf("a state of another version: %v", err)
	}
}
