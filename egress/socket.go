package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// socketSpec says what packet socket to make.
type socketSpec struct {
	family     int
	proto      Proto
	translator                // of IPv4 to a NAT64; zero: none
	policy     *Policy        // judges what is sent; nil: the socket is no client's
	connect    netip.AddrPort // of a socket with one peer
	failed     func(error)    // told, on the poller's goroutine, of an error that waited on the socket
}

// socket is a UDP or ping socket. Idle it is this struct, a descriptor and an
// entry in the poller: buffers belong to the poller.
type socket struct {
	spec socketSpec
	p    *poller
	r    Receiver
	id   uint64 // in the poller, never used again

	// The last verdict: a flow's datagrams go to one destination.
	judged   netip.AddrPort // protected by p.out.mu
	judgedBy *rules         // nil: none yet
	single   bool           // the host does not segment for it; as judged
	df       fragmenting    // how the kernel sends for it; as judged

	left bool // among the poller's leftovers; its goroutine's, as is the next
	errs bool // the last turn did not empty its error queue

	mu  sync.Mutex // held across system calls, so that Close cannot give the number away meanwhile
	fd  int        // -1 after Close
	mtu int        // of the way out, as it was last told; under mu
}

// fragmenting is whether the kernel may cut a socket's datagrams.
type fragmenting uint8

const (
	asHost fragmenting = iota // nothing was said
	mayCut
	mustNotCut
)

var (
	_ PacketSocket = (*socket)(nil)
	_ Releaser     = (*socket)(nil)
)

// open makes a packet socket and puts it under the poller.
func (d *Direct) open(spec socketSpec, r Receiver) (PacketSocket, error) {
	p, err := d.shared.poller()
	if err != nil {
		return nil, err
	}
	fd, err := newPacketSocket(&spec, &d.cfg)
	if err != nil {
		return nil, fmt.Errorf("egress: packet socket: %w", err)
	}
	s := &socket{spec: spec, p: p, r: r, fd: fd}
	if err := p.add(s); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("egress: packet socket: %w", err)
	}
	return s, nil
}

// adopt puts a socket that another process has made under the poller, if it is
// what it is said to be.
func (d *Direct) adopt(spec socketSpec, fd int, r Receiver) (PacketSocket, error) {
	for opt, want := range map[int]int{unix.SO_DOMAIN: spec.family, unix.SO_TYPE: unix.SOCK_DGRAM, unix.SO_PROTOCOL: int(spec.proto)} {
		if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, opt); err != nil || got != want {
			return nil, errors.New("not the kind of socket it is said to be")
		}
	}
	if _, err := unix.Getpeername(fd); err == nil {
		return nil, errors.New("it is connected")
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	p, err := d.shared.poller()
	if err != nil {
		return nil, err
	}
	s := &socket{spec: spec, p: p, r: r, fd: fd}
	return s, p.add(s)
}

// Release implements Releaser.
func (s *socket) Release() (int, error) {
	s.mu.Lock()
	fd := s.fd
	s.fd = -1
	s.mu.Unlock()
	if fd < 0 {
		return -1, errClosed
	}
	s.p.remove(s.id, fd)
	return fd, nil
}

// newPacketSocket makes a non-blocking socket. It is not bound: the kernel
// picks a random port (or echo id) with the first datagram, never the client's.
func newPacketSocket(spec *socketSpec, cfg *DirectConfig) (int, error) {
	fd, err := unix.Socket(spec.family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(spec.proto))
	if err != nil {
		return -1, err
	}
	if err := setPacketOptions(fd, spec, cfg); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func setPacketOptions(fd int, spec *socketSpec, cfg *DirectConfig) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, cfg.RecvBuffer); err != nil {
		return err
	}
	if spec.family == unix.AF_INET6 && spec.proto == UDP {
		// The policy judges v4-mapped addresses as IPv4; the socket must not speak them.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	if cfg.RecvTTL {
		level, opt := unix.IPPROTO_IP, unix.IP_RECVTTL
		if spec.family == unix.AF_INET6 {
			level, opt = unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT
		}
		if err := unix.SetsockoptInt(fd, level, opt, 1); err != nil {
			return err
		}
	}
	if err := cfg.Binding.apply(fd, spec.family == unix.AF_INET6, false); err != nil {
		return err
	}
	if spec.policy != nil {
		return askErrors(fd, spec.family, 1)
	}
	if !spec.connect.IsValid() {
		return nil
	}
	_, err := connect(fd, spec.connect)
	return err
}

// Close implements PacketSocket. It never waits for a Receiver, which may be
// blocked on the client: a Receive under way may still be running when Close
// returns, and Close may be called from it; none begins later.
func (s *socket) Close() error {
	s.mu.Lock()
	fd := s.fd
	s.fd = -1
	s.mu.Unlock()
	if fd < 0 {
		return errClosed
	}
	s.p.remove(s.id, fd)
	return unix.Close(fd)
}

// failed reads what ICMP said about the socket's datagrams, and of a connected
// socket fetches and clears the error that waits on it.
func (s *socket) failed() {
	if s.spec.policy != nil {
		s.errs = !s.drain()
		return
	}
	s.mu.Lock()
	var n int
	if s.fd >= 0 {
		n, _ = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	}
	s.mu.Unlock()
	if n != 0 && s.spec.failed != nil {
		s.spec.failed(unix.Errno(n))
	}
}

// receive takes a batch of what has arrived, without blocking.
func (s *socket) receive(hdrs []mmsghdr) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 2 { // once more if a pending error, which is thereby cleared, came first
		if s.fd < 0 {
			return 0
		}
		n, errno := recvmmsg(s.fd, hdrs)
		if errno == 0 {
			return n
		}
		if errno == unix.EAGAIN {
			return 0
		}
	}
	return 0
}
