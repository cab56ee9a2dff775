package datagram

import (
	"encoding/binary"
	"net/netip"

	"rocserv/egress"
	"rocserv/internal/packet"
	"rocserv/nat"
)

// What a router or host says about a datagram reaches the client as if it had
// been about the client's own packet: the same type and code, from the same
// address, quoting what the client sent. RFC 4787 REQ-12, RFC 5508 REQ-3 to 5.

// report takes an ICMP error about something that a flow has sent. It waits for
// nobody.
func (r *Relay) report(f *flow, rep *egress.Report) {
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	dst := unmap(rep.Dst)
	if f.gone || dst.Addr().Is6() != f.client.Addr().Is6() {
		return
	}
	if !r.table.Reported(f.mapping, dst.Addr()) {
		return
	}
	var b quote
	t := r.traces.find(f, dst, rep.Quote)
	if t != nil {
		rep.Quote = t.without(rep.Quote)
	}
	pkt := b.rebuild(f, rep, t)
	if pkt == nil {
		r.stats.Unexpected++
		return
	}
	h, from := quotedHeader(f, dst.Addr(), pkt), rep.From
	if !from.IsValid() || from.Is6() && from.IsLinkLocalUnicast() { // that is nobody beyond its link, RFC 4291 section 2.5.6
		from = r.router(&h)
	}
	if !from.IsValid() || from.Is6() != h.V6() {
		return
	}
	r.stats.Reported++
	r.enterAnswer(packet.ICMPError{Type: rep.Type, Code: rep.Code, Info: rep.Info}, from, &h, pkt, now)
	r.startSaying()
}

// quotedHeader is the header of a rebuilt packet, with the length that is there.
func quotedHeader(f *flow, dst netip.Addr, pkt []byte) packet.Header {
	h := packet.Header{Src: f.client.Addr(), Dst: dst, Proto: packet.UDP, L4: headLen(f), Length: len(pkt)}
	if f.kind == nat.Echo {
		h.Proto = packet.ICMP
		if h.V6() {
			h.Proto = packet.ICMPv6
		}
	}
	return h
}

func headLen(f *flow) int { return packet.UDPOffset(f.client.Addr().Is6()) - 8 }

// quote has room for a packet that is quoted.
type quote [packet.MaxQuote]byte

// rebuild writes what the client sent, as far as it is known: of what was
// traced everything but the end, else what can be told from what came back. Nil:
// it makes no sense.
func (q *quote) rebuild(f *flow, rep *egress.Report, t *trace) []byte {
	head := headLen(f)
	body := q[head:]
	n := 0
	if f.kind == nat.Echo {
		if len(rep.Quote) < 8 {
			return nil
		}
		n = copy(body, rep.Quote)
		binary.BigEndian.PutUint16(body[4:], f.client.Port())
	} else {
		n = 8 + copy(body[8:], rep.Quote)
		binary.BigEndian.PutUint16(body, f.client.Port())
		binary.BigEndian.PutUint16(body[2:], rep.Dst.Port())
	}
	pkt := q[:head+n]
	h := quotedHeader(f, unmap(rep.Dst).Addr(), pkt)
	length, tos, id := len(pkt), uint8(0), uint16(0)
	if t != nil {
		length, tos, id = int(t.length), t.tos, t.id
	}
	if f.kind == nat.UDP {
		binary.BigEndian.PutUint16(body[4:], uint16(length-head))
	}
	putSum(&h, body[:n], t)
	putQuotedIP(pkt, &h, length, tos, id, rep.Type == 3 && rep.Code == 4)
	return pkt
}

// putSum writes the checksum of a quoted UDP datagram or ICMP message: the
// client's if it is known, else that of what is there.
func putSum(h *packet.Header, body []byte, t *trace) {
	at := 6
	if h.IsICMP() {
		at = 2
	}
	var sum uint16
	if t != nil {
		sum = t.sum
	} else {
		sum = bodySum(h, body, at)
	}
	binary.BigEndian.PutUint16(body[at:], sum)
}

// bodySum is the checksum field, at offset at, of a whole upper layer.
func bodySum(h *packet.Header, body []byte, at int) uint16 {
	binary.BigEndian.PutUint16(body[at:], 0)
	pseudo := uint16(0)
	if h.Proto != packet.ICMP {
		pseudo = packet.PseudoSum(h.Src, h.Dst, h.Proto, len(body))
	}
	sum := ^packet.Sum(body, pseudo)
	if sum == 0 && h.Proto == packet.UDP {
		return 0xffff // RFC 768
	}
	return sum
}

// putQuotedIP writes the IP header of a quoted packet of so many bytes, of which
// pkt may be the beginning only. It says one hop: that is what a packet has left
// where it is given up for that, and what others see is not known.
func putQuotedIP(pkt []byte, h *packet.Header, length int, tos uint8, id uint16, df bool) {
	packet.PutIP(pkt, packet.IP{Src: h.Src, Dst: h.Dst, Proto: h.Proto, TTL: 1, TOS: tos, ID: id})
	be := binary.BigEndian
	if h.V6() {
		be.PutUint16(pkt[4:], uint16(length-h.L4))
		return
	}
	be.PutUint16(pkt[2:], uint16(length))
	if df {
		pkt[6] |= 0x40
	}
	be.PutUint16(pkt[10:], 0)
	be.PutUint16(pkt[10:], ^packet.Sum(pkt[:h.L4], 0))
}

const maxTraces = 64

// traces remember the headers of the latest packets that were sent with few
// hops: programs that trace a route know their packets by fields of the header
// that nobody quotes to us.
type traces struct {
	ring []trace // nil until needed
	next int
}

// trace is what a packet of the client said.
type trace struct {
	flow   *flow
	dst    netip.AddrPort
	seq    uint16 // of an echo request
	length uint16 // of the packet in bytes
	id     uint16 // IPv4 identification
	sum    uint16 // checksum of the upper layer
	tos    uint8  // or traffic class
}

// trace remembers a packet of the client.
func (r *Relay) trace(f *flow, q *request, h *packet.Header, pkt []byte) {
	be := binary.BigEndian
	l4 := pkt[h.L4:]
	t := trace{flow: f, dst: q.dst, length: uint16(h.Length), tos: pkt[1]}
	if h.V6() {
		t.tos = pkt[0]<<4 | pkt[1]>>4
	} else {
		t.id = be.Uint16(pkt[4:])
	}
	if h.L4 != headLen(f) { // what we quote has no options
		t.length -= uint16(h.L4 - headLen(f))
	}
	if f.kind == nat.Echo {
		t.seq, t.sum = be.Uint16(l4[6:]), be.Uint16(l4[2:])
	} else {
		t.sum = be.Uint16(l4[6:])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.traces.ring == nil {
		r.traces.ring = make([]trace, maxTraces)
	}
	r.traces.ring[r.traces.next] = t
	r.traces.next = (r.traces.next + 1) % maxTraces
}

// find is the packet that an ICMP error is about: of a flow's packets to dst
// the one with the sequence number or the checksum quoted, else the latest. Nil:
// it was not traced.
func (ts *traces) find(f *flow, dst netip.AddrPort, quoted []byte) *trace {
	var latest *trace
	for i := range ts.ring {
		t := &ts.ring[(ts.next+len(ts.ring)-1-i)%len(ts.ring)]
		if t.flow != f || t.dst.Addr() != dst.Addr() {
			continue
		}
		if f.kind == nat.Echo {
			if len(quoted) >= 8 && binary.BigEndian.Uint16(quoted[6:]) == t.seq {
				return t
			}
			continue
		}
		if t.dst != dst {
			continue
		}
		if latest == nil {
			latest = t
		}
		if t.carries(quoted) {
			return t
		}
	}
	return latest
}

// without leaves out what is behind the packet in a quote: routers that append
// to it fill it up to 128 bytes first (RFC 4884 section 5.1).
func (t *trace) without(quoted []byte) []byte {
	n := int(t.length) - headLen(t.flow)
	if t.flow.kind == nat.UDP {
		n -= 8
	}
	return quoted[:max(0, min(n, len(quoted)))]
}

// carries says whether a traced UDP packet has this payload, all of it.
func (t *trace) carries(payload []byte) bool {
	payload = t.without(payload)
	head := headLen(t.flow)
	n := 8 + len(payload)
	if int(t.length) != head+n || n > packet.MaxQuote {
		return false
	}
	var b [packet.MaxQuote]byte
	be := binary.BigEndian
	be.PutUint16(b[0:], t.flow.client.Port())
	be.PutUint16(b[2:], t.dst.Port())
	be.PutUint16(b[4:], uint16(n))
	copy(b[8:], payload)
	h := packet.Header{Src: t.flow.client.Addr(), Dst: t.dst.Addr(), Proto: packet.UDP}
	return t.sum == 0 || bodySum(&h, b[:n], 6) == t.sum
}

// trim forgets what was traced.
func (ts *traces) trim() { *ts = traces{} }
