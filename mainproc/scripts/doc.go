// Package scripts knows what an operator's scripts are told, and in what order
// they run: connect-script, disconnect-script, host-update-script.
//
// # Theory of operation
//
// Facts is what main knows of a session's connection when something happens to
// it; Environment puts it into the variables of ocserv, in which a script reads
// it (env.go). A script gets no arguments and no input; what it prints goes to
// the server's log.
//
// Order runs the scripts (order.go): those of one session one after the other,
// so that what a disconnect takes down a connect has put up before; those of
// different sessions side by side. How a program is started is main's matter.
//
// # Invariants
//
// A variable that has nothing to say is absent. No variable that the server was
// started with takes the place of one of these.
//
// # Security
//
// Host name, agent and device are a client's word, told by a worker that may be
// hostile: they are cut to one printable line of bounded length. They may still
// be anything a shell finds special; a script that does not quote is the
// operator's to mend. What a service manager tells the server by its
// environment is not handed on.
//
// # Standards
//
// Names and values are those of ocserv: its manual, connect-script; lists end
// with a space there and here.
package scripts
