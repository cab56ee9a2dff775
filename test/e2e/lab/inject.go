package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// injectWait is how long answers are waited for after the last packet.
const injectWait = 3 * time.Second

// Injected is a packet that is put on a tunnel device past the kernel's
// routing: the kernel would keep 127.0.0.1 for itself.
type Injected struct {
	Proto string // tcp (a SYN), udp, icmp (an echo request)
	Dst   string
	Port  uint16 // not for icmp
}

// Injection is a question for Inject.
type Injection struct {
	Device  string
	Packets []Injected
}

// Inject sends packets from the tunnel device's own addresses and says of each
// what came back first:
//
//	open        a SYN-ACK
//	reset       an RST
//	answer      a datagram or an echo reply
//	icmp T/C    an ICMP error of this type and code (icmp6 T/C likewise)
//	silence     nothing, for three seconds
func Inject(n Netns, q Injection) ([]string, error) {
	return ask[Injection, []string](n, roleInject, q, 2*injectWait+10*time.Second)
}

// injector is the role at work.
type injector struct {
	fd      int
	ifindex int
	src     map[bool]netip.Addr // by IPv6 or not
	results []string
	packets []Injected
}

// firstPort is the source port of packet 0; packet i has the one i above.
// Identifiers of echo requests are the same numbers.
const firstPort = 33000

// inject is the role.
func inject(q Injection) ([]string, error) {
	in, err := newInjector(q)
	if err != nil {
		return nil, err
	}
	defer unix.Close(in.fd)
	for i, p := range q.Packets {
		if err := in.send(i, p); err != nil {
			return nil, fmt.Errorf("%s to %s: %w", p.Proto, p.Dst, err)
		}
	}
	return in.results, in.collect(time.Now().Add(injectWait))
}

func newInjector(q Injection) (*injector, error) {
	dev, err := net.InterfaceByName(q.Device)
	if err != nil {
		return nil, err
	}
	in := &injector{ifindex: dev.Index, src: map[bool]netip.Addr{}, packets: q.Packets}
	for range q.Packets {
		in.results = append(in.results, "silence")
	}
	addrs, err := dev.Addrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			in.src[p.Addr().Is6()] = p.Addr()
		}
	}
	all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8) // in network byte order
	if in.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all)); err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(in.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}); err != nil {
		return nil, errors.Join(os.NewSyscallError("bind", err), unix.Close(in.fd))
	}
	return in, nil
}

func (in *injector) send(i int, p Injected) error {
	dst, err := netip.ParseAddr(p.Dst)
	if err != nil {
		return err
	}
	src, ok := in.src[dst.Is6()]
	if !ok {
		return errors.New("the tunnel has no address of this family")
	}
	b, err := packetFor(i, p, src, dst)
	if err != nil {
		return err
	}
	proto := uint16(unix.ETH_P_IP)
	if dst.Is6() {
		proto = unix.ETH_P_IPV6
	}
	return unix.Sendto(in.fd, b, 0, &unix.SockaddrLinklayer{Protocol: proto>>8 | proto<<8, Ifindex: in.ifindex})
}

// collect reads what comes to the device until the deadline, or until every
// packet is answered.
func (in *injector) collect(deadline time.Time) error {
	b := make([]byte, 1<<16)
	for left := len(in.packets); left > 0; {
		wait := time.Until(deadline)
		if wait <= 0 {
			return nil
		}
		tv := unix.NsecToTimeval(wait.Nanoseconds() + 1000)
		if err := unix.SetsockoptTimeval(in.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return err
		}
		n, from, err := unix.Recvfrom(in.fd, b, 0)
		if err != nil {
			continue // the time is up, or a signal came
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); !ok || ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		i, what := readAnswer(b[:n])
		if i >= 0 && i < len(in.packets) && in.results[i] == "silence" {
			in.results[i] = what
			left--
		}
	}
	return nil
}
