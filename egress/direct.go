package egress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// defaultRecvBuffer is what a packet socket may hold unread, in bytes asked of
// the kernel, which doubles it for its own book-keeping: about 340 small or 110
// full-size datagrams, 5 ms at 60,000 a second.
const defaultRecvBuffer = 128 << 10

// DirectConfig sets up a Direct.
type DirectConfig struct {
	// RecvBuffer is SO_RCVBUF of packet sockets, in bytes; 0: 128 KiB.
	RecvBuffer int

	// RecvTTL makes packet sockets tell the TTL or hop limit of what arrives
	// (IP_RECVTTL, IPV6_RECVHOPLIMIT).
	RecvTTL bool

	Binding Binding
}

// Direct is the Network of the host's own sockets.
type Direct struct {
	policy *Policy
	cfg    DirectConfig
	shared *shared
}

// shared is what the Directs of one client have together.
type shared struct {
	nat64 atomic.Pointer[netip.Prefix] // nil: IPv4 leaves as it is

	mu     sync.Mutex // protects the rest
	poll   *poller    // started with the first packet socket
	closed bool
}

var (
	_ Network = (*Direct)(nil)
	_ Carrier = (*Direct)(nil)
)

// NewDirect makes a Network of host sockets. It opens nothing yet.
func NewDirect(policy *Policy, cfg DirectConfig) *Direct {
	if cfg.RecvBuffer == 0 {
		cfg.RecvBuffer = defaultRecvBuffer
	}
	return &Direct{policy: policy, cfg: cfg, shared: new(shared)}
}

// Bound is d from another place of the host. It has the same goroutine, and is
// closed with d.
func (d *Direct) Bound(b Binding) *Direct {
	c := *d
	c.cfg.Binding = b
	return &c
}

// Check implements Network.
func (d *Direct) Check(p Proto, dst netip.AddrPort) error { return d.policy.Check(p, dst) }

// DialTCP implements Network. src is not used: a host socket has the host's
// address. The stream has TCP_NODELAY, for the client's stack has decided
// already what is a segment, and no keepalive: an idle flow is the forwarder's
// to end, and four system calls for each connection are not needed for it.
func (d *Direct) DialTCP(ctx context.Context, _, dst netip.AddrPort) (Stream, error) {
	if err := d.policy.Check(TCP, dst); err != nil {
		return nil, err
	}
	t := d.translator(dst.Addr().Unmap().Is6())
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	if denied := t.judge(d.policy.rules.Load(), dst); denied != 0 {
		return nil, denied
	}
	s, err := connectTCP(ctx, t.out(dst), &d.cfg.Binding)
	err = t.dialError(err)
	if rep := (*ReportError)(nil); errors.As(err, &rep) {
		d.policy.rules.Load().hide(&rep.Report)
	}
	return s, err
}

// DialConfigured connects to what the configuration names, a proxy or a
// resolver: the policy is for what clients name. An IPv4 address to which the
// host has no route is reached by the NAT64, if there is one; the stream's remote
// address is dst nevertheless.
func (d *Direct) DialConfigured(ctx context.Context, dst netip.AddrPort) (Stream, error) {
	s, err := connectTCP(ctx, dst, &d.cfg.Binding)
	t := d.around(dst, err)
	if !t.on() {
		return s, err
	}
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	s, err = connectTCP(ctx, t.out(dst), &d.cfg.Binding)
	if err != nil {
		return nil, t.dialError(err)
	}
	s.(*stream).remote = dst
	return s, nil
}

// OpenConfigured makes a UDP socket with one peer, which the policy does not
// judge and which is reached as by DialConfigured. failed is told, on the
// goroutine that receives, what ICMP said.
func (d *Direct) OpenConfigured(peer netip.AddrPort, r Receiver, failed func(error)) (PacketSocket, error) {
	peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	spec := socketSpec{family: family(peer.Addr().Is6()), proto: UDP, connect: peer, failed: failed}
	s, err := d.open(spec, r)
	if t := d.around(peer, err); t.on() {
		spec.family, spec.translator, spec.connect = unix.AF_INET6, t, t.out(peer)
		return d.open(spec, r)
	}
	return s, err
}

// OpenUDP implements Network.
func (d *Direct) OpenUDP(v6 bool, r Receiver) (PacketSocket, error) {
	return d.open(d.packetSpec(UDP, v6), r)
}

// OpenPing implements Network. Where net.ipv4.ping_group_range forbids ping
// sockets the error is EACCES, of class Prohibited.
func (d *Direct) OpenPing(v6 bool, r Receiver) (PacketSocket, error) {
	proto := ICMP
	if v6 {
		proto = ICMPv6
	}
	return d.open(d.packetSpec(proto, v6), r)
}

// Adopt implements Carrier.
func (d *Direct) Adopt(p Proto, v6 bool, fd int, r Receiver) (PacketSocket, error) {
	s, err := d.adopt(d.packetSpec(p, v6), fd, r)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("egress: adopted socket: %w", err)
	}
	return s, nil
}

// Trim gives receive buffers back to the system if nothing is arriving.
func (d *Direct) Trim() {
	d.shared.mu.Lock()
	defer d.shared.mu.Unlock()
	if d.shared.poll != nil {
		d.shared.poll.trim()
	}
}

// Close closes the packet sockets and waits for the goroutine that receives. It
// must not be called from a Receiver, and a Receiver that blocks must be woken
// before: close the tunnel first. Streams are their owners' to close.
func (d *Direct) Close() error {
	d.shared.mu.Lock()
	p := d.shared.poll
	d.shared.poll, d.shared.closed = nil, true
	d.shared.mu.Unlock()
	if p != nil {
		p.close()
	}
	return nil
}

// poller starts the receiving goroutine when it is first needed.
func (d *shared) poller() (*poller, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed
	}
	if d.poll == nil {
		p, err := newPoller()
		if err != nil {
			return nil, fmt.Errorf("egress: poller: %w", err)
		}
		d.poll = p
	}
	return d.poll, nil
}

func family(v6 bool) int {
	if v6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}
