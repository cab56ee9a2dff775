// Package recovery repairs what a lossy way loses between the stack and the
// client, and decides how much may be on that way at once. It stands under
// gVisor's TCP, at the link, and sees every segment that goes down and every
// acknowledgement that comes up.
//
// # Why
//
// gVisor takes each loss for congestion, and each reordering for a loss: with 1 %
// of packets lost on a way of 200 Mbit/s and 40 ms it sends 4 Mbit/s, where a
// kernel that only forwards lets the host's BBR send 172. Its congestion control
// cannot be replaced from outside. But a performance enhancing proxy can stand
// under it (RFC 3135 section 3.1.2, local retransmissions): the stack then sees a
// way that loses nothing.
//
// # Theory of operation
//
// Down, every segment with data is noted before it is sent (Sent): a record per
// super-segment, with a bit for each of its packets, and a reference to its
// memory, which the stack holds anyway. Up, every acknowledgement is read before
// the stack reads it (Received):
//
//	acknowledge   bits are set for what has arrived, cumulatively or selectively
//	model.arrive  how much arrived in which time: rate, round-trip time, and from
//	              them the window of the way
//	findLost      packets sent before one that has arrived, and later than they can
//	              be late, are lost (RACK, RFC 8985)
//	offer         the header is rewritten for the stack: no SACK, and a window of
//	              what the flow may have in flight
//
// Lost packets are given out by Take to a goroutine that may wait for the tunnel
// (netstack/repair.go). The last packet of a flow that is not acknowledged is
// sent once more to provoke an answer (tail loss probe, RFC 8985 section 7); when
// that brings none, a timeout takes everything for lost (RFC 6298). The stack's
// own retransmission is late (three seconds), and what it repeats of what is in our
// care, or with the client, is not sent.
//
// # The window
//
// One model describes the way to the client, for all flows: the best rate of the
// last ten round trips, the least round-trip time of the last ten seconds. What
// may be in flight is what the way holds, and a quarter or ten milliseconds'
// worth more: so much of a queue stands at the bottleneck and no more, and if the
// way gets faster the rate grows by as much each round trip. The terms are BBR's
// (draft-cardwell-iccrg-bbr-congestion-control); other than there a window, not a
// timer, keeps the rate: acknowledgements give the pace, and let go at most twice
// what has arrived or what the way carries in the time since (pace).
//
//	starting   the window doubles each round trip, until packets wait (queued) or
//	           three round trips did not bring more
//	cruising   as above
//	probing    half a window for a round trip, when the round-trip time is old, or
//	           when a queue stands that our own window does not explain: somebody
//	           else's. What is seen then is the round-trip time that counts.
//
// Acknowledgements are late for other reasons than a queue, too: a radio that
// listens elsewhere, a host that is busy. A queue keeps every packet of a round trip
// waiting, a pause does not. As long as some come without delay, the window grows by
// what the others are late on average, less what our own queue explains (judgePauses):
// with no more in flight than the way holds, each pause would leave it idle, and the
// rate would be found to be less each time.
//
// Losses do not narrow the window, unless a round trip loses more than one packet
// in twenty: then there is a ceiling, which is raised again step by step. One in a
// hundred may be the way's, or a queue's that holds less than the window would have
// wait there. So it is tried whether a lower ceiling loses less: if it does not, the
// way loses packets anyhow, and the ceiling goes for ten seconds; if it does, it stays
// for a while and climbs by the clock, not by round trips, which are nothing on a LAN
// (ceiling.go). What is lost of flows is sent again, but beside them are UDP and echo.
//
// Flows share the window: each may have its part, or what the others leave. A packet
// is no burden on the way once it has arrived or is lost, so a hole stops nobody.
//
// Over CSTP nothing is lost on the way, and TCP below has a window of its own. It
// has one here too, wide enough that TCP below has something to send while it
// repairs (model.slack): with the client's own window, megabytes arrive at once at
// a client that reads all of them before it listens to its kernel, whose queue for
// what it answers then overflows, and its newest acknowledgements are lost. That is
// what the probe is for there. Timeouts are long: most likely the channel is slow.
//
// A timeout is put off by news only (RFC 6298 section 5.3): a client's keepalives come
// more often than one that is backed off. On another channel, or when the client has
// moved, backing off begins anew (restart).
//
// # The source
//
// A window is of no use when the stack has nothing to send. Its send buffer holds what
// is not acknowledged, holes and all, and takes nothing more from full until half
// empty; so that it is not what limits a flow, it is large, and the source is held
// back by what has not been sent yet (Ahead).
//
// What the window lets out ends with a whole packet (express).
//
// # Invariants
//
//   - Nothing here waits. Wake and the timer's function are short.
//   - Records of a flow follow each other without gap from una to nxt.
//   - pipe of a flow is the bytes of its packets that are neither got nor lost;
//     the model's is the sum (check in random_test.go).
//   - The stack is never told more of a window than the client offers, and never
//     zero when that is not.
//   - What a client says of packets that were not sent, or that it has already, is
//     not believed; the worst it can do is to its own flows.
//   - A flow that cannot be cared for (no SACK, a gap, too many tiny segments) is
//     left to the stack, whole.
//
// # Costs
//
// Per super-segment one record, from a pool; per acknowledgement a look-up and
// the records it touches; per idle flow the struct. One timer for all flows, and
// none while nothing is in flight.
//
// # Standards
//
// RFC 3135, RFC 2018 and RFC 2883 (SACK, D-SACK), RFC 8985 (RACK-TLP), RFC 6298,
// RFC 7323 section 5.3: a packet that is sent again has the stack's newest
// timestamps, because a client drops what is older than what it has seen.
package recovery
