// Package dtlshello finds out whose DTLS ClientHello a datagram is.
//
// # Theory of operation
//
// A client that was told an App-ID or a session id in the reply to its CONNECT
// puts it into the ClientHello: as the session id, or, up to openconnect 7.08,
// into the extension 48018. Main sees every datagram from an unknown source,
// calls Parse, and looks the ID up among the sessions; who is not found gets no
// answer at all. Main reads nothing else of DTLS: the datagram goes to the
// worker as it came.
//
//	record header (13) | handshake header (12) | version (2) random (32)
//	    session id <0..32> cookie <0..255> suites <0..2^16> compression <0..255> extensions
//
// Only the first record counts, and only if it starts a ClientHello: epoch 0,
// fragment offset 0. A hello in fragments is known by its first one if that
// reaches to the end of the session id; extensions are looked at in whole
// hellos, and there they have to fit exactly.
//
// # Security
//
// The package runs in main, on bytes that anyone can send, before any check. So
// it is one pass without loops over anything but the extension list, allocates
// nothing, keeps nothing, and imports encoding/binary only. An ID is 256 random
// bits that were told over TLS; a wrong one says nothing about right ones, as
// main compares with a map. A hello can be replayed by who saw it on the wire:
// it proves nothing before the handshake is done.
//
// # Standards
//
// RFC 6347 section 4; RFC 5246 section 7.4.1.2;
// draft-mavrogiannopoulos-openconnect-04 section 2.1.5. The versions are DTLS
// 1.2, 1.0, and Cisco's 0x0100 of before the standard, which is recognised so
// that the worker can refuse it in its own words.
package dtlshello
