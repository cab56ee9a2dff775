// Package nat decides what a network address translator decides for UDP and
// ICMP echo: which packets share a mapping, who may answer through it, when it
// ends, and which one makes room. It opens no socket, reads no clock, takes no
// lock and knows nothing of packets; the caller does all that.
//
// # Theory of operation
//
// A Table belongs to one client. Its mappings are found by the client's own
// endpoint (kind, address, port or echo identifier) and carry a value of the
// caller, who keeps a socket behind it: one socket per mapping is one external
// port for all destinations, so mapping is endpoint-independent because
// sockets are.
//
//	up    Lookup(key); if there is none, Add(key, peer, value), which may evict
//	      one. Outbound(m, peer) for every packet: refreshes the mapping and
//	      remembers whom the client speaks to.
//	down  Inbound(m, address) for every packet: is it from somebody the client
//	      spoke to, and what does an answer change.
//	time  Expire(now), about once a second.
//
// A mapping is always in one of five classes, each with its own time-out:
//
//	one-shot   only queries to ports 53 and 123, few, and at least one unanswered
//	answered   the same, all answered: gone almost at once. A resolver that uses
//	           a port per query costs a socket for as long as the query takes
//	one-way    nothing has come back
//	two-way    something has
//	echo       ICMP
//
// Every class is a queue in the order of refreshment, and all mappings of a
// class have the same time-out, so that the first in the queue is the next to
// expire and nothing ever scans. What makes room when a bound is reached is the
// mapping that has least time left, if it has not just been used: within a
// class that is the least recently used, and between classes a one-way flow
// without an answer goes before a conversation.
//
// Filtering needs the addresses a mapping has sent to. Two stand in the mapping
// itself, which is enough for nearly all. The rest of the whole table is in two
// generations of one set: an address moves into the young one whenever it is
// sent to; when the young one is full or has lived for a two-way time-out, it
// becomes the old one and what was old is forgotten.
//
// # Invariants
//
// No more mappings than Limits, each in exactly one queue. Time never runs
// backwards inside a Table: an earlier now counts as the latest seen. Lookup,
// Outbound to a known address, and Inbound do not allocate.
//
// # Goroutines
//
// None; a Table is not safe for concurrent use.
//
// # Security
//
// Everything is bounded by Limits, and every bound that is reached is counted
// in Stats. What comes from the network never prolongs a mapping but once, with
// the first answer, so nobody outside can keep one alive.
//
// # Standards
//
// RFC 4787 (UDP). "Not here" is somebody else's part, named in brackets.
//
//	REQ-1   endpoint-independent mapping        done: TestEndpointIndependentMapping, TestSTUN
//	REQ-2   paired address pooling              no pool: the host has its addresses
//	REQ-3   no port overloading                 by sockets: the kernel gives no port twice
//	REQ-3a  port range                          not followed: an ephemeral port of the host
//	REQ-4   port parity                         not followed: the host chooses
//	REQ-5   at least two minutes                done: TestTimeouts
//	REQ-5a  shorter for well-known ports        done for 53 and 123: TestOneShot
//	REQ-5b  configurable                        done: Limits.Timeouts
//	REQ-5c  five minutes by default             done for two-way: TestTimeouts
//	REQ-6   outbound refresh                    done: TestOutboundRefreshes
//	REQ-6a  inbound refresh (may)               no, but for the first answer: TestInboundRefreshesOnce
//	REQ-7   conflicting addresses               not here [lease]
//	REQ-8   filtering                           address-dependent, or endpoint-independent
//	                                            by nat-filtering = full-cone: TestFiltering,
//	                                            TestFullCone, TestSTUN of test/e2e
//	REQ-9   hairpinning                         not yet: policy denies the host's own addresses
//	REQ-10  no ALGs                             there are none
//	REQ-11  deterministic                       done, but for the bound on remembered addresses:
//	                                            TestAgainstNaive, TestPeersForgotten
//	REQ-12  ICMP does not end a mapping         done [netstack/datagram]: no error ends one
//	REQ-12a, b  ICMP errors passed back         done [netstack/datagram]: TestReportTraced,
//	                                            TestReportUntraced, TestReportRefused
//	REQ-13  too big with DF                     done [netstack/datagram]: TestTooBigMTU, TestDF
//	REQ-14  fragments                           not here [netstack reassembles]
//
// RFC 5508 (ICMP).
//
//	REQ-1   queries permitted                   done for echo: TestEcho
//	REQ-1a  identifiers host-independent        done: TestEndpointIndependentMapping
//	REQ-2   at least 60 seconds                 done: TestTimeouts
//	REQ-3, 4  ICMP errors from outside          done [netstack/datagram]: TestReportTraced
//	REQ-5   ICMP errors from the client         no: ordinary sockets cannot send them
//	REQ-6   errors do not refresh               done: TestReported
//	REQ-7   hairpinning                         not yet
//	REQ-8   prohibited when no mapping          done for policy [netstack/datagram];
//	                                            when resources lack: silence, counted
//	REQ-10  which messages                      echo only
//
// RFC 5382 (TCP). Client TCP ends in the netstack and leaves by a connection of
// the host, so this package has no part in it.
//
//	REQ-1, 2, 3, 4  mapping, filtering          not here: a connection each way, none unsolicited
//	REQ-5   2 h 4 min for idle connections      not here [netstack]
//	REQ-7   no port overloading                 by sockets
//	REQ-8   hairpinning                         not yet
//	REQ-9, 10  ICMP                             not here [the host's TCP]
package nat
