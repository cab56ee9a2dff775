// Package resolver answers one client's DNS queries: it forwards them to servers
// of the configuration or the host, remembers what they say, and keeps to the
// operator's rules.
//
// # Theory of operation
//
// A query of the client, by a datagram (Query) or by a connection (DialTCP, whose
// other end is here, in memory), takes this way:
//
//	query     read as far as the question → the block list → the filter of AAAA
//	          → the cache → who is asked: the servers of the longest zone that
//	          the name is in, else the others
//	try       copied, given a random id → sent by the server's link: a UDP
//	          socket that many queries share, or a connection (TCP, TLS, HTTP/2)
//	          that all share
//	answer    id, link and question fit? → cut short, and the client can take it
//	          all: asked again by a connection → the client's id
//	judge     a private address for a public name is withheld (Rules.Guard), and
//	          what cannot be read to its end, for the client might → into the cache
//	tell      the names it teaches → cut to what the client takes → reply
//	tick      no answer for 1.5 s: the next server is asked too, and whichever
//	          answers first is it; after three tries SERVFAIL
//
// UDP sockets are connected: the kernel admits nothing else and tells when
// nobody listens. One serves 128 queries or 10 s; then another port is used and
// the old one kept while an answer may come. A connection stays 30 s after its
// last query; when it ends, its queries move on at once, to a new one or to the
// next server. Of HTTPS a request that fails ends its own try only, and one that
// the server refuses is the next server's at once. A connection on which three
// tries in a row had no answer is not used again. Nobody asks: none is open.
//
// A client's connection is no socket: Write asks, Read gives answers as they
// come. It is not read from while 64 of its queries have no answer, or 128 KiB of
// answers are not read; if those on their way make them 256 KiB, it ends.
//
// # Invariants
//
// Resolver.mu is not held while a reply is delivered, and no lock of a link or a
// client's connection while Resolver.mu is taken: that is the outermost.
// There is one waiting try for each query on its way, and tries wait equally long,
// so their list is in the order of their deadlines.
// What is kept is bounded: queries on their way (256), the cache and each
// connection's queue in bytes, the client's connections (16) and the unread
// answers of each (256 KiB), sockets (8, and one of a kind for each server).
// A server is asked for the names of its zone only, whatever fails; with Dial no
// socket is opened but by it.
//
// # Goroutines
//
// Replies run on the caller of Query, on the poller of egress, on a timer's
// goroutine, and on that of a connection to a server. A connection has one for
// reading, and one for writing while there is something to write; with HTTPS
// each request has one. Close ends all.
//
// # Security
//
// Servers are configuration and bypass the policy. DNS answers are accepted by
// address and port (kernel) or connection, transaction id and question (RFC
// 5452). Queries of one client in a burst share a port, so a forger has to guess
// the 16 bits of the id against few ports; what he gets in stays in the cache for
// its time, and reaches that client only. TLS is always verified.
// Everything read from clients and servers has a fuzzer beside it.
//
// # Standards
//
// RFC 1035, RFC 2181 sections 8 and 9, RFC 2308 (negative answers), RFC 5452, RFC
// 6891 (EDNS), RFC 7766 (TCP), RFC 7858 (TLS), RFC 8484 (HTTPS), RFC 9460 (hints),
// RFC 9715.
package resolver
