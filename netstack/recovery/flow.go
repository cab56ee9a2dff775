package recovery

import "encoding/binary"

// state is how far a flow is.
type state uint8

const (
	opening   state = iota // no SYN-ACK was seen
	managed                // its losses are repaired here
	unmanaged              // by the stack
)

// flow is what is known of one connection. Sequence numbers are the host's, that
// is, of what goes to the client.
type flow struct {
	name  Flow
	state state
	shift uint8 // of the window field in the client's segments (RFC 7323)

	first    uint32    // byte of data
	una, nxt uint32    // oldest not acknowledged, next to be sent
	sent     []*record // from una to nxt
	mss      uint32    // bytes of the longest packet yet
	pipe     int64     // bytes in flight
	lost     int64     // bytes to be sent again
	limit    int64     // bytes that may be in flight after a timeout; 0: no limit but the path's

	given uint32 // end of what the stack is known to have, sent or not
	wake  func() // tells the source that the stack wants more; nil: nobody waits

	told  told
	reply reply
	rack
	timing

	busy, due  bool
	next, prev *flow // in Path.busy
}

// told is what the stack was told last.
type told struct {
	ok   bool
	ack  uint32
	edge uint32 // right edge of the window
	at   int64  // when, ns
	aged int64  // when what was unused of it was last cut down, ns
}

// reply is what the stack's own segments said last: what is sent again says it too.
type reply struct {
	said   bool
	ack    uint32
	window uint16  // the field
	stamps [8]byte // timestamps, its and the client's; of a flow without them nothing
	prompt uint32  // ack of the last one that was not late
}

// lateMost is up to how many bytes an acknowledgement of new data may wait: it is
// less than a segment of full size, of which every second one must be acknowledged
// at once (RFC 9293 section 3.8.6.3), and those of a transfer soon.
const lateMost = 1024

// hear takes note of what a segment says, and tells whether it may be late.
func (r *reply) hear(tcp []byte, bare bool) (late bool) {
	if s := stamps(tcp); s != nil {
		r.stamps = [8]byte(s)
	}
	return r.say(be32(tcp[8:]), binary.BigEndian.Uint16(tcp[14:]), bare)
}

// say tells whether a segment may be late: one that says nothing (bare) but that a
// little has arrived. What it says of a window or asks by saying the same again is
// wanted at once.
func (r *reply) say(ack uint32, window uint16, bare bool) (late bool) {
	n := ack - r.prompt
	late = bare && r.said && ack != r.ack && n <= lateMost && window <= r.window
	r.said, r.ack, r.window = true, ack, window
	if !late {
		r.prompt = ack
	}
	return late
}

// timing is when a flow needs looking after.
type timing struct {
	srtt, rttvar int64 // ns; 0: not known
	deadline     int64 // ns
	reoAt        int64 // when a packet is late enough to be lost, ns; 0: none is late
	backoff      uint8 // timeouts in a row
	probed       bool  // a tail loss probe is under way
}

// rack is the newest packet that is known to have arrived, newest by when it was
// sent (RFC 8985 section 5.2).
type rack struct {
	sentAt   int64
	end      uint32
	rtt      int64
	known    bool
	reoMult  uint8  // of the reordering window
	reoUntil uint32 // a duplicate behind this widens the window again
	reoSeen  bool
	reoLeft  uint8 // recoveries until the window is narrow again
}
