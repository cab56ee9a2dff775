// Package rolelog is the form log lines have between the roles and on main's
// standard error.
//
// # Theory of operation
//
// A child (sec-mod, a worker) has no log of its own. Its standard error is a
// pipe that only main reads. NewHandler writes one line per record into it,
//
//	<6>message key=value key="two words"
//
// with the priority of syslog in front, as sd-daemon(3) has it. Split takes
// such a line apart on main's side. A line without priority (the trace of a
// panic, a message of the runtime) is an error.
//
// NewTextHandler is what main prints for people:
//
//	2026-11-23T18:51:07.123Z info role=worker pid=4711: message key=value
//
// What was bound with With comes before the message there, so that text of a
// child can never be taken for what main says about the child.
//
// # Invariants
//
// One record is one line and one Write, at most MaxLine bytes with its
// newline, which a pipe takes atomically (PIPE_BUF): lines of several threads
// do not mix. Control characters never get through.
//
// # Security
//
// Main treats the lines as foreign bytes: Clean makes them printable.
package rolelog
