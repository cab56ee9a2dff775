// Package tlsclient makes TLS connections to proxies and resolvers of the
// configuration, with the ClientHello that the operator asks for.
//
// # Theory of operation
//
// Client does the handshake on a connection that is there. With the
// fingerprint "go" crypto/tls does it, and the ClientHello is what every Go
// program sends. The others are utls' imitations of browsers (Chrome, Firefox,
// Safari, Safari on iOS) and of none in particular (randomized), for networks
// whose middleboxes let nothing else through. A browser's ClientHello offers
// HTTP/2 before HTTP/1.1, whatever the caller prefers: a hello without it is
// one that no browser sends. So who uses the connection must look at Protocol
// and speak what was agreed.
//
// # Security
//
// The server's certificate is verified whatever the fingerprint: its chain by
// the given roots, its name, and if there are pins, that some certificate of
// the chain has one of these keys. There is no setting to leave this out.
//
// A certificate of ours is shown to a server that asks for one, whomever it says
// may vouch for it. crypto/tls gives its key the text to sign, utls only a digest.
//
// An imitated ClientHello is not a promise of being taken for a browser: what
// comes after it (HTTP/2 settings, timing, the TCP below) is still ours.
//
// # Standards
//
// RFC 8446, RFC 7301 (ALPN), RFC 7469 section 2.4 (what a pin is).
package tlsclient
