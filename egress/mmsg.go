package egress

import (
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of packet sockets, without allocation and without telling
// the scheduler: none of them blocks, and with one P a thread switch costs more
// than the call.

// mmsghdr is struct mmsghdr, which x/sys does not have.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

func sendmmsg(fd int, msgs []mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	return int(n), errno
}

func recvmmsg(fd int, msgs []mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// epollWait takes what is ready now. epoll_pwait is what the runtime uses too,
// so a system call filter needs one name less.
func epollWait(fd int, events []unix.EpollEvent) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	return int(n), errno
}

func sysConnect(fd int, sa *sockaddr, n int) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(sa)), uintptr(n))
	return errno
}

// sockaddr has room for an IPv4 or IPv6 socket address.
type sockaddr unix.RawSockaddrInet6

// set writes dst and returns the length of the address, in bytes.
func (s *sockaddr) set(dst netip.AddrPort) int {
	if a := dst.Addr(); a.Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(s))
		*sa = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: bigEndian(dst.Port()), Addr: a.As4()}
		return unix.SizeofSockaddrInet4
	}
	*s = sockaddr{Family: unix.AF_INET6, Port: bigEndian(dst.Port()), Addr: dst.Addr().As16(), Scope_id: scope(dst.Addr())}
	return unix.SizeofSockaddrInet6
}

// scope is the interface of an address with a zone, which is a number where we
// cannot look up names. Only DNS upstreams have one: policy refuses clients'.
func scope(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	n, err := strconv.ParseUint(a.Zone(), 10, 32)
	if err != nil {
		return 0 // the kernel refuses a link-local address without
	}
	return uint32(n)
}

// get reads an address the kernel wrote. The scope of a link-local IPv6 address
// is left out: no packet carries it.
func (s *sockaddr) get() netip.AddrPort {
	switch s.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(s))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), bigEndian(sa.Port))
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(s.Addr), bigEndian(s.Port))
	}
	return netip.AddrPort{}
}

// bigEndian swaps a port between host and network order.
func bigEndian(p uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&p))
	return uint16(b[0])<<8 | uint16(b[1])
}
