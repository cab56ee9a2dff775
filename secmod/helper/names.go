package helper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// ResolveTime bounds a look-up.
const ResolveTime = 10 * time.Second

var errNoAddress = errors.New("no address")

// Lookup finds the addresses of a name; a test has its own.
type Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// Addresses are at least one, of a name or of what is one itself.
func (find Lookup) Addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	list, err := find(ctx, "ip", host)
	for i := range list {
		list[i] = list[i].Unmap()
	}
	if err == nil && len(list) == 0 {
		err = errNoAddress
	}
	return list, err
}

// ResolverFiles are what a look-up reads, for a method's Files.
func ResolverFiles() []string {
	return []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"}
}

// Names keeps the addresses of servers. A name is looked up when the method is made,
// and again when none of its addresses answers.
type Names struct {
	lookup Lookup

	mu    sync.Mutex
	known map[string][]netip.Addr
}

// Resolve looks names up; who is not found is a warning, and looked for later.
func Resolve(find Lookup, hosts ...string) (n *Names, warnings []string) {
	n = &Names{lookup: find, known: map[string][]netip.Addr{}}
	ctx, cancel := context.WithTimeout(context.Background(), ResolveTime)
	defer cancel()
	for _, h := range hosts {
		if _, err := n.refresh(ctx, h); err != nil {
			warnings = append(warnings, fmt.Sprintf("server %s: %v", h, err))
		}
	}
	return n, warnings
}

// Known says whether a name has an address.
func (n *Names) Known(host string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.known[host]) > 0
}

// refresh looks a name up. Where that fails, what was known of it stays.
func (n *Names) refresh(ctx context.Context, host string) ([]netip.Addr, error) {
	list, err := n.lookup.Addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known[host] = list
	return list, nil
}

// Dial connects to a server by its name, as net.Dialer.DialContext does.
func (n *Names) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = n.Try(ctx, host, func(addrs []netip.Addr) (err error) {
		conn, err = dialAny(ctx, network, addrs, port)
		return err
	})
	return conn, err
}

// Try tries a server's addresses, and if that fails those that it has by now, if they
// are others.
func (n *Names) Try(ctx context.Context, host string, try func([]netip.Addr) error) error {
	n.mu.Lock()
	known := n.known[host]
	n.mu.Unlock()
	err := errNoAddress
	if len(known) > 0 {
		err = try(known)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	now, failure := n.refresh(ctx, host)
	if failure != nil {
		return failure
	}
	if slices.Equal(now, known) {
		return err
	}
	return try(now)
}

// dialAny connects to the first of the addresses that answers, each of which gets its
// part of the time.
func dialAny(ctx context.Context, network string, addrs []netip.Addr, port string) (conn net.Conn, err error) {
	err = errNoAddress
	end, bounded := ctx.Deadline()
	for i, a := range addrs {
		var d net.Dialer
		if bounded {
			d.Timeout = time.Until(end) / time.Duration(len(addrs)-i+1) // and one part for other addresses
		}
		if conn, err = d.DialContext(ctx, network, net.JoinHostPort(a.String(), port)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}
