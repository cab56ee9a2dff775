package worker

import (
	"errors"
	"fmt"

	"rocserv/egress"
	"rocserv/egress/match"
	"rocserv/internal/ipc"
)

// policyOf is what this client may reach.
func policyOf(cfg *ipc.SessionConfig, host *ipc.HostInfo, names *egress.Names) (*egress.Policy, error) {
	p := egress.PolicyConfig{Host: hostOf(host), Names: names}
	var err error
	if p.Access, err = accessOf(cfg); err != nil {
		return nil, err
	}
	if e := cfg.Egress; e != nil {
		p.Internet = e.Internet
		p.AllowUnsafe = ipc.Prefixes(e.AllowUnsafe)
		if e.ClientDns == "deny" {
			p.Rules = append(p.Rules, noDNS)
		}
		for _, r := range e.Rules {
			where, err := whereOf(r.Where)
			if err != nil {
				return nil, fmt.Errorf("egress rule '%s': %w", r.Text, err)
			}
			p.Rules = append(p.Rules, egress.Rule{Rule: where, Allow: r.Allow, Text: r.Text})
		}
	}
	return egress.NewPolicy(p)
}

// noDNS is client-dns = deny: a rule before all others.
var noDNS = egress.Rule{
	Rule: match.Rule{Ports: []match.Ports{
		{Proto: match.UDP, First: 53, Last: 53}, {Proto: match.TCP, First: 53, Last: 53},
	}},
	Text: "client-dns = deny",
}

// whereOf refuses what it cannot read: a rule that lost its network would hold
// everywhere.
func whereOf(m *ipc.Destination) (match.Rule, error) {
	r := match.Rule{Nets: ipc.Prefixes(m.GetNets()), Domains: m.GetDomains()}
	if len(r.Nets) != len(m.GetNets()) {
		return r, fmt.Errorf("invalid network")
	}
	for _, p := range m.GetPorts() {
		if p.Proto > 255 || p.First > 65535 || p.Last > 65535 {
			return r, fmt.Errorf("invalid ports")
		}
		r.Ports = append(r.Ports, match.Ports{Proto: uint8(p.Proto), First: uint16(p.First), Last: uint16(p.Last)})
	}
	return r, nil
}

// accessOf is restrict-user-to-routes, which restrict-user-to-ports implies;
// nil without them.
func accessOf(cfg *ipc.SessionConfig) (*egress.Access, error) {
	if !cfg.RestrictToRoutes && len(cfg.Ports) == 0 {
		return nil, nil
	}
	a := &egress.Access{
		Routes: prefixes(cfg.Routes), NoRoutes: prefixes(cfg.NoRoutes),
		PortsDeny: cfg.PortsDeny, DNS: ipc.Addrs(cfg.Dns),
	}
	if len(a.Routes) != len(cfg.Routes) || len(a.NoRoutes) != len(cfg.NoRoutes) {
		return nil, errors.New("a route that cannot be read, of a user who is restricted to them")
	}
	for _, p := range cfg.Ports {
		a.Ports = append(a.Ports, portOf(p))
	}
	return a, nil
}

// portOf is an element of restrict-user-to-ports. What is no protocol that
// leaves here (sctp, esp) stands for nothing that a client could send.
func portOf(p *ipc.PortRule) match.Ports {
	m := match.Ports{First: uint16(p.Port), Last: uint16(p.Port)}
	switch p.Proto {
	case "tcp":
		m.Proto = match.TCP
	case "udp":
		m.Proto = match.UDP
	case "icmp":
		m.Proto = match.ICMP
	case "icmpv6":
		m.Proto = match.ICMPv6
	default:
		m.Proto = match.Nothing
	}
	if p.Port == 0 {
		m.First, m.Last = 0, 65535
	}
	return m
}
