package worker

import (
	"context"
	"net/netip"

	"rocserv/egress"
	"rocserv/internal/ipc"
)

// DialService connects to a service that the configuration names.
type DialService func(ctx context.Context, host string, port uint16) (egress.Stream, error)

// upstreamsOf are the DNS servers to ask: those of the configuration, and
// without any those of the host.
func upstreamsOf(e *ipc.EgressPolicy, host *ipc.HostInfo) []netip.AddrPort {
	if own := ipc.AddrPorts(e.GetResolvers()); len(own) > 0 {
		return own
	}
	return ipc.AddrPorts(host.Resolvers)
}

// forwardsOf are the ports of the gateway address that stand for services.
func forwardsOf(e *ipc.EgressPolicy, dial DialService) map[uint16]func(context.Context) (egress.Stream, error) {
	if len(e.GetForwards()) == 0 || dial == nil {
		return nil
	}
	m := make(map[uint16]func(context.Context) (egress.Stream, error), len(e.Forwards))
	for _, f := range e.Forwards {
		m[uint16(f.Port)] = func(ctx context.Context) (egress.Stream, error) {
			return dial(ctx, f.Host, uint16(f.To))
		}
	}
	return m
}
