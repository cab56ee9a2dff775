// Package ldap is the login method `auth = "ldap[config=FILE]"`: names and
// passwords of a directory, checked by binding to it.
//
// # Theory of operation
//
// Each answer of a client is one connection to one server, which is encrypted
// before a password is sent, by ldaps:// or by StartTLS, and whose certificate
// must be good. What happens on it:
//
//	filter:        bind as bind-dn, search the user's entry, bind as that entry
//	bind-template: bind as the DN made of the name, read that entry
//	then           with group-filter, search the groups (as bind-dn where there is one)
//
// The user is called what user-attribute of the entry says, not what was typed: a
// directory takes Anna for anna, and configuration by user must not depend on it.
//
// Servers are tried in the order of `uri`, and one that failed after the others
// for a while. What a server says of a password is final: asking the next one too
// would count twice against a lock-out. If none could say anything the verdict is
// Unavailable, which is nobody's wrong answer.
//
// # Security
//
//   - An empty password is never sent: a bind with one succeeds without being
//     checked (RFC 4513, section 5.1.2). Neither is a password with a NUL in it,
//     which a server written in C may take for an empty one, nor an empty name.
//   - Names are escaped for the place they go to: a filter (RFC 4515) or a DN
//     (RFC 4514).
//   - Wrong, locked, expired, without a password and unknown are one answer to the
//     client; the log says which, if the server does (password policy control, or
//     Active Directory's codes). For an unknown user a bind is made that must fail,
//     so that it takes as many round trips.
//   - More than one entry for a name is nobody.
//   - A server's messages are bounded in size and time.
//
// # Standards
//
// RFC 4511 (protocol), RFC 4513 (bind, TLS), RFC 4514 and 4515 (strings), RFC
// 4517; draft-behera-ldap-password-policy-10.
package ldap
