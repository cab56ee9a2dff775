// Package hostile is a worker that somebody else has taken over: a test build
// of the server in which workers do what a line from their client says. It is
// linked into nothing that is released.
//
// # Theory of operation
//
// server/ is rocserv with another worker. That worker confines itself as the
// real one does (it must: an attacker comes after that), waits for its client,
// and looks at the first bytes. A TLS client gets the real worker. A line
//
//	hostile {"attempt": NAME, "stage": STAGE, ...}
//
// makes it go to a stage as an honest worker would (handshake: it has a client;
// login: one signature is made and a login begun; tunnel: the session is open),
// and try one attempt of the table (attempts_kernel.go, attempts_ipc.go,
// attempts_peer.go: on the worker of another client, by a pair main gave). What
// came of it goes back to the client as a line: an error, or "in". A worker
// that was ended says nothing. In the stage pooled there is no client: the
// attempt is in a file beside the program, taken by the next worker to start,
// and the answer in the server's log.
//
// What must come of each attempt is in the table, too; test/e2e holds the
// server to it.
package hostile
