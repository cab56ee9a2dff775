package mainproc

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rocserv/internal/config"
)

// patience is how long anything may take on a loaded machine.
const patience = 20 * time.Second

// running is a server under test.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	dir  string
	tcp  string
	udp  string
	log  *logBuffer
	exit chan error
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func defaults() *testConfig {
	c := &testConfig{Config: config.Config{
		Global: config.Global{
			Listen: []string{"127.0.0.1"}, UDPPort: freeUDPPort(), LogLevel: 9, AuthTimeout: 10 * time.Minute, PIDFile: "pid",
		},
		Vhosts: []*config.Vhost{{}},
	}}
	c.SecMod.Network = "10.9.0.0/24"
	return c
}

func freeUDPPort() int {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(err)
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// asUser is for servers that run as an ordinary user when the test is root.
func asUser(cmd *exec.Cmd) {
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{}}}
	}
}

var binaryDir string

// testBinary is a copy of this test that every user can run.
var testBinary = sync.OnceValue(func() string {
	if os.Getuid() != 0 {
		exe, err := os.Executable()
		must(err)
		return exe
	}
	dir, err := os.MkdirTemp("", "mainproc-test") // TestMain removes it
	must(err)
	must(os.Chmod(dir, 0o755))
	binaryDir = dir
	exe, err := os.Executable()
	must(err)
	b, err := os.ReadFile(exe)
	must(err)
	name := filepath.Join(dir, "server")
	must(os.WriteFile(name, b, 0o755))
	return name
})

func (r *running) configure(c *testConfig) {
	b, err := json.Marshal(c)
	must(err)
	must(os.WriteFile(filepath.Join(r.dir, "config"), b, 0o644))
}

// prepare makes a server that is not started yet.
func prepare(t *testing.T, c *testConfig) *running {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o777)
	}
	r := &running{t: t, dir: dir, log: new(logBuffer), exit: make(chan error, 1)}
	r.configure(c)
	r.cmd = exec.Command(testBinary(), mainArg, "config")
	r.cmd.Dir = dir
	r.cmd.Stderr = r.log
	r.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	for range 8 { // descriptors of a careless shell, which no child may see
		null, err := os.Open(os.DevNull)
		must(err)
		t.Cleanup(func() { null.Close() })
		r.cmd.ExtraFiles = append(r.cmd.ExtraFiles, null)
	}
	asUser(r.cmd)
	return r
}

func (r *running) launch() {
	r.t.Helper()
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { r.exit <- r.cmd.Wait() }()
	r.t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			r.cmd.Process.Kill()
		}
		if strings.Contains(r.log.String(), "DATA RACE") {
			r.t.Error("data race in main")
		}
		if r.t.Failed() {
			r.t.Logf("log of the server:\n%s", r.log)
		}
	})
}

// start starts a server and waits until it lets clients in.
func start(t *testing.T, c *testConfig) *running {
	t.Helper()
	r := prepare(t, c)
	r.begin(c)
	return r
}

// begin is start of a server that was prepared.
func (r *running) begin(c *testConfig) {
	r.t.Helper()
	r.launch()
	r.waitLog("initialized rocserv test")
	r.tcp = r.logged(`listening \(TCP\) on (\S+)\.\.\.`)
	if c.Config.Global.UDPPort != 0 {
		r.udp = r.logged(`listening \(UDP\) on (\S+)\.\.\.`)
	}
}

func (r *running) logged(expr string) string {
	r.t.Helper()
	m := regexp.MustCompile(expr).FindStringSubmatch(r.log.String())
	if m == nil {
		r.t.Fatalf("no %q in the log:\n%s", expr, r.log)
	}
	return m[1]
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

func (r *running) waitLog(text string) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%q in the log", text), func() bool { return strings.Contains(r.log.String(), text) })
}

// wait returns the exit status.
func (r *running) wait() int {
	r.t.Helper()
	select {
	case <-r.exit:
		return r.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		r.t.Fatal("the server does not end")
		return -1
	}
}

// stop ends the server in good order.
func (r *running) stop() {
	r.t.Helper()
	r.cmd.Process.Signal(syscall.SIGTERM)
	if status := r.wait(); status != 0 {
		r.t.Errorf("exit status %d after SIGTERM", status)
	}
}

// children returns the pids of main's children whose argv[1] is the role.
func (r *running) children(arg string) (pids []int) {
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, e := range entries {
		b, err := os.ReadFile(e)
		if err != nil {
			continue
		}
		i := bytes.LastIndexByte(b, ')')
		f := strings.Fields(string(b[i+1:]))
		if f[1] != strconv.Itoa(r.cmd.Process.Pid) || f[0] == "Z" {
			continue
		}
		args, _ := os.ReadFile(filepath.Join(filepath.Dir(e), "cmdline"))
		if a := strings.Split(string(args), "\x00"); len(a) > 1 && a[1] == arg {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(e)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	return !strings.HasPrefix(string(b[bytes.LastIndexByte(b, ')')+1:]), " Z")
}

// peer is a client of the fake worker.
type peer struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func (r *running) dial() *peer {
	r.t.Helper()
	c, err := net.Dial("tcp", r.tcp)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return &peer{r.t, c, bufio.NewReader(c)}
}

func (p *peer) send(format string, args ...any) {
	fmt.Fprintf(p, format+"\n", args...)
}

// line reads a line; "" at the end of the connection.
func (p *peer) line() string {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(patience))
	s, err := p.in.ReadString('\n')
	if err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			p.t.Fatal("no line from the worker")
		}
		return ""
	}
	return strings.TrimSuffix(s, "\n")
}

func (p *peer) ask(format string, args ...any) string {
	p.t.Helper()
	p.send(format, args...)
	return p.line()
}

// closed waits for the end of the connection.
func (p *peer) closed() {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, p.in); err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			p.t.Fatal("the connection stays open")
		}
	}
}

func (p *peer) open(sid []byte) string {
	p.t.Helper()
	return p.ask("open %s", hex.EncodeToString(sid))
}

// value finds key=value in a line.
func value(line, key string) string {
	for _, f := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(f, key+"="); ok {
			return v
		}
	}
	return ""
}
