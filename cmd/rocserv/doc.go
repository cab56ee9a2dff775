// Rocserv is a rootless OpenConnect/AnyConnect VPN server.
//
// # Theory of operation
//
// The processes are started from this program with a hidden role as the first
// argument, which is looked at before anything of the command line is. Workers are
// rocserv-worker (cmd/rocserv-worker) where that lies beside it and is of the same
// build; everywhere else they are this program, too: it is all that it takes. Without a role it
// is a command: the server itself (as ocserv: -f -c FILE), quickstart, passwd.
//
// The first thread is kept for the main goroutine: children die with the thread
// that started them, so mainproc starts them from here (mainproc/spawn.go).
//
// Nothing is decided in this package; it wires mainproc, secmod, worker and the
// commands together.
package main
