package resolver

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"rocserv/egress"
)

const tcpTryTimeout = 3 * time.Second // to connect to any address but the last

// DialService connects to a service that the configuration names, by its name
// or address: the policy is for what clients name. Of several addresses the
// first that takes the connection is used. What routers say about an attempt is
// not for clients, who are to see the gateway only.
func DialService(ctx context.Context, d *egress.Direct, lookup Lookup, host string, port uint16) (egress.Stream, error) {
	s, err := dialName(ctx, d, lookup, host, port)
	return s, withoutReport(err)
}

// withoutReport is an error without what ICMP said.
func withoutReport(err error) error {
	if rep := (*egress.ReportError)(nil); errors.As(err, &rep) {
		return rep.Err
	}
	return err
}

// dialName connects to the first address of a name that takes the connection.
func dialName(ctx context.Context, d *egress.Direct, lookup Lookup, host string, port uint16) (egress.Stream, error) {
	addrs, err := addressesOf(ctx, lookup, host)
	for i, a := range addrs {
		var s egress.Stream
		if s, err = dialOne(ctx, d, netip.AddrPortFrom(a, port), i == len(addrs)-1); err == nil || ctx.Err() != nil {
			return s, err
		}
	}
	return nil, err
}

// dialOne does not wait for an address longer than leaves time for the next.
func dialOne(ctx context.Context, d *egress.Direct, a netip.AddrPort, last bool) (egress.Stream, error) {
	if !last {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, tcpTryTimeout)
		defer cancel()
	}
	return d.DialConfigured(ctx, a)
}

func addressesOf(ctx context.Context, lookup Lookup, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	return lookup(ctx, host)
}
