package mainproc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize    = 32
	datagramSize = 2048 // a hello has less than 400 bytes, a later datagram an MTU
	drainMost    = 256  // datagrams taken out of a fresh socket
)

// endpoint is an address and port, with the interface a link-local address is
// meaningful on (netip's zone is a string and costs an allocation).
type endpoint struct {
	addr  netip.AddrPort
	scope uint32
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// batch receives many datagrams with one system call, into memory that is made
// once. It is owned by the goroutine that reads one socket.
type batch struct {
	conn  syscall.RawConn
	port  uint16
	recv  func(fd uintptr) bool
	n     int
	errno syscall.Errno

	hdrs  [batchSize]mmsghdr
	iovs  [batchSize]unix.Iovec
	names [batchSize]unix.RawSockaddrInet6 // holds a RawSockaddrInet4 too
	oobs  [batchSize][64]byte
	bufs  [batchSize][datagramSize]byte
}

func newBatch(c *net.UDPConn) (*batch, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("mainproc: %w", err)
	}
	b := &batch{conn: rc, port: uint16(c.LocalAddr().(*net.UDPAddr).Port)}
	for i := range b.hdrs {
		b.iovs[i].Base = &b.bufs[i][0]
		b.iovs[i].SetLen(datagramSize)
		h := &b.hdrs[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Iov = &b.iovs[i]
		h.SetIovlen(1)
		h.Control = &b.oobs[i][0]
	}
	b.recv = b.recvmmsg
	return b, nil
}

func (b *batch) recvmmsg(fd uintptr) bool {
	for i := range b.hdrs {
		b.hdrs[i].hdr.Namelen = uint32(unsafe.Sizeof(b.names[i]))
		b.hdrs[i].hdr.SetControllen(len(b.oobs[i]))
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.hdrs[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		b.n, b.errno = int(n), errno
		return errno != unix.EAGAIN
	}
}

// read waits for datagrams and returns how many came.
func (b *batch) read() (int, error) {
	if err := b.conn.Read(b.recv); err != nil {
		return 0, err
	}
	if b.errno != 0 {
		return 0, b.errno
	}
	return b.n, nil
}

// at returns a datagram of the last read: from where, to which of our
// addresses, and its bytes, valid until the next read. ok is false for what
// was too long, or has no address to answer from.
func (b *batch) at(i int) (peer, local endpoint, data []byte, ok bool) {
	h := &b.hdrs[i]
	if h.hdr.Flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return endpoint{}, endpoint{}, nil, false
	}
	peer, ok = sockaddr(&b.names[i])
	if !ok {
		return endpoint{}, endpoint{}, nil, false
	}
	local, ok = b.destination(b.oobs[i][:h.hdr.Controllen])
	return peer, local, b.bufs[i][:h.n], ok
}

func sockaddr(sa *unix.RawSockaddrInet6) (endpoint, bool) {
	switch sa.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return endpoint{addr: netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), ntohs(v4.Port))}, true
	case unix.AF_INET6:
		e := endpoint{addr: netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), ntohs(sa.Port))}
		if e.addr.Addr().IsLinkLocalUnicast() {
			e.scope = sa.Scope_id
		}
		return e, true
	}
	return endpoint{}, false
}

// ntohs reads a port as it stands in a sockaddr.
func ntohs(p uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], p)
	return binary.BigEndian.Uint16(b[:])
}

// destination finds the local address in the control messages: IP_PKTINFO,
// ip(7), or IPV6_PKTINFO, RFC 3542 section 6.
func (b *batch) destination(oob []byte) (endpoint, bool) {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		oob = rest
		var e endpoint
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
			e.addr = netip.AddrPortFrom(netip.AddrFrom4(info.Addr), b.port)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
			e.addr = netip.AddrPortFrom(netip.AddrFrom16(info.Addr), b.port)
			if e.addr.Addr().IsLinkLocalUnicast() {
				e.scope = info.Ifindex
			}
		default:
			continue
		}
		a := e.addr.Addr()
		return e, !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	return endpoint{}, false
}

func (e endpoint) sockaddr() (unix.Sockaddr, int) {
	port := int(e.addr.Port())
	if a := e.addr.Addr(); a.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: a.As4()}, unix.AF_INET
	}
	return &unix.SockaddrInet6{Port: port, Addr: e.addr.Addr().As16(), ZoneId: e.scope}, unix.AF_INET6
}

// connectUDP makes a socket of its own for one peer of one of our addresses.
//
// Between bind and connect it is the most specific one for every peer and
// takes what others send. Whatever it has once it is connected is given to
// got, with the address it came from: the caller sorts it out, so that nothing
// is lost. Afterwards the kernel delivers only the peer's, but for a datagram
// whose way on another processor began before connect and ends after the drain
// (measured: one in some thousand sockets, under a flood): whoever reads the
// socket must look at the source.
func connectUDP(local, peer endpoint, got func(from endpoint, data []byte)) (fd int, err error) {
	return connectBeside(unix.SO_REUSEPORT, local, peer, got)
}

// connectShared is connectUDP where main's socket is another uid's.
func connectShared(local, peer endpoint, got func(from endpoint, data []byte)) (fd int, err error) {
	return connectBeside(unix.SO_REUSEADDR, local, peer, got)
}

func connectBeside(option int, local, peer endpoint, got func(from endpoint, data []byte)) (fd int, err error) {
	la, family := local.sockaddr()
	pa, _ := peer.sockaddr()
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("mainproc: socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1)
	if err == nil && family == unix.AF_INET6 {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(fd, la)
	}
	if err == nil {
		err = unix.Connect(fd, pa)
	}
	// Even if it failed: a bound socket may have taken something.
	drain(fd, got)
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("mainproc: socket for %v: %w", peer.addr, err)
	}
	return fd, nil
}

func drain(fd int, got func(from endpoint, data []byte)) {
	var buf [datagramSize]byte
	for range drainMost {
		n, from, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
		if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EINTR) {
			continue // an ICMP error of the peer was pending
		}
		if err != nil {
			return
		}
		switch sa := from.(type) {
		case *unix.SockaddrInet4:
			got(endpoint{addr: netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))}, buf[:n])
		case *unix.SockaddrInet6:
			e := endpoint{addr: netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))}
			if e.addr.Addr().IsLinkLocalUnicast() {
				e.scope = sa.ZoneId
			}
			got(e, buf[:n])
		}
	}
}
