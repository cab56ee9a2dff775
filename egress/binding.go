package egress

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Binding is where on the host traffic leaves from. The zero value is wherever
// the host's routes say.
type Binding struct {
	Source4, Source6 netip.Addr // where one is set, the other family does not leave without
	Device           string     // an interface; Linux lets anybody name one (since 5.7)
}

// apply binds a socket that is not connected yet.
func (b *Binding) apply(fd int, v6, stream bool) error {
	if *b == (Binding{}) {
		return nil
	}
	if b.Device != "" {
		if err := unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, b.Device); err != nil {
			return err
		}
	}
	if !b.Source4.IsValid() && !b.Source6.IsValid() {
		return nil
	}
	if stream {
		// The port is chosen by connect(2), when the destination is known: so
		// one port can serve many destinations.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
	}
	switch {
	case v6 && b.Source6.IsValid():
		return unix.Bind(fd, &unix.SockaddrInet6{Addr: b.Source6.As16()})
	case !v6 && b.Source4.IsValid():
		return unix.Bind(fd, &unix.SockaddrInet4{Addr: b.Source4.As4()})
	}
	return unix.ENETUNREACH
}
