package packet

import (
	"encoding/binary"
	"net/netip"
)

// Fragmenter makes a UDP datagram or ICMP message of any length into packets
// no longer than the MTU: one whole packet if it fits, else fragments. For its
// use see the package's theory of operation. The zero value is ready for Reset.
type Fragmenter struct {
	ip      IP
	id      uint32 // IPv6 fragments
	head    [udpLen]byte
	payload []byte // what is left behind head
	off     int    // of the next fragment, in bytes of head and payload
	left    int    // bytes of head and payload not yet in a packet
	max     int    // bytes of head and payload in one fragment
	whole   bool   // one packet, no fragment
}

// ResetUDP begins with a UDP datagram. id names it: 16 bits of it for IPv4.
// The payload is referenced until the last Put. Nothing comes out (Len is 0) of
// a payload that no IP packet can carry, or for an MTU that can carry nothing.
func (f *Fragmenter) ResetUDP(src, dst netip.AddrPort, ttl uint8, id uint32, payload []byte, mtu int) {
	ip := IP{Src: src.Addr(), Dst: dst.Addr(), Proto: UDP, TTL: ttl, ID: uint16(id)}
	n := udpLen + len(payload)
	putUDPHeader(f.head[:], src.Port(), dst.Port(), n)
	sum := Sum(f.head[:], PseudoSum(ip.Src, ip.Dst, UDP, n))
	binary.BigEndian.PutUint16(f.head[6:], udpChecksum(Sum(payload, sum)))
	f.reset(ip, id, payload, mtu)
}

// ResetEcho begins with an echo reply of identifier ident. msg is an ICMP
// message from its type byte on, at least eight bytes, of which sequence number
// and data are used; it is referenced until the last Put. Otherwise as ResetUDP.
func (f *Fragmenter) ResetEcho(src, dst netip.Addr, ttl uint8, id uint32, ident uint16, msg []byte, mtu int) {
	ip := IP{Src: src, Dst: dst, Proto: ICMP, TTL: ttl, ID: uint16(id)}
	typ, sum := uint8(echoReply4), uint16(0)
	if !src.Is4() {
		ip.Proto = ICMPv6
		typ, sum = echoReply6, PseudoSum(src, dst, ICMPv6, len(msg))
	}
	copy(f.head[:], msg[:icmpLen])
	f.head[0], f.head[1] = typ, 0
	f.head[2], f.head[3] = 0, 0
	binary.BigEndian.PutUint16(f.head[4:], ident)
	sum = Sum(msg[icmpLen:], Sum(f.head[:], sum))
	binary.BigEndian.PutUint16(f.head[2:], ^sum)
	f.reset(ip, id, msg[icmpLen:], mtu)
}

func (f *Fragmenter) reset(ip IP, id uint32, payload []byte, mtu int) {
	hl := ipLen(!ip.Src.Is4())
	f.ip, f.id, f.payload = ip, id, payload
	f.off, f.left = 0, len(f.head)+len(payload)
	f.whole = hl+f.left <= mtu
	if !ip.Src.Is4() && !f.whole {
		hl += fragmentLen
	}
	f.max = (mtu - hl) &^ 7 // RFC 791 section 3.2: in units of eight bytes
	if f.whole {
		f.max = f.left
	}
	if f.max < len(f.head) || f.left > 0xffff || ip.Src.Is4() && hl+f.left > 0xffff {
		f.left = 0
	}
}

// Len is the length of the next packet in bytes; 0 when there is none.
func (f *Fragmenter) Len() int {
	if f.left == 0 {
		return 0
	}
	return f.offset() + min(f.left, f.max)
}

// offset is the length of the IP headers.
func (f *Fragmenter) offset() int {
	if f.ip.Src.Is4() {
		return ipv4Len
	}
	if f.whole {
		return ipv6Len
	}
	return ipv6Len + fragmentLen
}

// Put writes the next packet into b, at least Len bytes, and returns its length.
func (f *Fragmenter) Put(b []byte) int {
	n := f.Len()
	b = b[:n]
	hl := f.offset()
	data := b[hl:]
	more := f.left > len(data)
	f.putHeader(b, more)
	if f.off == 0 {
		data = data[copy(data, f.head[:]):]
	}
	f.payload = f.payload[copy(data, f.payload):]
	f.off += n - hl
	f.left -= n - hl
	return n
}

// putHeader writes the IP header of the next packet, and the fragment header
// where it needs one (RFC 8200 section 4.5).
func (f *Fragmenter) putHeader(b []byte, more bool) {
	m := uint16(0)
	if more {
		m = 1
	}
	if f.ip.Src.Is4() {
		putIPv4(b, f.ip, m<<13|uint16(f.off/8))
		return
	}
	ip := f.ip
	if !f.whole {
		x := b[ipv6Len : ipv6Len+fragmentLen]
		x[0], x[1] = ip.Proto, 0
		binary.BigEndian.PutUint16(x[2:], uint16(f.off)|m)
		binary.BigEndian.PutUint32(x[4:], f.id)
		ip.Proto = fragment
	}
	putIPv6(b, ip)
}
