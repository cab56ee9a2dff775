package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Packet is an IP packet that left a namespace.
type Packet struct {
	Device   string
	Proto    int
	Src, Dst netip.AddrPort // ICMP has types for ports: of Dst
	Payload  []byte         // of TCP, a connection's first bytes
}

func (p Packet) String() string {
	return fmt.Sprintf("protocol %d, %v > %v by %s", p.Proto, p.Src, p.Dst, p.Device)
}

// firstBytes is how much of a connection's payload is kept.
const firstBytes = 4096

// Tap begins to note what leaves srv, but to clients. The function ends it and
// returns what was seen, all of it or an error.
func (l *Lab) Tap() (func() ([]Packet, error), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	cmd := l.Srv.Command(ctx, self)
	cmd.Env = append(slices.Clone(environment), roleVariable+"="+roleTap)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, errors.Join(err, release(cancel))
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, release(cancel))
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, release(cancel))
	}
	r := bufio.NewReader(out)
	if line, err := r.ReadString('\n'); err != nil || line != "ready\n" {
		cancel()
		return nil, fmt.Errorf("tap: %w, %v\n%s", err, cmd.Wait(), stderr.Bytes())
	}
	return func() ([]Packet, error) {
		defer cancel()
		in.Close()
		var seen []Packet
		err := json.NewDecoder(r).Decode(&seen)
		if wait := cmd.Wait(); err != nil || wait != nil {
			return nil, fmt.Errorf("tap: %v, %v\n%s", err, wait, stderr.Bytes())
		}
		return seen, nil
	}, nil
}

func release(cancel func()) error { cancel(); return nil }

// tap is the role.
func tap(in io.Reader, out io.Writer) error {
	all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8) // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	const room = 64 << 20
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	devices := map[int]string{}
	list, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, d := range list {
		devices[d.Index] = d.Name
	}
	fmt.Fprintln(out, "ready")
	var over atomic.Bool
	go func() { io.Copy(io.Discard, in); over.Store(true) }()
	seen, kept := []Packet{}, map[netip.AddrPort]int{}
	b := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(fd, b, 0)
		switch {
		case err == unix.EAGAIN && over.Load():
			if s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err != nil || s.Drops > 0 {
				return fmt.Errorf("not all was seen: %+v, %v", s, err)
			}
			return json.NewEncoder(out).Encode(seen)
		case err == unix.EAGAIN, err == unix.EINTR:
			continue
		case err != nil:
			return os.NewSyscallError("recvfrom", err)
		}
		l, ok := from.(*unix.SockaddrLinklayer)
		if !ok || l.Pkttype != unix.PACKET_OUTGOING {
			continue
		}
		device := devices[l.Ifindex]
		if device == "br0" || strings.HasPrefix(device, "c") { // towards clients
			continue
		}
		if p, ok := packetOf(b[:n], kept); ok {
			p.Device = device
			seen = append(seen, p)
		}
	}
}

// packetOf reads a packet. kept is how much of each connection's payload there
// is already, by its source.
func packetOf(b []byte, kept map[netip.AddrPort]int) (p Packet, ok bool) {
	proto, body, ok := split(b)
	if !ok || len(body) < 4 {
		return p, false
	}
	src, dst := addressesOf(b)
	var ports [2]uint16
	switch proto {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		ports = [2]uint16{uint16(body[0])<<8 | uint16(body[1]), uint16(body[2])<<8 | uint16(body[3])}
	case header.ICMPv6ProtocolNumber:
		if t := header.ICMPv6Type(body[0]); t >= header.ICMPv6RouterSolicit && t <= header.ICMPv6RedirectMsg || t == header.ICMPv6MulticastListenerV2Report {
			return p, false // how neighbours find each other
		}
		ports[1] = uint16(body[0])
	case header.ICMPv4ProtocolNumber:
		ports[1] = uint16(body[0])
	case 0: // hop by hop options, as of multicast listeners
		return p, false
	}
	p = Packet{Proto: int(proto), Src: netip.AddrPortFrom(src, ports[0]), Dst: netip.AddrPortFrom(dst, ports[1])}
	if t := header.TCP(body); proto == header.TCPProtocolNumber && len(body) >= header.TCPMinimumSize && int(t.DataOffset()) <= len(body) {
		p.Payload = slices.Clone(t.Payload()[:min(len(t.Payload()), firstBytes-kept[p.Src])])
		kept[p.Src] += len(p.Payload)
	}
	return p, true
}

func addressesOf(b []byte) (src, dst netip.Addr) {
	var s, d tcpip.Address
	if header.IPVersion(b) == header.IPv4Version {
		s, d = header.IPv4(b).SourceAddress(), header.IPv4(b).DestinationAddress()
	} else {
		s, d = header.IPv6(b).SourceAddress(), header.IPv6(b).DestinationAddress()
	}
	src, _ = netip.AddrFromSlice(s.AsSlice())
	dst, _ = netip.AddrFromSlice(d.AsSlice())
	return src, dst
}
