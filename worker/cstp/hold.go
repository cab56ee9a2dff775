package cstp

import "time"

// hold decides when the client's window is held small. Pure: the socket does it.
//
// A client that uploads as fast as it can sends each record as soon as it has made
// it, and pays for the way of a packet through its kernel each time: more than for
// all else it does (openconnect; its one thread is what bounds an upload). If its
// window is closed most of the time, records gather in its kernel and leave as one
// super-segment when the window opens. On a LAN it then sends half as fast again,
// and the server has less to do, too.
//
// Where the way is what bounds the upload it would only make it slower. So it is
// tried: the window is held for a fifth of a second, and stays so only if more
// comes. Every ten seconds that is looked at anew.
type hold struct {
	state  holdState
	since  time.Time // when the span began
	length int       // bytes in it
	before float64   // of the last span, bytes a second; 0: not known
	base   float64   // what came without, bytes a second
	until  time.Time // before it nothing is tried; of held: when it ends
}

type holdState uint8

const (
	free     holdState = iota // the window is the kernel's affair
	settling                  // small from now on: what was on its way still comes
	trying
	held
)

const (
	holdSpan = 100 * time.Millisecond // of one look at the rate
	holdFor  = 10 * time.Second       // until the next try, after one that failed or one that helped
	holdRate = 30e6                   // least rate of an upload that is worth a try, bytes a second
	holdGain = 1.05                   // by which it must grow
	holdSize = 64 << 10               // of the socket's buffer, bytes: SO_RCVBUF
	// holdNear is the round-trip time up to which a window of that size can be
	// enough: 64 KB a millisecond are half a Gbit/s.
	holdNear = time.Millisecond
)

// move is what is to be done with the window.
type move uint8

const (
	stay move = iota
	narrow
	widen
)

// add takes a batch of n bytes. near says whether the client is; it is asked
// before a try.
func (h *hold) add(n int, now time.Time, near func() bool) move {
	h.length += n
	d := now.Sub(h.since)
	if d < holdSpan {
		return stay
	}
	rate := float64(h.length) / d.Seconds()
	h.since, h.length = now, 0
	switch h.state {
	case settling:
		h.state = trying
		return stay
	case trying:
		if rate >= h.base*holdGain {
			h.state, h.until = held, now.Add(holdFor)
			return stay
		}
		h.free(now.Add(holdFor))
		return widen
	case held:
		if rate >= h.base && now.Before(h.until) {
			return stay
		}
		h.free(now)
		return widen
	}
	before := h.before
	h.before = rate
	steady := rate >= holdRate && rate > before*3/4 && before > rate*3/4
	if !steady || now.Before(h.until) || !near() {
		return stay
	}
	h.state, h.base = settling, max(rate, before)
	return narrow
}

// free gives the window back to the kernel; nothing is tried before until.
func (h *hold) free(until time.Time) { h.state, h.before, h.until = free, 0, until }

// small says whether the window is held.
func (h *hold) small() bool { return h.state != free }
