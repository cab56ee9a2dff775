// Package config reads ocserv.conf: the main file, and the per-user and
// per-group files.
//
// # Theory of operation
//
// The package opens nothing. Parse is given the bytes of a file and returns a
// Config, or an Error with everything that is wrong with the file. A lexer
// (lex.go) cuts the bytes into assignments and sections. For each assignment
// the parser (parse.go) finds the option's row in the table (options_*.go),
// and the row says where the value goes and how it is read: by the type of its
// field (value.go), or by a function of its own (set.go, route.go, ports.go,
// auth.go). At the end (finish.go) what several lines say together is put
// together, per virtual host, and checked: networks, key pairs, ways to log
// in, TLS versions and suites (priorities.go).
//
// The table is the one place that knows the options. The parser is driven by
// it; so are the defaults, Effective (what a file comes to), and what package
// reference makes of it: doc/config.md and doc/sample.config.
//
// ParseUserFile reads a per-user or per-group file over the settings before it.
//
// # Who reads what
//
// main and sec-mod parse the same bytes. To main, secret options have no
// value: the Role says who asks, and main's is the zero Role. Certificates,
// keys and password files are named here and opened by sec-mod. Workers get
// what they need of it by messages; they do not parse.
//
// # Where it follows ocserv, and where not
//
// Syntax, names, defaults (those of ocserv 1.4.2 and later), inheritance and
// the wording of errors are ocserv's, odd ones included: an indented line is
// one more value of the option before; booleans other than true and yes are
// false; a virtual host is a copy of what the default one was at its first
// line; its lists begin with those of the default one; routes keep the bits of
// the host. Different are:
//
//   - All errors are told, each with its file and line, not only the first.
//   - Odd values that ocserv takes silently are taken with a warning.
//   - A list is emptied by an empty value (`route =`), which to ocserv is
//     mostly an error: this is how a virtual host gets rid of inherited routes.
//   - listen-host and udp-listen-host may name several addresses on the line.
//   - 0.0.0.0/0 is the default route, as `default` is.
//   - A name of a section longer than 49 bytes is an error; inih cuts it.
//
// An option that is not in effect is accepted with one warning, unless that
// would be less safe than the file says (Status Refused): then it is an error
// to switch it on. The same holds for a method of login that must succeed.
//
// # Invariants
//
//   - A Config from Parse is complete: defaults are in, virtual hosts share no
//     memory with each other, at least one way to log in is in effect.
//   - Every message names a line where there is one and no value of a secret.
//   - The work is bounded by the size of the file, the number of virtual hosts
//     and the length of their lists (parse.go), the messages by problem.go.
//   - WriteEffective of a Config, parsed, is that Config again.
//
// # Security
//
// The files are an administrator's, but a per-user file may be written by
// tools and a malformed one must not leave a user with more than it says, so
// ParseUserFile fails whole. SafeFileName decides whether a user's name may
// become a file's. Text that goes to clients is made valid UTF-8 without
// control characters here.
package config

//go:generate go run ./reference ../../doc
