package packet

import (
	"encoding/binary"
	"net/netip"
)

// Upper layer protocols, IANA protocol numbers.
const (
	ICMP     = 1
	TCP      = 6
	UDP      = 17
	ICMPv6   = 58
	NoHeader = 59 // IPv6: nothing follows
)

// Header is what the IP layer says of a packet.
type Header struct {
	Src, Dst netip.Addr
	Proto    uint8 // of the upper layer, behind all extension headers
	TTL      uint8 // or hop limit
	L4       int   // offset of the upper layer, or of a later fragment's data
	Length   int   // of the packet in bytes; what follows is padding

	DF       bool // IPv4: don't fragment. Always true for IPv6
	Fragment bool // part of a longer packet; IPv6 atomic fragments are whole, RFC 6946
	First    bool // of a fragment: the one with the upper layer's header
	Options  bool // IPv4 options or IPv6 extension headers
	// SourceRouted: Dst is not where the packet wants to end. RFC 7126 section
	// 4.3, RFC 5095.
	SourceRouted bool
}

// V6 says whether the packet is IPv6.
func (h *Header) V6() bool { return !h.Src.Is4() }

// IsICMP says whether the upper layer is the ICMP of the packet's family.
func (h *Header) IsICMP() bool {
	if h.V6() {
		return h.Proto == ICMPv6
	}
	return h.Proto == ICMP
}

// ToMany says whether the packet is for more than one host: multicast, or the
// limited broadcast, which is the only one that can be told without knowing the
// network.
func (h *Header) ToMany() bool {
	return h.Dst.IsMulticast() || h.Dst == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// Payload is the upper layer: b without headers and padding. b is what Parse got.
func (h *Header) Payload(b []byte) []byte { return b[h.L4:h.Length] }

// Source is the source address of an IP packet, read without any other check.
func Source(b []byte) (netip.Addr, bool) {
	if len(b) >= ipv4Len && b[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(b[12:16])), true
	}
	if len(b) >= ipv6Len && b[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(b[8:24])), true
	}
	return netip.Addr{}, false
}

// Destination is the destination address of an IP packet, read without any other check.
func Destination(b []byte) (netip.Addr, bool) {
	if len(b) >= ipv4Len && b[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(b[16:20])), true
	}
	if len(b) >= ipv6Len && b[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(b[24:40])), true
	}
	return netip.Addr{}, false
}

const (
	ipv4Len = 20
	ipv6Len = 40
	cutHead = 256 // bytes that hold all headers, for ParseCut
)

// Parse reads the IP header of the packet at the beginning of b. It does not
// verify the IPv4 header checksum (see HeaderSumOK). False means that this is
// no IP packet or one that contradicts itself.
func Parse(b []byte) (h Header, ok bool) {
	if len(b) < ipv4Len {
		return h, false
	}
	switch b[0] >> 4 {
	case 4:
		return parse4(b)
	case 6:
		return parse6(b)
	}
	return h, false
}

// ParseCut reads the header of a packet of which only the beginning is there.
// Length is what is there. False means that Parse has refused it for another
// reason.
func ParseCut(b []byte) (h Header, ok bool) {
	var head [cutHead]byte
	n := copy(head[:], b)
	if n < ipv4Len {
		return h, false
	}
	switch b[0] >> 4 {
	case 4:
		ok = int(binary.BigEndian.Uint16(b[2:])) > len(b)
		binary.BigEndian.PutUint16(head[2:], uint16(n))
	case 6:
		if n < ipv6Len {
			return h, false
		}
		ok = ipv6Len+int(binary.BigEndian.Uint16(b[4:])) > len(b)
		binary.BigEndian.PutUint16(head[4:], uint16(n-ipv6Len))
	}
	if !ok {
		return h, false
	}
	h, ok = Parse(head[:n])
	h.Length = len(b)
	return h, ok
}

// parse4 reads an IPv4 header, RFC 791 section 3.1.
func parse4(b []byte) (h Header, ok bool) {
	h.L4 = int(b[0]&15) * 4
	h.Length = int(binary.BigEndian.Uint16(b[2:]))
	if h.L4 < ipv4Len || h.Length < h.L4 || h.Length > len(b) {
		return h, false
	}
	h.TTL, h.Proto = b[8], b[9]
	h.Src = netip.AddrFrom4([4]byte(b[12:16]))
	h.Dst = netip.AddrFrom4([4]byte(b[16:20]))
	frag := binary.BigEndian.Uint16(b[6:])
	h.DF = frag&0x4000 != 0
	if frag&0x3fff != 0 {
		h.Fragment, h.First = true, frag&0x1fff == 0
	}
	if h.L4 > ipv4Len {
		h.Options = true
		h.SourceRouted = sourceRoute4(b[ipv4Len:h.L4])
	}
	return h, true
}

// sourceRoute4 looks for a loose or strict source route among IPv4 options.
func sourceRoute4(opts []byte) bool {
	const (
		end, nop     = 0, 1
		loose, stric = 131, 137
	)
	for len(opts) > 0 {
		switch opts[0] {
		case end:
			return false
		case nop:
			opts = opts[1:]
			continue
		case loose, stric:
			return true
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return false // garbled: not an instruction anybody can follow
		}
		opts = opts[opts[1]:]
	}
	return false
}

// HeaderSumOK verifies the checksum of an IPv4 header that Parse accepted;
// IPv6 has none. RFC 1122 section 3.2.1.2.
func HeaderSumOK(b []byte) bool {
	if b[0]>>4 != 4 {
		return true
	}
	return Sum(b[:int(b[0]&15)*4], 0) == 0xffff
}

// TransportSum is the sum over pseudo header and upper layer of a whole
// packet: 0xffff where TCP, UDP or ICMPv6 carry the right checksum.
func TransportSum(h *Header, b []byte) uint16 {
	return Sum(h.Payload(b), PseudoSum(h.Src, h.Dst, h.Proto, h.Length-h.L4))
}
