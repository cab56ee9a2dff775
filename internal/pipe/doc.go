// Package pipe carries packets between two workers: between the newest worker
// of a session and a keeper of it, and between two clients.
//
// # Theory of operation
//
// main makes a SEQPACKET socket pair and gives each worker one end; which end
// one holds says who is at the other. A record is
//
//	0x00 ‖ (length, uint16 big endian ‖ packet)...    a batch of packets
//	0x01 ‖ bytes                                       a message of the workers' own
//
// at most MaxRecord bytes long. Next and Add gather packets, Flush sends them as
// one record: what came in one batch goes on in one, so a wake-up at the other
// end is worth many packets. A message goes out in order with the packets, and
// may carry descriptors.
//
// What does not fit into the socket's buffer waits (Config.Patience) and is
// then dropped and counted: a pair to another client does not wait at all, a
// keeper waits for the newest worker as long as it takes, for its packets are
// frozen flows', and the newest worker waits for a keeper for a moment.
//
// # Invariants
//
// Nothing is queued here but one record being gathered; the kernel bounds the
// rest (SO_SNDBUF). Sending and receiving packets allocate nothing. A waiting
// pipe holds no receive buffer. Descriptors that come with packets, with a
// malformed record, or that nobody takes are closed.
//
// # Goroutines
//
// None. Serve is called by one goroutine, the sending side (Next, Add, Flush,
// Message) by one at a time; Close and Hangup by any, and they wake both. Close
// waits until Serve's Receiver has returned, so the Receiver itself, and whoever
// holds a lock it may want, uses Hangup.
//
// # Security
//
// The other end is another worker and may have been taken over by its client:
// every length is checked (FuzzParse), and a record that breaks the rules ends
// the pipe. What the packets say is the Receiver's to judge.
package pipe
