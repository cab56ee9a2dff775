package packet

import (
	"encoding/binary"
	"net/netip"
)

// IP is what an IP header of ours says.
type IP struct {
	Src, Dst netip.Addr // of one family
	Proto    uint8
	TTL      uint8
	TOS      uint8  // traffic class
	ID       uint16 // IPv4 identification
}

func ipLen(v6 bool) int {
	if v6 {
		return ipv6Len
	}
	return ipv4Len
}

// PutIP writes the IP header of the packet b, which is as long as the packet,
// and returns the header's length: 20 or 40. DF is not set, there are no options.
func PutIP(b []byte, ip IP) int {
	if ip.Src.Is4() {
		putIPv4(b, ip, 0)
		return ipv4Len
	}
	putIPv6(b, ip)
	return ipv6Len
}

// putIPv4 writes an IPv4 header; frag is its word of flags and fragment offset.
func putIPv4(b []byte, ip IP, frag uint16) {
	be := binary.BigEndian
	h := (*[ipv4Len]byte)(b)
	src, dst := ip.Src.As4(), ip.Dst.As4()
	be.PutUint32(h[0:], 0x45<<24|uint32(ip.TOS)<<16|uint32(uint16(len(b))))
	be.PutUint32(h[4:], uint32(ip.ID)<<16|uint32(frag))
	be.PutUint32(h[8:], uint32(ip.TTL)<<24|uint32(ip.Proto)<<16)
	copy(h[12:16], src[:])
	copy(h[16:20], dst[:])
	be.PutUint16(h[10:], ^Sum(h[:], 0))
}

// putIPv6 writes an IPv6 header, RFC 8200 section 3, without flow label.
func putIPv6(b []byte, ip IP) {
	h := (*[ipv6Len]byte)(b)
	src, dst := ip.Src.As16(), ip.Dst.As16()
	binary.BigEndian.PutUint32(h[0:], 6<<28|uint32(ip.TOS)<<20)
	binary.BigEndian.PutUint16(h[4:], uint16(len(b)-ipv6Len))
	h[6], h[7] = ip.Proto, ip.TTL
	copy(h[8:24], src[:])
	copy(h[24:40], dst[:])
}
