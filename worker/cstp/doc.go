// Package cstp is the CSTP channel: the client's packets as frames on its TLS
// connection (draft-mavrogiannopoulos-openconnect-04, section 2.2).
//
// # Theory of operation
//
// One packet is one frame is one TLS record, always: openconnect reads one
// record and wants exactly one packet in it (openconnect cstp.c). What saves
// system calls therefore happens below TLS, in Conn, which crypto/tls reads
// from and writes to:
//
//	reading   Conn takes as much from the socket as there is, but hands crypto/tls
//	          never more than the current record. So More is exact: it says
//	          whether another whole record is waiting, and Serve gives its
//	          receiver all packets of one wake-up as one batch. While a client
//	          uploads, Serve naps between small batches (internal/moderation).
//	writing   between Next and Flush records are gathered and leave with one
//	          write(2) for the whole batch; outside a batch (handshake, login,
//	          alerts) a record is written as it comes.
//
// # The client's window
//
// While a client nearby uploads as fast as it can, its window may be held so small
// that it is closed most of the time: then records gather in its kernel, which sends
// them at less than half of what they cost it one by one (hold.go, backlog.go;
// doc/decisions/0016). Whether that helps is tried each time.
//
// Serve is liberal in what it takes: it parses a stream of bytes, so that
// frames coalesced into a record or split over records are understood too.
//
// # Invariants
//
// A record is never half gathered: Flush writes whole records. Flush blocks
// while the client's window is closed; closing the connection wakes it.
// Buffers start small and grow when a read or a batch fills them; Trim gives
// them back.
//
// # Goroutines
//
// Serve runs on its caller's goroutine and is the only reader. Next, Add and
// Flush are serialised by the caller.
//
// # Standards
//
// draft-mavrogiannopoulos-openconnect-04; RFC 8446 section 5.1 (record layer).
package cstp
