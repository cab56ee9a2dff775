package mainproc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	resolveTimeout = 10 * time.Second
	// deferAccept is how long the kernel holds back a connection that has sent
	// nothing, in seconds. Main's own wait comes after it.
	deferAccept = 5
	// rebindWait is how long an address may still be held by the workers of a
	// main that was killed: they end with it, within a second.
	rebindWait = 2 * time.Second
)

// bindAddrs turns listen-host into addresses. Without hosts it is every
// address of both families; optional says that a family may be missing.
func bindAddrs(hosts []string, port int) (addrs []netip.AddrPort, optional bool, err error) {
	p := uint16(port)
	if len(hosts) == 0 {
		return []netip.AddrPort{
			netip.AddrPortFrom(netip.IPv4Unspecified(), p),
			netip.AddrPortFrom(netip.IPv6Unspecified(), p),
		}, true, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	for _, h := range hosts {
		ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", strings.Trim(h, "[]"))
		if err != nil {
			return nil, false, fmt.Errorf("mainproc: listen-host %s: %w", h, err)
		}
		for _, ip := range ips {
			if a := netip.AddrPortFrom(ip.Unmap(), p); !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs, false, nil
}

// network is tcp4, udp6 and so on: an IPv6 socket never takes IPv4 along, so
// that an address has one form only.
func network(proto string, a netip.AddrPort) string {
	if a.Addr().Is4() {
		return proto + "4"
	}
	return proto + "6"
}

// listenAll calls listen for every address and returns what came of it. Where
// the family is optional and this host lacks it, the address is left out.
func listenAll[L any](addrs []netip.AddrPort, optional bool, listen func(netip.AddrPort) (L, error)) ([]L, error) {
	var all []L
	for _, a := range addrs {
		l, err := listen(a)
		if optional && noFamily(err) {
			continue
		}
		if err != nil {
			return all, err
		}
		all = append(all, l)
	}
	if len(all) == 0 {
		return nil, errors.New("mainproc: there is no address to listen on")
	}
	return all, nil
}

func noFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// listenTCP opens one listening socket.
func listenTCP(a netip.AddrPort) (*net.TCPListener, error) {
	lc := net.ListenConfig{
		KeepAlive: -1, // the worker decides; probes every 15 s would keep phones awake
		Control: onSocket(func(fd int) error {
			// Not everywhere (gVisor's own hosts, old containers): main waits anyway.
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferAccept)
			return nil
		}),
	}
	lc.SetMultipathTCP(false) // workers expect a plain TCP socket
	l, err := lc.Listen(context.Background(), network("tcp", a), a.String())
	if err != nil {
		return nil, explainBind("TCP", a, err)
	}
	return l.(*net.TCPListener), nil
}

// listenUDP opens main's socket for datagrams that belong to no worker yet.
//
// With SO_REUSEPORT the workers' connected sockets can have the same port, and
// the kernel refuses it to every other uid; with SO_REUSEADDR, which ocserv
// uses, another user can take the port over (measured).
func listenUDP(a netip.AddrPort) (*net.UDPConn, error) {
	if err := freeUDP(a); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: onSocket(func(fd int) error {
		return prepareUDP(fd, a.Addr().Is4())
	})}
	c, err := lc.ListenPacket(context.Background(), network("udp", a), a.String())
	if err != nil {
		return nil, explainBind("UDP", a, err)
	}
	return c.(*net.UDPConn), nil
}

// prepareUDP has a socket share its port with those of clients, and say to which
// address a datagram came.
func prepareUDP(fd int, v4 bool) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<20)
	if v4 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
}

// freeUDP makes sure that nobody has the address. A second server of the same
// user would be let in by SO_REUSEPORT, and each would get half the clients.
func freeUDP(a netip.AddrPort) error {
	for deadline := time.Now().Add(rebindWait); ; time.Sleep(50 * time.Millisecond) {
		var lc net.ListenConfig
		c, err := lc.ListenPacket(context.Background(), network("udp", a), a.String())
		if err == nil {
			return c.Close()
		}
		if !errors.Is(err, unix.EADDRINUSE) || time.Now().After(deadline) {
			return explainBind("UDP", a, err)
		}
	}
}

func onSocket(set func(fd int) error) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = set(int(fd)) }); cerr != nil {
			return cerr
		}
		return err
	}
}

// explainBind adds what the operator can do about it.
func explainBind(proto string, a netip.AddrPort, err error) error {
	err = fmt.Errorf("mainproc: cannot listen (%s) on %s: %w", proto, a, err)
	switch {
	case errors.Is(err, unix.EACCES):
		if first := firstFreePort(); int(a.Port()) < first {
			return fmt.Errorf("%w; ports below %d need a privilege: use a higher port, map it from outside, or set the sysctl net.ipv4.ip_unprivileged_port_start=%d",
				err, first, a.Port())
		}
	case errors.Is(err, unix.EADDRINUSE):
		if holder := portHolder(proto, a); holder != "" {
			return fmt.Errorf("%w: held by %s", err, holder)
		}
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%w; no interface has this address", err)
	}
	return err
}

func firstFreePort() int {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return 1024
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 1024
	}
	return n
}
