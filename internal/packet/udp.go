package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// What can be wrong with an upper layer.
var (
	ErrLength   = errors.New("packet: bad length")
	ErrChecksum = errors.New("packet: bad checksum")
)

const udpLen = 8

// Datagram is a UDP header and what it carries.
type Datagram struct {
	SrcPort, DstPort uint16
	Payload          []byte // points into the packet
}

// ReadUDP reads and verifies the UDP of a whole packet that Parse accepted.
// The error is ErrLength or ErrChecksum. Bytes behind the UDP length are
// padding. RFC 768.
func ReadUDP(h *Header, b []byte) (d Datagram, err error) {
	u := h.Payload(b)
	if len(u) < udpLen {
		return d, ErrLength
	}
	n := int(binary.BigEndian.Uint16(u[4:]))
	if n < udpLen || n > len(u) {
		return d, ErrLength
	}
	u = u[:n]
	if binary.BigEndian.Uint16(u[6:]) == 0 {
		if h.V6() { // RFC 8200 section 8.1: not optional
			return d, ErrChecksum
		}
	} else if Sum(u, PseudoSum(h.Src, h.Dst, UDP, n)) != 0xffff {
		return d, ErrChecksum
	}
	d.SrcPort, d.DstPort = binary.BigEndian.Uint16(u), binary.BigEndian.Uint16(u[2:])
	d.Payload = u[udpLen:]
	return d, nil
}

// UDPOffset is the length of the headers that PutUDP writes.
func UDPOffset(v6 bool) int { return ipLen(v6) + udpLen }

// PutUDP makes b a UDP packet: b is as long as the packet, and its payload
// already stands at UDPOffset. id is the IPv4 identification: the packet may be
// fragmented further on, so it should differ from that of recent packets
// (RFC 6864 section 4.1). The addresses are of one family.
func PutUDP(b []byte, src, dst netip.AddrPort, ttl uint8, id uint16) {
	n := PutIP(b, IP{Src: src.Addr(), Dst: dst.Addr(), Proto: UDP, TTL: ttl, ID: id})
	u := b[n:]
	putUDPHeader(u, src.Port(), dst.Port(), len(u))
	sum := Sum(u, PseudoSum(src.Addr(), dst.Addr(), UDP, len(u)))
	binary.BigEndian.PutUint16(u[6:], udpChecksum(sum))
}

// putUDPHeader writes a header with checksum 0 for n bytes of header and payload.
func putUDPHeader(u []byte, src, dst uint16, n int) {
	u = u[:udpLen]
	binary.BigEndian.PutUint16(u, src)
	binary.BigEndian.PutUint16(u[2:], dst)
	binary.BigEndian.PutUint16(u[4:], uint16(n))
	u[6], u[7] = 0, 0
}

// udpChecksum is the field for a sum: a checksum that comes out as zero is
// sent as its other form, RFC 768.
func udpChecksum(sum uint16) uint16 {
	if sum == 0xffff {
		return 0xffff
	}
	return ^sum
}
