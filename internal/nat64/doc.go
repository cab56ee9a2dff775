// Package nat64 knows how IPv4 addresses stand in IPv6 ones where a network
// translates between the two.
//
// # Theory of operation
//
// A network with a NAT64 carries what is sent to an address of its prefix to the
// IPv4 address inside (RFC 6052). Which prefix that is its DNS tells to who asks
// for the IPv6 addresses of Name, which has none: they are made of the prefix
// and Name's two well-known IPv4 addresses, and Find takes them apart again
// (RFC 7050).
//
// The answer is the network's word, and whoever answers DNS could name any
// prefix; Usable says which can be meant. Who connects to an address made with
// Embed judges the IPv4 address and what was made of it.
//
// # Standards
//
// RFC 6052 section 2, RFC 7050 section 3, RFC 8215.
package nat64
