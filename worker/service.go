package worker

import (
	"context"

	"rocserv/egress"
	"rocserv/internal/ipc"
)

// DialService connects to a service that the configuration names.
type DialService func(ctx context.Context, host string, port uint16) (egress.Stream, error)

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
