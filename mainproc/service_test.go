package mainproc

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager is a service manager: it passes sockets and listens to what it is told.
type manager struct {
	*testing.T
	heard *net.UnixConn
}

// serviceOf makes the server one of a manager's, which passes these sockets to it.
func serviceOf(r *running, names string, sockets ...*os.File) manager {
	name := filepath.Join(r.dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	must(err)
	must(os.Chmod(name, 0o777))
	r.t.Cleanup(func() { c.Close() })
	env := fmt.Sprintf("LISTEN_FDS=%d LISTEN_FDNAMES=%s NOTIFY_SOCKET=%s WATCHDOG_USEC=200000", len(sockets), names, name)
	args := append([]string{"-c", "LISTEN_PID=$$ " + env + ` exec "$@"`, "sh", r.cmd.Path}, r.cmd.Args[1:]...)
	r.cmd.Args, r.cmd.Path = append([]string{"sh"}, args...), "/bin/sh"
	r.cmd.ExtraFiles = append(sockets, r.cmd.ExtraFiles...)
	return manager{r.t, c}
}

// hears waits for a message that begins so.
func (m manager) hears(word string) {
	m.Helper()
	m.heard.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 1000)
	for {
		n, err := m.heard.Read(b)
		if err != nil {
			m.Fatalf("no %s: %v", word, err)
		}
		if strings.HasPrefix(string(b[:n]), word) {
			return
		}
	}
}

func fileOf[C interface{ File() (*os.File, error) }](t *testing.T, c C) *os.File {
	f, err := c.File()
	must(err)
	t.Cleanup(func() { f.Close() })
	return f
}

// TestService: a service manager opens the ports, as another uid perhaps, and
// hears of readiness, life, reload and stop.
func TestService(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip(err)
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(err)
	defer l.Close()
	lc := net.ListenConfig{Control: onSocket(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })}
	p, err := lc.ListenPacket(t.Context(), "udp4", "127.0.0.1:0")
	must(err)
	defer p.Close()
	cfg := defaults()
	cfg.Config.Global.TCPPort = 1 // nobody may open it
	r := prepare(t, cfg)
	m := serviceOf(r, "tls:dtls", fileOf(t, l), fileOf(t, p.(*net.UDPConn)))
	r.launch()
	m.hears("READY=1")
	r.tcp, r.udp = r.logged(`listening \(TCP\) on (\S+)\.\.\.`), r.logged(`listening \(UDP\) on (\S+)\.\.\.`)
	if r.tcp != l.Addr().String() || r.udp != p.LocalAddr().String() {
		t.Fatalf("it listens on %s and %s", r.tcp, r.udp)
	}
	c := r.dial()
	app, _ := hex.DecodeString(value(c.open(testSID(sidGood, 1, 0, false, 1)), "app"))
	r.udpDial().Write(hello(app, 1, 'A'))
	if got := c.line(); !strings.HasPrefix(got, "UDP_FD") {
		t.Errorf("the worker got %q", got)
	}
	m.hears("WATCHDOG=1")
	r.cmd.Process.Signal(syscall.SIGHUP)
	m.hears("RELOADING=1\nMONOTONIC_USEC=")
	m.hears("READY=1")
	r.cmd.Process.Signal(syscall.SIGTERM)
	m.hears("STOPPING=1")
	if status := r.wait(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// What cannot be used is said, before anything is started.
func TestPassedSockets(t *testing.T) {
	pipe, other, err := os.Pipe()
	must(err)
	defer pipe.Close()
	defer other.Close()
	a, err := net.ListenPacket("udp", "[::]:0") // both families
	must(err)
	defer a.Close()
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	must(err)
	defer u.Close()
	for _, tt := range []struct {
		f    *os.File
		want string
	}{
		{pipe, "(x) of the service manager: it is no socket"},
		{fileOf(t, u), "it must be one that listens for TCP"},
		{fileOf(t, a.(*net.UDPConn)), "UDP needs a socket for each family"},
	} {
		fd, err := dupFile(tt.f)
		must(err)
		p := new(ports)
		if err := p.adopt(passed{[]int{fd}, []string{"x"}}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
	for pid, want := range map[string]int{"1": 0, "7": 2} {
		t.Setenv("LISTEN_PID", pid)
		t.Setenv("LISTEN_FDS", "2")
		t.Setenv("LISTEN_FDNAMES", "tls")
		got, err := passedSockets(7)
		if err != nil || len(got.fds) != want || want > 0 && (got.names[0] != "tls" || got.names[1] != "unknown") {
			t.Errorf("for %s: %+v, %v", pid, got, err)
		}
		if os.Getenv("LISTEN_FDS") != "" {
			t.Error("they would be passed on")
		}
	}
	t.Setenv("LISTEN_PID", "7")
	t.Setenv("LISTEN_FDS", "many")
	if _, err := passedSockets(7); err == nil {
		t.Error("no error for LISTEN_FDS=many")
	}
}
