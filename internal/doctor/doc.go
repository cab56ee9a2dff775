// Package doctor is rocserv doctor: what a host gives to a server without
// privileges, what that means, and what would close each gap.
//
// # Theory of operation
//
// Look (look.go) finds out the Facts: it opens sockets and asks the kernel, as
// the user it runs as, sends nothing and changes nothing. Judge (judge.go) is a
// function of the Facts and, if there is one, the configuration: one Finding
// per row of a table, the room for clients by each limit (internal/capacity,
// as main counts it at start), and which methods of login work (methods.go; a
// new method adds a row). A Report prints itself as text or JSON (print.go).
//
// A finding is ok, a gap (something works less well, or not at all, and the
// server runs) or bad (the server does not start, or not as the configuration
// says). What is not ok has what it costs and one line that closes it; in a
// container that line is about the container.
//
// # Exit status
//
// 0: nothing is bad. 1: something is, or the configuration cannot be read.
//
// # Limits
//
// It sees what a process of this user sees here: run it as the server's user,
// and in a container, in that container.
package doctor
