// Package packet reads and writes the headers of IP packets: IPv4, IPv6, UDP,
// ICMP and what a segmenter needs of TCP.
//
// # Theory of operation
//
// Everything works on slices of the caller; nothing here allocates, locks, or
// remembers a packet.
//
//	Parse       a packet of the client → Header: addresses, the upper layer and
//	            where it begins, whether it is a fragment. Whoever needs one
//	            address only uses Source or Destination.
//	ReadUDP, ReadEcho  the upper layer of a whole packet, lengths and checksum
//	            verified
//	PutUDP      a payload that already stands in the caller's slice → a packet
//	Fragmenter  a payload longer than the MTU → packets, one at a time
//	Segmenter   a TCP super-segment of the stack (GSO) → packets, one at a time
//	PutError    a packet that cannot be delivered → the ICMP error about it
//	PutEchoReply  an echo request → its reply
//	Hop, Splitter  a packet that is passed on: time to live, IPv4 fragments
//
// Fragmenter, Splitter and Segmenter have the same shape, which is also that of Sink:
//
//	for n := s.Len(); n > 0; n = s.Len() {
//		b := sink.Next(n)
//		sink.Add(s.Put(b))
//	}
//
// so that a packet is written once, where the channel encrypts it.
//
// Partial sums are 16 bit ones' complement sums in host order (RFC 1071) of an
// even number of bytes, so they can be added in any order: Sum(b, partial).
// A checksum is the complement of a sum.
// The payload is copied first and summed after: the copy leaves it in the
// nearest cache, and the two passes together measure a quarter faster than one
// loop that does both.
//
// # Invariants
//
// Whatever Parse accepts satisfies L4 ≤ Length ≤ min(len(b), 65575), and no
// function reads beyond Length. Functions named Put panic if the slice is
// shorter than what they were told to write; callers ask for the length first.
//
// # Security
//
// Parse, the accessors and PutError see bytes of the client and are fuzzed.
// The walk along IPv6 extension headers is bounded. Where a header hides the
// place a packet goes to (source routes) or cuts the upper layer off the first
// fragment, Header says so or Parse refuses.
//
// # Standards
//
// RFC 791, RFC 792, RFC 768, RFC 1071, RFC 1624 (checksums), RFC 1122 section
// 3.2.2 and RFC 1812 section 4.3 (ICMP errors), RFC 1191, RFC 4884 (no
// extensions are added, so lengths stay zero), RFC 8200, RFC 4443, RFC 7112,
// RFC 6946 (atomic fragments), RFC 6864 (IPv4 identification), RFC 9293.
package packet
