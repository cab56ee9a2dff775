// Package egress is the only code that opens sockets for clients: the policy
// that judges every destination, and the host's sockets (Direct).
//
// # Theory of operation
//
// A Network is a way out; Direct is the one of the host's own sockets. It asks
// its Policy first, always and itself, whatever its caller has asked before:
//
//	DialTCP   Check → socket, TCP_NODELAY → connect(2) without blocking → a
//	          stream in Go's poller. The waiting goroutine is parked; ctx wakes
//	          it through a write deadline.
//	OpenUDP   an unconnected, non-blocking socket: one port towards all
//	OpenPing  destinations (RFC 4787 REQ-1). Its descriptor goes into the
//	          poller.
//	Send      each message's destination → Check, unless it is the last one's
//	          under the same rules → one sendmmsg(2) for up to 64 messages, in
//	          which a run to one destination is one UDP_SEGMENT message.
//	Receive   the poller's goroutine: one recvmmsg(2) of up to 32 datagrams into
//	          buffers that all sockets share → the socket's Receiver.
//
//	Report    the socket's error queue (IP_RECVERR), where the kernel puts what
//	          ICMP says about its datagrams → the socket's Receiver. The same
//	          queue of a TCP socket says why a connect(2) failed: ReportError.
//
// A message with DF leaves whole, whatever the host has heard of the path
// (IP_PMTUDISC_PROBE), without it the kernel cuts what is too long. The option
// is the socket's, so it is set when it changes from one message to the next.
//
// The poller has an epoll instance of its own, and the descriptor of that
// instance is in Go's poller. So one goroutine serves thousands of sockets, an
// idle socket is a struct of 200 bytes and a descriptor, no thread sleeps in
// epoll_wait, and no timer is involved. A round gives each ready socket one
// turn of one batch; who has more waits for the next round, behind others.
//
// # Invariants
//
// Nothing here blocks a thread, but for a Receiver that blocks the poller's
// goroutine: then datagrams wait in their sockets, whose buffers bound them.
// A descriptor is closed under the lock that system calls on it hold, so its
// number cannot be given away under one of them; and the numbers by which epoll
// names sockets are never used twice, so an event on its way finds its own
// socket or none. Closing a socket waits for nobody.
// Sending and receiving allocate nothing; nor does a verdict.
//
// # Goroutines
//
// One for each Direct, from its first packet socket to Close. Receive runs on
// it. DialTCP runs on its caller's.
//
// # Costs
//
// Measured on two shared vCPUs (AMD EPYC, Linux 6.18, Go 1.26, loopback, 64 B
// payload, medians of five, GOMAXPROCS=1), in ns for each datagram, no
// allocations:
//
//	                              batch 1     8    32
//	send, connected                  3833  2787  2559
//	send, unconnected                4392  3198  3089
//	send, unconnected, runs             -   860   460
//	receive, connected               3067     -   746 (128 queued)
//	receive, unconnected             3043     -   605 (128 queued)
//
// A system call that does nothing is 170 ns there. So an unconnected socket
// costs 0.4 to 0.55 µs more up, for the route lookup, and nothing down; where
// datagrams come in runs, UDP_SEGMENT takes that away. The hybrid would be to
// bind and connect a socket while it has one destination. It is not done: the
// kernel would drop what other peers of an endpoint-independent mapping send,
// and refuse them by ICMP, and dissolving the connection loses the port unless
// it was bound first.
//
// DialTCP against net.Dialer (connect, close with a reset): 48.7 to 51.5 µs of
// CPU, 440 to 860 bytes; system calls it does not make are SO_BROADCAST,
// getsockopt, getsockname and getpeername.
//
// # Security
//
// Policy is a control for clients. It runs in the worker, so it does not stand
// against a worker that has been taken over; doc/security.md names what does.
// It judges the final address, and of IPv6 addresses that stand for IPv4 ones
// the address inside as well: v4-mapped, v4-compatible, NAT64, 6to4, and both
// addresses of Teredo. Of the local-use NAT64 prefix all readings must be
// allowed, because the network does not tell which is meant.
// Ports and echo identifiers on the host's side are the kernel's choice, random,
// never the client's, and no two clients share one.
// Nothing rewrites a destination. Only DNS upstreams, which are configuration,
// bypass the policy; a socket without one is connected.
//
// The system calls are: socket (AF_INET, AF_INET6; SOCK_STREAM, SOCK_DGRAM with
// UDP, ICMP, ICMPv6), connect, setsockopt, getsockopt, getsockname, shutdown,
// fcntl(F_GETFL, F_SETFL), read, write, sendmmsg, recvmmsg, recvmsg, epoll_create1,
// epoll_ctl, epoll_pwait, mmap, munmap, madvise, getrandom, close.
//
// # What is not here yet
//
// UDP_GRO on receiving sockets. The extensions of ICMP errors (RFC 4884,
// IP_RECVERR_RFC4884).
//
// # Standards
//
// RFC 6890 and the RFCs named in ranges.go (special addresses); RFC 4291, RFC
// 6052, RFC 8215, RFC 3056, RFC 4380 (embedded addresses); RFC 4787; RFC 792,
// RFC 4443, RFC 1191 (reports); RFC 6052, RFC 7050, RFC 7915 section 5.2 (nat64.go).
package egress
