package egress

import (
	"bytes"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inbox is a Receiver that keeps copies.
type inbox struct {
	mu      sync.Mutex
	msgs    []Message
	reports []Report
	got     chan struct{}
}

func newInbox() *inbox { return &inbox{got: make(chan struct{}, 1)} }

func (i *inbox) Receive(msgs []Message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, m := range msgs {
		m.Payload = bytes.Clone(m.Payload)
		i.msgs = append(i.msgs, m)
	}
	select {
	case i.got <- struct{}{}:
	default:
	}
}

func (i *inbox) Report(r *Report) {
	i.mu.Lock()
	defer i.mu.Unlock()
	kept := *r
	kept.Quote = bytes.Clone(r.Quote)
	i.reports = append(i.reports, kept)
	select {
	case i.got <- struct{}{}:
	default:
	}
}

// report waits for the first report.
func (i *inbox) report(t testing.TB) Report {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		i.mu.Lock()
		reports := i.reports
		i.mu.Unlock()
		if len(reports) > 0 {
			return reports[0]
		}
		select {
		case <-i.got:
		case <-deadline:
			t.Fatal("no report came")
		}
	}
}

// wait returns the first n messages.
func (i *inbox) wait(t testing.TB, n int) []Message {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		i.mu.Lock()
		msgs := i.msgs
		i.mu.Unlock()
		if len(msgs) >= n {
			return msgs[:n]
		}
		select {
		case <-i.got:
		case <-deadline:
			t.Fatalf("got %d messages, want %d", len(msgs), n)
		}
	}
}

func listenUDP(t testing.TB, address string) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUDP("udp", a)
	if err != nil {
		t.Skipf("no socket on %s: %v", address, err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// readFrom is the next datagram; of v4-mapped addresses the IPv4 one.
func readFrom(t testing.TB, c *net.UDPConn) ([]byte, netip.AddrPort) {
	t.Helper()
	b := make([]byte, 70000)
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

func openUDP(t testing.TB, d *Direct, v6 bool, r Receiver) PacketSocket {
	t.Helper()
	s, err := d.OpenUDP(v6, r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var loopbacks = []struct {
	name    string
	v6      bool
	address string
}{{"IPv4", false, "127.0.0.1:0"}, {"IPv6", true, "[::1]:0"}}

// closedPort is a UDP address where nobody listens.
func closedPort(t testing.TB) netip.AddrPort {
	c, dst := listenUDP(t, "127.0.0.1:0")
	c.Close()
	return dst
}

// settle waits until n goroutines are left.
func settle(t testing.TB, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > n; runtime.Gosched() {
		if time.Now().After(deadline) {
			b := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, want %d:\n%s", runtime.NumGoroutine(), n, b[:runtime.Stack(b, true)])
		}
	}
}

// unsafeLoopback opens loopback: tests have no other network.
func unsafeLoopback(t testing.TB) *Policy {
	t.Helper()
	p, err := NewPolicy(PolicyConfig{AllowUnsafe: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newDirect(t testing.TB, cfg DirectConfig) *Direct {
	t.Helper()
	d := NewDirect(unsafeLoopback(t), cfg)
	t.Cleanup(func() { d.Close() })
	return d
}

type receiverFunc func([]Message)

func (f receiverFunc) Receive(m []Message) { f(m) }
func (f receiverFunc) Report(*Report)      {}

func cpu() time.Duration {
	var ru unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &ru)
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// rawPeer is a UDP socket of the far side, blocking, without Go's poller.
func rawPeer(t testing.TB) (int, netip.AddrPort) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
}
