package recovery

import (
	"math"
	"math/bits"
)

const (
	// minReorder is the least the reordering window is, ns.
	minReorder = 1 * ms
	maxReoMult = 16
	// reoRecoveries is for how many recoveries a widened window stays so
	// (RFC 8985 section 6.2 step 4).
	reoRecoveries = 16

	minRTO     = 200 * ms    // as Linux; RFC 6298 section 2.4 allows what is measured
	maxRTO     = 60_000 * ms // backoff is bounded, so that this and what is shifted by it do not overflow
	initialRTO = 1000 * ms   // RFC 6298 section 2.1
	// reliableRTO is the least timeout over a channel that loses nothing.
	reliableRTO = 1000 * ms
	// minPTO is the soonest that more than one packet is probed for: hosts are busy.
	minPTO   = 10 * ms
	ackDelay = 50 * ms // the longest a client delays an acknowledgement: 40 ms in Linux
	// afterTimeout is what a flow may have in flight after a timeout, bytes.
	afterTimeout = 4 * 1400
)

// learnRTT keeps the smoothed round-trip time (RFC 6298 section 2).
func (f *flow) learnRTT(rtt int64) {
	switch {
	case rtt == 0:
	case f.srtt == 0:
		f.srtt, f.rttvar = rtt, rtt/2
	default:
		d := f.srtt - rtt
		if d < 0 {
			d = -d
		}
		f.rttvar += (d - f.rttvar) / 4
		f.srtt += (rtt - f.srtt) / 8
	}
}

// duplicate notes that the client got something twice: the reordering window was
// too narrow, if it was us (RFC 8985 section 6.2 step 4).
func (p *Path) duplicate(f *flow) {
	p.stats.Spurious++
	f.reoLeft = reoRecoveries
	if f.reoSeen && before(f.una, f.reoUntil) {
		return // once in a round trip
	}
	f.reoSeen, f.reoUntil = true, f.nxt
	f.reoMult = min(f.reoMult+1, maxReoMult)
}

// reorder is how much later than others a packet may arrive, ns.
func (p *Path) reorder(f *flow) int64 {
	w := int64(f.reoMult) * p.model.trip.least / 4
	if f.srtt != 0 {
		w = min(w, f.srtt)
	}
	return max(w, minReorder)
}

// findLost marks the packets that must be lost because what was sent later has
// arrived, longer ago than they can be late (RFC 8985 section 6.2 step 5). It
// sets the deadline for those that may yet arrive.
func (p *Path) findLost(f *flow, now int64) {
	f.reoAt = 0
	if !f.known {
		return
	}
	reo := p.reorder(f)
	found := false
	for _, r := range f.sent {
		if r.sentAt > f.rack.sentAt {
			break // and so were those behind it
		}
		fly := r.flying()
		if fly == 0 {
			continue
		}
		if r.resent&fly == 0 { // the usual case: all were sent at one time
			m := fly
			if r.sentAt == f.rack.sentAt {
				m &= r.within(r.seq, f.end)
			}
			if m != 0 {
				found = p.overdue(f, r, m, r.sentAt+f.rtt+reo, now) || found
			}
			continue
		}
		for m := fly; m != 0; m &= m - 1 {
			i := bits.TrailingZeros64(m)
			t := r.sentLast(i)
			if t < f.rack.sentAt || t == f.rack.sentAt && before(r.after(i), f.end) {
				found = p.overdue(f, r, 1<<i, t+f.rtt+reo, now) || found
			}
		}
	}
	if found {
		if f.reoLeft > 0 {
			if f.reoLeft--; f.reoLeft == 0 {
				f.reoMult = 1
			}
		}
		p.enqueue(f)
	}
}

// overdue marks the packets of a mask as lost if their time is over.
func (p *Path) overdue(f *flow, r *record, mask uint64, when, now int64) bool {
	if when > now {
		if f.reoAt == 0 || when < f.reoAt {
			f.reoAt = when
		}
		return false
	}
	p.lose(f, r, mask)
	return true
}

func (p *Path) lose(f *flow, r *record, mask uint64) {
	n := r.bytes(mask)
	r.lost |= mask
	f.pipe -= n
	p.model.pipe -= n
	f.lost += n
	p.model.losses.missing += n
	p.stats.Lost += uint64(bits.OnesCount64(mask))
}

// enqueue puts a flow among those that have something to send again.
func (p *Path) enqueue(f *flow) {
	if !f.due {
		f.due = true
		p.due = append(p.due, f)
	}
}

// rto is the retransmission timeout (RFC 6298 section 2).
func (f *flow) rto() int64 {
	if f.srtt == 0 {
		return min(initialRTO<<f.backoff, maxRTO)
	}
	return min(max(f.srtt+4*f.rttvar, f.srtt+minRTO)<<f.backoff, maxRTO)
}

// pto is when the last packet is sent once more to learn what became of it
// (RFC 8985 section 7.2). A client delays the acknowledgement of a single packet.
func (f *flow) pto() int64 {
	if f.srtt == 0 {
		return initialRTO
	}
	if f.pipe <= int64(f.mss) {
		return 2*f.srtt + ackDelay
	}
	return max(2*f.srtt, f.srtt+4*f.rttvar, minPTO)
}

// reliable says whether what the flow has in flight went by a channel that loses
// nothing. The client itself may lose it, or its own acknowledgements (a full queue
// at its tunnel device): a probe shows that. If none is answered, most likely the
// channel is slow, and nobody is in a hurry.
func (p *Path) reliable(f *flow) bool { return p.model.lossless && f.sent[0].sentAt >= p.since }

// setDeadline sets when the flow needs looking after.
func (p *Path) setDeadline(f *flow, now int64) {
	switch {
	case len(f.sent) == 0:
		f.deadline = math.MaxInt64
		return
	case f.reoAt != 0:
		f.deadline = f.reoAt
	case p.reliable(f) && (f.probed || f.backoff > 0):
		f.deadline = now + max(f.rto(), reliableRTO<<f.backoff)
	case f.probed || f.backoff > 0:
		f.deadline = now + f.rto()
	default:
		f.deadline = now + min(f.pto(), f.rto())
	}
	p.arm(f.deadline)
}

// expired does what a flow's deadline was for.
func (p *Path) expired(f *flow, now int64) {
	switch {
	case f.reoAt != 0:
		p.findLost(f, now)
	case !f.probed && f.backoff == 0:
		p.probe(f)
	default:
		p.timeout(f)
	}
	p.setDeadline(f, now)
}

// probe has the last packet sent once more of which nothing is known.
func (p *Path) probe(f *flow) {
	f.probed = true
	p.stats.Probes++
	for i := len(f.sent) - 1; i >= 0; i-- {
		r := f.sent[i]
		if fly := r.flying(); fly != 0 {
			m := uint64(1) << (bits.Len64(fly) - 1)
			p.lose(f, r, m)
			p.model.losses.missing -= r.bytes(m) // nobody says it is
			p.stats.Lost--
			p.enqueue(f)
			return
		}
	}
}

// timeout takes everything for lost that is not known to have arrived.
func (p *Path) timeout(f *flow) {
	p.stats.Timeouts++
	f.probed = false
	if f.backoff < 8 {
		f.backoff++
	}
	f.limit = afterTimeout
	f.known = false
	for _, r := range f.sent {
		if m := r.flying(); m != 0 {
			p.lose(f, r, m)
		}
	}
	p.enqueue(f)
}
