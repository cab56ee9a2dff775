package socks5

import (
	"encoding/binary"
	"net/netip"
)

// MaxHeader is the longest header of a datagram with an address.
const MaxHeader = 4 + 16 + 2

// AppendHeader writes the header of a datagram to dst. RFC 1928 section 7.
func AppendHeader(b []byte, dst netip.AddrPort) []byte {
	return appendDestination(append(b, 0, 0, 0), "", dst)
}

// ParseDatagram returns where a relayed datagram comes from, and its payload,
// which points into b. Fragments and names are not ok.
func ParseDatagram(b []byte) (from netip.AddrPort, payload []byte, ok bool) {
	if len(b) < 4 || b[2] != 0 {
		return from, nil, false
	}
	n := 0
	switch b[3] {
	case typeIPv4:
		n = 4
	case typeIPv6:
		n = 16
	default:
		return from, nil, false
	}
	if len(b) < 4+n+2 {
		return from, nil, false
	}
	a, _ := netip.AddrFromSlice(b[4 : 4+n])
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(b[4+n:])), b[4+n+2:], true
}
