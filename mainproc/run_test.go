package mainproc

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestServe(t *testing.T) {
	r := start(t, defaults())
	c := r.dial()
	hi := c.ask("hello")
	if !strings.HasPrefix(hi, "hi ") {
		t.Fatalf("worker said %q", hi)
	}
	for key, want := range map[string]string{
		"conn": "1", "peer": c.LocalAddr().String(), "local": r.tcp, "gen": "1", "timeout": "600", "args": "[__worker]",
	} {
		if got := value(hi, key); got != want {
			t.Errorf("%s = %s, want %s", key, got, want)
		}
	}
	if !strings.Contains(hi, fmt.Sprintf("env=%v", append([]string{"GOMAXPROCS=1", "GOGC=off"}, without...))) {
		t.Errorf("environment: %s", hi)
	}
	if strings.Contains(r.log.String(), "GODEBUG") { // an option that the runtime does not know
		t.Error("a worker complains about its environment")
	}
	// Nothing but the five descriptors it should have (and the runtime's own).
	if !strings.Contains(hi, "fds=0=/dev/null 1=/dev/null 2=pipe 3=socket 4=socket") || strings.Contains(hi, "5=") {
		t.Errorf("descriptors: %s", hi)
	}
	if got := c.ask("sign"); got != "signed "+c.LocalAddr().String() {
		t.Errorf("through sec-mod: %q", got)
	}
	if pid, err := os.ReadFile(filepath.Join(r.dir, "pid")); err != nil || string(pid) != strconv.Itoa(r.cmd.Process.Pid) {
		t.Errorf("pid file: %q, %v", pid, err)
	}
	if pgid, _ := syscall.Getpgid(r.cmd.Process.Pid); pgid != r.cmd.Process.Pid {
		t.Errorf("process group %d", pgid)
	}
	if !strings.Contains(r.log.String(), `env=[] fds="0=/dev/null 1=/dev/null 2=pipe 3=socket"`) {
		t.Errorf("sec-mod's environment and descriptors: %s", r.log)
	}
	r.cmd.Process.Signal(syscall.SIGUSR2)
	r.waitLog(msgMaintenance)
	r.stop()
	if got := c.line(); got != "terminate REASON_SERVER true" {
		t.Errorf("at the end: %q", got)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "pid")); err == nil {
		t.Error("the pid file is still there")
	}
	if strings.Contains(r.log.String(), "died with sig") {
		t.Error("the log says that somebody died")
	}
}

func TestStartFails(t *testing.T) {
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	tests := []struct {
		name   string
		change func(*testConfig)
		want   string
	}{
		{"broken file", func(c *testConfig) { c.Broken = "error: no such thing in line 3" }, "error: no such thing in line 3"},
		{"sec-mod refuses", func(c *testConfig) { c.SecMod.Refuse = "cannot read key" }, "error: cannot read key"},
		{"sec-mod dies", func(c *testConfig) { c.SecMod.Die = true }, "sec-mod is gone"},
		{"port in use", func(c *testConfig) { c.Config.Global.TCPPort = occupied.Addr().(*net.TCPAddr).Port }, "address already in use: held by "},
		{"no such address", func(c *testConfig) { c.Config.Global.Listen = []string{"192.0.2.77"} }, "no interface has this address"},
		{"pid file", func(c *testConfig) { c.Config.Global.PIDFile = "/nonexistent/pid" }, "pid file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := defaults()
			tt.change(c)
			r := prepare(t, c)
			r.launch()
			if status := r.wait(); status != 1 {
				t.Errorf("exit status %d", status)
			}
			if !strings.Contains(r.log.String(), tt.want) {
				t.Errorf("no %q in:\n%s", tt.want, r.log)
			}
			if strings.Contains(r.log.String(), "initialized") {
				t.Error("it says that it started")
			}
			if _, err := os.Stat(filepath.Join(r.dir, "pid")); err == nil {
				t.Error("a pid file is left")
			}
		})
	}
}

func TestPrivilegedPort(t *testing.T) {
	if firstFreePort() < 1024 {
		t.Skip("every user may bind every port here")
	}
	c := defaults()
	c.Config.Global.TCPPort = 443
	r := prepare(t, c)
	r.launch()
	if status := r.wait(); status != 1 {
		t.Errorf("exit status %d", status)
	}
	if want := "net.ipv4.ip_unprivileged_port_start=443"; !strings.Contains(r.log.String(), want) {
		t.Errorf("no %q in:\n%s", want, r.log)
	}
}

// Everything goes with main, whatever it was doing.
func TestMainKilled(t *testing.T) {
	r := start(t, defaults())
	c := r.dial()
	c.ask("hello")
	eventually(t, "a full pool", func() bool { return len(r.children(roleWorker.arg)) >= 2 })
	pids := append(r.children(roleWorker.arg), r.children(roleSecMod.arg)...)
	r.cmd.Process.Kill()
	deadline := time.Now().Add(time.Second)
	for _, pid := range pids {
		for alive(pid) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d of %d outlives main", pid, len(pids))
			}
			time.Sleep(time.Millisecond)
		}
	}
	<-r.exit
}

// As in ocserv, where it is wanted.
func TestExitOnSecModDeath(t *testing.T) {
	cfg := defaults()
	cfg.Config.Global.ExitOnSecModDeath = true
	r := start(t, cfg)
	c := r.dial()
	c.ask("hello")
	syscall.Kill(r.children(roleSecMod.arg)[0], syscall.SIGKILL)
	if status := r.wait(); status == 0 {
		t.Error("exit status 0")
	}
	for _, want := range []string{msgSecModDied, "secmod died with sig 9", "error detected\n"} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("no %q in the log", want)
		}
	}
	if got := c.line(); got != "terminate REASON_SERVER false" {
		t.Errorf("the client's worker was told %q", got)
	}
	c.closed()
}

func TestWorkerKilled(t *testing.T) {
	r := start(t, defaults())
	a, b := r.dial(), r.dial()
	pid, _ := strconv.Atoi(value(a.ask("hello"), "pid"))
	b.ask("hello")
	syscall.Kill(pid, syscall.SIGKILL)
	a.closed()
	r.waitLog("worker died with sig 9")
	if got := b.ask("sign"); !strings.HasPrefix(got, "signed") {
		t.Errorf("the other client: %q", got)
	}
	r.stop()
}

// A worker that leaves a process behind, with our channel: it is gone all the
// same, and the orphan is reaped in the end.
func TestOrphan(t *testing.T) {
	r := start(t, defaults())
	c := r.dial()
	if got := c.open(testSID(sidGood, 1, 0, false, 1)); !strings.HasPrefix(got, "ok") {
		t.Fatalf("open: %q", got)
	}
	c.send("orphan")
	r.waitLog(msgDisconnected)
	if len(r.children(orphanArg)) != 1 {
		t.Error("there is no orphan: the test proves nothing")
	}
	r.waitLog("reaped an orphan")
	r.stop()
}

// A signal to the whole group, as from "kill -- -PID" or a terminal, is a stop
// in good order.
func TestGroupSignal(t *testing.T) {
	r := start(t, defaults())
	c := r.dial()
	c.ask("hello")
	// One that is just being started has not come to ignoring signals.
	eventually(t, "a full pool", func() bool { return strings.Count(r.log.String(), "worker is ready") > poolSize })
	syscall.Kill(-r.cmd.Process.Pid, syscall.SIGTERM)
	if status := r.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if strings.Contains(r.log.String(), "died") {
		t.Errorf("somebody died:\n%s", r.log)
	}
}

// A worker that will not go is killed.
func TestStopKills(t *testing.T) {
	r := start(t, defaults())
	c := r.dial()
	c.ask("deaf")
	begin := time.Now()
	r.stop()
	if took := time.Since(begin); took < stopGrace {
		t.Errorf("killed after %v already", took)
	}
	if got := c.line(); got != "terminate REASON_SERVER true" {
		t.Errorf("it was not asked first: %q", got)
	}
}

func TestMisbehaviour(t *testing.T) {
	r := start(t, defaults())
	good := r.dial()
	good.ask("hello")
	for _, how := range []string{"ready-again", "info-before-login", "foreign-type", "stats-unasked", "why-unasked", "short-sid", "with-id", "ports-before-login", "cookie-twice", "retired", "detached-before-login", "flood"} {
		t.Run(how, func(t *testing.T) {
			c := r.dial()
			conn := value(c.ask("hello"), "conn")
			c.send("misbehave %s", how)
			c.closed()
			eventually(t, "a line about it", func() bool {
				for line := range strings.Lines(r.log.String()) {
					if strings.Contains(line, msgViolation) && strings.Contains(line, "id=conn-"+conn+" ") {
						return true
					}
				}
				return false
			})
		})
	}
	t.Run("close-channel", func(t *testing.T) {
		c := r.dial()
		c.ask("hello")
		c.send("misbehave close-channel")
		c.closed()
	})
	t.Run("panic", func(t *testing.T) {
		c := r.dial()
		pid := value(c.ask("hello"), "pid")
		c.send("misbehave panic")
		c.closed()
		eventually(t, "the trace in the log", func() bool {
			for line := range strings.Lines(r.log.String()) {
				if strings.Contains(line, "error role=worker pid="+pid+" ") && strings.Contains(line, "panic: deliberate") {
					return true
				}
			}
			return false
		})
	})
	if got := good.ask("sign"); !strings.HasPrefix(got, "signed") {
		t.Errorf("the other client: %q", got)
	}
	r.stop()
}

func TestChildLog(t *testing.T) {
	r := start(t, defaults())
	c := r.dial()
	pid := value(c.ask("hello"), "pid")
	c.ask("log role=main forged")
	want := fmt.Sprintf(`info role=worker pid=%s id=conn-1: from the worker text="role=main forged"`, pid)
	r.waitLog(want)
	r.stop()
}

func TestAuthTimeout(t *testing.T) {
	cfg := defaults()
	cfg.Config.Global.AuthTimeout = time.Millisecond
	r := start(t, cfg)
	c := r.dial()
	c.ask("deaf") // the worker does not care for its own timeout
	up := r.dial()
	if got := up.open(testSID(sidGood, 1, 0, false, 0)); !strings.HasPrefix(got, "ok") {
		t.Fatalf("open: %q", got)
	}
	c.closed()
	r.waitLog("authentication took too long")
	if got := up.ask("sign"); !strings.HasPrefix(got, "signed") {
		t.Errorf("who has logged in: %q", got)
	}
	r.stop()
}

func TestHealthProbe(t *testing.T) {
	r := start(t, defaults())
	r.dial().Close()
	r.waitLog(msgHealthProbe)
	if got := value(r.dial().ask("hello"), "conn"); got != "1" {
		t.Errorf("the probe was given to a worker: next connection is %s", got)
	}
	r.stop()
}

func TestMaxClients(t *testing.T) {
	cfg := defaults()
	cfg.Config.Global.MaxClients = 1
	r := start(t, cfg)
	a := r.dial()
	if got := a.open(testSID(sidGood, 1, 0, false, 0)); !strings.HasPrefix(got, "ok") {
		t.Fatalf("first: %q", got)
	}
	if got := r.dial().open(testSID(sidGood, 2, 0, false, 0)); got != "COOKIE_UNAVAILABLE Server is full" {
		t.Errorf("second: %q", got)
	}
	r.waitLog(msgTooMany)
	if got := r.dial().open(testSID(sidGood, 1, 0, false, 0)); !strings.HasPrefix(got, "ok") {
		t.Errorf("the first comes back: %q", got)
	}
	r.stop()
}

func TestBan(t *testing.T) {
	cfg := defaults()
	g := &cfg.Config.Global
	g.MaxBanScore, g.BanTime, g.BanResetTime, g.BanPointsConnect = 30, time.Minute, time.Hour, 1
	r := start(t, cfg)
	// The loopback addresses are in a local network: exempt.
	c := r.dial()
	if got := c.open(testSID(sidBan, 1, 0, false, 0)); !strings.HasPrefix(got, "COOKIE_REFUSED") {
		t.Errorf("open: %q", got)
	}
	d := r.dial()
	d.ask("hello")
	d.send("ban")
	if got := r.dial().ask("hello"); !strings.HasPrefix(got, "hi") {
		t.Errorf("an exempt source is refused: %q", got)
	}
	r.stop()
}

// Many come and go, some with a byte and some without: nothing is left behind.
func TestComeAndGo(t *testing.T) {
	r := start(t, defaults())
	settled := func() (fds int, workers int) {
		entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid))
		return len(entries), len(r.children(roleWorker.arg))
	}
	eventually(t, "a full pool", func() bool { _, w := settled(); return w == poolSize })
	fds, _ := settled()
	routines := r.goroutines()
	with := 100
	if testing.Short() {
		with = 20
	}
	for i := range 1000 {
		c, err := net.Dial("tcp", r.tcp)
		if err != nil {
			t.Fatal(err)
		}
		if i%(1000/with) == 0 {
			c.Write([]byte("hello\n"))
			var b [1]byte
			c.Read(b[:])
		}
		c.Close()
	}
	eventually(t, "as many descriptors and workers as before", func() bool {
		f, w := settled()
		return f <= fds && w == poolSize
	})
	eventually(t, "as many goroutines as before", func() bool { return r.goroutines() <= routines })
	stat, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stat {
		b, _ := os.ReadFile(s)
		if i := bytes.LastIndexByte(b, ')'); i > 0 && strings.HasPrefix(string(b[i:]), fmt.Sprintf(") Z %d ", r.cmd.Process.Pid)) {
			t.Errorf("zombie: %s", b[:i+1])
		}
	}
	r.stop()
}

// goroutines asks main how many it has.
func (r *running) goroutines() int {
	r.t.Helper()
	const mark = "debug: maintenance"
	before := strings.Count(r.log.String(), mark)
	r.cmd.Process.Signal(syscall.SIGUSR2)
	eventually(r.t, "maintenance", func() bool { return strings.Count(r.log.String(), mark) > before })
	log := r.log.String()
	line, _, _ := strings.Cut(log[strings.LastIndex(log, mark):], "\n")
	n, err := strconv.Atoi(value(line, "goroutines"))
	if err != nil {
		r.t.Fatalf("%q: %v", line, err)
	}
	return n
}

func TestPoolCrashLoop(t *testing.T) {
	for _, how := range []string{"crash", "crash-idle"} {
		t.Run(how, func(t *testing.T) {
			r := prepare(t, defaults())
			flag := filepath.Join(r.dir, how)
			must(os.WriteFile(flag, nil, 0o644))
			r.launch()
			r.waitLog("initialized")
			r.tcp = r.logged(`listening \(TCP\) on (\S+)\.\.\.`)
			r.waitLog(msgWorkerFailing)
			r.waitLog("failures=4")
			if n := strings.Count(r.log.String(), "worker failed"); n > 40 {
				t.Errorf("%d starts already", n)
			}
			os.Remove(flag)
			eventually(t, "a worker again", func() bool {
				c, err := net.Dial("tcp", r.tcp)
				if err != nil {
					return false
				}
				defer c.Close()
				c.Write([]byte("hello\n"))
				var b [2]byte
				c.Read(b[:])
				return string(b[:]) == "hi"
			})
			r.stop()
		})
	}
}

func TestReload(t *testing.T) {
	cfg := defaults()
	r := start(t, cfg)
	old := r.dial()
	old.ask("hello")
	first := r.children(roleWorker.arg)

	cfg.Broken = "error: no such thing"
	r.configure(cfg)
	r.cmd.Process.Signal(syscall.SIGHUP)
	r.waitLog(msgReloadFailed)
	if got := r.dial().ask("hello"); value(got, "gen") != "1" {
		t.Errorf("after a broken file: %q", got)
	}

	cfg.Broken, cfg.SecMod.Refuse = "", "cannot read key"
	r.configure(cfg)
	r.cmd.Process.Signal(syscall.SIGHUP)
	r.waitLog("cannot read key")
	if got := r.dial().ask("hello"); value(got, "gen") != "1" {
		t.Errorf("after sec-mod refused: %q", got)
	}

	cfg.SecMod.Refuse = ""
	cfg.Config.Global.AuthTimeout = 77 * time.Second
	cfg.Config.Global.TCPPort = 1
	r.configure(cfg)
	r.cmd.Process.Signal(syscall.SIGHUP)
	r.waitLog(msgReloaded)
	r.waitLog("tcp-port takes effect with the next start")
	got := r.dial().ask("hello")
	if value(got, "timeout") != "77" || value(got, "gen") == "1" {
		t.Errorf("after the reload: %q", got)
	}
	if pid, _ := strconv.Atoi(value(got, "pid")); pid != 0 {
		for _, p := range first {
			if p == pid {
				t.Error("the worker was in the pool before the reload")
			}
		}
	}
	if got := old.ask("sign"); !strings.HasPrefix(got, "signed") {
		t.Errorf("a client of before: %q", got)
	}
	r.stop()
}

func TestDrain(t *testing.T) {
	cfg := defaults()
	cfg.Config.Global.Drain = time.Minute
	r := start(t, cfg)
	c := r.dial()
	c.ask("hello")
	r.cmd.Process.Signal(syscall.SIGTERM)
	r.waitLog(msgDraining)
	eventually(t, "a closed port", func() bool {
		n, err := net.Dial("tcp", r.tcp)
		if err == nil {
			n.Close()
		}
		return err != nil
	})
	if got := c.ask("sign"); !strings.HasPrefix(got, "signed") {
		t.Errorf("who is there: %q", got)
	}
	c.Close() // the last one out
	if status := r.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func TestBackground(t *testing.T) {
	r := prepare(t, defaults())
	r.cmd.Args = append(r.cmd.Args, "background")
	log := filepath.Join(r.dir, "log") // a pipe would keep Wait waiting
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r.cmd.Stderr = f
	r.launch()
	if status := r.wait(); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	b, _ := os.ReadFile(log)
	if !strings.Contains(string(b), "initialized rocserv test") {
		t.Errorf("it returned before the server was up:\n%s", b)
	}
	text, err := os.ReadFile(filepath.Join(r.dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(string(text))
	if sid, _ := syscall.Getpgid(pid); sid != pid {
		t.Errorf("group %d", sid)
	}
	syscall.Kill(pid, syscall.SIGTERM)
	eventually(t, "the end", func() bool { return !alive(pid) })

	cfg := defaults()
	cfg.SecMod.Refuse = "cannot read key"
	r = prepare(t, cfg)
	r.cmd.Args = append(r.cmd.Args, "background")
	r.launch()
	if status := r.wait(); status != 1 {
		t.Errorf("a server that does not start: exit status %d", status)
	}
}
