package egress

import (
	"fmt"
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Report is an ICMP error: what the network said about something that was sent.
type Report struct {
	Dst        netip.AddrPort // where it was sent to; port 0 for echo
	From       netip.Addr     // who says so; invalid: this host itself
	Type, Code uint8          // of ICMP or ICMPv6, as Dst is IPv4 or IPv6
	Info       uint32         // the second word of the message, as it is defined: an MTU, a pointer

	// Quote is what the message quotes of the packet behind its IP header: of
	// UDP the payload only, of ICMP and TCP from the header on. It may be cut
	// anywhere, and is valid until Report returns.
	Quote []byte
}

// ReportError is a failure together with the ICMP error that caused it.
type ReportError struct {
	Report Report
	Err    error
}

func (e *ReportError) Error() string {
	if !e.Report.From.IsValid() {
		return e.Err.Error()
	}
	return fmt.Sprintf("%v (ICMP %d/%d from %v)", e.Err, e.Report.Type, e.Report.Code, e.Report.From)
}

func (e *ReportError) Unwrap() error { return e.Err }

// TooBigError is EMSGSIZE of this host: the message needs a longer packet than
// the way out takes, and must not be cut.
type TooBigError struct {
	MTU int // of the way out, in bytes; 0 if unknown
}

func (e TooBigError) Error() string { return fmt.Sprintf("%v (MTU %d)", unix.EMSGSIZE, e.MTU) }
func (e TooBigError) Unwrap() error { return unix.EMSGSIZE }

const (
	// maxQuote is what RFC 4443 section 2.4 (c) lets a message quote, and more
	// than RFC 1812 section 4.3.2.3 does.
	maxQuote = 1280

	// reportsMax is how many reports a socket may tell before others have a turn.
	reportsMax = 64

	sizeofExtendedErr = int(unsafe.Sizeof(unix.SockExtendedErr{}))
)

// errorQueue is what recvmsg(2) points to when it reads sockets' error queues,
// shared by the sockets of a poller.
type errorQueue struct {
	mu   sync.Mutex
	hdr  unix.Msghdr
	iov  unix.Iovec
	addr sockaddr
	ctl  [64]uint64 // several control messages: the error, and the TTL of what brought it
	data [maxQuote]byte
}

// next takes the oldest error of a socket's queue. Its quote is valid until the
// next call. local is the MTU that a datagram of ours exceeded; then there is
// no report. ok is false when the queue is empty.
func (q *errorQueue) next(fd int) (rep Report, local int, ok bool) {
	q.iov.Base = &q.data[0]
	q.iov.SetLen(len(q.data))
	q.hdr = unix.Msghdr{
		Name: (*byte)(unsafe.Pointer(&q.addr)), Namelen: uint32(unsafe.Sizeof(q.addr)),
		Iov: &q.iov, Control: (*byte)(unsafe.Pointer(&q.ctl)),
	}
	q.hdr.SetIovlen(1)
	q.hdr.SetControllen(int(unsafe.Sizeof(q.ctl)))
	n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&q.hdr)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if errno != 0 {
		return rep, 0, false
	}
	ee, offender := q.extended()
	switch {
	case ee == nil:
		return rep, 0, true
	case ee.Origin == unix.SO_EE_ORIGIN_LOCAL:
		if unix.Errno(ee.Errno) == unix.EMSGSIZE {
			local = int(ee.Info)
		}
		return rep, local, true
	}
	rep = Report{Dst: q.addr.get(), From: offender, Type: ee.Type, Code: ee.Code, Quote: quoteOf(q.data[:n], ee)}
	if !rep.setInfo(ee) {
		return Report{}, 0, true
	}
	return rep, 0, true
}

// extended finds the error among the control messages.
func (q *errorQueue) extended() (*unix.SockExtendedErr, netip.Addr) {
	p, left := unsafe.Pointer(&q.ctl), int(q.hdr.Controllen)
	for left >= unix.CmsgLen(0) {
		h := (*unix.Cmsghdr)(p)
		n := int(h.Len)
		if n < unix.CmsgLen(0) || n > left {
			break
		}
		v4 := h.Level == unix.IPPROTO_IP && h.Type == unix.IP_RECVERR
		v6 := h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_RECVERR
		if (v4 || v6) && n >= unix.CmsgLen(sizeofExtendedErr+unix.SizeofSockaddrInet4) {
			data := unsafe.Add(p, unix.CmsgLen(0))
			ee := (*unix.SockExtendedErr)(data)
			from := (*sockaddr)(unsafe.Add(data, sizeofExtendedErr))
			if from.Family == unix.AF_INET6 && n < unix.CmsgLen(sizeofExtendedErr+unix.SizeofSockaddrInet6) {
				return ee, netip.Addr{}
			}
			return ee, from.get().Addr()
		}
		step := unix.CmsgSpace(n - unix.CmsgLen(0))
		if step >= left {
			break
		}
		p, left = unsafe.Add(p, step), left-step
	}
	return nil, netip.Addr{}
}

// ICMP errors that are passed on, RFC 792, RFC 4443 section 3. Source quench is
// no more (RFC 6633), redirects are between a host and its router.
const (
	unreachable4, timeExceeded4, parameter4          = 3, 11, 12
	unreachable6, tooBig6, timeExceeded6, parameter6 = 1, 2, 3, 4
	fragNeeded4                                      = 4 // code of unreachable4
)

// setInfo takes the second word from where the kernel puts it; false for what
// is not passed on.
func (r *Report) setInfo(ee *unix.SockExtendedErr) bool {
	r.Info = 0
	switch ee.Origin {
	case unix.SO_EE_ORIGIN_ICMP:
		switch {
		case ee.Type == unreachable4 && ee.Code == fragNeeded4:
			r.Info = ee.Info & 0xffff // RFC 1191 section 4
		case ee.Type == parameter4:
			r.Info = ee.Info << 24 // a pointer of one byte
		case ee.Type != unreachable4 && ee.Type != timeExceeded4:
			return false
		}
		return r.Dst.Addr().Is4()
	case unix.SO_EE_ORIGIN_ICMP6:
		switch ee.Type {
		case tooBig6, parameter6:
			r.Info = ee.Info
		case unreachable6, timeExceeded6:
		default:
			return false
		}
		return r.Dst.Addr().Is6()
	}
	return false
}

// hide leaves out who reports if that is this host: to the client the host is
// the router whose address is the gateway's. A destination speaks for itself.
func (r *rules) hide(rep *Report) {
	if rep.From == rep.Dst.Addr() {
		return
	}
	if d, _ := r.table.Lookup(rep.From); d == DeniedOwnAddress || rep.From.IsLoopback() || rep.From.IsUnspecified() {
		rep.From = netip.Addr{}
	}
}

// quoteOf leaves out what a router has appended to the packet that it quotes
// (RFC 4884: labels, interfaces). Where the appendix begins the kernel says.
func quoteOf(data []byte, ee *unix.SockExtendedErr) []byte {
	at := *(*uint16)(unsafe.Pointer(&ee.Data)) // struct sock_ee_data_rfc4884: u16 len, u8 flags, u8 reserved
	if at > 0 && int(at) < len(data) {
		return data[:at]
	}
	return data
}

// askErrors makes the kernel queue what ICMP says, and say where appendices
// begin; it does the latter since Linux 5.9.
func askErrors(fd, family int, on int) error {
	if family == unix.AF_INET6 {
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR_RFC4884, on)
	} else {
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR_RFC4884, on)
	}
	if family == unix.AF_INET6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, on)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, on)
}

// setDF says whether the datagrams that follow may be cut into fragments. With
// it on, the packet leaves whole whatever the host has heard of the path, as it
// would through a router, and who cannot forward it says so.
func (s *socket) setDF(on bool) {
	level, opt, value := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT
	if s.spec.family == unix.AF_INET6 {
		level, opt, value = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT
	}
	if on {
		value = unix.IP_PMTUDISC_PROBE // the same number in both families
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd >= 0 {
		unix.SetsockoptInt(s.fd, level, opt, value)
	}
}

// drain tells the Receiver what is in the socket's error queue. False: there
// may be more.
func (s *socket) drain() (empty bool) {
	q := &s.p.errs
	q.mu.Lock()
	defer q.mu.Unlock()
	for range reportsMax {
		rep, ok := s.nextReport(q)
		if !ok {
			return true
		}
		if rep.Dst.IsValid() && s.spec.translator.report(&rep) {
			s.spec.policy.rules.Load().hide(&rep)
			s.r.Report(&rep)
		}
	}
	return false
}

func (s *socket) nextReport(q *errorQueue) (rep Report, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return rep, false
	}
	rep, local, ok := q.next(s.fd)
	if local > 0 {
		s.mtu = s.spec.translator.localMTU(local)
	}
	return rep, ok
}

// tooBig is what is known of the way out that has just refused a message.
func (s *socket) tooBig() error {
	if s.spec.policy == nil {
		return unix.EMSGSIZE
	}
	s.drain()
	s.mu.Lock()
	defer s.mu.Unlock()
	return TooBigError{MTU: s.mtu}
}
