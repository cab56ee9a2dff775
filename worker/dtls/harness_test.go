package dtls

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pion "github.com/pion/dtls/v3"
	pionmsg "github.com/pion/dtls/v3/pkg/protocol/handshake"
	"golang.org/x/sys/unix"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/secret"
	"rocserv/internal/wire"
)

const testWait = 10 * time.Second // for what should happen at once

var (
	testPSK   = bytes.Repeat([]byte{0x5a}, pskLen)
	testAppID = bytes.Repeat([]byte{0xa7}, 32)
)

// checkLeaks fails the test if it leaves a goroutine or descriptor of ours or
// of pion behind. It is called first, so that it looks last.
func checkLeaks(t *testing.T) {
	t.Helper()
	fds := openSockets(t)
	t.Cleanup(func() {
		var left string
		for end := time.Now().Add(testWait); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			left = leftGoroutines()
			if n := openSockets(t); n > fds {
				left += fmt.Sprintf("%d descriptors, %d before\n", n, fds)
			}
			if left == "" {
				return
			}
		}
		t.Errorf("left behind:\n%s", left)
	})
}

func leftGoroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for _, g := range strings.Split(string(buf), "\n\n") {
		for _, mark := range []string{"dtls.(*Channel)", "dtls.(*handshake)", "dtls.(*handshakeFSM)", "v3.(*Conn)", "netctx"} {
			if strings.Contains(g, mark) && !strings.Contains(g, "testing.tRunner") {
				left = append(left, g)
				break
			}
		}
	}
	return strings.Join(left, "\n\n")
}

func openSockets(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// recorder is a Receiver that remembers.
type recorder struct {
	established chan struct{}
	packets     chan wire.Packet // copies
	closed      chan error
	onPackets   func(c *Channel, p []wire.Packet)
	mu          sync.Mutex
	log         []string // order of the calls
}

func newRecorder() *recorder {
	return &recorder{
		established: make(chan struct{}, 16), packets: make(chan wire.Packet, 1<<16), closed: make(chan error, 16),
	}
}

func (r *recorder) note(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.log); n == 0 || r.log[n-1] != s {
		r.log = append(r.log, s)
	}
}

func (r *recorder) calls() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.log, " ")
}

func (r *recorder) Established(*Channel) {
	r.note("established")
	r.established <- struct{}{}
}

func (r *recorder) Packets(c *Channel, p []wire.Packet) {
	r.note("packets")
	for _, q := range p {
		r.packets <- wire.Packet{Type: q.Type, Payload: bytes.Clone(q.Payload)}
	}
	if r.onPackets != nil {
		r.onPackets(c, p)
	}
}

func (r *recorder) Closed(_ *Channel, err error) {
	r.note("closed")
	r.closed <- err
}

// await takes the next value of a channel, or fails.
func await[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(testWait):
		t.Fatalf("no %s", what)
		panic("unreachable")
	}
}

// front is what main does: it owns the UDP port and gives connected sockets away.
type front struct {
	t    testing.TB
	conn *net.UDPConn
	addr netip.AddrPort
}

func listen(t testing.TB, network, address string) *front {
	t.Helper()
	lc := net.ListenConfig{Control: reusePort}
	conn, err := lc.ListenPacket(context.Background(), network, address)
	if err != nil {
		t.Skipf("no %s: %v", network, err)
	}
	t.Cleanup(func() { conn.Close() })
	c := conn.(*net.UDPConn)
	return &front{t, c, c.LocalAddr().(*net.UDPAddr).AddrPort()}
}

// read takes one datagram that came to the port itself.
func (f *front) read() ([]byte, netip.AddrPort) {
	f.t.Helper()
	buf := make([]byte, 4096)
	f.conn.SetReadDeadline(time.Now().Add(testWait))
	n, from, err := f.conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		f.t.Fatal(err)
	}
	return buf[:n], from
}

// socket makes a socket of the port. Until it is connected it takes everybody's datagrams.
func (f *front) socket() int {
	f.t.Helper()
	family := unix.AF_INET
	if !f.addr.Addr().Is4() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = unix.Bind(fd, unixAddr(f.addr))
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return fd
}

func (f *front) connect(fd int, peer netip.AddrPort) {
	f.t.Helper()
	if err := unix.Connect(fd, unixAddr(peer)); err != nil {
		f.t.Fatal(err)
	}
}

func unixAddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// start waits for a hello and makes a channel for it.
func (f *front) start(rec *recorder, edit func(*Config)) *Channel {
	f.t.Helper()
	first, from := f.read()
	fd := f.socket()
	f.connect(fd, from)
	cfg := Config{
		FD: fd, Peer: from, First: [][]byte{first}, Keys: Keys{PSK: secret.NewBytes(testPSK)},
		Suites: []uint16{dtlsrecord.PSKWithAES128GCMSHA256}, Receiver: rec, Log: discard(),
	}
	if edit != nil {
		edit(&cfg)
	}
	c, err := Start(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		c.Close()
		<-c.Done()
	})
	return c
}

// path is the client's socket, through which a test can lose and change things.
type path struct {
	*net.UDPConn
	server netip.AddrPort
	queue  [][]byte // received, to be read

	mu   sync.Mutex              // protects the rest
	up   func(p []byte) [][]byte // what becomes of a datagram the client sends; nil: itself
	down func(p []byte) [][]byte // and of one it receives
}

func (p *path) setUp(f func(d []byte) [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up = f
}

func (p *path) setDown(f func(d []byte) [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = f
}

// through says what becomes of d.
func (p *path) through(f *func(p []byte) [][]byte, d []byte) [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *f == nil {
		return [][]byte{d}
	}
	return (*f)(d)
}

func dial(t testing.TB, f *front) *path {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.addr.Addr(), 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &path{UDPConn: conn, server: f.addr}
}

func (p *path) WriteTo(b []byte, _ net.Addr) (int, error) {
	for _, d := range p.through(&p.up, b) {
		if _, err := p.WriteToUDPAddrPort(d, p.server); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func (p *path) ReadFrom(b []byte) (int, net.Addr, error) {
	for len(p.queue) == 0 {
		n, _, err := p.UDPConn.ReadFrom(b)
		if err != nil {
			return 0, nil, err
		}
		p.queue = p.through(&p.down, bytes.Clone(b[:n]))
	}
	d := p.queue[0]
	p.queue = p.queue[1:]
	return copy(b, d), net.UDPAddrFromAddrPort(p.server), nil
}

// Close leaves the socket open: a client can come back on it.
func (p *path) Close() error { return p.SetReadDeadline(past()) }

func (p *path) raw(t testing.TB, b []byte) {
	t.Helper()
	if _, err := p.WriteToUDPAddrPort(b, p.server); err != nil {
		t.Fatal(err)
	}
}

// client begins a handshake by pion; the result arrives in the channel.
func client(t testing.TB, p *path, suites ...uint16) (*pion.Conn, <-chan error) {
	t.Helper()
	p.SetReadDeadline(time.Time{})
	opts := []pion.ClientOption{
		pion.WithPSK(func([]byte) ([]byte, error) { return testPSK, nil }),
		pion.WithPSKIdentityHint([]byte(pskIdentity)),
		pion.WithFlightInterval(100 * time.Millisecond),
		pion.WithClientHelloMessageHook(func(m pionmsg.MessageClientHello) pionmsg.Message {
			m.SessionID = testAppID
			return &m
		}),
	}
	var builtin []pion.CipherSuiteID
	for _, id := range suites {
		if id != dtlsrecord.PSKWithAES256GCMSHA384 {
			builtin = append(builtin, pion.CipherSuiteID(id))
			continue
		}
		suite, err := dtlsrecord.LookupSuite(id)
		if err != nil {
			t.Fatal(err)
		}
		s := &gcmSuite{suite: suite}
		opts = append(opts, pion.WithCustomCipherSuites(func() []pion.CipherSuite { return []pion.CipherSuite{s} }))
	}
	if builtin != nil {
		opts = append(opts, pion.WithCipherSuites(builtin...))
	}
	conn, err := pion.ClientWithOptions(p, net.UDPAddrFromAddrPort(p.server), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	result := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), testWait)
	t.Cleanup(cancel)
	go func() { result <- conn.HandshakeContext(ctx) }()
	return conn, result
}

// connect is the normal case up to the established channel.
func connect(t testing.TB, edit func(*Config)) (*Channel, *recorder, *pion.Conn, *path) {
	t.Helper()
	f := listen(t, "udp4", "127.0.0.1:0")
	p := dial(t, f)
	conn, result := client(t, p, dtlsrecord.PSKWithAES128GCMSHA256)
	rec := newRecorder()
	c := f.start(rec, edit)
	if err := await(t, "handshake", result); err != nil {
		t.Fatal(err)
	}
	await(t, "Established", rec.established)
	return c, rec, conn, p
}

// echo sends a packet each way and checks that it arrives.
func echo(t testing.TB, c *Channel, rec *recorder, conn *pion.Conn, tag string) {
	t.Helper()
	up := "\x00up " + tag
	if _, err := conn.Write([]byte(up)); err != nil {
		t.Fatal(err)
	}
	for {
		got := await(t, "packet", rec.packets)
		if string(append([]byte{byte(got.Type)}, got.Payload...)) == up {
			break
		}
	}
	down := "down " + tag
	copy(c.Next(len(down)), down)
	c.Add(wire.DPDResp, len(down))
	c.Flush()
	buf := make([]byte, 2048)
	conn.SetReadDeadline(time.Now().Add(testWait))
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != "\x04"+down {
		t.Fatalf("client got %q, %v", buf[:n], err)
	}
}

// testHello is a ClientHello in one record.
func testHello(random [randomLen]byte, session []byte, suites ...uint16) []byte {
	b := slices.Concat([]byte{0xfe, 0xfd}, random[:], []byte{byte(len(session))}, session, []byte{0},
		[]byte{0, byte(2 * len(suites))})
	for _, id := range suites {
		b = append(b, byte(id>>8), byte(id))
	}
	b = append(b, 1, 0)
	n := []byte{0, byte(len(b) >> 8), byte(len(b))}
	b = slices.Concat([]byte{msgClientHello}, n, []byte{0, 0, 0, 0, 0}, n, b)
	return append([]byte{22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(b) >> 8), byte(len(b))}, b...)
}

// reusePort lets the connected sockets share the port, as main does it.
func reusePort(_, _ string, c syscall.RawConn) (err error) {
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); e != nil {
		return e
	}
	return err
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// readable waits until a descriptor is readable, or not.
func readable(fd int, wait time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(wait/time.Millisecond))
	return err == nil && n == 1
}
