// Package gssapi is the login method `auth = "gssapi[keytab=FILE]"`: a Kerberos
// ticket in HTTP's Negotiate instead of a password.
//
// # Theory of operation
//
// The answers of a login are what stood in `Authorization: Negotiate`, and what the
// client's program is told goes back in `WWW-Authenticate`. Mostly there is one: SPNEGO
// (spnego.go) with a Kerberos AP-REQ in it, or that alone. A client that likes another
// mechanism better is asked for Kerberos, if it has it, and both then sign the list of
// its mechanisms, so that nobody on the way can have removed one: that takes three.
// The ticket is decrypted with the key of its service in the keytab, which is read at
// the start. Nobody else is asked: a KDC has spoken already, to the client. Who wants
// that the server proves itself gets an AP-REP (context.go), which only who can read
// the ticket can make.
//
// With require-local-user-map, which is the default, the user must be of the
// service's own realm and have a name without parts; that name is the user's, and with
// gid-min so are the host's groups of that name. Without it the user is called
// NAME@REALM. With tgt-freshness-time the ticket must come of a log-in (kinit) that is
// not longer ago.
//
// # Security
//
//   - Who it is comes from the part of the ticket that the KDC encrypted, not from
//     what the client says beside it.
//   - An AP-REQ is good once. What was used is remembered for ten minutes, twice as
//     long as a clock may be off, at most maxUsed of them; further ones are turned away
//     (unavailable) until some are over.
//     A helper that was replaced has forgotten them: what protects them then is TLS.
//   - Nobody is let in before his list of mechanisms is signed, where it must be.
//
// # Standards
//
// RFC 4120 (Kerberos), RFC 4121 (its GSS-API mechanism), RFC 4178 (SPNEGO),
// RFC 4559 (Negotiate).
package gssapi
