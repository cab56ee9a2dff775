package socks5

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"

	"rocserv/internal/secret"
)

const (
	version = 5

	methodNone     = 0
	methodPassword = 2
	methodRefused  = 0xff

	cmdConnect   = 1
	cmdAssociate = 3

	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4

	maxName   = 255
	maxSecret = 255
)

// Errors of a greeting.
var (
	ErrProtocol = errors.New("the proxy does not speak SOCKS 5")
	ErrPassword = errors.New("the proxy refuses user and password")
	ErrMethods  = errors.New("the proxy wants another way to log in")
)

// Login is who we are to the proxy; the zero value is nobody.
type Login struct {
	User     string
	Password secret.Text
}

// Greet agrees on how to log in, and logs in. RFC 1928 section 3, RFC 1929.
func Greet(rw io.ReadWriter, l Login) error {
	hello := []byte{version, 1, methodNone}
	if l != (Login{}) {
		if len(l.User) > maxSecret || len(l.Password.Reveal()) > maxSecret || l.User == "" {
			return fmt.Errorf("%w: they have 1 to 255 bytes", ErrPassword)
		}
		hello = []byte{version, 2, methodNone, methodPassword}
	}
	if _, err := rw.Write(hello); err != nil {
		return err
	}
	var choice [2]byte
	if err := readFull(rw, choice[:]); err != nil {
		return err
	}
	switch {
	case choice[0] != version:
		return ErrProtocol
	case choice[1] == methodNone:
		return nil
	case choice[1] == methodPassword && l != (Login{}):
		return logIn(rw, l)
	case choice[1] == methodRefused || choice[1] == methodPassword:
		return ErrMethods
	}
	return ErrProtocol
}

func logIn(rw io.ReadWriter, l Login) error {
	password := l.Password.Reveal()
	b := make([]byte, 0, 3+len(l.User)+len(password)) // so that nothing is left of it elsewhere
	b = append(append(b, 1, byte(len(l.User))), l.User...)
	b = append(append(b, byte(len(password))), password...)
	_, err := rw.Write(b)
	clear(b)
	if err != nil {
		return err
	}
	var status [2]byte
	if err := readFull(rw, status[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) { // RFC 1929: after a failure it must close
			return ErrPassword
		}
		return err
	}
	if status[1] != 0 {
		return ErrPassword
	}
	return nil
}

// Connect asks for a connection to a destination: to name, if it is not empty,
// which the proxy resolves, at dst's port. RFC 1928 section 4.
func Connect(rw io.ReadWriter, name string, dst netip.AddrPort) error {
	_, err := ask(rw, cmdConnect, name, dst)
	return err
}

// Associate asks for a relay of datagrams that is good as long as the
// connection is open, and returns where to send them. An unspecified address
// means the proxy's own. RFC 1928 section 7.
func Associate(rw io.ReadWriter, v6 bool) (netip.AddrPort, error) {
	any := netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	if v6 {
		any = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	}
	return ask(rw, cmdAssociate, "", any)
}

func ask(rw io.ReadWriter, cmd byte, name string, dst netip.AddrPort) (netip.AddrPort, error) {
	b := appendDestination([]byte{version, cmd, 0}, name, dst)
	if _, err := rw.Write(b); err != nil {
		return netip.AddrPort{}, err
	}
	var head [4]byte
	if err := readFull(rw, head[:]); err != nil {
		return netip.AddrPort{}, err
	}
	if head[0] != version {
		return netip.AddrPort{}, ErrProtocol
	}
	bound, err := readBound(rw, head[3])
	if head[1] != 0 {
		return netip.AddrPort{}, Reply(head[1]) // whatever else it said
	}
	return bound, err
}

// appendDestination writes type, address or name, and port.
func appendDestination(b []byte, name string, dst netip.AddrPort) []byte {
	a := dst.Addr().Unmap()
	switch {
	case name != "" && len(name) <= maxName:
		b = append(append(b, typeName, byte(len(name))), name...)
	case a.Is4():
		b = append(append(b, typeIPv4), a.AsSlice()...)
	default:
		b = append(append(b, typeIPv6), a.WithZone("").AsSlice()...)
	}
	return binary.BigEndian.AppendUint16(b, dst.Port())
}

// readBound reads the address in a reply. A name is read and left out.
func readBound(r io.Reader, kind byte) (netip.AddrPort, error) {
	var b [maxName + 2]byte
	n := 0
	switch kind {
	case typeIPv4:
		n = 4
	case typeIPv6:
		n = 16
	case typeName:
		if err := readFull(r, b[:1]); err != nil {
			return netip.AddrPort{}, err
		}
		n = int(b[0])
	default:
		return netip.AddrPort{}, ErrProtocol
	}
	if err := readFull(r, b[:n+2]); err != nil {
		return netip.AddrPort{}, err
	}
	port := binary.BigEndian.Uint16(b[n:])
	if kind == typeName {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), port), nil
	}
	a, _ := netip.AddrFromSlice(b[:n])
	return netip.AddrPortFrom(a.Unmap(), port), nil
}

// readFull makes an early end an error that says so.
func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Reply is what a proxy says about a destination. RFC 1928 section 6.
type Reply byte

// Replies that are the proxy's own fault.
const (
	GeneralFailure Reply = 1
	NoCommand      Reply = 7
)

func (r Reply) Error() string {
	texts := [...]string{1: "general failure", "not allowed by its rules", "network unreachable", "host unreachable",
		"connection refused", "TTL expired", "command not supported", "address type not supported"}
	var b strings.Builder
	b.WriteString("the SOCKS proxy says: ")
	if int(r) < len(texts) {
		b.WriteString(texts[r])
	} else {
		fmt.Fprintf(&b, "error %d", byte(r))
	}
	return b.String()
}

// Unwrap is the error that the host's own socket would have had.
func (r Reply) Unwrap() error {
	switch r {
	case 2:
		return syscall.EACCES
	case 3, 8:
		return syscall.ENETUNREACH
	case 5:
		return syscall.ECONNREFUSED
	case 6:
		return syscall.ETIMEDOUT
	}
	return syscall.EHOSTUNREACH
}
