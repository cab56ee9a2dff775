// Package ocpasswd is the format of the password file of `auth = "plain[passwd=FILE]"`
// and the check of a password against it.
//
// # Theory of operation
//
//	user:group1,group2:hash
//
// Parse cuts the bytes of a file into lines and keeps every one of them as it
// is. Lookup reads the line of one user. Set, Lock, Unlock and Delete change
// the lines of one user in memory; Bytes gives the whole file back. Lines of
// other users, comments, blank lines and what nobody understands come back
// byte for byte, in their place. The package opens nothing: the command that
// edits files is in internal/passwd, the reader is sec-mod.
//
// Check is what a login does: look the user up and verify the password. It
// costs one hash whether the user exists or not. Verify checks one hash alone.
//
// The hash is one of crypt(3): `$5$` and `$6$` (SHA-crypt), `$1$` (MD5-crypt),
// `$2a$ $2b$ $2y$` (bcrypt), `$y$` (yescrypt). `$2x$` (the name for hashes made
// by a broken bcrypt), DES, `$7$` and `$gy$` are refused with ErrUnsupported.
// Hash makes `$5$` as ocpasswd does, or `$6$`.
//
// # Invariants
//
//   - The first complete line of a user is the one that counts, as in ocserv.
//     Set leaves exactly one; Lock, Unlock and Delete act on all of them, so
//     that no shadowed line comes to life.
//   - A line that begins with # is a comment and never matches, so a line
//     that was commented out lets nobody in. (To ocserv it is a user whose
//     name begins with #.)
//   - A hash is checked in full before any of it is computed: scheme, salt,
//     length of the result. A truncated result never matches by chance.
//
// # Security
//
// A file may name its own cost, and a password comes from a stranger. Both are
// bounded: rounds, bcrypt cost and yescrypt memory by the constants in
// verify.go (ErrTooCostly above them), passwords by MaxPassword. The last
// matters because SHA-crypt writes the password once per byte of itself.
//
// A locked user (`!` before the hash) costs the same time as a wrong password.
// An empty hash is never a match: Check and Verify answer ErrNoPassword and the
// caller decides (ocserv lets such a user in without a password).
//
// # Standards
//
// SHA-crypt: Drepper, "Unix crypt using SHA-256 and SHA-512", with libxcrypt's
// limits (rounds below 1000, a leading zero or a salt above 16 bytes are no
// valid hash). bcrypt: golang.org/x/crypto/bcrypt. The others:
// github.com/go-crypt/crypt. All are tested against results of libxcrypt.
package ocpasswd
