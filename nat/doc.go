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
// A UDP mapping is a local port of the host, and those are for all clients of
// the host together. Where LimitPorts says so, a table uses no more than it was
// granted. It asks in blocks, before it needs them, and gives back what it has
// not needed for a while; who grants them is the caller's matter. Asking takes
// no flow any time: see credit. Without ports a table is as full as with all
// mappings of Limits.
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
// What each requirement means here, and the test that shows it. "Not here" is
// somebody else's part, named in brackets; test/house knows that the tests exist.
// What others stumbled over, and odd packets, are in doc/nat.md.
//
// RFC 4787 (UDP).
//
//	REQ-1   endpoint-independent mapping        done: TestEndpointIndependentMapping, TestSTUN
//	REQ-2   paired address pooling              no pool: the host has its addresses
//	REQ-3   no port overloading                 by sockets, the kernel gives no port twice: TestOneSocketForOnePort
//	REQ-3a  port range                          not followed: an ephemeral port of the host
//	REQ-4   port parity                         not followed: the host chooses
//	REQ-5   at least two minutes                done: TestTimeouts
//	REQ-5a  shorter for well-known ports        done for 53 and 123: TestOneShot
//	REQ-5b  configurable                        done, Limits.Timeouts: TestTimeouts
//	REQ-5c  five minutes by default             done for two-way: TestTimeouts
//	REQ-6   outbound refresh                    done: TestOutboundRefreshes
//	REQ-6a  inbound refresh (may)               no, but for the first answer: TestInboundRefreshesOnce
//	REQ-7   conflicting addresses               the client's side is a tunnel with an address of
//	                                            its own: TestSourceThatIsNotTheLeaseIsDropped
//	REQ-8   filtering                           address-dependent, or endpoint-independent
//	                                            by nat-filtering = full-cone: TestFiltering,
//	                                            TestFullCone, TestSTUN of test/e2e
//	REQ-9   hairpinning                         no: the host's own addresses are of the hard tier,
//	                                            and so are our external endpoints: TestVerdicts
//	REQ-10  no ALGs                             there are none: TestUDPThereAndBack
//	REQ-11  deterministic                       done, but for the bound on remembered addresses:
//	                                            TestAgainstNaive, TestPeersForgotten
//	REQ-12  ICMP does not end a mapping         done: TestReported, [egress] TestErrorsDoNotBreak
//	REQ-12a, b  ICMP errors passed back         done [netstack/datagram]: TestReportTraced,
//	                                            TestReportUntraced, TestReportRefused
//	REQ-13  too big with DF                     done [netstack/datagram]: TestTooBigMTU, TestDF
//	REQ-14  fragments, in any order             done [netstack]: TestReassembly,
//	                                            TestFragmentsThroughStack, TestFragmentsDown
//
// RFC 5508 (ICMP).
//
//	REQ-1   queries permitted                   done for echo: TestEcho
//	REQ-1a  identifiers host-independent        done: TestEndpointIndependentMapping
//	REQ-2   at least 60 seconds                 done: TestTimeouts
//	REQ-3, 4  ICMP errors from outside          done [netstack/datagram]: TestReportTraced,
//	                                            TestReportUntraced; [egress] TestManyReports
//	REQ-5   ICMP errors from the client         no: ordinary sockets cannot send them; counted:
//	                                            TestOddPackets of worker
//	REQ-6   errors do not refresh               done: TestReported
//	REQ-7   hairpinning                         no, as RFC 4787 REQ-9
//	REQ-8   prohibited when no mapping          done for policy and for ping sockets that the host
//	                                            forbids: TestEchoPolicy, TestPingForbidden; when
//	                                            resources lack silence, counted: TestDescriptorsRunOut
//	REQ-9   address of ICMP errors of ours      the gateway's: TestTTL, TestUnknownProtocol
//	REQ-10  which messages                      echo, and errors about what the client sent;
//	                                            nothing else: TestIgnored
//	REQ-11  destination unreachable             a host's unreachable codes as the host said them:
//	                                            TestReportRefused, [egress] TestReportUnreachable
//
// RFC 5382 (TCP). Client TCP ends in the netstack and leaves by a connection of
// the host, so this package has no part in it; tests are netstack's.
//
//	REQ-1   endpoint-independent mapping        no: a connection each way, with a port of its own
//	REQ-2   all valid sequences of packets      those of a host: TestUnknownSegments, TestPortReuse;
//	                                            no simultaneous open, as nobody can open to us
//	REQ-3, 4  filtering, unsolicited SYNs       none comes in: there is no listening socket
//	REQ-5   2 h 4 min for idle connections      for ever, while the client answers keepalive:
//	                                            TestKeepalive
//	        4 min for half-open and half-closed done: TestHalfClosedIdle; handshakes are bounded by
//	                                            the client's own patience: TestHandshakeBounded
//	REQ-6   no ALGs                             there are none: TestDownload, TestUpload
//	REQ-7   no port overloading                 by sockets
//	REQ-8   hairpinning                         no, as RFC 4787 REQ-9
//	REQ-9   ICMP errors                         about our SYN in the router's words: TestDialReported;
//	                                            later ones are the host's TCP's
//	REQ-10  ICMP does not end a connection      the host's TCP keeps to RFC 1122 section 4.2.3.9;
//	                                            the client's errors do nothing: TestOddPackets
package nat
