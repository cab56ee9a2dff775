// Package pam is the login method of `auth = pam` and the accounting of `acct = pam`:
// a login helper that plays a service of libpam.
//
// # Theory of operation
//
// libpam and its modules are C, so this helper is a program of its own, rocserv-pam
// (cmd/rocserv-pam), built with cgo and the tag pam; the server's own program is
// static and has only what checks a configuration (options.go). Main starts the
// program that lies beside the server's.
//
// A login (method.go) is one conversation on a goroutine of its own: authentication,
// then the account stage, and where that says that the password has expired its
// change. Whenever a module asks, the login's step ends with that question, and the
// next answer goes to the module; what a module only says is shown with the question
// after it. How often a password may be wrong is the modules' business. Whoever the
// modules say that it is, is logged in, with the groups that the host knows of him
// from gid-min on.
//
// Accounting opens a session for a session's beginning, closes it for its end, and
// tells modules nothing in between.
//
// # Security
//
// Modules run with the rights of the server's user and, as everything here, cannot
// gain others: what needs root (the shadow file, a setuid program) fails. They may
// read what the user may, write nothing, start no program, and open sockets. A
// conversation holds a thread. There are maxConversations of them, of one network a
// quarter; beyond that the oldest gives way that waits for its client, after a time in
// which somebody types a password (places.go). If there is none a login is unavailable. Answers become strings in C, which libpam clears.
//
// # Standards
//
// Linux-PAM's application developers' guide; prompts and stages are those of ocserv
// (auth/pam.c, acct/pam.c).
package pam
