package dtls

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rcvBuf is what is asked of the kernel for datagrams that wait while this
// process does something else. The kernel gives what its limit allows.
const rcvBuf = 1 << 20

// socket is the connected UDP socket. The runtime's poller waits for it;
// reading and writing are system calls of our own.
type socket struct {
	file *os.File
	raw  syscall.RawConn
	peer netip.AddrPort // without zone, IPv4 as such; the reading goroutine's
	v4   bool
}

// openSocket takes fd over; it is closed also in case of an error.
func openSocket(fd int, peer netip.AddrPort, fragment bool) (*socket, error) {
	if err := prepare(fd, peer, fragment); err != nil {
		unix.Close(fd)
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "dtls")
	s := &socket{file: file, peer: bare(peer), v4: peer.Addr().Unmap().Is4()}
	if err := file.SetDeadline(time.Time{}); err != nil { // the poller does not have it
		file.Close()
		return nil, err
	}
	var err error
	if s.raw, err = file.SyscallConn(); err != nil {
		file.Close()
		return nil, err
	}
	return s, nil
}

// prepare checks that fd is a connected UDP socket and sets its options.
func prepare(fd int, peer netip.AddrPort, fragment bool) error {
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	if typ != unix.SOCK_DGRAM {
		return fmt.Errorf("socket type %d, want datagrams", typ)
	}
	if _, err := unix.Getpeername(fd); err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	// Don't fragment, and let us send probes longer than the path MTU the kernel
	// remembers. A kernel that lacks one of these works too, less well.
	// Where fragments are allowed the socket does not look at what it remembers
	// either, or UDP_SEGMENT would fail on a longer segment.
	if peer.Addr().Unmap().Is4() {
		mode := unix.IP_PMTUDISC_PROBE
		if fragment {
			mode = unix.IP_PMTUDISC_OMIT
		}
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, mode)
	} else {
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, rcvBuf)
	return nil
}

var errFamily = errors.New("address of another family")

// move connects the socket to another peer of the same family, and zone. The
// kernel goes over from one to the next at once.
func (s *socket) move(peer netip.AddrPort) (err error) {
	peer = bare(peer)
	if peer.Addr().Is4() != s.v4 {
		return errFamily
	}
	cerr := s.raw.Control(func(fd uintptr) {
		var sa unix.Sockaddr
		if sa, err = unix.Getpeername(int(fd)); err != nil {
			return
		}
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			sa.Addr, sa.Port = peer.Addr().As4(), int(peer.Port())
		case *unix.SockaddrInet6: // IPv4 as IPv4-mapped, where the socket is for both
			sa.Addr, sa.Port = peer.Addr().As16(), int(peer.Port())
		}
		err = unix.Connect(int(fd), sa)
	})
	if err = errors.Join(cerr, err); err == nil {
		s.peer = peer
	}
	return err
}

// wait runs poll until it returns true, waiting for the socket whenever it
// returns false. A wake-up ends it without an error.
func (s *socket) wait(poll func(fd uintptr) bool) error {
	if err := s.raw.Read(poll); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// past is a deadline that is over.
func past() time.Time { return time.Unix(1, 0) }

// wake ends the reading goroutine's wait, or its next one.
func (s *socket) wake() { s.file.SetReadDeadline(past()) }

func (s *socket) clearWake() { s.file.SetReadDeadline(time.Time{}) }

// interrupt is wake for both directions. Nothing clears the writers' part.
func (s *socket) interrupt() { s.file.SetDeadline(past()) }

// close waits until nobody uses the descriptor any more, so whoever holds it
// must have been interrupted.
func (s *socket) close() { s.file.Close() }

// send sends one datagram of a handshake, at once or not at all: a handshake
// repeats what was lost. It does not wait behind a parked writer.
func (s *socket) send(p []byte) {
	s.raw.Control(func(fd uintptr) {
		for range 2 { // the first may only fetch an error of an earlier datagram
			if err := unix.Send(int(fd), p, unix.MSG_DONTWAIT); err == nil || errors.Is(err, unix.EAGAIN) {
				return
			}
		}
	})
}

func (s *socket) pathMTU() (mtu int) {
	s.raw.Control(func(fd uintptr) {
		var err error
		if s.v4 {
			mtu, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU)
		} else {
			mtu, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU)
		}
		if err != nil {
			mtu = 0
		}
	})
	return mtu
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	n uint32
}

// The calls below are raw: they never block, and the scheduler's bookkeeping
// around a blocking call costs as much as a short one takes.

func recvmmsg(fd uintptr, msgs []mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)),
		unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

func sendmmsg(fd uintptr, msgs []mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)),
		unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}
