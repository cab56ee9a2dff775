// Package proxyproto reads the PROXY protocol header that a load balancer puts
// in front of a connection to say who the client is.
//
// # Theory of operation
//
// Main reads from a new connection of a trusted source, with a deadline, until
// Parse is done:
//
//	b = nothing
//	loop: h, n, err := Parse(b)
//	      err == nil     done; the header was b[:n]
//	      err == ErrMore read until len(b) == n, and again
//	      else           close the connection
//
// With ErrMore, n is a length the header has at least. So a caller that reads
// exactly up to n never takes a byte of what follows the header, the TLS
// ClientHello, which is the worker's. (A caller that peeks may look at more.)
//
// Version 1 is a line of text of at most 107 bytes. Version 2 is binary; its
// length field could announce 64 KB, MaxLen of which are taken.
//
// "LOCAL", "UNKNOWN" and families other than TCP over IP say nothing about the
// client: the addresses of the socket hold (Header.Local).
//
// # Security
//
// Whoever may speak this protocol can name any address as the client's: the
// caller asks only sources that the operator named. The parser runs in main:
// one pass, no state, no allocation but for the name in a certificate, nothing
// imported beyond the standard library's bytes and addresses. The name in
// Header.TLS is the proxy's word about a certificate it checked.
//
// # Standards
//
// "The PROXY protocol", Willy Tarreau, versions 1 and 2, revision 2020/03/05
// (haproxy doc/proxy-protocol.txt), sections 2.1 and 2.2. The checksum (type
// 0x03) is skipped like every type but 0x20.
package proxyproto
