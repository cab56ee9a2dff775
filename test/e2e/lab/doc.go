// Package lab is a small network in which a server, real clients and a network
// behind the server meet: namespaces, wires, services, and the programs that
// run in them. The end-to-end tests use it, and whatever measures.
//
//	cli1 ─ eth0 10.77.1.11  fd77:1::b ─┐
//	cli2 ─ eth0 10.77.1.12  fd77:1::c ─┤ br0             eth0
//	 …                                 ├─ 10.77.1.1  srv  10.77.9.1 ── eth0 10.77.9.2  tgt
//	cliN ─ eth0 10.77.1.10+N …        ─┘  fd77:1::1       fd77:9::1         fd77:9::2
//
// # Theory of operation
//
// Open makes the namespaces, with names that no other run has, and the wires
// between them. Nothing forwards and no client has a route beyond its own wire:
// what a client reaches in tgt it reaches through the VPN. (ocserv, for
// comparison, needs a srv that forwards; Forward makes it so, for the addresses
// of its clients only.)
//
// Programs run by Netns.Start, which takes what they print apart into lines
// that can be waited for. On top of it are the drivers:
//
//	server.go     rocserv, as uid 12345 without capabilities, or ocserv as root:
//	              state folder, certificate, users, configuration
//	sandbox.go    rocserv as in a container, in bubblewrap
//	profile.go    the system calls that podman lets a container have
//	client.go     openconnect with a script of our own, vpnc.sh, that configures
//	              the tunnel and writes down the environment it was given
//	quic.go       HTTP/3 there
//	flows.go      very many flows of a client
//	target.go     HTTP, echo, DNS and the rest, in tgt
//	fetch.go      transfers, many at once, each through a tunnel of its own
//	inject.go     packets that no kernel would send
//	proc.go       what /proc says about the server's processes
//
// Target, fetch and inject must run inside a namespace. They are roles of the
// very program that uses this package, which calls Role first of all: Start is
// given RoleCommand and executes itself.
//
// # Invariants
//
// Whatever happens to the program, nothing stays. One shell per lab, the
// janitor (janitor.sh), in a session of its own, waits for the end of a pipe of
// which only the program has the other end. Then it kills what is in the lab's
// namespaces and removes these and the lab's folder. Close is just that: it
// closes the pipe and waits. So the way that is taken after a panic, a timeout
// or a SIGKILL is the way that is always taken.
//
// Every program is started inside one of the namespaces; that is how the
// janitor finds it.
//
// Drivers return errors and know nothing of testing.
//
// # Goroutines
//
// Two for each program: one copies what it prints, one waits for its end.
package lab
