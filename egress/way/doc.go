// Package way lets a client's traffic leave by the ways that the operator has:
// the host's own sockets, from this or that address, SOCKS5 and HTTP proxies,
// or nowhere.
//
// # Theory of operation
//
// Ways is an egress.Network. For every destination the policy is asked first;
// then the rules of egress-via give a list of ways, the first rule that holds:
//
//	DialTCP   the list's ways in turn → the first that is up and carries TCP →
//	          a stream, or the destination's error, which is final; if the way
//	          itself failed, the next one
//	OpenUDP   a socket that has one of its own for each way that its datagrams
//	OpenPing  take: for direct a host socket, for SOCKS5 an association
//	Check     prohibited, too, if no way of the list carries the protocol
//
// A proxy is told the name by which the client asked for the address, where
// there is one (egress.Names), else the address.
//
// # Whose fault
//
// All depends on telling a way's failure from a destination's. A way fails if
// it cannot be reached, its certificate is not good, it speaks another protocol
// or wants another password: all that comes before it is asked for a destination
// (way.go, Failure). What it then says of the destination is an answer, which
// the client gets as if it had come from the host's own socket. A proxy that
// does not answer at all may be waiting for a silent destination, so that only
// makes it suspect: after three such dials in a row it is probed. A probe goes as
// far as the proxy answers: SOCKS its greeting and login, HTTP/1.1 a request for
// nothing, HTTP/2 its handshake, or to what Check names.
//
// # Health
//
// A way that failed is down, and others of the list are taken, for one second,
// twice as long with each failure in a row, at most thirty. Then the next
// connection that would have liked it lets it be probed in the background: the
// connection itself does not wait. If all ways of a list are down, connections
// are tried on those whose time is over and fail at once between. Nothing runs
// while a client is quiet. A client that had to change its way stays there
// until the one before has been up for a minute, so that its address does not
// jump.
//
// # Never past the proxy
//
// There is no way but those of the list. A list without direct never uses the
// host's own sockets for a client, whatever fails; the connections to proxies
// themselves are the host's.
//
// # Goroutines
//
// One for each association, which waits for the proxy to end it; one for a probe
// while it runs; those of HTTP/2 for each session. Close ends all.
//
// # Security
//
// Login data of a way are in the worker's memory if, and only if, its user may
// use the way. No error and no log line has them.
// A SOCKS proxy says where datagrams go: to its own address, or to one that the
// policy would let the client reach.
package way
