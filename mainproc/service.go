package mainproc

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What a service manager and main say to each other, by environment variables:
// sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3). None of it is a must.

const firstPassed = 3 // SD_LISTEN_FDS_START

// passed are the sockets that a service manager has opened for us.
type passed struct {
	fds   []int
	names []string
}

// passedSockets reads LISTEN_FDS, once: what comes after us is not meant.
func passedSockets(pid int) (passed, error) {
	defer func() {
		for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
			os.Unsetenv(name)
		}
	}()
	var p passed
	if os.Getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return p, nil
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > 1024 {
		return p, fmt.Errorf("mainproc: LISTEN_FDS=%q is no number of sockets", os.Getenv("LISTEN_FDS"))
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i := range n {
		name := "unknown"
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		p.fds, p.names = append(p.fds, firstPassed+i), append(p.names, name)
	}
	return p, nil
}

// adopt makes ports of the sockets that were passed. What each is for is told by
// its kind; its name is for messages.
func (p *ports) adopt(from passed) error {
	for i, fd := range from.fds {
		if err := p.adoptOne(fd, from.names[i]); err != nil {
			return fmt.Errorf("mainproc: socket %d (%s) of the service manager: %w", fd, from.names[i], err)
		}
	}
	return nil
}

func (p *ports) adoptOne(fd int, name string) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("it is no socket: %w", err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	listens, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	inet := domain == unix.AF_INET || domain == unix.AF_INET6
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	switch {
	case inet && kind == unix.SOCK_STREAM && listens == 1:
		l, err := net.FileListener(f)
		if err != nil {
			return err
		}
		p.tcp = append(p.tcp, l.(*net.TCPListener))
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferAccept)
		return nil
	case inet && kind == unix.SOCK_DGRAM:
		return p.adoptUDP(f, domain == unix.AF_INET)
	}
	return errors.New("it must be one that listens for TCP (ListenStream=), or one for UDP (ListenDatagram=)")
}

func (p *ports) adoptUDP(f *os.File, v4 bool) error {
	fd := int(f.Fd())
	if !v4 {
		if only, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY); err != nil || only == 0 {
			return errors.New("UDP needs a socket for each family: BindIPv6Only=ipv6-only, and a ListenDatagram= for IPv4")
		}
	}
	if err := prepareUDP(fd, v4); err != nil {
		return err
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return err
	}
	u := c.(*net.UDPConn)
	p.udp = append(p.udp, u)
	if port := u.LocalAddr().(*net.UDPAddr).Port; port < firstFreePort() {
		p.warnings = append(p.warnings, fmt.Sprintf(
			"UDP port %d was passed, but the sockets of DTLS clients cannot be bound to it: set the sysctl net.ipv4.ip_unprivileged_port_start=%d, or use a higher port; clients stay with TLS",
			port, port))
	}
	// Sockets of another uid share a port only by SO_REUSEADDR (measured).
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && int(st.Uid) != os.Getuid() {
		p.shared = true
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	return nil
}

// notifier tells the service manager how we are. The zero one tells nobody.
type notifier struct {
	addr  *net.UnixAddr
	every time.Duration // half of what the watchdog waits; 0: there is none
	log   *slog.Logger
}

func newNotifier(pid int, log *slog.Logger) *notifier {
	n := &notifier{log: log}
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" || name[0] != '/' && name[0] != '@' { // others (vsock) are not for us
		return n
	}
	n.addr = &net.UnixAddr{Name: name, Net: "unixgram"} // net takes '@' as sd_notify does
	us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if own := cmp.Or(os.Getenv("WATCHDOG_PID"), strconv.Itoa(pid)); err == nil && us > 0 && own == strconv.Itoa(pid) {
		n.every = time.Duration(us) * time.Microsecond / 2
	}
	return n
}

// States of sd_notify(3).
const (
	sdReady    = "READY=1"
	sdStopping = "STOPPING=1"
	sdWatchdog = "WATCHDOG=1"
)

// say sends lines. Nothing depends on whether they arrive.
func (n *notifier) say(lines ...string) {
	if n.addr == nil {
		return
	}
	c, err := net.DialUnix("unixgram", nil, n.addr)
	if err == nil {
		c.SetWriteDeadline(time.Now().Add(time.Second))
		_, err = c.Write([]byte(strings.Join(lines, "\n")))
		c.Close()
	}
	if err != nil {
		n.log.Debug("the service manager is not told", "state", lines[0], "err", err)
	}
}

// reloading must carry the time, so that an older READY is not taken for its end.
func (n *notifier) reloading() {
	var ts unix.Timespec
	if n.addr == nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return
	}
	n.say("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", ts.Nano()/1000))
}

// watchdog shows that main lives: that its leader takes orders, and that its
// table of sessions can be had.
func (s *server) watchdog() {
	if s.notify.every == 0 {
		return
	}
	t := time.NewTicker(s.notify.every)
	defer t.Stop()
	for {
		select {
		case <-s.ended:
			return
		case <-t.C:
		}
		select {
		case s.procs.beats <- struct{}{}:
		case <-s.procs.stopped:
			return
		}
		live, _ := s.sessions.count()
		s.notify.say(sdWatchdog, fmt.Sprintf("STATUS=%d tunnels", live))
	}
}
