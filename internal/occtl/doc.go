// Package occtl is the command that controls a running server: `rocserv ctl`,
// and the whole program when it is called by the name occtl.
//
//	occtl [-s FILE] [-j] [-n] [COMMAND...]
//
// `rocserv top` (top.go) is here too: it asks the same server again and again.
//
// # Theory of operation
//
// Run reads the options, then executes one command, or, without one, a line
// after the other from the terminal (prompt.go: history, completion) or from
// standard input. A command is a row of the table in commands.go: its words,
// what it takes, and a function that asks the server (internal/control) and
// prints the answer. As in occtl a line is the command whose words it begins
// with, and what follows is the argument.
//
// What is printed is made twice from the same answer: as text in ocserv's
// layout (text.go), which people and their scripts read with grep, or with -j
// as JSON with ocserv's names (fields.go), which is always one valid value (a
// stream of them for events). fields.go names every field once; both forms are
// made from that list. Long text goes through a pager where the output is a
// terminal (pager.go).
//
// # Exit status
//
// 0: done; 1: unknown command, no server, refused; 2: no such user or id.
//
// # Differences from occtl
//
// RX and TX come from the server and are those of the moment; there is no
// device to ask. A JSON object never names a field twice. `show session` takes
// a whole id too, and any command that names a session takes as much of it as
// is unique. `show status` has the processes' counters in its JSON.
//
// # Security
//
// What clients say of themselves (host name, agent) is shown without control
// characters: it must not reach the operator's terminal.
package occtl
