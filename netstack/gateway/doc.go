// Package gateway answers what clients send to the gateway address, the first
// address of the pool: ping and DNS.
//
// # Theory of operation
//
// The gateway address exists only inside the tunnel. The switch gives packets
// for it to Inject, all but TCP:
//
//	echo request       the reply, at Flush, fragmented to the tunnel's MTU
//	UDP to port 53     the query goes to the Resolver; the answer leaves when it
//	                   comes, on the goroutine that brings it
//	UDP to other ports ICMP port unreachable, at Flush
//	other protocols    ICMP protocol unreachable, at Flush
//
// TCP ends in the stack, whose forwarder asks DialTCP what a port is connected
// to: port 53 to the resolver itself, the ports of Forwards to the services
// they stand for, nothing else.
//
// With InterceptDNS what clients send to port 53 of other hosts comes here too,
// and is answered in their place: UDP by Inject, TCP by the stack's forwarder.
//
// Answers wait in one buffer from Inject to Flush, so that those to a batch
// leave as a batch, and so that the Sink is not held while packets of the same
// batch go elsewhere and may need it. More than 64 KiB do not wait.
//
// # Invariants
//
// A packet causes at most one answer. Answers go to the packet's source, which
// the worker has compared to the lease, and come from the address it was sent to.
// No lock is held while the Sink blocks.
//
// # Goroutines
//
// None of its own. Inject, Flush and Trim run under the tunnel's up lock; DNS
// replies on any goroutine, also within Inject, when the Resolver answers by
// itself.
//
// # Security
//
// No code path leads from the gateway address to the host but a line of the
// configuration: there is no rewriting of destinations, and the resolver's
// servers and the services of Forwards are the operator's. Fragments,
// source routes and whatever contradicts itself are dropped. ICMP errors are
// limited in number. Inject is fuzzed.
//
// # Standards
//
// RFC 1122 sections 3.2.2.6 and 3.2.2.1, RFC 4443 sections 4.2 and 3.1 to 3.4,
// RFC 1812 section 4.3.2.8; draft-mavrogiannopoulos-openconnect-04 leaves the
// gateway address to the server.
package gateway
