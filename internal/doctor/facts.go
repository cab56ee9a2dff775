package doctor

import (
	"net/netip"

	"rocserv/internal/capacity"
)

// Facts are what the host gives to a process of this user.
type Facts struct {
	UID       int
	Container string // podman, docker, kubernetes; empty: none known
	Network   Network
	UDP       UDP
	Kernel    Kernel
	Capacity  capacity.Capacity
	CPUs      int
	Resolvers []netip.Addr // of resolv.conf

	Workers Workers

	PAM   error            // of the program for it; nil: it is there
	Low   error            // of the port 443; nil: it can be bound
	Ports map[Port]error   // of the configuration
	Files map[string]error // of the configuration
}

// Workers is the program that a client's process is.
type Workers struct {
	Program string // of its own; empty: the server's
	Err     error  // why one that is there is not used
}

// Port is what the configuration listens on.
type Port struct {
	Network string // tcp, udp
	Addr    netip.AddrPort
}

// Network is what can be reached, and how.
type Network struct {
	Out4, Out6   bool  // there is a route to the world
	IPv6         error // of a socket
	Ping4, Ping6 error // of a ping socket
}

// UDP is what makes DTLS fast.
type UDP struct {
	Segment, GRO error
	Receive      int // bytes: the largest receive buffer
}

// Kernel is what processes can give up.
type Kernel struct {
	Landlock int   // version; 0: none
	Filter   error // of a system call filter
}
