package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/packet"
	"rocserv/test/client"
)

var update = flag.Bool("update", false, "write testdata/messages.golden")

// TestMessages is the life of a session in messages, against golden text, in the
// order of the seed design: a login with one wrong password, a tunnel with
// statistics on time, a reconnect while the tunnel is up, a connection that
// breaks, the return with the cookie, and the goodbye. What is counted only grows.
func TestMessages(t *testing.T) {
	t.Parallel()
	s := startServer(t, "stats-report-time = 10")
	s.step("login")
	if _, err := client.Login(t.Context(), client.Config{Server: s.addr, User: s.user, Password: "wrong"}); err == nil {
		t.Fatal("let in with a wrong password")
	}
	cookie, err := client.Login(t.Context(), client.Config{Server: s.addr, User: s.user, Password: s.password})
	if err != nil {
		t.Fatal(err)
	}
	s.wait("SEC_AUTH_REPLY", 4)

	s.step("tunnel")
	first := s.open(cookie)
	s.ping(first)
	s.wait("SESSION_INFO", 1)

	s.step("statistics, on time")
	s.wait("SEC_CLI_STATS", 1)

	s.step("another connection with the cookie")
	second := s.open(cookie)
	<-first.Done()
	s.wait("SESSION_INFO", 2)
	s.wait("SECM_CLI_STATS", 1)
	s.ping(second)

	s.step("the connection breaks")
	s.relay.cut()
	s.wait("SECM_CLI_STATS", 2)

	s.step("return and goodbye")
	third := s.open(cookie)
	s.ping(third)
	s.wait("SESSION_INFO", 3)
	third.Close()
	s.wait("SECM_CLI_STATS", 3)
	s.stop()

	s.grows()
	s.golden("testdata/messages.golden")
}

// server is a server under test, with taps.
type server struct {
	t              *testing.T
	dir, addr      string
	user, password string
	cmd            *exec.Cmd
	log            bytes.Buffer
	relay          *relay
	steps          []message // From is the name
}

var (
	userLine     = regexp.MustCompile(`(?m)^ *user +(\S+)$`)
	passwordLine = regexp.MustCompile(`(?m)^ *password +(\S+)$`)
)

func startServer(t *testing.T, settings ...string) *server {
	t.Helper()
	s := &server{t: t, dir: publicDir(t)}
	exe := filepath.Join(s.dir, "server")
	copyProgram(t, exe)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	state := filepath.Join(s.dir, "state")
	s.cmd = exec.Command(exe, serverArg, "-f", "-d", "3", "-c", filepath.Join(state, "ocserv.conf"))
	var out bytes.Buffer
	maker := exec.Command(exe, roleQuickstart, fmt.Sprintf("127.0.0.1:%d", port), state)
	maker.Stdout, maker.Stderr = &out, &out
	for _, cmd := range []*exec.Cmd{maker, s.cmd} {
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: true}}
		}
	}
	if err := maker.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	user, password := userLine.FindStringSubmatch(out.String()), passwordLine.FindStringSubmatch(out.String())
	if user == nil || password == nil {
		t.Fatalf("nobody to log in as:\n%s", &out)
	}
	s.user, s.password = user[1], password[1]
	s.configure(filepath.Join(state, "ocserv.conf"), settings)
	s.cmd.Stderr = &s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	s.relay = newRelay(t, fmt.Sprintf("127.0.0.1:%d", port))
	s.addr = s.relay.listener.Addr().String()
	s.wait("WORKER_READY", 1)
	return s
}

// publicDir is a folder that another user can use.
func publicDir(t *testing.T) string {
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o777)
	}
	return dir
}

func copyProgram(t *testing.T, name string) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

var pool4 = regexp.MustCompile(`(?m)^ipv4-network = .*$`)

func (s *server) configure(name string, settings []string) {
	b, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	b = pool4.ReplaceAll(b, []byte("ipv4-network = 10.66.0.0/24"))
	b = append(b, "\n"+strings.Join(settings, "\n")+"\n"...)
	if err := os.WriteFile(name, b, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) stop() {
	if s.cmd.ProcessState != nil {
		return
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
	if s.t.Failed() {
		s.t.Logf("log of the server:\n%s", &s.log)
	}
}

func (s *server) open(cookie string) *client.Tunnel {
	s.t.Helper()
	t, err := client.Open(s.t.Context(), client.Config{Server: s.addr, Cookie: cookie})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.relay.cut() })
	return t
}

// ping sends an echo request to the gateway and waits for the answer.
func (s *server) ping(t *client.Tunnel) {
	s.t.Helper()
	before := t.RxPackets.Load()
	t.Begin()
	b := t.Next(60)
	clear(b)
	n := packet.PutIP(b, packet.IP{Src: t.Addr4, Dst: netip.MustParseAddr("10.66.0.1"), Proto: packet.ICMP, TTL: 64})
	b[n] = 8
	sum := ^packet.Sum(b[n:], 0)
	b[n+2], b[n+3] = byte(sum>>8), byte(sum)
	t.Add(len(b))
	t.End()
	for end := time.Now().Add(30 * time.Second); t.RxPackets.Load() == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatal("no echo of the gateway")
		}
	}
}

// step begins a part of the golden text.
func (s *server) step(name string) { s.steps = append(s.steps, message{At: monotonic(), From: name}) }

// seen is what the taps have noted, in order.
func (s *server) seen() (all []message) {
	b, _ := os.ReadFile(filepath.Join(s.dir, "tap"))
	for line := range bytes.Lines(b) {
		var m message
		if json.Unmarshal(line, &m) == nil {
			all = append(all, m)
		}
	}
	slices.SortStableFunc(all, func(a, b message) int { return int(a.At - b.At) })
	return all
}

// wait waits for the n-th message of a type.
func (s *server) wait(typ string, n int) {
	s.t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		got := 0
		for _, m := range s.seen() {
			if m.Type == typ {
				got++
			}
		}
		if got >= n {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%d %s, not %d", got, typ, n)
		}
	}
}

// told are the messages of the golden text.
var told = []string{
	"SEC_AUTH_INIT", "SEC_AUTH_CONT", "SEC_AUTH_REPLY", "AUTH_COOKIE_REQ", "AUTH_COOKIE_REP",
	"SECM_SESSION_OPEN", "SECM_SESSION_REPLY", "SECM_SESSION_CLOSE", "SECM_CLI_STATS",
	"SESSION_INFO", "SEC_CLI_STATS", "SESSION_STATS", "RETIRE", "RETIRED", "DETACHED", "TERMINATE",
}

// ordered is what was seen, and the steps, but for what has no order of its own:
//
//   - a worker has two channels: its last word to sec-mod goes before that to main;
//   - main tells sec-mod of an older worker's end while it opens the tunnel to the
//     newer one: that goes to the end of the step;
//   - statistics on time come as often as time passes: the first stays, in its step.
func (s *server) ordered() (all []message) {
	const onTime = "statistics, on time"
	seen, replaced := s.seen(), false
	for _, m := range seen {
		switch {
		case m.Type == "SEC_CLI_STATS" && m.Reason == 0:
			if slices.ContainsFunc(all, func(o message) bool { return o.Type == m.Type && o.Reason == 0 }) {
				continue
			}
			m.At = max(m.At, s.begin(func(st message) bool { return st.From == onTime })+1)
		case m.Type == "SEC_CLI_STATS":
			for _, o := range seen {
				if o.PID == m.PID && (o.Type == "SESSION_STATS" || o.Type == "RETIRED") {
					m.At = min(m.At, o.At-1)
				}
			}
		case m.Type == "SECM_SESSION_CLOSE" && m.Reason == ipc.Reason_REASON_REPLACED, m.Type == "SECM_CLI_STATS" && replaced:
			replaced = m.Type == "SECM_SESSION_CLOSE"
			m.At = s.begin(func(st message) bool { return st.At > m.At }) - 1
		}
		all = append(all, m)
	}
	return append(all, s.steps...)
}

// begin is when the first such step began.
func (s *server) begin(is func(message) bool) int64 { return s.steps[slices.IndexFunc(s.steps, is)].At }

// golden compares what was said with the file.
func (s *server) golden(name string) {
	s.t.Helper()
	all := s.ordered()
	slices.SortStableFunc(all, func(a, b message) int { return int(a.At - b.At) })
	names := map[int]string{}
	var b strings.Builder
	for _, m := range all {
		if m.To == "" {
			fmt.Fprintf(&b, "# %s\n", m.From)
			continue
		}
		if !slices.Contains(told, m.Type) || names[m.PID] == "" && m.Type == "TERMINATE" {
			continue // those that nobody has come to are told to leave at the end
		}
		if names[m.PID] == "" && (m.From == "worker" || m.To == "worker") {
			names[m.PID] = fmt.Sprintf("worker %d", len(names)+1)
		}
		from, to := strings.Replace(m.From, "worker", names[m.PID], 1), strings.Replace(m.To, "worker", names[m.PID], 1)
		fmt.Fprintf(&b, "%s -> %s: %s%s\n", from, to, m.Type, m.counted())
	}
	if *update {
		if err := os.WriteFile(name, []byte(b.String()), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	if got := b.String(); got != string(want) {
		s.t.Errorf("said:\n%s\nwant:\n%s", got, want)
	}
}

// counted is what a message says of bytes and reason.
func (m message) counted() (text string) {
	if strings.HasSuffix(m.Type, "STATS") {
		text = fmt.Sprintf(" up %d down %d", m.Up, m.Down)
	}
	if m.Reason != 0 {
		text += " " + strings.TrimPrefix(m.Reason.String(), "REASON_")
	}
	return text
}

// grows: no counter of a worker or of the session becomes smaller.
func (s *server) grows() {
	last := map[string]message{}
	for _, m := range s.seen() {
		if m.Type != "SEC_CLI_STATS" && m.Type != "SECM_CLI_STATS" {
			continue
		}
		key := fmt.Sprint(m.Type, m.PID)
		if l := last[key]; m.Up < l.Up || m.Down < l.Down {
			s.t.Errorf("%s: %d up, %d down after %d and %d", m.Type, m.Up, m.Down, l.Up, l.Down)
		}
		last[key] = m
	}
}

// relay carries connections to the server, and breaks them.
type relay struct {
	listener net.Listener
	mu       sync.Mutex
	conns    []net.Conn
}

func newRelay(t *testing.T, to string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l}
	t.Cleanup(func() { l.Close(); r.cut() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := new(net.Dialer).DialContext(context.Background(), "tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, near, far)
			r.mu.Unlock()
			go pump(near, far)
			go pump(far, near)
		}
	}()
	return r
}

func pump(dst, src net.Conn) {
	io.Copy(dst, src)
	dst.Close()
	src.Close()
}

// cut breaks all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}
