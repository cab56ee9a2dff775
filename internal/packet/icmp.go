package packet

import (
	"encoding/binary"
	"net/netip"
)

// ICMP types and codes, RFC 792, RFC 1812 section 5.2.7.1, RFC 4443.
const (
	echoReply4, echoRequest4 = 0, 8
	echoReply6, echoRequest6 = 129, 128

	unreachable4  = 3
	timeExceeded4 = 11

	unreachable6  = 1
	tooBig6       = 2
	timeExceeded6 = 3
	parameter6    = 4
	redirect6     = 137
)

const (
	icmpLen = 8
	maxICMP = 576  // RFC 1812 section 4.3.2.3
	minMTU6 = 1280 // RFC 4443 section 2.4 (c)

	// MaxQuote is more than an ICMP error quotes, in bytes.
	MaxQuote = minMTU6

	errorTTL = 64
	// RFC 1812 section 4.3.2.5: internetwork control.
	errorTOS4 = 0xc0
)

// Problem is why a packet cannot be delivered, for both families.
type Problem uint8

const (
	NetUnreachable      Problem = iota // v6: no route
	HostUnreachable                    // v6: address unreachable
	ProtocolUnreachable                // v6: unrecognised next header
	PortUnreachable
	Prohibited // administratively
	TimeExceeded
	TooBig // fragmentation needed, packet too big
)

// ICMPError is the message about a packet: the first eight bytes of an ICMP
// error in its family's numbers. The kernel's error queue has the same three.
type ICMPError struct {
	Type, Code uint8
	Info       uint32 // MTU (v4: of the next hop, RFC 1191), or what else the second word holds
}

// Error makes the message for a problem. mtu belongs to TooBig, h is the packet
// the message will be about.
func (p Problem) Error(h *Header, b []byte, mtu int) ICMPError {
	if h.V6() {
		return p.error6(h, b, mtu)
	}
	switch p {
	case NetUnreachable:
		return ICMPError{Type: unreachable4, Code: 0}
	case ProtocolUnreachable:
		return ICMPError{Type: unreachable4, Code: 2}
	case PortUnreachable:
		return ICMPError{Type: unreachable4, Code: 3}
	case TooBig:
		return ICMPError{Type: unreachable4, Code: 4, Info: uint32(uint16(min(mtu, 0xffff)))} // RFC 1191 section 4
	case Prohibited:
		return ICMPError{Type: unreachable4, Code: 13}
	case TimeExceeded:
		return ICMPError{Type: timeExceeded4}
	}
	return ICMPError{Type: unreachable4, Code: 1}
}

func (p Problem) error6(h *Header, b []byte, mtu int) ICMPError {
	switch p {
	case NetUnreachable:
		return ICMPError{Type: unreachable6, Code: 0}
	case ProtocolUnreachable:
		return ICMPError{Type: parameter6, Code: 1, Info: uint32(nextHeaderOffset(h, b))}
	case PortUnreachable:
		return ICMPError{Type: unreachable6, Code: 4}
	case TooBig:
		return ICMPError{Type: tooBig6, Info: uint32(mtu)}
	case Prohibited:
		return ICMPError{Type: unreachable6, Code: 1}
	case TimeExceeded:
		return ICMPError{Type: timeExceeded6}
	}
	return ICMPError{Type: unreachable6, Code: 3}
}

// nextHeaderOffset is where the number of the upper layer stands in an IPv6
// packet that Parse accepted.
func nextHeaderOffset(h *Header, b []byte) int {
	at, proto, l4 := 6, b[6], ipv6Len
	for l4 < h.L4 {
		n := 8 + 8*int(b[l4+1])
		switch proto {
		case fragment:
			n = fragmentLen
		case authHeader:
			n = 8 + 4*int(b[l4+1])
		}
		at, proto, l4 = l4, b[l4], l4+n
	}
	return at
}

// MayAnswer says whether an ICMP error about the packet is allowed at all:
// RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e). Not about ICMP errors and
// redirects, fragments but the first, and what is not from one host to one host.
func MayAnswer(h *Header, b []byte) bool {
	if h.Fragment && !h.First || !isHost(h.Src) || h.ToMany() {
		return false
	}
	if h.Proto != ICMP && h.Proto != ICMPv6 {
		return true
	}
	p := h.Payload(b)
	if len(p) < 1 {
		return false
	}
	if h.V6() {
		return p[0] >= 128 && p[0] != redirect6
	}
	switch p[0] {
	case echoReply4, echoRequest4, 9, 10, 13, 14, 15, 16, 17, 18: // queries; all else is an error or unknown
		return true
	}
	return false
}

// isHost says whether an address can be that of one host on a network.
func isHost(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !(a.Is4() && a.As4()[0] >= 240)
}

// ErrorLen is the length of the ICMP error about a packet: as much of it is
// quoted as fits into 576 bytes (RFC 1812 section 4.3.2.3) or, for IPv6, the
// minimum MTU (RFC 4443 section 2.4 (c)).
func ErrorLen(h *Header) int {
	if h.V6() {
		return min(ipv6Len+icmpLen+h.Length, minMTU6)
	}
	return min(ipv4Len+icmpLen+h.Length, maxICMP)
}

// PutError writes the ICMP error e about the packet orig, whose header h is,
// to orig's source into b, at least ErrorLen bytes, and returns its length.
// from is who reports, of the packet's family. Ask MayAnswer first.
func PutError(b []byte, from netip.Addr, e ICMPError, h *Header, orig []byte) int {
	b = b[:ErrorLen(h)]
	ip := IP{Src: from, Dst: h.Src, Proto: ICMP, TTL: errorTTL, TOS: errorTOS4}
	if h.V6() {
		ip.Proto, ip.TOS = ICMPv6, 0
	}
	m := b[PutIP(b, ip):]
	m[0], m[1] = e.Type, e.Code
	binary.BigEndian.PutUint32(m[4:], e.Info)
	copy(m[icmpLen:], orig[:h.Length])
	putICMPSum(m, from, h.Src)
	return len(b)
}

// putICMPSum fills in the checksum of the ICMP message m.
func putICMPSum(m []byte, src, dst netip.Addr) {
	m[2], m[3] = 0, 0
	sum := uint16(0)
	if !src.Is4() {
		sum = PseudoSum(src, dst, ICMPv6, len(m)) // RFC 4443 section 2.3
	}
	binary.BigEndian.PutUint16(m[2:], ^Sum(m, sum))
}

// Echo is an ICMP echo request or reply.
type Echo struct {
	Request bool
	ID      uint16
	Msg     []byte // the message from its type byte on, at least eight bytes
}

// ReadEcho reads and verifies an echo message of a whole packet that Parse
// accepted. ok is false for any other ICMP message; err is ErrLength or
// ErrChecksum. RFC 792, RFC 4443 section 4.
func ReadEcho(h *Header, b []byte) (e Echo, ok bool, err error) {
	m := h.Payload(b)
	if len(m) < icmpLen {
		return e, false, ErrLength
	}
	request, reply := uint8(echoRequest4), uint8(echoReply4)
	sum := uint16(0)
	if h.V6() {
		request, reply = echoRequest6, echoReply6
		sum = PseudoSum(h.Src, h.Dst, ICMPv6, len(m))
	}
	if Sum(m, sum) != 0xffff {
		return e, false, ErrChecksum
	}
	if m[0] != request && m[0] != reply || m[1] != 0 {
		return e, false, nil
	}
	return Echo{Request: m[0] == request, ID: binary.BigEndian.Uint16(m[4:]), Msg: m}, true, nil
}

// IsEchoReply says whether an ICMP message (from its type byte on) is a
// complete echo reply.
func IsEchoReply(v6 bool, msg []byte) bool {
	if len(msg) < icmpLen || msg[1] != 0 {
		return false
	}
	if v6 {
		return msg[0] == echoReply6
	}
	return msg[0] == echoReply4
}

// EchoReplyLen is the length of the reply to an echo request.
func EchoReplyLen(h *Header) int { return ipLen(h.V6()) + h.Length - h.L4 }

// PutEchoReply writes the reply to the echo request orig, which ReadEcho
// accepted, into b, at least EchoReplyLen bytes, and returns its length. The
// reply comes from where the request went. RFC 1122 section 3.2.2.6.
func PutEchoReply(b []byte, h *Header, orig []byte) int {
	b = b[:EchoReplyLen(h)]
	ip := IP{Src: h.Dst, Dst: h.Src, Proto: h.Proto, TTL: errorTTL}
	m := b[PutIP(b, ip):]
	copy(m, h.Payload(orig))
	m[0] = echoReply4
	if h.V6() {
		m[0] = echoReply6
	}
	putICMPSum(m, h.Dst, h.Src)
	return len(b)
}
