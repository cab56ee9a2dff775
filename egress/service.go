package egress

import (
	"context"
	"errors"
	"net/netip"
)

// DialService connects to a service that the configuration names, by its name
// or address: the policy is for what clients name. Of several addresses the
// first that takes the connection is used. What routers say about an attempt is
// not for clients, who are to see the gateway only.
func DialService(ctx context.Context, d *Direct, r *Resolver, host string, port uint16) (Stream, error) {
	addrs, err := addressesOf(ctx, r, host)
	for i, a := range addrs {
		var s Stream
		if s, err = dialOne(ctx, d.DialConfigured, netip.AddrPortFrom(a, port), i == len(addrs)-1); err == nil || ctx.Err() != nil {
			return s, err
		}
	}
	if rep := (*ReportError)(nil); errors.As(err, &rep) {
		return nil, rep.Err
	}
	return nil, err
}

func addressesOf(ctx context.Context, r *Resolver, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	return r.Lookup(ctx, host)
}
