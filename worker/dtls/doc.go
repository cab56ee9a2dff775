// Package dtls is the DTLS channel: the client's packets as records on a UDP
// socket that belongs to this client alone. The handshake is pion's, the record
// layer our own (internal/dtlsrecord), because all traffic goes through it.
//
// # Theory of operation
//
// main finds the App-ID in a ClientHello, makes a socket connected to where it
// came from and hands it to the worker with the datagrams that had arrived.
// Start gives it to a reading goroutine, the only one that ever reads it:
//
//	up    socket -> recvmmsg, up to 64 datagrams (batch.go)
//	             -> records, opened in place (reader.go; records.go for the odd ones)
//	             -> Receiver.Packets, once per batch
//	down  Next   room for a packet where its record will be (sender.go)
//	      Add    type byte in front, sealed in place
//	      Flush  equally long records form a run, a run is one UDP_SEGMENT
//	             message, all runs leave with one sendmmsg (transmit.go)
//
// A packet is one record is one datagram: one type byte, then the payload. What
// the client puts into one datagram more than that is understood.
//
// # Handshake
//
// For each handshake pion runs in a goroutine of its own on a pionConn, a
// PacketConn that is fed by the reading goroutine. When it is done, the master
// secret is known from the key log, and the server's random value, the suite
// and the next sequence number from what pion has sent. From then on pion reads
// end-of-file, which ends its goroutines, and what it writes goes nowhere; so
// nobody else uses a sequence number of the Sealer's. The new keys reach the
// reading goroutine by the mailbox and a wake-up. Nothing waits for time to pass.
//
//	absent --ClientHello--> pending --Finished--> established --new ClientHello-->
//	established, with another pending --Finished--> established by the new keys
//
// Where a record goes:
//
//	type, epoch             pending             established         both
//	ClientHello, 0          see below
//	ClientKeyExchange, 0    pion                our last flight     pion
//	ChangeCipherSpec, 0     pion                our last flight     pion
//	handshake, 1            pion                our last flight     pion
//	data, alert, 1          held, at most 64    opened              opened, else held
//	alert, 0; all others    counted as odd
//
// "Our last flight" means that it is sent once more, byte for byte: a client that
// repeats its own has not seen it. It is forgotten when the client sends data,
// which it can do only if it has.
//
// With Keys.Master the handshake is AnyConnect's: client and server resume a
// session that never was, whose master secret the client has sent by TLS. The last
// flight is then the client's; ours is never sent again once that has come.
//
//	ClientHello -> ServerHello ChangeCipherSpec Finished -> ChangeCipherSpec Finished
//
// A client may lose its state and begin again from the same address and port. No
// datagram of such a hello reaches main, so the channel itself does the second
// handshake, under the same key. The hello is not authentic: the keys in use
// stay until the new Finished is verified, whatever comes of it. Then both
// directions change at once, and Established is called again: the caller stops
// sending here until the next Packets, as the first time. A hello counts if it
// names the App-ID (session_id) of the first; a copy of the pending one's is
// pion's; a copy of a completed one's is odd; any other replaces a pending
// handshake that is at least a second old.
//
// # Another address of the client
//
// A translator on the way may forget the client and give it another port: then its
// records come to main, which offers one. If it opens, and is newer than all that
// have come, the reading goroutine connects the socket to the new address, and the
// keys stay (Offer). A replayed record is not newer, whoever sends it from where.
//
// # Sending and its errors
//
// Flush parks while the socket is full, and Close wakes it. No error ends the
// channel. The first one is tried again, for it may tell of an earlier packet.
// What a second one means:
//
//	EIO, EINVAL, ENOPROTOOPT   with UDP_SEGMENT: one by one; if that works, always so
//	EMSGSIZE                   the packet is lost, Config.TooBig is told its length
//	all others                 the packets are lost and counted
//
// TooBig is called with a length from Flush, Next and Add. It is called with 0,
// from there or from the reading goroutine, when a router has refused an earlier
// packet: PathMTU then tells more. It must not call the channel's sending side.
// The socket has "don't fragment" set, but for IPv4 with Config.Fragment, and
// ignores the path MTU that the kernel remembers, so that MTU probes are truthful.
//
// # Moderation
//
// With one processor (a worker's setting) and more than 20,000 packets a second,
// the reading goroutine naps between small batches (internal/moderation). Before, it
// yields, so that the stack has worked off the batch. Busy tells the tunnel, which
// then may put off its flushes too.
//
// # Invariants
//
// Application data is accepted only under keys whose Finished was verified. No
// sequence number is sealed under twice. Nothing that is not authenticated ends
// the channel or changes its keys. Buffers are small until a batch fills them,
// and again after Trim: 8 KB to receive, nothing to send. Receiving and sending
// allocate nothing.
//
// # Goroutines
//
// One reads, for the channel's life; it calls the Receiver. One per handshake,
// while it lasts. The sending side has none: its calls are serialised by the
// caller. When Receiver.Closed is called, no other goroutine, timer or
// descriptor is left (pion's own goroutines are past their last read).
//
// # Security
//
// Everything before the Finished is what anybody may have sent who can put the
// client's address on a datagram. Such a one can make a pending handshake fail,
// as with any DTLS, but not touch established keys. There is no cookie exchange:
// the App-ID came to the client by TLS, main drops hellos without one, and the
// answer is shorter than the hello and repeated a few times. Datagrams that were
// queued on the socket before it was connected are dropped by their source.
// Alerts in clear text are ignored. Secrets are not logged; the master secret is
// overwritten once the keys are made.
//
// # Standards
//
// RFC 6347 (DTLS 1.2), RFC 4279 and 5487 (PSK suites), RFC 5246 section 7.3
// (resumption), RFC 5746 (renegotiation_info),
// draft-mavrogiannopoulos-openconnect-04 section 2.3 (packets in records).
package dtls
