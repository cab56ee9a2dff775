package recovery

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

	una, nxt uint32    // oldest not acknowledged, next to be sent
	sent     []*record // from una to nxt
	mss      uint32    // bytes of the longest packet yet
	pipe     int64     // bytes in flight
	lost     int64     // bytes to be sent again
	edge     uint32    // right edge of the window the stack was told
	ackTold  uint32    // with this acknowledgement
	pacedAt  int64     // when it was let send last, ns
	edged    bool      // both mean something
	ack      uint32    // what the stack acknowledged last
	window   uint16    // what it offered last, the field
	limit    int64     // bytes that may be in flight after a timeout; 0: no limit but the path's

	rack
	srtt, rttvar int64 // ns; 0: not known
	deadline     int64 // when to look after it, ns
	reoAt        int64 // when a packet is late enough to be lost, ns; 0: none is late
	backoff      uint8 // timeouts in a row
	probed       bool  // a tail loss probe is under way

	busy, due  bool
	next, prev *flow // in Path.busy
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
