// Package peers carries packets between this worker's client and other clients,
// and the networks behind either (iroute). It reads IP headers only: TCP is the
// clients' own, end to end.
//
// # Theory of operation
//
// Main says where other clients are (SetNets): the networks of which clients
// have their addresses, and the networks behind clients. What the client sends
// elsewhere is not for this package.
//
//	Take       a packet of the client: for another client? Then one of
//	           - there is a pair to that client's worker: pass it on (forward.go)
//	           - main was asked, and said no a moment ago: answer with an ICMP error
//	           - main was asked and has not answered: keep the packet
//	           - else keep the packet, and have Flush ask (Config.Ask)
//	Answered   what main says: a pair, or why there is none
//	Paired     main brings a pair because the other client has asked
//	Flush      the end of a batch: pairs send what was gathered, ICMP errors
//	           leave, by a goroutine of their own (sayAll), and main is asked
//	Packets    (pair.go) what the other worker sends: is it from that client, for
//	           this one? To the client
//
// A destination is the address in a network of clients, and else the narrowest
// network behind a client: one question is asked for either.
//
// The first record of a pair is each worker's note to the other: the MTU of its
// tunnel and the families its client has. Before it comes, packets wait; packets
// that come before it end the pair. A tunnel
// that becomes narrower ends its pairs; they are made anew when there is a
// packet. So are those of a client that came back at another worker: the one
// before closes its ends when it has lost its client.
//
// If both workers ask at once there are two pairs; both keep the one with the
// higher serial number, which is main's.
//
// # Invariants
//
// Whoever may wait for the client (Config.Sink) or for main (Config.Ask) holds no
// lock of this package, so what main says is always taken. A pair does not wait for the other worker:
// what it does not take is dropped and counted, like on any router.
//
// Bounds: MaxPairs pairs, of which the longest unused gives its place; maxAsked
// destinations that are asked for or were answered with no; maxHeld bytes that
// wait; ipc.PeerRate questions; maxTalks exchanges of another client, which gives up
// its own for new ones; a packet that finds no room is dropped.
//
// # Goroutines
//
// One per pair reads it, one tells the client of errors while there are any, one
// gives packets back that are for nobody here. Take and Flush are called by one goroutine at a time.
//
// # Security
//
// The worker at the other end may have been taken over by its client. Main's
// word says what that client may send from; a packet of somebody else, or one
// that is not for this client, ends the pair, and main's next offers of one to it
// are declined for a while. A source in a network of clients' addresses is
// never that of a network behind a client, however those were configured.
//
// Whether two clients may talk at all is main's to say (client-to-client of
// both). What this client's user may reach besides (egress rules, restrict-user-to-routes
// and -ports) is Config.Permit: judged here, packet by packet, but for answers to
// what came from there, and ICMP errors about it (talks.go).
//
// # Standards
//
// RFC 1812 (what a router does: section 5.2.7 errors, 5.3.1 time to live),
// RFC 791 (fragments), RFC 1191, RFC 8200, RFC 4443.
package peers
