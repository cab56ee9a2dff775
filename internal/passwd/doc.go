// Package passwd is the command that edits password files: `rocserv passwd`,
// and the whole program when it is called by the name ocpasswd.
//
//	ocpasswd [-c FILE] [-g GROUP,...] [-d|-l|-u] [--hash sha256|sha512] USER
//
// # Theory of operation
//
// Command is the face towards urfave/cli and holds no logic. Run is one call:
// it reads the password (twice and without echo from a terminal, else one line
// of standard input), makes the hash, and then edits the file. Edit is the
// edit alone: it creates FILE.tmp exclusively, which is the lock and the new
// file in one, reads FILE only then, changes it in memory (package ocpasswd),
// writes FILE.tmp, syncs it and renames it over FILE. Whoever reads FILE sees
// the old or the new one, whole; a crash leaves the old one.
//
// # Invariants
//
//   - Nothing is locked while a person types.
//   - On every error FILE is as it was and FILE.tmp is gone. Only a killed
//     process leaves FILE.tmp behind; the message of ErrLocked names it.
//   - A new file is readable by its owner alone. An existing one keeps its
//     owner and the group's right to read, never more.
//
// # Differences from ocpasswd
//
// Comments and blank lines survive (ocpasswd drops lines without a colon). A
// new password for a user without -g keeps the user's groups, where ocpasswd
// resets them: losing a group can mean losing the group's restrictions; -g '*'
// clears them. Everything else, exit codes included, is as there.
//
// # Security
//
// The terminal's echo comes back when the prompt is interrupted by a signal.
// The password is not on the command line, in the environment, in messages or
// in the file.
package passwd
