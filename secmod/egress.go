package secmod

import (
	"net/netip"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
)

// egressOf is what a user may reach, as the worker gets it.
func egressOf(g *config.Global, u *config.User) *ipc.EgressPolicy {
	m := &ipc.EgressPolicy{Internet: u.EgressInternet}
	for _, p := range g.EgressAllowUnsafe {
		m.AllowUnsafe = append(m.AllowUnsafe, ipc.PutPrefix(p))
	}
	for _, r := range u.EgressRules {
		m.Rules = append(m.Rules, &ipc.EgressRule{
			Allow: r.Allow, Text: r.String(), Where: destinationOf([]netip.Prefix{r.Net}, []string{r.Domain}, r.Ports),
		})
	}
	return m
}

// destinationOf leaves out what is no network and no domain.
func destinationOf(nets []netip.Prefix, domains []string, ports []config.PortRange) *ipc.Destination {
	m := &ipc.Destination{}
	for _, p := range nets {
		if p.IsValid() {
			m.Nets = append(m.Nets, ipc.PutPrefix(p))
		}
	}
	for _, d := range domains {
		if d != "" {
			m.Domains = append(m.Domains, d)
		}
	}
	for _, p := range ports {
		m.Ports = append(m.Ports, &ipc.PortRange{Proto: protocols[p.Proto], First: uint32(p.First), Last: uint32(p.Last)})
	}
	return m
}

// protocols are the numbers of IP.
var protocols = map[string]uint32{"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}
