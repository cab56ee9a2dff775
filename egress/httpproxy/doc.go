// Package httpproxy is the client's side of an HTTP proxy's CONNECT, over
// HTTP/1.1 and over HTTP/2. It opens nothing.
//
// # Theory of operation
//
//	Connect           HTTP/1.1: one connection to the proxy for each of the
//	                  client's. What the proxy sent behind its answer is returned,
//	                  and the connection carries on by itself.
//	NewSession, Open  HTTP/2: one connection to the proxy for all of the client's,
//	                  each a stream of net/http.
//
// An answer other than 2xx is a Status. It says whose fault it is: the proxy's
// (it wants another password, it knows no CONNECT), so that another way may be
// tried, or the destination's, which is told to who asked. What the destination's
// fault is, proxies say in different ways: by Proxy-Status (RFC 9209), squid by a
// header of its own with the errno, the others by no more than the code.
//
// # Invariants
//
// The header of an answer is bounded (maxHeader), and so is what a stream of
// HTTP/2 may hold unread (streamWindow): a client that reads slowly holds up its
// own streams.
//
// # Standards
//
// RFC 9110 section 9.3.6 (CONNECT), RFC 9112, RFC 9113 section 8.5, RFC 9209,
// RFC 7617 (Basic), RFC 6750 section 2.1 (Bearer).
package httpproxy
