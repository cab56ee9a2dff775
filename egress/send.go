package egress

import (
	"net/netip"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sendMax = 64 // messages for one sendmmsg

	// What one UDP_SEGMENT call can carry: the kernel's limit on segments, and
	// a little less than the longest UDP datagram.
	maxSegments = 64
	maxRunBytes = 65000
)

// Send implements PacketSocket. n is also the index of the message that failed:
// the caller may answer it and go on with the rest.
func (s *socket) Send(msgs []Message) (n int, err error) {
	b := &s.p.out
	b.mu.Lock()
	defer b.mu.Unlock()
	for n < len(msgs) {
		calls, refused := b.fill(s, msgs[n:])
		done, err := s.transmit(b.hdrs[:calls])
		for _, run := range b.runs[:done] {
			n += run
		}
		cannot := err != nil && b.runs[done] > 1 && cannotSegment(err)
		b.release()
		switch {
		case cannot:
			s.single = true
		case err == unix.EMSGSIZE:
			s.single = false // it was the message itself
			return n, s.tooBig()
		case err != nil:
			return n, err
		case refused != nil:
			return n, refused
		}
	}
	return n, nil
}

// cannotSegment says whether an error of a call with UDP_SEGMENT may be due to
// it: the kernel is too old, the way out has no checksums, the datagrams are
// longer than its MTU and want to be fragments.
func cannotSegment(err error) bool {
	return err == unix.EINVAL || err == unix.EIO || err == unix.EMSGSIZE
}

// transmit sends until the socket takes no more.
func (s *socket) transmit(hdrs []mmsghdr) (sent int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return 0, errClosed
	}
	retried := -1
	for sent < len(hdrs) {
		n, errno := sendmmsg(s.fd, hdrs[sent:])
		switch {
		case errno == 0:
			sent += n
		case errno == unix.EINTR:
		case errno == unix.EAGAIN || retried == sent:
			return sent, errno
		default:
			// It may be the error of an earlier datagram, told by ICMP; asking
			// cleared it. A second time it is this one's.
			retried = sent
		}
	}
	return sent, nil
}

// judge is Check for a socket's next datagram.
func (s *socket) judge(dst netip.AddrPort) error {
	if s.spec.policy == nil {
		return nil
	}
	now := s.spec.policy.rules.Load()
	if s.judgedBy == now && s.judged == dst {
		return nil
	}
	if d := now.check(s.spec.policyProto(), dst); d != 0 {
		return d
	}
	if d := s.spec.translator.judge(now, dst); d != 0 {
		return d
	}
	s.judged, s.judgedBy = dst, now
	return nil
}

// run is how many of the first messages the kernel can make of one long one:
// same destination, same length but for the last, which may be shorter.
func (s *socket) run(msgs []Message) int {
	first := &msgs[0]
	size := len(first.Payload)
	if s.single || s.spec.proto != UDP || size == 0 {
		return 1
	}
	n, total := 1, size
	for n < min(len(msgs), maxSegments) {
		m := &msgs[n]
		l := len(m.Payload)
		if l == 0 || l > size || total+l > maxRunBytes || m.TTL != first.TTL || m.DF != first.DF || m.Addr != first.Addr {
			break
		}
		n++
		total += l
		if l < size {
			break
		}
	}
	return n
}

// sendBatch is what sendmmsg points to, shared by the sockets of a poller.
type sendBatch struct {
	mu   sync.Mutex
	iovs [sendMax]unix.Iovec // one for each message
	used int                 // of iovs

	hdrs [sendMax]mmsghdr // one for each run of messages
	runs [sendMax]int     // messages of each
	addr [sendMax]sockaddr
	ctl  [sendMax]control
}

// fill prepares up to sendMax messages and stops before one that must not go.
func (b *sendBatch) fill(s *socket, msgs []Message) (calls int, err error) {
	msgs = msgs[:min(len(msgs), sendMax)]
	for b.used < len(msgs) {
		if df := wantedDF(&msgs[b.used]); s.spec.policy != nil && s.df != df {
			if calls > 0 { // a socket option: what is before goes first
				return calls, nil
			}
			s.setDF(df == mustNotCut)
			s.df = df
		}
		n := s.run(msgs[b.used:])
		if err := b.set(calls, s, msgs[b.used:b.used+n]); err != nil {
			return calls, err
		}
		calls++
	}
	return calls, nil
}

func wantedDF(m *Message) fragmenting {
	if m.DF {
		return mustNotCut
	}
	return mayCut
}

// set prepares a run of messages as the i-th call.
func (b *sendBatch) set(i int, s *socket, run []Message) error {
	h := &b.hdrs[i].hdr
	*h = unix.Msghdr{}
	if !s.spec.connect.IsValid() {
		dst, err := s.destination(run[0].Addr)
		if err != nil {
			return err
		}
		h.Name = (*byte)(unsafe.Pointer(&b.addr[i]))
		h.Namelen = uint32(b.addr[i].set(dst))
	}
	h.Iov = &b.iovs[b.used]
	h.SetIovlen(len(run))
	for j := range run {
		iov, payload := &b.iovs[b.used+j], run[j].Payload
		if s.spec.proto == ICMPv6 && s.spec.translator.on() {
			payload = s.spec.translator.request(payload)
		}
		iov.Base = unsafe.SliceData(payload)
		iov.SetLen(len(payload))
	}
	ctl := 0
	if run[0].TTL != 0 {
		ctl = b.ctl[i].putTTL(ctl, s.spec.family, run[0].TTL)
	}
	if len(run) > 1 {
		ctl = b.ctl[i].putSegment(ctl, len(run[0].Payload))
	}
	if ctl > 0 {
		h.Control = (*byte)(unsafe.Pointer(&b.ctl[i]))
		h.SetControllen(ctl)
	}
	b.runs[i] = len(run)
	b.used += len(run)
	return nil
}

// destination judges where a message goes.
func (s *socket) destination(to netip.AddrPort) (netip.AddrPort, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if s.spec.proto != UDP {
		to = netip.AddrPortFrom(to.Addr(), 0) // a ping socket's port means nothing
	}
	if err := s.judge(to); err != nil {
		return to, err
	}
	if to.Addr().Is4() != (s.spec.clientFamily() == unix.AF_INET) {
		return to, unix.EAFNOSUPPORT
	}
	return s.spec.translator.out(to), nil
}

// release lets go of the payloads.
func (b *sendBatch) release() {
	clear(b.iovs[:b.used])
	b.used = 0
}

// control has room for the two control messages we send, each with an int or
// less, aligned as the kernel wants it.
type control [6]uint64

const controlLen = int(unsafe.Sizeof(control{}))

// put writes the head of a control message at offset at (cmsg(3)), for n bytes
// of data, and gives their place and the offset behind them.
func (c *control) put(at, level, typ, n int) (data unsafe.Pointer, next int) {
	p := unsafe.Add(unsafe.Pointer(c), at)
	h := (*unix.Cmsghdr)(p)
	h.Level, h.Type = int32(level), int32(typ)
	h.SetLen(unix.CmsgLen(n))
	return unsafe.Add(p, unix.CmsgLen(0)), at + unix.CmsgSpace(n)
}

// putTTL gives one datagram its TTL or hop limit (ip(7), ipv6(7)).
func (c *control) putTTL(at, family, ttl int) (next int) {
	level, typ := unix.IPPROTO_IP, unix.IP_TTL
	if family == unix.AF_INET6 {
		level, typ = unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT
	}
	data, next := c.put(at, level, typ, 4)
	*(*int32)(data) = int32(ttl)
	return next
}

// putSegment makes the kernel cut the message into datagrams (udp(7)).
func (c *control) putSegment(at, size int) (next int) {
	data, next := c.put(at, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
	*(*uint16)(data) = uint16(size)
	return next
}

// ttl reads what the kernel wrote, n bytes; 0 if it is something else.
func (c *control) ttl(n int) int {
	if n < unix.CmsgLen(4) {
		return 0
	}
	h := (*unix.Cmsghdr)(unsafe.Pointer(c))
	v4 := h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL
	v6 := h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT
	if !v4 && !v6 {
		return 0
	}
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(c), unix.CmsgLen(0))))
}
