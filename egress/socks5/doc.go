// Package socks5 is the client's side of SOCKS 5: what is said on a connection
// to a proxy, and the header of relayed datagrams. It opens nothing.
//
// # Theory of operation
//
//	Greet      methods → the proxy's choice → user and password, if it is that
//	Connect    the destination, by name where there is one → reply
//	Associate  → reply with the address that datagrams go to
//
// Each reads exactly what the proxy's answer is long and nothing of what comes
// after it: so the connection itself can carry on, with no buffer between, and
// the kernel can move its bytes.
//
// Greet and the rest are apart because they fail for different reasons. A
// failed greeting is the proxy's (it is no SOCKS proxy, it wants another
// password) and another way may do; a reply with an error (Reply) speaks of the
// destination, and is told to who asked.
//
// # Standards
//
// RFC 1928, RFC 1929 (user and password).
package socks5
