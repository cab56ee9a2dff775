package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/miekg/dns"
)

// Flows are many flows of one program, each from a port of its own, that it
// keeps until it ends.
type Flows struct {
	Kind string // see below
	To   string // host and port
	N    int
}

// Kinds of Flows.
const (
	FlowsTCP    = "tcp"    // connections that are idle once they are open
	FlowsUDP    = "udp"    // a datagram each, to who sends it back
	FlowsDNS    = "dns"    // a query each, whose socket is closed with the answer
	FlowsSYN    = "syn"    // connections that are begun; nobody waits for them
	FlowsUnread = "unread" // HTTP downloads of which nothing is read
	FlowsUnsent = "unsent" // connections that are written to until nothing more goes; who accepts reads nothing
	FlowsAccept = "accept" // the other end of FlowsTCP: takes what comes and keeps it
)

// StartFlows starts it. It says "N flows, M failed" when all are there, or
// "accepting".
func StartFlows(n Netns, f Flows) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	q, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	return n.Start(f.Kind+" flows", strings.NewReader(string(q)), []string{roleVariable + "=" + roleFlows}, self)
}

// flowsAtOnce are how many are being made at a time.
const flowsAtOnce = 64

// flows is the role.
func flows(in io.Reader, out io.Writer) error {
	var f Flows
	if err := json.NewDecoder(in).Decode(&f); err != nil {
		return err
	}
	if f.Kind == FlowsAccept {
		return keepAll(f.To, out)
	}
	begin := map[string]func(to string) (io.Closer, error){FlowsTCP: openTCP, FlowsUDP: openUDP, FlowsDNS: askOnce, FlowsSYN: beginTCP,
		FlowsUnread: leaveUnread, FlowsUnsent: writeAll}[f.Kind]
	if begin == nil {
		return fmt.Errorf("no kind of flows %q", f.Kind)
	}
	var failed atomic.Int64
	kept := make([]io.Closer, f.N)
	var all sync.WaitGroup
	slots := make(chan struct{}, flowsAtOnce)
	for i := range f.N {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			c, err := begin(f.To)
			if err != nil {
				if failed.Add(1) == 1 {
					fmt.Fprintln(out, "the first that failed:", err)
				}
				return
			}
			kept[i] = c
		})
	}
	all.Wait()
	fmt.Fprintf(out, "%d flows, %d failed\n", f.N-int(failed.Load()), failed.Load())
	select {}
}

func openTCP(to string) (io.Closer, error) { return net.DialTimeout("tcp", to, 30*time.Second) }

// narrow is a connection for which the kernel here keeps next to nothing, so
// that what is stuck is stuck on the way.
func narrow(to string) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: 30 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
		})
	}}
	c, err := d.Dial("tcp", to)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// leaveUnread begins a download that would be endless and reads one byte of it.
func leaveUnread(to string) (io.Closer, error) {
	c, err := narrow(to)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err = fmt.Fprintf(c, "GET /bytes?n=%d HTTP/1.1\r\nHost: tgt\r\n\r\n", 1<<40); err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	return c, err
}

// writeAll writes until nothing was taken for a while.
func writeAll(to string) (io.Closer, error) {
	c, err := narrow(to)
	if err != nil {
		return nil, err
	}
	for block := make([]byte, 16<<10); ; {
		c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		if _, err := c.Write(block); errors.Is(err, os.ErrDeadlineExceeded) {
			return c, nil
		} else if err != nil {
			c.Close()
			return nil, err
		}
	}
}

// openUDP repeats its datagram: some may be lost where many come at once.
func openUDP(to string) (io.Closer, error) {
	c, err := net.Dial("udp", to)
	if err != nil {
		return nil, err
	}
	for range 10 {
		if _, err = c.Write([]byte("x")); err != nil {
			continue
		}
		c.SetReadDeadline(time.Now().Add(3 * time.Second))
		if _, err = c.Read(make([]byte, 1)); err == nil {
			return c, nil
		}
	}
	c.Close()
	return nil, err
}

func askOnce(to string) (io.Closer, error) {
	m := new(dns.Msg).SetQuestion(NameTgt, dns.TypeA)
	c := &dns.Client{Timeout: 5 * time.Second}
	var err error
	for range 5 {
		if _, _, err = c.Exchange(m, to); err == nil {
			return nil, nil
		}
	}
	return nil, err
}

// beginTCP lets the kernel send SYNs and does not wait for what becomes of them.
func beginTCP(to string) (io.Closer, error) {
	a, err := net.ResolveTCPAddr("tcp4", to)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(a.IP.To4())}); !errors.Is(err, unix.EINPROGRESS) {
		unix.Close(fd)
		return nil, fmt.Errorf("connect: %v", err)
	}
	return descriptor(fd), nil
}

type descriptor int

// Close implements io.Closer.
func (d descriptor) Close() error { return unix.Close(int(d)) }

// keepAll accepts connections and lets them be.
func keepAll(at string, out io.Writer) error {
	ln, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "accepting")
	var kept []net.Conn // else the collector would close them
	defer func() { runtime.KeepAlive(kept) }()
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		kept = append(kept, c)
	}
}
