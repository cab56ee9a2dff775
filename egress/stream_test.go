package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/test/descriptors"
)

func listenTCP(t testing.TB, address string) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("no socket on %s: %v", address, err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener), ln.Addr().(*net.TCPAddr).AddrPort()
}

// dialPair is a stream and the other end of it.
func dialPair(t testing.TB, address string) (Stream, *net.TCPConn) {
	t.Helper()
	ln, dst := listenTCP(t, address)
	s, err := newDirect(t, DirectConfig{}).DialTCP(t.Context(), netip.AddrPort{}, dst)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	far, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	far.SetDeadline(time.Now().Add(20 * time.Second))
	return s, far
}

func TestStream(t *testing.T) {
	for _, tt := range loopbacks {
		t.Run(tt.name, func(t *testing.T) {
			s, far := dialPair(t, tt.address)
			if s.LocalAddr().String() != far.RemoteAddr().String() || s.RemoteAddr().String() != far.LocalAddr().String() {
				t.Errorf("addresses %v, %v; the other end says %v, %v", s.LocalAddr(), s.RemoteAddr(), far.RemoteAddr(), far.LocalAddr())
			}
			if _, err := s.Write([]byte("up")); err != nil {
				t.Fatal(err)
			}
			if err := s.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(far); string(b) != "up" || err != nil {
				t.Errorf("other end read %q, %v", b, err)
			}
			far.Write([]byte("down"))
			far.Close()
			if b, err := io.ReadAll(s); string(b) != "down" || err != nil {
				t.Errorf("read %q, %v", b, err)
			}
		})
	}
}

func TestStreamOptions(t *testing.T) {
	s, _ := dialPair(t, "127.0.0.1:0")
	raw, err := s.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		for _, o := range []struct{ level, opt, want int }{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 0},
		} {
			if v, err := unix.GetsockoptInt(int(fd), o.level, o.opt); v != o.want || err != nil {
				t.Errorf("option %d: %d, %v; want %d", o.opt, v, err, o.want)
			}
		}
		if fl, _ := unix.FcntlInt(fd, unix.F_GETFD, 0); fl&unix.FD_CLOEXEC == 0 {
			t.Error("descriptor is inherited")
		}
	})
}

func TestStreamDeadline(t *testing.T) {
	s, far := dialPair(t, "127.0.0.1:0")
	s.SetReadDeadline(time.Unix(1, 0))
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || Classify(err) != TimedOut {
		t.Errorf("read deadline: %v", err)
	}
	s.SetWriteDeadline(time.Unix(1, 0))
	if _, err := s.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write deadline: %v", err)
	}
	s.SetDeadline(time.Time{})
	far.Write([]byte("x"))
	if n, err := s.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("after the deadlines: %d, %v", n, err)
	}
	var ne net.Error
	s.SetReadDeadline(time.Unix(1, 0))
	if _, err := s.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("not a net.Error with Timeout: %v", err)
	}
}

func TestStreamReset(t *testing.T) {
	s, far := dialPair(t, "127.0.0.1:0")
	if err := s.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("other end: %v, want a reset", err)
	}
	s, far = dialPair(t, "127.0.0.1:0")
	s.(interface{ SetLinger(int) error }).SetLinger(-1)
	far.SetLinger(0)
	far.Close()
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("this end: %v, want a reset", err)
	}
}

func TestStreamClosed(t *testing.T) {
	s, _ := dialPair(t, "127.0.0.1:0")
	waiting := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		waiting <- err
	}()
	runtime.Gosched()
	s.Close()
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("reader that waited: %v", err)
	}
	for what, err := range map[string]error{
		"Close": s.Close(), "CloseWrite": s.CloseWrite(), "SetDeadline": s.SetDeadline(time.Time{}),
		"Write": second(s.Write([]byte("x"))), "Read": second(s.Read(make([]byte, 1))),
	} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
}

func second(_ int, err error) error { return err }

func TestDialFails(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	ln, dst := listenTCP(t, "127.0.0.1:0")
	ln.Close()
	s, err := d.DialTCP(t.Context(), netip.AddrPort{}, dst)
	if s != nil || Classify(err) != Refused {
		t.Errorf("closed port: %v, %v", s, err)
	}
	s, err = d.DialTCP(t.Context(), netip.AddrPort{}, netip.MustParseAddrPort("169.254.169.254:80"))
	if s != nil || !errors.Is(err, DeniedMetadata) {
		t.Errorf("metadata: %v, %v", s, err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = d.DialTCP(done, netip.AddrPort{}, dst); !errors.Is(err, context.Canceled) {
		t.Errorf("done context: %v", err)
	}
}

// blackHole is an address where a connection stays in SYN_SENT: the queue of
// its listener is full, so the kernel drops what more comes.
func blackHole(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	dst := netip.AddrPortFrom(addr("127.0.0.1"), uint16(sa.(*unix.SockaddrInet4).Port))
	for range 4 {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(c) })
		unix.Connect(c, sa)
	}
	return dst
}

// TestDialWaits: a handshake without an answer holds up nobody, and ends when
// its context does.
func TestDialWaits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	d := newDirect(t, DirectConfig{})
	dst := blackHole(t)
	runtime.GC()
	before, goroutines := descriptors.Open(t), runtime.NumGoroutine()
	files := len(before)
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	const dials = 20
	for range dials {
		go func() {
			_, err := d.DialTCP(ctx, netip.AddrPort{}, dst)
			errs <- err
		}()
	}
	// All of them wait, and this goroutine runs.
	for deadline := time.Now().Add(10 * time.Second); descriptors.Count(t) < files+dials; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d dials have begun", descriptors.Count(t)-files, dials)
		}
	}
	select {
	case err := <-errs:
		t.Fatalf("a dial did not wait: %v", err)
	default:
	}
	cancel()
	for range dials {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled dial: %v", err)
		}
	}
	ctx, cancel = context.WithDeadline(t.Context(), time.Now().Add(time.Millisecond))
	defer cancel()
	if _, err := d.DialTCP(ctx, netip.AddrPort{}, dst); Classify(err) != TimedOut {
		t.Errorf("dial with a deadline: %v", err)
	}
	settle(t, goroutines)
	descriptors.NoneLeft(t, before)
}

func TestDialChurn(t *testing.T) {
	ln, dst := listenTCP(t, "127.0.0.1:0")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	d := newDirect(t, DirectConfig{})
	runtime.GC()
	files := descriptors.Count(t)
	for range 1000 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		s, err := d.DialTCP(ctx, netip.AddrPort{}, dst)
		if err != nil {
			t.Fatal(err)
		}
		io.ReadAll(s)
		s.Close()
		cancel()
	}
	for deadline := time.Now().Add(10 * time.Second); descriptors.Count(t) > files; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d files open, %d before", descriptors.Count(t), files)
		}
	}
}
