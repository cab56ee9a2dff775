// Package keys holds the private keys and signs with them what a TLS server has
// to sign, or a client that shows a certificate to a proxy, and nothing else. It
// is linked into sec-mod only.
//
// # Theory of operation
//
// Load reads the files of one server-cert/server-key pair, in PEM or DER,
// checks that they belong together, and puts the chain in order: leaf first,
// each certificate followed by the one that signed it.
//
//	certificate   CERTIFICATE blocks, or DER (one or several after each other)
//	key           PKCS#8, PKCS#1 ("RSA PRIVATE KEY"), SEC 1 ("EC PRIVATE KEY");
//	              with a pin: PKCS#8 encrypted by PBES2 (what openssl, certtool
//	              and every other tool of this century writes), and OpenSSL's
//	              old PEM encryption ("Proc-Type: 4,ENCRYPTED")
//
// Keys are RSA from 1024 bits, ECDSA on P-256, P-384 and P-521, Ed25519. A
// certificate with an id-RSASSA-PSS key is refused by name: crypto/tls has no
// rsa_pss_pss signature schemes, so no worker could serve it. (RSA keys sign
// with PSS all the same: rsa_pss_rsae.) Key tokens (pkcs11:, TPM) are refused
// by name too.
//
// # Signing
//
// crypto/tls gives a crypto.MessageSigner the whole text (Go 1.26,
// handshake_server_tls13.go and key_agreement.go). Sign looks at it and signs
//
//	TLS 1.3  64 spaces ‖ "TLS 1.3, server CertificateVerify" ‖ 0 ‖ the
//	         transcript's hash, of 32 or 48 bytes: no cipher suite of TLS 1.3
//	         has another                                        (RFC 8446, 4.4.3)
//	TLS 1.2  client random ‖ server random ‖ named_curve ‖ curve ‖ a point,
//	         which must be on the curve           (RFC 5246, 7.4.3; RFC 8422, 5.4)
//
// with a scheme that fits the version and the key:
//
//	key              TLS 1.3                       TLS 1.2
//	RSA              PSS with SHA-256, 384, 512    also PKCS #1 v1.5 with them
//	ECDSA            the curve's own hash          any of the three
//	Ed25519          Ed25519                       Ed25519
//
// (In TLS 1.2 a scheme does not bind the curve, RFC 8446 section 4.2.3, and
// crypto/tls takes the client's first choice.) SHA-1 is never signed.
//
// SignAsClient signs, with the same schemes,
//
//	TLS 1.3  as above, with "TLS 1.3, client CertificateVerify"
//	TLS 1.2  the messages from ClientHello to ClientKeyExchange, with a
//	         CertificateRequest among them                     (RFC 5246, 7.4.8)
//
// and SignDigest a digest: utls gives no text.
//
// The two texts of a server cannot be mistaken for each other: byte 64 of the first is
// 'T', of the second 3. Neither can be a client's CertificateVerify, a
// certificate, or a text of another protocol with a context of its own. What
// stays possible for a worker that is taken over is to sign one handshake with
// a client of its choice: that is what a worker is for. How often is counted
// by the caller.
//
// # Security
//
// A Key never prints itself. Parsing and signing run in secret.Do where the
// binary is built with GOEXPERIMENT=runtimesecret; otherwise Go promises
// nothing about copies on the heap, and what protects them is a process that
// cannot be dumped or traced. Files are bounded before they are read.
//
// # Standards
//
// RFC 5958 (PKCS#8), RFC 8017 (PKCS #1), RFC 5915 (SEC 1 keys), RFC 8018
// (PBES2), RFC 7914 (scrypt), RFC 8446, RFC 5246, RFC 8422.
package keys
