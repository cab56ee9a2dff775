package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stream is a TCP connection made without package net: a third fewer system
// calls, see doc.go. The os.File brings Go's poller, deadlines and a lock
// against reuse of the descriptor.
type stream struct {
	file   *os.File
	raw    syscall.RawConn
	remote netip.AddrPort
	closed atomic.Bool
}

var (
	_ Stream       = (*stream)(nil)
	_ syscall.Conn = (*stream)(nil)
)

// longAgo is a deadline that wakes a waiting goroutine.
var longAgo = time.Unix(1, 0)

// errClosed is what package net says of a closed connection, so that callers
// ask for net.ErrClosed wherever a socket comes from.
var errClosed = fmt.Errorf("egress: %w", net.ErrClosed)

// connectTCP connects without judging dst.
func connectTCP(ctx context.Context, dst netip.AddrPort, from *Binding) (Stream, error) {
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	fail := func(err error) (Stream, error) {
		return nil, fmt.Errorf("egress: connect to %v: %w", dst, err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	fd, err := unix.Socket(family(dst.Addr().Is6()), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	if err := from.apply(fd, dst.Addr().Is6(), true); err != nil {
		unix.Close(fd)
		return fail(err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		unix.Close(fd)
		return fail(err)
	}
	f := os.NewFile(uintptr(fd), "tcp")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return fail(err)
	}
	s := &stream{file: f, raw: raw, remote: dst}
	if err := s.prepare(TTLOf(ctx)); err != nil {
		f.Close()
		return fail(err)
	}
	if err := s.connect(ctx); err != nil {
		err = s.reported(err)
		f.Close()
		return fail(err)
	}
	if dst.Addr().Is6() { // from now on an ICMP error is not the end of the connection
		s.control(func(fd int) error { return askErrors(fd, unix.AF_INET6, 0) })
	}
	return s, nil
}

// ttlKey is WithTTL's in a context.
type ttlKey struct{}

// WithTTL lets a dial send its SYN with a TTL or hop limit: a client that
// traces the way by TCP sees the routers on it. A way out that makes no
// connections of its own takes no notice.
func WithTTL(ctx context.Context, ttl int) context.Context {
	return context.WithValue(ctx, ttlKey{}, ttl)
}

// TTLOf is what WithTTL has set, 0 for the host's default.
func TTLOf(ctx context.Context) int {
	ttl, _ := ctx.Value(ttlKey{}).(int)
	return ttl
}

// prepare sets what only matters while connecting. In IPv4 the kernel queues
// what ICMP says to a SYN without being asked.
func (s *stream) prepare(ttl int) error {
	v6 := s.remote.Addr().Is6()
	return s.control(func(fd int) error {
		if v6 {
			if err := askErrors(fd, unix.AF_INET6, 1); err != nil {
				return err
			}
		}
		switch {
		case ttl <= 0:
			return nil
		case v6:
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl)
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl)
	})
}

// reported adds to a refusal the ICMP error that brought it, if one did.
func (s *stream) reported(err error) error {
	if _, ok := err.(unix.Errno); !ok {
		return err
	}
	out := err
	s.control(func(fd int) error {
		q := new(errorQueue)
		for {
			rep, _, ok := q.next(fd)
			if !ok {
				return nil
			}
			if rep.Dst.IsValid() {
				rep.Dst, rep.Quote = s.remote, nil
				out = &ReportError{Report: rep, Err: err}
			}
		}
	})
	return out
}

// connect waits until the handshake has ended or ctx is done. It parks the
// goroutine, not the thread. connect(2), which starts a connection, also is the
// exact question how it goes: EALREADY, success or the error, in one system
// call and without trusting a wake-up, of which a fresh socket gives false ones.
func (s *stream) connect(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.file.SetWriteDeadline(longAgo) })
	var connected bool
	var refused error
	err := s.raw.Write(func(fd uintptr) bool {
		connected, refused = connect(int(fd), s.remote)
		return connected || refused != nil
	})
	if !stop() {
		return ctx.Err()
	}
	if refused != nil {
		return refused
	}
	return err
}

// connect starts a connection or asks how it goes; it does not block.
func connect(fd int, dst netip.AddrPort) (connected bool, err error) {
	var sa sockaddr
	n := sa.set(dst)
	switch errno := sysConnect(fd, &sa, n); errno {
	case 0, unix.EISCONN:
		return true, nil
	case unix.EINPROGRESS, unix.EALREADY, unix.EINTR:
		return false, nil
	default:
		return false, errno
	}
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.file.Read(p)
	return n, s.wrap(err)
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.file.Write(p)
	return n, s.wrap(err)
}

func (s *stream) Close() error {
	if s.closed.Swap(true) {
		return errClosed
	}
	return s.file.Close()
}

// CloseWrite sends a FIN.
func (s *stream) CloseWrite() error {
	return s.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// SetLinger sets SO_LINGER as net.TCPConn does; 0 makes Close send a RST.
func (s *stream) SetLinger(seconds int) error {
	l := unix.Linger{Onoff: 1, Linger: int32(seconds)}
	if seconds < 0 {
		l = unix.Linger{}
	}
	return s.control(func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &l)
	})
}

func (s *stream) control(f func(fd int) error) error {
	var result error
	if err := s.raw.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return s.wrap(err)
	}
	return result
}

// LocalAddr asks the system each time: few callers want it.
func (s *stream) LocalAddr() net.Addr {
	var a net.TCPAddr
	s.control(func(fd int) error {
		sa, err := unix.Getsockname(fd)
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			a.IP, a.Port = sa.Addr[:], sa.Port
		case *unix.SockaddrInet6:
			a.IP, a.Port = sa.Addr[:], sa.Port
		}
		return err
	})
	return &a
}

func (s *stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.remote) }

func (s *stream) SetDeadline(t time.Time) error      { return s.wrap(s.file.SetDeadline(t)) }
func (s *stream) SetReadDeadline(t time.Time) error  { return s.wrap(s.file.SetReadDeadline(t)) }
func (s *stream) SetWriteDeadline(t time.Time) error { return s.wrap(s.file.SetWriteDeadline(t)) }

// SyscallConn implements syscall.Conn.
func (s *stream) SyscallConn() (syscall.RawConn, error) { return s.raw, nil }

// wrap makes an error of os.File one of package net's kind. io.EOF stays what
// it is, as do errno and os.ErrDeadlineExceeded inside.
func (s *stream) wrap(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if s.closed.Load() {
		return errClosed
	}
	var pe *os.PathError
	if errors.As(err, &pe) {
		return &net.OpError{Op: pe.Op, Net: "tcp", Addr: s.RemoteAddr(), Err: pe.Err}
	}
	return err
}
