package main

import (
	"encoding/binary"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	protoICMP   = 1
	icmpHeader  = 8
	echoReply   = 0
	echoRequest = 8
	mostEcho    = 2048
)

// echoer asks hosts for echoes (RFC 792) in a client's stead, by a socket that needs no
// capability (icmp(7)), and gives it what they answer: one of its programs at a time.
type echoer struct {
	file *os.File
	raw  syscall.RawConn
	back func(packet []byte) error

	mu   sync.Mutex
	from [4]byte // the client
	id   uint16  // its program's
}

// newEchoer gives each answer to back as the packet that the client is to get.
func newEchoer(back func([]byte) error) (*echoer, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	e := &echoer{file: os.NewFile(uintptr(fd), "icmp"), back: back}
	if e.raw, err = e.file.SyscallConn(); err != nil {
		e.file.Close()
		return nil, err
	}
	go e.serve()
	return e, nil
}

// close ends serve.
func (e *echoer) close() { e.file.Close() }

// mmsghdr is the kernel's (recvmmsg(2)).
type mmsghdr struct {
	unix.Msghdr
	n uint32
	_ [4]byte
}

// one makes the header of one datagram with a host's address.
func one(host *unix.RawSockaddrInet4, part *unix.Iovec) mmsghdr {
	m := mmsghdr{Msghdr: unix.Msghdr{Name: (*byte)(unsafe.Pointer(host)), Namelen: unix.SizeofSockaddrInet4, Iov: part}}
	m.SetIovlen(1)
	return m
}

// ask sends a request on, if it is one.
func (e *echoer) ask(p []byte) bool {
	host, icmp, ok := e.take(p)
	if !ok {
		return false
	}
	to := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: host}
	part := unix.Iovec{Base: &icmp[0]}
	part.SetLen(len(icmp))
	m := one(&to, &part)
	e.raw.Control(func(fd uintptr) {
		unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&m)), 1, unix.MSG_DONTWAIT, 0, 0) // one that is lost is lost
	})
	return true
}

// take says which host a request is for, and notes whose it is.
func (e *echoer) take(p []byte) (host [4]byte, icmp []byte, ok bool) {
	if len(p) < ip4Header+icmpHeader || p[0] != 0x45 || p[9] != protoICMP || p[ip4Header] != echoRequest {
		return host, nil, false
	}
	icmp = p[ip4Header:]
	e.mu.Lock()
	defer e.mu.Unlock()
	e.from, e.id = [4]byte(p[12:16]), binary.BigEndian.Uint16(icmp[4:])
	return [4]byte(p[16:20]), icmp, true
}

// serve passes answers to the client until the socket is closed.
func (e *echoer) serve() {
	b := make([]byte, ip4Header+mostEcho)
	var from unix.RawSockaddrInet4
	part := unix.Iovec{Base: &b[ip4Header]}
	part.SetLen(mostEcho)
	e.raw.Read(func(fd uintptr) bool {
		for {
			m := one(&from, &part)
			_, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&m)), 1, unix.MSG_DONTWAIT, 0, 0)
			if errno != 0 {
				return errno != unix.EAGAIN
			}
			if err := e.answer(b[:ip4Header+m.n], from.Addr); err != nil {
				return true
			}
		}
	})
}

// answer gives the client one answer, whose payload is after where its header is to be.
func (e *echoer) answer(p []byte, from [4]byte) error {
	if len(p) < ip4Header+icmpHeader || p[ip4Header] != echoReply {
		return nil
	}
	e.mu.Lock()
	to, id := e.from, e.id
	e.mu.Unlock()
	clear(p[:ip4Header])
	p[0], p[8], p[9] = 0x45, 64, protoICMP
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], from[:])
	copy(p[16:], to[:])
	binary.BigEndian.PutUint16(p[10:], checksum(p[:ip4Header]))
	icmp := p[ip4Header:]
	binary.BigEndian.PutUint16(icmp[4:], id)
	binary.BigEndian.PutUint16(icmp[2:], 0)
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp))
	return e.back(p)
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) > 0 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
