package worker

import (
	"time"

	"rocserv/egress"
	"rocserv/internal/ipc"
	"rocserv/netstack"
	"rocserv/netstack/datagram"
	"rocserv/netstack/gateway"
)

// Outside is the network beyond the worker.
type Outside struct {
	Net      egress.Network
	Resolver gateway.Resolver
	SetHost  func(*ipc.HostInfo) // may be nil
	Trim     func()              // may be nil
	Close    func()
}

// OpenOutside makes the network of one client.
type OpenOutside func(*egress.Policy, *ipc.HostInfo) (Outside, error)

// hostOutside is the host's own sockets.
func hostOutside(policy *egress.Policy, host *ipc.HostInfo) (Outside, error) {
	direct := egress.NewDirect(policy, egress.DirectConfig{RecvTTL: true})
	resolver := egress.NewResolver(direct, egress.ResolverConfig{
		Upstreams:  ipc.AddrPorts(host.Resolvers),
		AAAAFilter: !host.Ipv6Out,
		Now:        time.Now,
	})
	return Outside{
		Net:      direct,
		Resolver: resolver,
		SetHost: func(m *ipc.HostInfo) {
			resolver.SetUpstreams(ipc.AddrPorts(m.Resolvers))
			resolver.SetAAAAFilter(!m.Ipv6Out)
		},
		Trim: direct.Trim,
		Close: func() {
			resolver.Close()
			direct.Close()
		},
	}, nil
}

func datagramLimits(l *ipc.Limits) datagram.Limits {
	var d datagram.Limits
	d.UDP, d.Echo, d.NewPerSecond = int(l.UdpFlows), int(l.IcmpFlows), int(l.NewFlowsPerS)
	return d
}

func streamLimits(l *ipc.Limits) netstack.Limits {
	return netstack.Limits{
		Flows: int(l.TcpFlows), Dials: int(l.Dials), NewPerSecond: int(l.NewFlowsPerS), Buffers: int(l.BufferBytes),
	}
}
