package mainproc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/config"
	"rocserv/internal/wire/proxyproto"
)

// headerTimeout is for a PROXY header, which a proxy sends with its first
// segment, whatever its client does.
const headerTimeout = 5 * time.Second

var (
	errNoHeader   = errors.New("mainproc: no PROXY header from a proxy")
	errHeaderFrom = errors.New("mainproc: PROXY header from a source that is not in proxy-proto-trusted")
)

// origin is where a connection comes from.
type origin struct {
	peer, local netip.AddrPort // the client, and the address it reached
	proxy       netip.AddrPort // the trusted proxy in between; invalid: none
	// ownWord: the proxy speaks for itself (a health check), and no points are
	// counted against it.
	ownWord bool
}

// socketOrigin is what the socket says.
func socketOrigin(c *net.TCPConn) origin {
	return origin{peer: addrPort(c.RemoteAddr()), local: addrPort(c.LocalAddr())}
}

// expectsHeader says whether a connection from there begins with a PROXY
// header. Without a list of proxies it does from everywhere, as in ocserv.
func expectsHeader(g *config.Global, from netip.Addr) bool {
	return g.ListenProxyProto && (len(g.ProxyTrusted) == 0 ||
		slices.ContainsFunc(g.ProxyTrusted, func(p netip.Prefix) bool { return p.Contains(from) }))
}

// readHeader takes the PROXY header off a connection, and not a byte of what
// follows: that is the worker's.
func readHeader(c *net.TCPConn, deadline time.Time) (origin, error) {
	o := socketOrigin(c)
	c.SetReadDeadline(deadline)
	defer c.SetReadDeadline(time.Time{})
	var b []byte
	for {
		h, n, err := proxyproto.Parse(b)
		switch {
		case err == nil && h.Local:
			o.proxy, o.ownWord = o.peer, true
			return o, nil
		case err == nil:
			return origin{peer: h.Source, local: h.Dest, proxy: o.peer}, nil
		case !errors.Is(err, proxyproto.ErrMore):
			return o, fmt.Errorf("%w: %w", errNoHeader, err)
		}
		have := len(b)
		b = slices.Grow(b, n-have)[:n] // n is proxyproto.MaxLen at most
		for have < n {
			k, err := c.Read(b[have:])
			if err != nil {
				return o, headerCut(have, err)
			}
			have += k
		}
	}
}

// headerCut is why a header ended early. One that never began is whatever a
// connection without a byte is.
func headerCut(have int, err error) error {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%w: %w", errNoHeader, err)
	case have == 0: // closed or reset before a word
		return io.EOF
	}
	return fmt.Errorf("%w: %w", errNoHeader, err)
}

// beginsHeader says whether the bytes that have arrived can be the beginning of
// a PROXY header. TLS never begins so. They stay where they are.
func beginsHeader(c *net.TCPConn) bool {
	var b [16]byte
	n := 0
	rc, err := c.SyscallConn()
	if err != nil {
		return false
	}
	rc.Control(func(fd uintptr) { n, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT) })
	if err != nil || n <= 0 {
		return false
	}
	_, _, err = proxyproto.Parse(b[:n])
	return err == nil || errors.Is(err, proxyproto.ErrMore)
}
