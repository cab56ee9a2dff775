// Package control is how people and programs talk to a running server: the
// protocol of the control socket, its server side and its client side.
//
// # Theory of operation
//
// The control socket is a Unix stream socket in the file system. What goes over
// it is JSON, one object on each line, in both directions; doc/control.md is
// its reference.
//
//	▶ {"v":1,"id":1,"cmd":"sessions"}
//	◀ {"v":1,"id":1,"ok":true,"result":{"sessions":[…]}}
//	▶ {"v":1,"id":2,"cmd":"disconnect","args":{"user":"anna"}}
//	◀ {"v":1,"id":2,"ok":false,"error":{"code":"not-found","message":"…"}}
//	▶ {"v":1,"id":3,"cmd":"events"}
//	◀ {"v":1,"id":3,"ok":true}
//	◀ {"v":1,"id":3,"event":{"type":"connected",…}}
//
// protocol.go has the envelope and schema.go what is in it. Server reads one
// request of a connection after the other, finds it in a table that main gave
// it (Commands), and answers. A connection that asked for events gets them
// until it closes; what it says after that is answered in between. Listen puts
// the socket where the configuration wants it, or where it can be.
//
// # Goroutines
//
// One accepts. A connection has one that reads and executes its requests and
// writes what they answer, and one more while it listens to events. Publish
// hands an event to each listener's queue and never waits: for a listener that
// does not keep up events are dropped, counted, and the count is told with the
// next one that gets through.
//
// # Bounds
//
// Connections, the length of a request, the time it may take to arrive and to
// be taken, the time of silence, and the events that wait for a listener.
// Whoever finds no place is told so.
//
// # Security
//
// Only root and the server's own uid are listened to, by the kernel's word
// (SO_PEERCRED); the file mode says the same. A request is parsed strictly: a
// field that a command does not know is an error, so that a mistyped one never
// means "all". A panic in a command costs that request. Clients take what a
// server says for text to be shown, and skip fields they do not know.
//
// # Standards
//
// JSON Lines: one RFC 8259 value per line, UTF-8. unix(7) for SO_PEERCRED.
package control
