// Package compress is the compression of single packets that clients negotiate
// (X-CSTP-Accept-Encoding, X-DTLS-Accept-Encoding): oc-lz4, which is one raw LZ4
// block, and lzs, which is Stac LZS (RFC 1967, RFC 2395; ANSI X3.241-1994).
//
// # Theory of operation
//
// Every packet stands for itself: nothing of one packet is known when the next is
// read, so a lost or forged datagram harms no other, and neither side keeps more
// than a table of places that is emptied for each packet.
//
// A Compressor gives up as soon as its output would not be shorter than the
// packet; who sees it give up several times in a row lets some packets go by
// unlooked at, as most traffic is encrypted and never becomes shorter.
//
// Decompress writes into what it is given and never beyond: its room is the most
// a packet may have. Whatever the input is, it costs time in proportion to the
// input and that room, and no memory. Both decoders are written here, in Go
// throughout, because they read what strangers send.
//
// Compression tells by the length of packets what they have in common with bytes
// that an attacker may have put into them (CRIME, VORACLE): it is off unless the
// operator wants it.
package compress
