package lab

import (
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// The headers here are gVisor's, not those of internal/packet: what is wrong
// there must not be wrong in its test in the same way.

// packetFor makes the packet with checksums.
func packetFor(i int, p Injected, src, dst netip.Addr) ([]byte, error) {
	proto, body, err := transportFor(i, p, src, dst)
	if err != nil {
		return nil, err
	}
	s, d := tcpip.AddrFromSlice(src.AsSlice()), tcpip.AddrFromSlice(dst.AsSlice())
	if dst.Is6() {
		b := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(body))
		header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(len(body)), TransportProtocol: proto, HopLimit: 64, SrcAddr: s, DstAddr: d})
		return append(b, body...), nil
	}
	b := make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(body))
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(cap(b)), TTL: 64, Protocol: uint8(proto), SrcAddr: s, DstAddr: d})
	ip.SetChecksum(^ip.CalculateChecksum())
	return append(b, body...), nil
}

func transportFor(i int, p Injected, src, dst netip.Addr) (tcpip.TransportProtocolNumber, []byte, error) {
	s, d := tcpip.AddrFromSlice(src.AsSlice()), tcpip.AddrFromSlice(dst.AsSlice())
	id := uint16(firstPort + i)
	pseudo := func(proto tcpip.TransportProtocolNumber, n int) uint16 {
		return header.PseudoHeaderChecksum(proto, s, d, uint16(n))
	}
	switch {
	case p.Proto == "tcp":
		t := header.TCP(make([]byte, header.TCPMinimumSize))
		t.Encode(&header.TCPFields{SrcPort: id, DstPort: p.Port, SeqNum: 1, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 65535})
		t.SetChecksum(^t.CalculateChecksum(pseudo(header.TCPProtocolNumber, len(t))))
		return header.TCPProtocolNumber, t, nil
	case p.Proto == "udp":
		u := header.UDP(append(make([]byte, header.UDPMinimumSize), "hello"...))
		u.Encode(&header.UDPFields{SrcPort: id, DstPort: p.Port, Length: uint16(len(u))})
		u.SetChecksum(^checksum.Checksum(u, pseudo(header.UDPProtocolNumber, len(u))))
		return header.UDPProtocolNumber, u, nil
	case p.Proto == "icmp" && dst.Is6():
		m := header.ICMPv6(make([]byte, header.ICMPv6EchoMinimumSize))
		m.SetType(header.ICMPv6EchoRequest)
		m.SetIdent(id)
		m.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: m, Src: s, Dst: d}))
		return header.ICMPv6ProtocolNumber, m, nil
	case p.Proto == "icmp":
		m := header.ICMPv4(make([]byte, header.ICMPv4MinimumSize))
		m.SetType(header.ICMPv4Echo)
		m.SetIdent(id)
		m.SetChecksum(header.ICMPv4Checksum(m, 0))
		return header.ICMPv4ProtocolNumber, m, nil
	}
	return 0, nil, fmt.Errorf("no protocol %q", p.Proto)
}

// readAnswer says which packet b answers, or -1, and how.
func readAnswer(b []byte) (int, string) {
	proto, body, ok := split(b)
	if !ok {
		return -1, ""
	}
	switch proto {
	case header.TCPProtocolNumber:
		t := header.TCP(body)
		if len(t) < header.TCPMinimumSize {
			return -1, ""
		}
		what := "open"
		if t.Flags().Contains(header.TCPFlagRst) {
			what = "reset"
		}
		return int(t.DestinationPort()) - firstPort, what
	case header.UDPProtocolNumber:
		if len(body) < header.UDPMinimumSize {
			return -1, ""
		}
		return int(header.UDP(body).DestinationPort()) - firstPort, "answer"
	case header.ICMPv4ProtocolNumber:
		return readICMP(body, "icmp", uint8(header.ICMPv4EchoReply), uint8(header.ICMPv4Echo))
	case header.ICMPv6ProtocolNumber:
		return readICMP(body, "icmp6", uint8(header.ICMPv6EchoReply), uint8(header.ICMPv6EchoRequest))
	}
	return -1, ""
}

// readICMP is the same for either ICMP: type and code, checksum, then an
// identifier, or four bytes and the packet that the error is about.
func readICMP(b []byte, name string, reply, request uint8) (int, string) {
	const size = 8
	if len(b) < size {
		return -1, ""
	}
	if b[0] == reply {
		return identifier(b) - firstPort, "answer"
	}
	proto, quoted, ok := split(b[size:])
	if !ok || len(quoted) < size {
		return -1, ""
	}
	id := int(header.UDP(quoted).SourcePort()) // where TCP has it, too
	if proto == header.ICMPv4ProtocolNumber || proto == header.ICMPv6ProtocolNumber {
		if quoted[0] != request {
			return -1, ""
		}
		id = identifier(quoted)
	}
	return id - firstPort, fmt.Sprintf("%s %d/%d", name, b[0], b[1])
}

func identifier(b []byte) int { return int(b[4])<<8 | int(b[5]) }

// split takes the IP header off.
func split(b []byte) (tcpip.TransportProtocolNumber, []byte, bool) {
	switch header.IPVersion(b) {
	case header.IPv4Version:
		if ip := header.IPv4(b); len(b) >= header.IPv4MinimumSize && int(ip.HeaderLength()) <= len(b) {
			return ip.TransportProtocol(), b[ip.HeaderLength():], true
		}
	case header.IPv6Version:
		if len(b) >= header.IPv6MinimumSize {
			return tcpip.TransportProtocolNumber(header.IPv6(b).NextHeader()), b[header.IPv6MinimumSize:], true
		}
	}
	return 0, nil, false
}
