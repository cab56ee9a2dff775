package recovery

import "encoding/binary"

// backlogged says whether the flow has filled the window it was given.
func (p *Path) backlogged(f *flow) bool {
	return f.told.ok && f.told.edge-f.nxt < 2*f.mss || f.lost > 0
}

// offer writes the window into the header that the stack is to believe, and
// says whether it differs from what it was told before.
func (p *Path) offer(f *flow, tcp []byte, ack uint32, now, pace int64) bool {
	field := binary.BigEndian.Uint16(tcp[14:])
	edge := ack + uint32(field)<<f.shift
	may := uint32(p.may(f, now, pace))
	may -= may % f.mss
	if field != 0 && before(f.nxt+may, edge) {
		ack, field = f.express(ack, f.nxt+may)
		edge = ack + uint32(field)<<f.shift
		binary.BigEndian.PutUint32(tcp[8:], ack)
		binary.BigEndian.PutUint16(tcp[14:], field)
	}
	changed := !f.told.ok || f.told.edge != edge || f.told.ack != ack
	f.told.edge, f.told.ack, f.told.ok = edge, ack, true
	return changed
}

// express says up to where the stack may send, in the header's terms. The field counts
// in units that no packet is a multiple of, and the stack fills a window to its last
// byte: rounded down it would end each super-segment with a packet that is not whole.
// So rather a little less is acknowledged; the rest is with the next one, which comes
// as long as something is in flight.
func (f *flow) express(ack, edge uint32) (uint32, uint16) {
	unit := uint32(1) << f.shift
	units := (edge - ack + unit - 1) >> f.shift
	less := edge - units<<f.shift
	if ack != f.nxt && unit < f.mss && f.told.ok && !before(less, f.told.ack) {
		return less, uint16(units)
	}
	return ack, uint16(max(edge-ack, unit) >> f.shift)
}

// pace is how many bytes may leave because so many have arrived: twice as many,
// as in slow start (RFC 5681 section 3.1), or what the way is known to carry in
// the time since the last were let go. Else what a repaired hole releases would
// leave in one burst.
func (p *Path) pace(f *flow, now, arrived int64) int64 {
	since := min(now-f.told.at, minQueue)
	f.told.at = now
	return max(2*arrived, int64(cruiseGain*p.model.rate()*float64(since)))
}

// may is how many bytes of new data the flow may send, with pace more than it was
// allowed before.
func (p *Path) may(f *flow, now, pace int64) int64 {
	unused := int64(0)
	if f.told.ok && before(f.nxt, f.told.edge) {
		unused = int64(f.told.edge - f.nxt)
	}
	// What the stack has left unused is old after a while.
	if now-f.told.aged > minQueue {
		f.told.aged = now
		unused = min(unused, max(2*segments, int64(p.model.rate()*float64(minQueue))))
	}
	most := max(unused+pace, segments-f.pipe)
	return max(min(p.share(f)-f.pipe-f.lost, most), 0)
}

// share is how much a flow may have in flight: its part of the window, or what
// the others leave of it.
func (p *Path) share(f *flow) int64 {
	w := p.model.window
	n := int64(max(p.active, 1))
	if !f.busy {
		n = int64(p.active + 1)
	}
	s := max(w/n, w-(p.model.pipe-f.pipe))
	s = max(s, segments)
	if f.limit != 0 {
		s = min(s, f.limit)
	}
	return s
}
