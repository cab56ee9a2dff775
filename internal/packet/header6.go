package packet

import (
	"encoding/binary"
	"net/netip"
)

// IPv6 extension headers, RFC 8200 section 4, RFC 4302, RFC 6275, RFC 7401, RFC 5533.
const (
	hopByHop     = 0
	routing      = 43
	fragment     = 44
	authHeader   = 51
	destOptions  = 60
	mobility     = 135
	hostIdentity = 139
	shim6        = 140
)

// maxExtensions bounds the walk. RFC 8200 section 4.1 knows seven in their
// recommended order; nobody sends more.
const maxExtensions = 8

const fragmentLen = 8

// parse6 reads an IPv6 header and walks its extension headers.
func parse6(b []byte) (h Header, ok bool) {
	if len(b) < ipv6Len {
		return h, false
	}
	// A jumbogram (RFC 2675) says length 0 and carries an option; no tunnel
	// has an MTU for it. It ends here as extension headers beyond the length.
	h.Length = ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if h.Length > len(b) {
		return h, false
	}
	h.TTL, h.DF = b[7], true
	h.Src = netip.AddrFrom16([16]byte(b[8:24]))
	h.Dst = netip.AddrFrom16([16]byte(b[24:40]))
	h.Proto, h.L4 = b[6], ipv6Len
	switch h.Proto {
	case TCP, UDP, ICMPv6:
		return h, true
	}
	return h, h.walk(b[:h.Length])
}

// walk follows the chain of extension headers from h.L4, where a header of
// type h.Proto begins, to the upper layer. A chain that does not end within
// this packet is refused also for first fragments: RFC 7112.
func (h *Header) walk(b []byte) bool {
	for range maxExtensions {
		if !isExtension(h.Proto) {
			return true
		}
		if h.Proto == hopByHop && h.L4 != ipv6Len { // RFC 8200 section 4.1: only first
			return false
		}
		h.Options = true
		ext := b[h.L4:]
		if len(ext) < 8 {
			return false
		}
		n := 8 + 8*int(ext[1])
		switch h.Proto {
		case routing:
			h.SourceRouted = h.SourceRouted || ext[3] != 0 // segments left
		case authHeader:
			n = 8 + 4*int(ext[1])
		case fragment:
			n = fragmentLen
			if off := binary.BigEndian.Uint16(ext[2:]); off&^6 != 0 { // offset or M
				h.Fragment, h.First = true, off>>3 == 0
			}
		}
		if n > len(ext) {
			return false
		}
		h.Proto = ext[0]
		h.L4 += n
		if h.Fragment && !h.First {
			return true // what follows is data, whatever Proto says
		}
	}
	return !isExtension(h.Proto)
}

func isExtension(proto uint8) bool {
	switch proto {
	case hopByHop, routing, fragment, authHeader, destOptions, mobility, hostIdentity, shim6:
		return true
	}
	return false
}
