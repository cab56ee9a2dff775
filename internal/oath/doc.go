// Package oath is the file of one-time password tokens that
// `auth = "plain[otp=FILE]"` names, and what its codes are: HOTP by a counter,
// TOTP by the time.
//
// # Theory of operation
//
// The format is liboath's UsersFile, so that files of an ocserv can stay:
//
//	HOTP/T30/6 anna - 3132333435363738393031323334353637383930 0 755224 2009-12-07T23:23:49L
//	type       user PIN secret, in hexadecimal                 counter last code, when
//
// Type is HOTP, HOTP/E (by counter) or HOTP/T30 (by time, in steps of 30 s),
// with the digits of a code behind it (6 if not given). PIN, counter, last code
// and its time may be missing. Comments, blank lines and lines nobody here
// understands are kept as they are. A user may have several tokens.
//
// File.Check looks a code up and, if it is good, changes the line: the caller
// writes the file back before the user is let in, or lets nobody in. So a code
// is good once. What makes it so is the counter for HOTP, and for TOTP the step
// that the last code belonged to, which is found again from that code and its
// time; the file of a server that was stopped still refuses its last codes.
//
// HOTP codes are looked for among the next 20 (ocserv, HOTP_WINDOW): a person
// may have pressed the button a few times. TOTP codes may be two steps off, for
// clocks that are.
//
// # Invariants
//
// Secrets are compared in constant time and are in no error. Check takes as
// long for a user without a token as for one with one, as far as a search of
// the file does.
//
// # Standards
//
// RFC 4226 (HOTP), RFC 6238 (TOTP); liboath, usersfile.c (format).
package oath
