package recovery

import "math/bits"

// maxPackets is how many packets one record describes, a bit each.
const maxPackets = 64

// maxRecords bounds what is kept of one flow. A flow of that many tiny segments
// is left to the stack.
const maxRecords = 8192

// record is up to 64 packets of one flow that were sent at the same time and
// follow each other.
type record struct {
	seg   *source
	first int    // packet of seg it begins with
	n     int    // packets
	seq   uint32 // of the first byte
	end   uint32 // after the last, FIN included
	mss   uint32 // bytes of each packet but the last

	// Bits, the first packet's being the lowest.
	got    uint64 // the client has it
	lost   uint64 // waits to be sent again
	resent uint64 // was sent again, the last of them at resentAt

	sentAt, resentAt int64 // ns
	sample
}

// sample is what delivery was at when a packet was sent
// (draft-cheng-iccrg-delivery-rate-estimation section 3).
type sample struct {
	delivered   int64 // bytes
	deliveredAt int64 // ns
	firstSentAt int64 // ns
	limited     bool  // there was nothing more to send
}

// all is the mask of the record's packets.
func (r *record) all() uint64 { return ^uint64(0) >> (maxPackets - r.n) }

// flying is the mask of the packets under way.
func (r *record) flying() uint64 { return r.all() &^ r.got &^ r.lost }

// length is the bytes of sequence space of packet i.
func (r *record) length(i int) uint32 {
	if i == r.n-1 {
		return r.end - r.seq - uint32(i)*r.mss
	}
	return r.mss
}

// bytes is the sequence space of the packets of a mask.
func (r *record) bytes(mask uint64) int64 {
	if mask == 0 {
		return 0
	}
	n := int64(bits.OnesCount64(mask)) * int64(r.mss)
	if mask>>(r.n-1)&1 != 0 {
		n += int64(r.length(r.n-1)) - int64(r.mss)
	}
	return n
}

// within is the mask of the packets that lie in [from, to).
func (r *record) within(from, to uint32) uint64 {
	if !before(from, r.end) || !before(r.seq, to) {
		return 0
	}
	first, last := uint32(0), uint32(r.n)
	if before(r.seq, from) {
		first = (from - r.seq + r.mss - 1) / r.mss
	}
	if before(to, r.end) {
		last = (to - r.seq) / r.mss
	}
	if first >= last {
		return 0
	}
	return r.all() >> (uint32(r.n) - (last - first)) << first
}

// after is the sequence number behind packet i.
func (r *record) after(i int) uint32 {
	if i == r.n-1 {
		return r.end
	}
	return r.seq + uint32(i+1)*r.mss
}

// sentLast is when packet i was sent the last time.
func (r *record) sentLast(i int) int64 {
	if r.resent>>i&1 != 0 {
		return r.resentAt
	}
	return r.sentAt
}

// spare is what was used and waits to be used again.
type spare struct {
	records []*record
	sources []*source
}

// source is a segment that records refer to.
type source struct {
	Segment
	records int
}

func (p *Path) hold(s Segment) *source {
	var h *source
	if n := len(p.spare.sources); n > 0 {
		h, p.spare.sources = p.spare.sources[n-1], p.spare.sources[:n-1]
	} else {
		h = new(source)
	}
	payload := append(h.Payload[:0], s.Payload...)
	h.Segment = s
	h.Payload = payload
	return h
}

func (p *Path) newRecord(h *source) *record {
	h.records++
	if n := len(p.spare.records); n > 0 {
		r := p.spare.records[n-1]
		p.spare.records = p.spare.records[:n-1]
		r.seg = h
		return r
	}
	return &record{seg: h}
}

// spareRecords is how many records are kept for the next segments.
const spareRecords = 256

// release gives back a record, and with the last one the segment.
func (p *Path) release(r *record) {
	h := r.seg
	*r = record{}
	if len(p.spare.records) < spareRecords {
		p.spare.records = append(p.spare.records, r)
	}
	p.drop(h)
}

// drop ends one use of a segment.
func (p *Path) drop(h *source) {
	if h.records--; h.records > 0 {
		return
	}
	h.Owner.DecRef()
	clear(h.Payload)
	h.Segment = Segment{Payload: h.Payload[:0]}
	if len(p.spare.sources) < spareRecords {
		p.spare.sources = append(p.spare.sources, h)
	}
}
