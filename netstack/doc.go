// Package netstack is the end of a client's TCP connections: an in-process
// gVisor stack between the packets of one VPN client and the streams of an
// egress.Network.
//
// # Theory of operation
//
// The client's TCP believes it talks to the host. It talks to an endpoint of
// ours that answers for every address; the host talks to a socket of ours; in
// between, bytes are moved. UDP and ICMP do not come here, but for fragments:
// they have their own relay beside the stack (netstack/datagram).
//
// Up, a batch of packets in the order of the files:
//
//	Inject        parse; fragments are put together (fragments.go); SYNs are
//	              judged before anything is allocated for them (admit)
//	recovery      reads what they acknowledge, and hides from gVisor what was lost
//	gro           segments of a flow that follow each other become one, copied
//	              once, under a plain IP header of ours
//	gVisor        finds the endpoint and wakes its processor goroutine, once per
//	              batch; or finds none and asks the hook (unclaimed)
//	flow.up       ep.Read → write(2) on the host's socket, out of the stack's
//	              own memory (splice_raw.go), or Write on a stream (splice_stream.go)
//
// Down:
//
//	flow.down     waits for the socket; read(2) → ep.Write, when the endpoint has
//	              room and little that it has not sent yet (feed.go)
//	gVisor        makes super-segments of up to 60000 bytes
//	recovery      takes note of them: what the way to the client loses is sent again
//	              from here (repair.go, netstack/recovery), not by gVisor
//	link          cuts them into packets, straight into the tunnel's memory: one
//	              copy, all checksums, one batch of the Sink per super-segment;
//	              an acknowledgement of a little lets go first what it acknowledges
//	              (late.go)
//
// A SYN: policy, limits (forward.go: admit; table.go: room) → dial → SYN-ACK →
// move. The host is dialled first, so a refusal is a RST to the client, an
// unreachable host an ICMP error, a prohibition "administratively prohibited",
// and a timeout silence, which is what the network says in each case. What
// a router said about our SYN is passed on in its words; a SYN with few hops left
// leaves with one less, so that a trace by TCP works. The
// client's repeated SYNs do not dial again; when they stop, or it sends RST,
// the dial ends.
//
// The end: a FIN is passed on when everything before it has been, and each
// direction ends by itself; a RST of either side resets the other. A half-closed
// flow that is silent for four minutes ends. A client that is gone is found by
// keepalive, retransmission or the handshake's limit.
//
// gVisor's forwarder is used for the one thing that only it can do, making an
// endpoint of a SYN. Its own limit, which swallows SYNs without a word, is out
// of reach: the table counts dials and handshakes, gives the place of an old
// dial to a new one, and bounds what one destination can take.
//
// # Invariants
//
//   - Inject waits for nobody: not for the Sink, not for a host, not for an
//     endpoint's lock. What it has to say itself (RST, ICMP) goes through a small
//     ring that a goroutine empties. So the goroutine that reads the tunnel goes
//     on whatever happens to the one that writes it.
//   - Down waits for the client and never drops: endpoint → link → Sink blocks,
//     with the endpoint's lock held. Whoever takes an endpoint's lock may
//     therefore wait as long as the tunnel does. Flows, AppendFlows, Stats and
//     SetMTU take none.
//   - When the Sink is closed every writer returns. The worker closes it first,
//     then the stack.
//   - While the Sink blocks, flows are frozen, not dying: an endpoint whose timer
//     fires waits like everybody else.
//   - Every byte that waits is bounded: send and receive buffers of all flows
//     together by the budget, reassembly by its own constants, dials by their
//     number. An idle flow holds no buffer of ours.
//   - After Retire no flow begins, and those there are do not notice.
//   - A flow is in the table from its first SYN until its goroutines are gone and
//     its endpoint is closed, TIME-WAIT included: so long packets for it must
//     come here.
//
// # Goroutines
//
// gVisor: one processor per GOMAXPROCS. Ours: per dial one; per flow one for
// down, and one for up while there is something to move; one while the ring of
// answers is not empty; one that sends again what was lost, and what is late, from
// the first flow on.
// Close waits for all of them.
//
// # Costs
//
// An idle flow is about 8 KiB (TestIdleFlowMemory), an idle stack about 140
// KiB (TestIdleStackMemory). Per packet nothing is allocated in either
// direction (TestInjectAllocates, TestWriteAllocates).
//
// # gVisor, as we use it
//
// No RACK (TCPRecovery 0), Reno, a retransmission timeout of at least three
// seconds: losses are netstack/recovery's affair, and gVisor sees a way that loses
// nothing. SACK, so that clients offer it, and no Nagle. Receive buffers grow by ModerateRecvBuf, which whoever reads
// has to call. TIME-WAIT is 5 s: the only path is the tunnel. Received checksums
// are not verified (see link.Capabilities). gVisor sets room aside for SACK blocks in
// each segment, and is told of longer ones therefore (options.go).
//
// Of gVisor's contracts these are easily broken: ep.Write spins if a Payloader
// says io.EOF before it is empty; ep.Read panics on a short write without error
// and holds the endpoint's lock during it; PullUp on a shared chunk copies the
// chunk; Buffer.Append fills the previous View. Reaching the error state, an
// endpoint tells the reason to the first who asks only.
//
// # Security
//
// Everything Inject reads is the client's; it is fuzzed (FuzzInject,
// FuzzFragments). gVisor sees TCP under plain headers: no IP options, no
// extension headers, no fragments. Source routes are dropped, eight-byte
// segments are not made. Every destination is judged by egress.Network.Check on
// its SYN, and by DialTCP again. What a client can make of the stack harms its
// own worker only, and Limits bound it: a flood of SYNs to silent hosts costs
// Limits.Dials goroutines and sockets.
//
// # Standards
//
// RFC 9293 (TCP), RFC 1122 section 4.2, RFC 6691 (MSS and options), RFC 7323, RFC
// 2018, RFC 6298; RFC 5382 (NAT behaviour: REQ-5 timeouts; the mapping is the host's
// socket); RFC 1812 section 4.3 and RFC 4443 (ICMP errors, their rate); RFC 1191, RFC
// 8201 (path MTU); RFC 791, RFC 8200 section 4.5, RFC 5722 (reassembly); RFC 7126, RFC
// 5095 (source routes). Not kept: ECN (gVisor), the 60 s of reassembly.
package netstack
