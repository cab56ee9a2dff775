package worker

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// typeOfService is the bit that says that net_priority is one.
const typeOfService = 0x100

// outer is what the operator wants of the sockets to a client.
type outer struct {
	priority int // of net-priority, as in ipc.SessionConfig
	buffer   int // bytes; 0: as the kernel has it
}

func outerOf(o *offer) outer {
	buffer := min(int64(o.cfg.OutputBuffer)*int64(o.tunnel.MTU.Link), math.MaxInt32)
	return outer{priority: int(o.cfg.NetPriority), buffer: int(buffer)}
}

// set sets them. A kernel that refuses one carries packets all the same.
func (o outer) set(fd int) {
	switch p := o.priority; {
	case p > 0 && p&typeOfService != 0:
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, p&0xff)
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, p&0xff) // not of an IPv4 socket
	case p >= 0:
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, p)
	}
	if o.buffer > 0 {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, o.buffer)
	}
}

// setTCP sets them for the client's connection.
func (o outer) setTCP(c *client) {
	sc, ok := c.raw.Conn.(syscall.Conn)
	if !ok {
		return
	}
	if rc, err := sc.SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) { o.set(int(fd)) })
	}
}
