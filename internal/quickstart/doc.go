// Package quickstart makes the state of `rocserv quickstart`: everything a
// first server needs, in one directory, with no question asked.
//
//	DIR/ocserv.conf   the configuration, every line explained
//	DIR/cert.pem      a self-signed certificate (ECDSA P-256)
//	DIR/key.pem       its key
//	DIR/users         the password file, with one user
//	DIR/run/          the run directory
//
// # Theory of operation
//
// Two processes call it. The one that becomes main calls Paths, which touches
// nothing and says where the configuration will be. It starts a child in a
// hidden role (Options.Args are the child's arguments, ParseArgs reads them),
// waits for its end, and goes on as main with that configuration. The child
// calls MakeState, which makes what is missing, prints the login line and
// ends: whoever becomes main has never held the key or the password.
//
// MakeState keeps what it finds. What is missing it makes in the order of the
// list above but the users last: each file under a name of its own, synced,
// then renamed to where no file must be (RENAME_NOREPLACE). So a crash at any
// point leaves whole files and a next start that makes the others; only the
// password of a start that died before it printed is lost, and the message of
// the next start says how to set one. A lock on the directory keeps two starts
// apart. A state that is complete is only read, so that it may be read-only.
//
// With --listen, a later start changes the lines of the configuration that
// say where to listen and no others.
//
// # Invariants
//
//   - A password is printed once, by the start that made it, and stored
//     nowhere: the users file has its hash.
//   - Every file is the owner's alone (0600, directories 0700).
//   - A configuration that was made or changed has been parsed before it is
//     put in place, and means what was wanted.
//   - Somebody's own configuration is never replaced, and what it does not
//     name is not made.
//
// # Security
//
// The password has 80 random bits, so guessing it is no plan, whatever the
// hash costs. Clients are told the certificate's pin: nothing else vouches for
// a self-signed certificate.
//
// # Standards
//
// XDG Base Directory Specification 0.8 (XDG_STATE_HOME), RFC 4193 section 3.2
// (the IPv6 network is a random ULA /48's first /64), RFC 7469 section 2.4
// (the pin).
package quickstart
