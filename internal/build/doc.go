// Package build says what build a program is of, so that main and a worker that is
// a program of its own are never of two.
//
// # Theory of operation
//
// Workers can be a program of their own, rocserv-worker beside rocserv: it links
// less, so it starts faster and takes less memory than rocserv itself, which can be
// a worker too. Main and its workers speak messages that change from build to build
// (internal/ipc), so main asks the program what build it is of (Ask) and compares the
// answer with its own Fingerprint: the version, the compiler's, the revision where
// the programs were stamped with one, and all messages. Of a program of another
// build, or one that does not answer, main makes no use.
//
// What is asked is what is run: Worker opens the file and the descriptor is executed,
// so that a file put in its place later changes nothing.
//
// # Security
//
// The file beside is run as the server's user, so in a folder where others can make
// files (/tmp) it could be theirs. Worker refuses one that belongs to somebody else
// than the server's program, or that more people can write to.
package build
