// Package stacktest has the two neighbours of a client's network stack, in
// memory and for tests: a VPN client in front of it and a network behind it.
//
// # Theory of operation
//
//	application ── Client ──Up──▶ Stack.Inject … Network ── scripted hosts
//	             (gVisor)  ◀─Sink─
//
// Client is a second gVisor stack with the client's lease. What its TCP, UDP
// and ICMP send comes out of Up, in batches and from one goroutine; what the
// stack under test writes to its Sink goes in. Between them may stand a real
// tunnel: then Deliver takes the packets that come out of it. The client
// verifies every checksum and length, so a wrong packet shows as a lost one.
//
// Network is an egress.Network whose hosts are functions. Its streams are
// memory (no descriptor, which the stack moves bytes for by Read and Write) or,
// with Sockets set, pairs of loopback TCP sockets (which it splices).
//
// Time may be gVisor's faketime.ManualClock, the same one for Client and stack:
// timers then wait for Advance while packets travel in real time. It is not for
// testing/synctest: gVisor's locks and pools escape its bubble.
//
// # Goroutines
//
// Client: two pumps and gVisor's own. Network: one that delivers datagrams, one
// per connection with a host. All of them end with Close.
package stacktest
