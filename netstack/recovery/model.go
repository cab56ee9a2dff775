package recovery

import "math"

const (
	ms = int64(1e6)

	// rateRounds is for how many round trips a rate is remembered.
	rateRounds = 10
	// rttLife is for how long a round-trip time is, in ns.
	rttLife = 10_000 * ms
	// cruiseGain and minQueue are what may be in flight beyond what the way
	// holds: a quarter of it, or ten milliseconds' worth. It is what finds out
	// that there is more to be had, and what delayed and gathered
	// acknowledgements need.
	cruiseGain = 1.25
	minQueue   = 10 * ms
	// startGain lets the window double each round trip, with some room.
	startGain = 3
	// segments is what may be in flight in any case, in bytes: ten packets of 1400.
	segments = 14000
	// queuedSamples is how many acknowledgements in a row must have waited for
	// the start to end, over no less time than that of the queue: what a pause
	// has held up comes all at once.
	queuedSamples = 16
	// probeEvery is how often one looks for it at most, in ns. While somebody else's
	// queue is not known for one, it takes the rate away that is shared with it.
	probeEvery = 1_000 * ms
	// mostDrain is how long probing waits for what is in flight to become less.
	mostDrain = 1000 * ms
	// mostRoom bounds what is granted to pauses, in ns.
	mostRoom = 200 * ms
	// standing is after how many round trips without one packet that did not
	// wait it is a queue.
	standing = 4
)

// phase is what the model is doing.
type phase uint8

const (
	starting phase = iota // the window doubles until the way is full
	cruising
	probing // for the round-trip time, with half a window
)

// model is what is known of the way to the client: how much it delivers, how long
// it takes, and so how much should be in flight on it, over all flows. Rates are
// in bytes per ns. Its terms are those of BBR
// (draft-cardwell-iccrg-bbr-congestion-control), but it has no pacing: what it
// makes of them is a window, and acknowledgements give the pace.
type model struct {
	lossless bool // see Path.SetLossless

	pipe      int64 // bytes in flight
	window    int64 // bytes that should be at most
	delivered int64 // bytes, ever
	since     int64 // nothing is learned of what was sent before, ns
	sample          // the newest acknowledgement's
	limitedTo int64 // samples up to this many delivered bytes are short of data; 0: none

	phase    phase
	drained  bool  // of probing: no more is in flight than there should be
	phaseEnd int64 // of probing: when it has lasted long enough, or has been waited for that; ns
	round    int64
	roundEnd int64 // the round ends when what is sent after this many delivered bytes arrives

	best   best
	trip   trip
	pauses pauses
	losses losses
}

// best is the best rate of each of the last rounds.
type best struct {
	rates   [rateRounds]float64 // by round modulo
	full    float64             // when it grew last
	stalled int                 // rounds since
}

// trip is what is known of the round-trip time, in ns.
type trip struct {
	least   int64 // 0: not known
	at      int64 // when it was seen
	round   int64 // least of this round; 0: none
	queued  int   // samples in a row that show a queue
	since   int64 // when the first of them came
	crowded int   // rounds in a row with a queue that is not ours
}

// pauses are what makes acknowledgements late besides a queue: radios that listen
// elsewhere, hosts that are busy. In ns.
type pauses struct {
	sum, n int64 // of this round's samples: by how much they exceed the least, how many
	mean   int64 // that, over the last rounds
	high   int   // rounds in a row in which every sample shows a queue
	room   int64 // what may be in flight for their sake, as time
}

func (m *model) reset() {
	*m = model{lossless: m.lossless, pipe: m.pipe, delivered: m.delivered}
	m.setWindow()
}

// restart forgets the way, not what is on it: of that nothing is learned, it may
// stand in a queue that the window of before has made.
func (m *model) restart(now int64) {
	old := *m
	m.reset()
	m.sample = old.sample
	m.roundEnd = m.delivered
	m.since = now
}

// sent notes bytes that are sent and returns what their sample needs.
func (m *model) sent(now, n int64) sample {
	if m.pipe <= 0 {
		m.firstSentAt, m.deliveredAt = now, now
	}
	m.pipe += n
	return sample{delivered: m.delivered, deliveredAt: m.deliveredAt, firstSentAt: m.firstSentAt, limited: m.limitedTo != 0}
}

// rate is the most the way has delivered lately.
func (m *model) rate() (most float64) {
	for _, r := range m.best.rates {
		most = max(most, r)
	}
	return most
}

// slack is how much longer than the least a round trip may take with no more in
// flight than there should be. A channel that loses nothing gives out nothing while
// it repairs a loss, for a round trip or two, and must have enough to send
// meanwhile; what waits for it waits here, and not at the bottleneck.
func (m *model) slack() int64 {
	if m.lossless {
		return 2*m.trip.least + minQueue
	}
	return max(int64((cruiseGain-1)*float64(m.trip.least)), minQueue)
}

// arrival is what one acknowledgement told.
type arrival struct {
	bytes   int64 // newly delivered
	newest  sample
	sentAt  int64 // of the packet newest is of
	rtt     int64 // ns; 0: not known
	backlog bool  // a flow waits for the window, not for data
}

// arrive learns from an acknowledgement.
func (m *model) arrive(now int64, a arrival) {
	m.delivered += a.bytes
	m.deliveredAt = now
	m.losses.arrived += a.bytes
	if m.limitedTo != 0 && m.delivered > m.limitedTo {
		m.limitedTo = 0
	}
	if a.sentAt == 0 || a.sentAt < m.since {
		return
	}
	if a.rtt > 0 {
		m.learnRTT(now, a.rtt)
		m.pauses.sum += a.rtt - m.trip.least
		m.pauses.n++
	}
	if a.newest.delivered >= m.roundEnd {
		m.endRound(now)
	}
	m.firstSentAt = a.sentAt
	took := max(a.sentAt-a.newest.firstSentAt, now-a.newest.deliveredAt)
	if took > 0 && (m.trip.least == 0 || took >= m.trip.least) {
		r := float64(m.delivered-a.newest.delivered) / float64(took)
		if !a.newest.limited || r >= m.rate() {
			slot := &m.best.rates[m.round%rateRounds]
			*slot = max(*slot, r)
		}
	}
	if m.phase == starting && m.trip.queued >= queuedSamples && now-m.trip.since >= m.slack() {
		m.phase = cruising // the way is full: what is sent beyond it waits
	}
	if !a.backlog && m.pipe < m.window {
		m.limitedTo = max(m.delivered+m.pipe, 1)
	}
	m.setWindow()
	if m.phase == probing && !m.drained && (m.pipe <= m.window || now >= m.phaseEnd) {
		m.drained, m.phaseEnd = true, now+m.trip.least+minQueue
		m.roundEnd, m.trip.round = m.delivered, 0
	}
}

func (m *model) learnRTT(now, rtt int64) {
	if m.trip.least != 0 && rtt > m.trip.least+m.slack() {
		if m.trip.queued++; m.trip.queued == 1 {
			m.trip.since = now
		}
	} else {
		m.trip.queued = 0
	}
	if m.trip.round == 0 || rtt < m.trip.round {
		m.trip.round = rtt
	}
	if m.trip.least == 0 || rtt <= m.trip.least {
		m.trip.least, m.trip.at = rtt, now
	}
}

// endRound looks at the round trip that is over.
func (m *model) endRound(now int64) {
	limited := m.limitedTo != 0
	m.judgeLoss(now, limited)
	m.judgePauses(limited)
	switch m.phase {
	case starting:
		m.checkFull(limited)
	case cruising:
		m.checkRTT(now)
	case probing:
		if m.drained && now >= m.phaseEnd && m.trip.round > 0 {
			m.trip.least, m.trip.at = m.trip.round, now
			m.phase, m.trip.crowded = cruising, 0
			m.pauses = pauses{}
		}
	}
	m.round++
	m.roundEnd = m.delivered
	if !limited || m.rate() == 0 {
		m.best.rates[m.round%rateRounds] = 0
	} else {
		// A round with little to send says nothing against what was known.
		m.best.rates[m.round%rateRounds] = m.best.rates[(m.round-1)%rateRounds]
	}
	m.trip.round, m.losses.arrived, m.losses.missing = 0, 0, 0
}

// checkFull ends the start when three round trips did not bring more.
func (m *model) checkFull(limited bool) {
	if limited {
		return
	}
	if r := m.rate(); r > m.best.full*cruiseGain {
		m.best.full, m.best.stalled = r, 0
		return
	}
	if m.best.stalled++; m.best.stalled >= 3 {
		m.phase = cruising
	}
}

// checkRTT begins a look at the round-trip time without our queue, when what is
// known of it is old or cannot be true any more: what waits is more than what our
// window explains.
func (m *model) checkRTT(now int64) {
	explained := m.slack()*3/2 + int64(segments/max(m.rate(), 1e-6))
	if m.trip.round > m.trip.least+explained {
		m.trip.crowded++
	} else {
		m.trip.crowded = 0
	}
	age := now - m.trip.at
	if m.trip.crowded >= 8 && age > probeEvery || age > rttLife {
		m.phase, m.drained = probing, false
		m.phaseEnd = now + mostDrain
	}
}

// judgePauses grants room for the time by which acknowledgements are late on
// average, as long as some are not: a queue would keep all of them waiting. With
// what the way holds and no more, each pause would leave it idle, and what it then
// delivers would be taken for its rate.
func (m *model) judgePauses(limited bool) {
	j := &m.pauses
	if j.n > 0 {
		j.mean += (j.sum/j.n - j.mean) / 4
	}
	j.sum, j.n = 0, 0
	switch {
	case m.phase != cruising || m.trip.round == 0:
	case m.trip.round > m.trip.least+m.slack():
		if j.high++; j.high >= standing {
			j.room -= j.room / 4
		}
	default:
		j.high = 0
		if !limited && m.trip.round <= m.trip.least+m.slack()/2 {
			// By as much as the slack all are late: it is our own queue.
			j.room += (min(max(j.mean-m.slack(), 0), mostRoom) - j.room) / 4
		}
	}
}

// setWindow computes what may be in flight.
func (m *model) setWindow() {
	rate := m.rate()
	if rate == 0 || m.trip.least == 0 {
		m.window = 4 * segments
		return
	}
	holds := rate * float64(m.trip.least)
	var w float64
	switch m.phase {
	case starting:
		w = startGain*holds + 2*segments
	case cruising:
		w = holds + rate*float64(m.slack()+m.pauses.room) + segments/2
	case probing:
		// What the way holds by what it delivered last: the best may be history.
		w = m.best.rates[(m.round+rateRounds-1)%rateRounds] * float64(m.trip.least) / 2
	}
	m.window = int64(min(max(w, segments), math.MaxInt32))
	if m.losses.ceiling != 0 && m.window > m.losses.ceiling {
		m.window = m.losses.ceiling
	}
}
