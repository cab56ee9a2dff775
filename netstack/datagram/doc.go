// Package datagram carries a client's UDP and ICMP echo between its packets and
// ordinary sockets, beside the network stack that its TCP goes through. A stack
// of its own would cost more per packet than the kernel does, and would give
// each destination another port; here a packet is a header to read and a
// payload to send.
//
// # Theory of operation
//
// A Relay serves one client. What shares a socket, who may answer and when a
// socket is closed is decided by nat.Table; where sockets come from and which
// destinations are allowed, by egress.Network.
//
// Up, a packet of the client:
//
//	Inject   read and verify it → may it go there? → its flow, made if there is
//	         none (a mapping and a socket) → the payload, where it lies in the
//	         packet, is put to the others of that flow
//	Flush    one Send for each flow of the batch (one system call for up to 64
//	         datagrams), and the batch's counters
//
// Down, what a socket received:
//
//	Receive  admit: whom did the client speak to (one turn of the lock for the
//	         batch) → deliver: headers, payload and checksum are written where
//	         the Sink wants the packet, one batch of the Sink for each call; what
//	         is longer than the tunnel's MTU is cut into fragments
//
// Report, too, is from the network: what a router or host has said about a
// datagram (report.go). It is said to the client as if it had been about his own
// packet: from who said it, with the same type and code, quoting the client's
// packet. Sockets quote what is behind the UDP header, or the ICMP message; the
// rest is the flow's. Of packets with few hops the headers are remembered (the
// latest 64), because programs that trace a route know them by their fields.
//
// Every UDP flow is a local port of the host. With Config.Ports the relay asks
// for them, by Say, before it is in need, and goes on meanwhile.
//
// What is refused is answered truthfully, with an ICMP error that quotes the
// packet: prohibited by policy (or by the host, for ping), unreachable, too big,
// time to live used up, no such protocol. It comes from the gateway's address,
// or from the destination where that is what a destination says. What cannot be
// helped (no port, no descriptor, rate limits) is counted and not answered: the
// client tries again. Answers are given to the Sink by a goroutine that lives
// as long as there are any.
//
// Defined cases: an empty payload is a datagram like any other, both ways. UDP
// checksum zero is no checksum in IPv4 and an error in IPv6. Port zero, lengths
// that contradict each other, fragments, source routes and IPv4-mapped
// destinations are malformed; a wrong checksum of the IP header, of UDP or of
// ICMP is counted apart. IP options and extension headers that are no source
// route go no further.
//
// A packet's time to live is one hop less when it leaves; from 60 on it is not
// kept, because the host's default costs nothing and nobody can tell.
// What must not be cut (DF, and IPv6) leaves whole or not at all; what the
// client sent in fragments, in IPv6 too, may be cut again.
//
// # Invariants
//
// Packets given to Inject are referenced until Flush returns, not copied, and
// never afterwards. A flow is in the table or gone, never back; a socket that
// is gone is closed once, after the batch that may still use it. An idle flow
// is a mapping, a struct and a kernel socket: it has no buffer and no goroutine.
// On the steady path nothing is allocated.
//
// # Goroutines and locks
//
// The relay has none but the one that says answers, while there are any.
//
//	up lock   the caller's: Inject and Flush, and with them everything in up
//	Relay.mu  the table, flows' ends, counters
//
// The order is up lock, Relay.mu, nothing: under Relay.mu neither the Network
// nor the Sink is called. Receive, which waits for the Sink for as long as the
// client does not read, holds no lock meanwhile, so Inject, Tick and Close go
// on; and Inject and Flush never wait for the Sink. A Network's Send and Close
// must not wait for a Receiver; Report, which Send may call, waits for nothing.
//
// # Security
//
// Every packet of the client is parsed by package packet, which is fuzzed, as
// is Inject. The policy is asked before a mapping or a socket is made, and by
// Send again. No answer goes to fragments, multicast or errors. Sockets,
// creation of sockets, answers and remembered addresses are bounded by Limits;
// what is logged is logged once.
//
// # Standards
//
// RFC 768, RFC 792, RFC 4443, RFC 8200; RFC 4787 and RFC 5508 as package nat
// tells; RFC 1812 sections 4.3.2 and 5.3.1; RFC 1191.
package datagram
