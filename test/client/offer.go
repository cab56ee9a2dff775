package client

import "crypto/tls"

// Offer is how the load clients of the lab begin TLS: with the groups that
// openconnect offers, since a client that offers others has both servers do another
// key exchange than with the clients they are for. The result is the caller's.
//
// Captured of openconnect v9.01-3 (Debian, GnuTLS): secp256r1, secp384r1, secp521r1,
// x25519, x448 and ffdhe2048 to ffdhe8192, with key shares for secp256r1 and x25519.
// None is post-quantum, while crypto/tls left alone begins with X25519MLKEM768. What it
// has of them is offered in its own order, x25519 first, and with a key share for that
// alone.
func Offer() *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, // the lab's own certificate
		CurvePreferences:   []tls.CurveID{tls.CurveP256, tls.CurveP384, tls.CurveP521, tls.X25519},
	}
}
