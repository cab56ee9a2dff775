// Rocserv is a rootless OpenConnect/AnyConnect VPN server.
//
// # Theory of operation
//
// There is one binary. Its processes are started from it with a hidden role as
// the first argument, which is looked at before anything of the command line
// is: a worker links all of it, and should run little of it. Without a role it
// is a command: the server itself (as ocserv: -f -c FILE), quickstart, passwd.
//
// The first thread is kept for the main goroutine: children die with the thread
// that started them, so mainproc starts them from here (mainproc/spawn.go).
//
// Nothing is decided in this package; it wires mainproc, secmod, worker and the
// commands together.
package main
