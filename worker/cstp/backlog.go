package cstp

import (
	"time"

	"golang.org/x/sys/unix"
)

// backlog is what the kernel holds of what the client has sent, and how much it may.
type backlog struct {
	look   func(fd uintptr) // b.count, bound once
	unread int
	size   int // of the buffer before it was narrowed, as SO_RCVBUF tells it
}

func (b *backlog) count(fd uintptr) {
	if n, err := unix.IoctlGetInt(int(fd), unix.SIOCINQ); err == nil {
		b.unread = n
	}
}

// unread is how many bytes wait in the socket; 0 if that cannot be known.
func (c *Conn) unread() int {
	s, ok := c.Conn.(*socket)
	if !ok || s.rc.Control(s.backlog.look) != nil {
		return 0
	}
	return s.backlog.unread
}

// near says whether the client is so near that a small window is enough.
func (c *Conn) near() (near bool) {
	c.control(func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		near = err == nil && info.Min_rtt > 0 && time.Duration(info.Min_rtt)*time.Microsecond <= holdNear
		return err
	})
	return near
}

// narrow holds the window small. False if it could not be widened again (Linux
// before 5.15) or somebody else has set it.
func (c *Conn) narrow() bool {
	return c.control(func(fd int) error {
		lock, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
		if err != nil || lock&unix.SOCK_RCVBUF_LOCK != 0 {
			return unix.EBUSY
		}
		s := c.Conn.(*socket)
		if s.backlog.size, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, holdSize)
	})
}

// widen leaves the window to the kernel again, which goes on from where it was.
func (c *Conn) widen() {
	c.control(func(fd int) error {
		lock, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
		if err != nil {
			return err
		}
		// SO_RCVBUF tells twice what it is given (socket(7)).
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, c.Conn.(*socket).backlog.size/2); err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, lock&^unix.SOCK_RCVBUF_LOCK)
	})
}

// control calls f with the socket's descriptor. False if there is none, or f failed.
func (c *Conn) control(f func(fd int) error) bool {
	s, ok := c.Conn.(*socket)
	if !ok {
		return false
	}
	done := false
	err := s.rc.Control(func(fd uintptr) { done = f(int(fd)) == nil })
	return err == nil && done
}
