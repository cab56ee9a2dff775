// Command floor is the least that a server in Go of this shape takes: a process
// per connection, started before it comes, that does a TLS handshake with a key
// it does not have, answers a request and waits. It has nothing of rocserv's
// code, so what it uses is the language's, not ours (doc/decisions/0014).
//
//	floor ADDR:PORT
//
// test/bench measures it beside both servers, in the rows that ask for it.
//
// # Theory of operation
//
// The first process (main.go) listens, has the key, and keeps a pool of workers:
// itself, executed again with one end of a socket pair. A worker (worker.go) says
// that it is there, gets a connection's descriptor with the certificate, does the
// handshake with one signature asked for over the pair, answers the first request
// with what a login begins with, opens a UDP socket as a tunnel has one, and
// waits for both and for a timer until its client is gone.
//
// To a CONNECT it answers with the least that openconnect takes (tunnel.go), with
// any cookie, and takes an upload of UDP: packets gather for one read, and their
// payload goes to a TCP connection with where they go, 64 KB at a time
// (carrier.go). Echo requests go to their hosts by one socket, and the answers back
// (echo.go). TLS is crypto/tls's. Nothing else goes to the client but answers to its
// requests.
//
// With the build tag libraries it links what rocserv is to be built of (gVisor's
// network stack, pion's DTLS, utls) and makes a stack with an interface when it
// has answered. It has no line of rocserv's then, either. Clients get DTLS then, by pion;
// from an upload's first packet on records of full size are carried on unopened (dtls.go).
//
// What it leaves out makes it smaller than any server could be: no confinement,
// no configuration, no login, no cookie looked at, no network stack.
package main
