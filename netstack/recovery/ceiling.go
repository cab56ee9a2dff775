package recovery

const (
	// lossMuch is the part of a round trip's packets whose loss means that
	// there is too much in flight, and not that the way loses packets.
	lossMuch = 0.05
	// lossSome is the part from which on it is tried whether less in flight loses less.
	lossSome = 0.01
	// lossSample is how much must have been sent for that to be known, in bytes: 400 packets.
	lossSample = 560_000
	// lossLife is for how long it is known that a way loses packets anyhow, in ns.
	lossLife = 10_000 * ms
	// lossBack is what is left of what was in flight.
	lossBack = 0.85
	// climbEvery is how often the ceiling is raised at most, in ns: a round trip on
	// a LAN is nothing.
	climbEvery = 25 * ms
	// holdRounds is for how many round trips, at least holdLeast, the ceiling stays
	// where it was found to help. Where that is more than holdMost it climbs as it
	// did: a round trip is long enough there. In ns.
	holdRounds = 8
	holdLeast  = 50 * ms
	holdMost   = 400 * ms
)

// losses bounds what is in flight where much is lost.
type losses struct {
	arrived, missing int64 // bytes of this round that arrived, were found lost
	ceiling          int64 // bytes in flight that lost too many; 0: none
	climb            int64 // by how much the ceiling grows next
	climbAt          int64 // and not before, ns
	settling         bool  // what is lost in this round was sent before the ceiling was lowered
	tally
}

// tally is what was lost over several rounds since the ceiling was lowered last, to
// tell a full queue from a way that loses packets: only the former loses less of less.
type tally struct {
	came, gone int64   // bytes that arrived, were found lost
	before     float64 // the part that was lost with more in flight; 0: not on trial
	anyhow     float64 // the part that is lost however much is in flight
	anyhowAt   int64   // when that was seen, ns
}

// judgeLoss lowers the ceiling after a round that lost much, or several that lost
// some, and raises it after those that did not.
func (m *model) judgeLoss(now int64, limited bool) {
	l := &m.losses
	if l.settling {
		l.settling = false
		return
	}
	total := l.arrived + l.missing
	l.came += l.arrived
	l.gone += l.missing
	switch {
	case l.missing > segments/2 && float64(l.missing) > lossMuch*float64(total):
		m.lower(now, total)
		l.before = float64(l.missing) / float64(total)
		if m.phase == starting {
			m.phase = cruising
		}
		return
	case l.came+l.gone >= lossSample:
		part := float64(l.gone) / float64(l.came+l.gone)
		l.came, l.gone = 0, 0
		if l.before != 0 {
			m.endTrial(now, part)
		} else if part > lossSome && (part > l.anyhow || now-l.anyhowAt > lossLife) && m.fills(total) {
			m.lower(now, total)
			l.before = part
			return
		}
	}
	if l.ceiling != 0 && !limited && now >= l.climbAt && (l.before == 0 || l.before > lossMuch) {
		l.ceiling += l.climb
		l.climb *= 2
		l.climbAt = now + climbEvery
		if l.ceiling > 2*m.window {
			l.ceiling = 0
		}
	}
}

// fills says whether the window is what bounds what is in flight; total is what was
// acknowledged or lost in this round.
func (m *model) fills(total int64) bool {
	return m.phase == cruising && max(m.pipe, total) > m.window/4*3
}

// lower sets the ceiling to less than what is in flight; total is what was
// acknowledged or lost in this round.
func (m *model) lower(now, total int64) {
	l := &m.losses
	l.ceiling = max(int64(lossBack*float64(min(m.window, max(m.pipe, total)))), 2*segments)
	l.climb, l.climbAt = segments, now+climbEvery
	l.settling = true
	l.came, l.gone = 0, 0
}

// endTrial sees whether less in flight has lost less.
func (m *model) endTrial(now int64, part float64) {
	l := &m.losses
	switch {
	case part <= l.before/2:
		if hold := max(holdRounds*m.trip.least, holdLeast); hold <= holdMost {
			l.climb, l.climbAt = segments, now+hold
		}
	case l.before <= lossMuch:
		l.anyhow, l.anyhowAt = 2*max(part, l.before), now
		l.ceiling = 0
	}
	l.before = 0
}
