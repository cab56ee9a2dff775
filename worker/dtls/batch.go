package dtls

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"rocserv/internal/dtlsrecord"
)

const (
	smallSlots = 4  // datagrams of one recvmmsg without traffic
	largeSlots = 64 // and with
	minSlot    = 2048
	slotAlign  = 64
	// slotPad in front of a datagram puts the IP packet in it on a multiple of
	// four bytes, after 13+8+1 bytes of AES-GCM record or 13+1 of ChaCha20.
	slotPad = 2
	// maxOverhead is what the longest record adds to a packet.
	maxOverhead = dtlsrecord.HeaderLen + 8 + typeLen + dtlsrecord.TagLen
)

// sockaddr has room for a sockaddr_in6, the longest there is here.
type sockaddr [unix.SizeofSockaddrInet6]byte

// batch is the memory of one recvmmsg: slots datagrams of at most slotSize bytes.
type batch struct {
	slotSize int
	buf      []byte
	msgs     []mmsghdr
	iovs     []unix.Iovec
	// sources holds where datagrams came from. main binds the socket before it
	// connects it, and what arrived in between may be anybody's. Once the socket
	// was seen empty the kernel lets nothing but the peer's in, and sources is nil.
	sources []sockaddr
}

// init makes a batch for packets of at most maxPacket bytes.
func (b *batch) init(maxPacket int) {
	size := slotPad + maxPacket + maxOverhead
	b.slotSize = max(minSlot, (size+slotAlign-1)/slotAlign*slotAlign)
	b.resize(smallSlots, true)
}

// resize replaces the memory. What was received must be used up.
func (b *batch) resize(slots int, withSource bool) {
	b.buf = make([]byte, slots*b.slotSize)
	b.msgs = make([]mmsghdr, slots)
	b.iovs = make([]unix.Iovec, slots)
	b.sources = nil
	if withSource {
		b.sources = make([]sockaddr, slots)
	}
	for i := range b.msgs {
		b.iovs[i].Base = &b.buf[i*b.slotSize+slotPad]
		b.iovs[i].SetLen(b.slotSize - slotPad)
		b.msgs[i].Iov = &b.iovs[i]
		b.msgs[i].SetIovlen(1)
		if withSource {
			b.msgs[i].Name = &b.sources[i][0]
		}
	}
}

// receive takes what is there, at most as many datagrams as there are slots.
func (b *batch) receive(fd uintptr) (int, unix.Errno) {
	for i := range b.sources {
		b.msgs[i].Namelen = uint32(len(b.sources[i]))
	}
	return recvmmsg(fd, b.msgs)
}

// datagram is the i-th of what was received; ok is false if it is cut off or
// not from peer.
func (b *batch) datagram(i int, peer netip.AddrPort) (p []byte, ok bool) {
	m := &b.msgs[i]
	if m.Flags&unix.MSG_TRUNC != 0 {
		return nil, false
	}
	if b.sources != nil && b.sources[i].addrPort() != peer {
		return nil, false
	}
	start := i*b.slotSize + slotPad
	return b.buf[start : start+int(m.n) : start+int(m.n)], true
}

// trustSource ends the check of where datagrams come from.
func (b *batch) trustSource() {
	if b.sources == nil {
		return
	}
	b.sources = nil
	for i := range b.msgs {
		b.msgs[i].Name = nil
		b.msgs[i].Namelen = 0
	}
}

// grow makes room for more after a batch that was full.
func (b *batch) grow() {
	if n := len(b.msgs); n < largeSlots {
		b.resize(min(4*n, largeSlots), b.sources != nil)
	}
}

// trim goes back to the small batch.
func (b *batch) trim() {
	if len(b.msgs) > smallSlots {
		b.resize(smallSlots, b.sources != nil)
	}
}

// addrPort reads the address the kernel has written. A v4-mapped one becomes
// IPv4; a zone is left out, the socket has only one.
func (s *sockaddr) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(s[2:])
	switch *(*uint16)(unsafe.Pointer(&s[0])) { // sa_family_t in the machine's order
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(s[8:24])).Unmap(), port)
	}
	return netip.AddrPort{}
}

// bare is how addrPort writes peer.
func bare(peer netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(peer.Addr().Unmap().WithZone(""), peer.Port())
}
