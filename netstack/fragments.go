package netstack

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"rocserv/internal/packet"
)

// Bounds of reassembly. gVisor's own keeps up to 4 MiB per family for 30 and
// 60 seconds, and neither can be changed; a client that floods with fragments
// must not cost that.
const (
	maxReassemblies  = 16
	maxFragmentBytes = 256 << 10
	// reassemblyTimeout is shorter than RFC 1122 section 3.3.2 (60 s) and RFC
	// 8200 section 4.5 (60 s) have it: the only link is the tunnel, fragments
	// follow each other.
	reassemblyTimeout = 15 * time.Second
	// maxFragments of one packet: 64 KiB in pieces of 576 bytes, the least that
	// every IPv4 host takes.
	maxFragments = 128
)

// fragments puts packets together that the client sent in pieces, of any
// protocol and family. It is exact about overlaps (RFC 5722, RFC 8200 section
// 4.5: the packet is given up; the same for IPv4) and forgets the oldest packet
// when there are too many.
type fragments struct {
	stats *counters
	list  []*reassembly // oldest first
	bytes int
}

// fragmentID is what the fragments of a packet have in common. RFC 791 section
// 3.2; in IPv6 the protocol does not belong to it.
type fragmentID struct {
	src, dst netip.Addr
	proto    uint8
	id       uint32
}

// reassembly is a packet of which pieces are missing.
type reassembly struct {
	id      fragmentID
	started tcpip.MonotonicTime
	pieces  []piece // by offset, without overlap
	bytes   int
	total   int // length of the data, -1 until the last piece is here
	head    header6or4
}

type piece struct {
	offset int
	data   []byte
}

// header6or4 is what the reassembled packet's IP header says.
type header6or4 struct {
	proto, ttl, tos uint8
	known           bool // from the first piece
}

// fragmentField is what the fragment of an IP packet says of itself.
type fragmentField struct {
	id     uint32
	offset int // of the data in the packet, in bytes
	more   bool
	proto  uint8 // IPv6: of the data at offset 0
	data   int   // where the data begins in the fragment
}

// add takes one fragment and returns the packet if it was the last missing
// piece: a packet with a plain header, in memory of its own.
func (f *fragments) add(h *packet.Header, b []byte, now tcpip.MonotonicTime) []byte {
	f.expire(now)
	ff, ok := readFragment(h, b)
	if !ok {
		f.stats.packet.malformed.Add(1)
		return nil
	}
	data := b[ff.data:h.Length]
	end := ff.offset + len(data)
	// RFC 8200 section 4.5: pieces but the last are multiples of 8 bytes.
	if len(data) == 0 || ff.more && len(data)%8 != 0 || end > maxPayload(h) {
		f.stats.packet.malformed.Add(1)
		return nil
	}
	r := f.find(h, ff, now)
	if !r.insert(h, b, ff, data) {
		f.stats.packet.malformed.Add(1)
		f.drop(r)
		return nil
	}
	f.bytes += len(data)
	if r.bytes == r.total && r.head.known {
		f.drop(r)
		f.stats.packet.reassembled.Add(1)
		return r.build()
	}
	for f.bytes > maxFragmentBytes {
		f.stats.packet.fragmentsDropped.Add(1)
		f.drop(f.list[0])
	}
	return nil
}

// maxPayload is what fits behind a plain header, whose length field counts the
// IPv4 header but not the IPv6 header.
func maxPayload(h *packet.Header) int {
	if h.V6() {
		return 0xffff
	}
	return 0xffff - header.IPv4MinimumSize
}

// readFragment reads the fragment fields: RFC 791 section 3.1, RFC 8200 section 4.5.
func readFragment(h *packet.Header, b []byte) (ff fragmentField, ok bool) {
	be := binary.BigEndian
	if !h.V6() {
		word := be.Uint16(b[6:])
		return fragmentField{
			id: uint32(be.Uint16(b[4:])), offset: int(word&0x1fff) * 8,
			more: word&0x2000 != 0, proto: h.Proto, data: h.L4,
		}, true
	}
	const hopByHop, routing, fragment, destOptions = 0, 43, 44, 60
	// Parse has accepted the chain, so lengths hold.
	for next, at := b[6], header.IPv6MinimumSize; at+8 <= h.L4; {
		switch next {
		case fragment:
			word := be.Uint16(b[at+2:])
			return fragmentField{
				id: be.Uint32(b[at+4:]), offset: int(word &^ 7),
				more: word&1 != 0, proto: b[at], data: at + 8,
			}, true
		case hopByHop, routing, destOptions:
			next, at = b[at], at+8+8*int(b[at+1])
		default:
			return ff, false
		}
	}
	return ff, false
}

// find returns the reassembly a fragment belongs to, a new one if need be.
func (f *fragments) find(h *packet.Header, ff fragmentField, now tcpip.MonotonicTime) *reassembly {
	id := fragmentID{src: h.Src, dst: h.Dst, id: ff.id}
	if !h.V6() {
		id.proto = h.Proto
	}
	for _, r := range f.list {
		if r.id == id {
			return r
		}
	}
	if len(f.list) == maxReassemblies {
		f.stats.packet.fragmentsDropped.Add(1)
		f.drop(f.list[0])
	}
	r := &reassembly{id: id, started: now, total: -1}
	f.list = append(f.list, r)
	return r
}

// insert adds a piece. False: it contradicts what is there already.
func (r *reassembly) insert(h *packet.Header, b []byte, ff fragmentField, data []byte) bool {
	end := ff.offset + len(data)
	if !ff.more {
		if r.total >= 0 && r.total != end {
			return false
		}
		r.total = end
	}
	i, _ := slices.BinarySearchFunc(r.pieces, ff.offset, func(p piece, off int) int { return p.offset - off })
	switch {
	case len(r.pieces) >= maxFragments,
		i > 0 && r.pieces[i-1].offset+len(r.pieces[i-1].data) > ff.offset,
		i < len(r.pieces) && r.pieces[i].offset < end,
		r.total >= 0 && (end > r.total || i < len(r.pieces) && !ff.more):
		return false
	}
	if ff.offset == 0 {
		r.head = header6or4{known: true, proto: ff.proto, ttl: h.TTL, tos: b[1]}
		if h.V6() {
			r.head.tos = b[0]<<4 | b[1]>>4
		}
	}
	r.pieces = slices.Insert(r.pieces, i, piece{ff.offset, slices.Clone(data)})
	r.bytes += len(data)
	return true
}

// build makes the packet of all pieces.
func (r *reassembly) build() []byte {
	n := header.IPv4MinimumSize
	if r.id.src.Is6() {
		n = header.IPv6MinimumSize
	}
	b := make([]byte, n+r.total)
	packet.PutIP(b, packet.IP{
		Src: r.id.src, Dst: r.id.dst, Proto: r.head.proto, TTL: r.head.ttl, TOS: r.head.tos, ID: uint16(r.id.id),
	})
	for _, p := range r.pieces {
		copy(b[n+p.offset:], p.data)
	}
	return b
}

// expire forgets packets whose pieces did not come in time. There is no timer:
// what is kept is bounded, and the next fragment or Trim looks after it.
func (f *fragments) expire(now tcpip.MonotonicTime) {
	for len(f.list) > 0 && now.Sub(f.list[0].started) >= reassemblyTimeout {
		f.stats.packet.fragmentsDropped.Add(1)
		f.drop(f.list[0])
	}
}

func (f *fragments) drop(r *reassembly) {
	if i := slices.Index(f.list, r); i >= 0 {
		f.list = slices.Delete(f.list, i, i+1)
		f.bytes -= r.bytes
	}
}
