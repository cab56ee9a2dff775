// Package dtlsrecord is the record layer of DTLS 1.2 for the AEAD cipher
// suites that AnyConnect-compatible clients use. It is pure: bytes in, bytes
// out, no socket, no clock, no goroutine. The handshake is done elsewhere; what
// comes from there is a Secret.
//
// # Theory of operation
//
// A Suite turns a Secret into a Sealer and an Opener. Both work in place, so
// that a packet is encrypted where it was built and decrypted where it was
// received. The caller builds the plaintext with room around it:
//
//	AES-GCM             | header 13 | explicit nonce 8 | plaintext | tag 16 |
//	ChaCha20-Poly1305   | header 13 |                    plaintext | tag 16 |
//	                    |<-------- Headroom ---------->|           |Tailroom|
//
// Seal writes header, nonce and tag around it. Open takes one whole record,
// which Cut has cut out of a datagram, and returns the plaintext, a slice of
// the record. Neither allocates.
//
// # Invariants
//
// A Sealer never uses a sequence number twice: it counts up from where it was
// told to start and refuses to go on after 2^48-1. An Opener marks a sequence
// number as seen only after the record was authenticated, so that a forged
// record cannot keep a true one out. It accepts each number at most once, and
// none that lies more than WindowSize behind the newest.
//
// A record that does not open leaves its own bytes destroyed and nothing else
// changed. A caller who may want to try another key keeps a copy.
//
// # Goroutines
//
// Sealer and Opener share nothing. Each belongs to one goroutine at a time.
//
// # Security
//
// The nonce of a sealed AES-GCM record is the epoch and sequence number, as RFC
// 9325 section 7.2.1 asks. Only epoch 1 exists here: there is no renegotiation,
// a new handshake brings new keys and starts anew. An Opener counts the records
// that failed to authenticate; RFC 9147 section 4.5.3 puts the limit for such
// forgeries at 2^36 per key, which Open enforces.
//
// # Standards
//
// RFC 6347 section 4.1 (records, replay window), RFC 5246 sections 5 and 6.3
// (PRF, key expansion), RFC 5288 (AES-GCM), RFC 5487 (PSK with AES-GCM), RFC
// 7905 (ChaCha20-Poly1305).
package dtlsrecord
