package worker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"rocserv/egress"
	"rocserv/egress/resolver"
	"rocserv/egress/way"
	"rocserv/internal/blocklist"
	"rocserv/internal/ipc"
)

// resolvers are who is asked for names.
type resolvers struct {
	main *resolver.Resolver // the client's, as the configuration has it

	// bare asks the host's servers by the host's sockets: for the names of what
	// main needs itself. nil: main needs nothing that has a name.
	bare *resolver.Resolver
}

// open makes them. ways is nil if the user has none.
func (r *resolvers) open(c OutsideConfig, direct *egress.Direct, ways *way.Ways, pools *pools) error {
	cfg, err := resolverOf(c, pools)
	if err != nil {
		return err
	}
	hosts := plainServers(ipc.AddrPorts(c.Host.Resolvers))
	m := c.Egress.GetResolver()
	if via := m.GetVia(); len(via) > 0 {
		if cfg.Dial, err = ways.Via(via); err != nil {
			return fmt.Errorf("resolver-via: %w", err)
		}
	}
	if cfg.Dial != nil || slices.ContainsFunc(m.GetServers(), hasName) {
		r.bare = resolver.New(direct, resolver.Config{Servers: hosts})
		cfg.Lookup = r.bare.Lookup
	}
	if len(cfg.Servers) == 0 {
		cfg.Servers = hosts
	}
	r.main = resolver.New(direct, cfg)
	return nil
}

func hasName(s *ipc.DNSServer) bool {
	_, err := netip.ParseAddr(s.Host)
	return err != nil
}

// lookup finds proxies. With resolver-via they may be what main asks by.
func (r *resolvers) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	if r.bare != nil {
		return r.bare.Lookup(ctx, name)
	}
	return r.main.Lookup(ctx, name)
}

func (r *resolvers) setHost(e *ipc.EgressPolicy, m *ipc.HostInfo) {
	hosts := plainServers(ipc.AddrPorts(m.Resolvers))
	if r.bare != nil {
		r.bare.SetServers(hosts)
	}
	if !slices.ContainsFunc(e.GetResolver().GetServers(), forTheRest) {
		r.main.SetServers(hosts)
	}
	r.main.SetAAAAFilter(withoutIPv6(e, m))
}

func (r *resolvers) close() {
	r.main.Close()
	if r.bare != nil {
		r.bare.Close()
	}
}

// withoutIPv6 says whether there is no way out for IPv6: a proxy may have one
// that the host has not.
func withoutIPv6(e *ipc.EgressPolicy, host *ipc.HostInfo) bool {
	proxied := func(w *ipc.WayOut) bool { return w.Host != "" }
	return !host.Ipv6Out && !(len(e.GetVia()) > 0 && slices.ContainsFunc(e.Ways, proxied))
}

func plainServers(addrs []netip.AddrPort) []resolver.Server {
	list := make([]resolver.Server, len(addrs))
	for i, a := range addrs {
		list[i].Addr = a
	}
	return list
}

func forTheRest(s *ipc.DNSServer) bool { return len(s.Zones) == 0 }

// resolverOf is the configuration of the client's resolver but for how it
// reaches the servers.
func resolverOf(c OutsideConfig, pools *pools) (resolver.Config, error) {
	m := c.Egress.GetResolver()
	cfg := resolver.Config{
		AAAAFilter: withoutIPv6(c.Egress, c.Host), Names: c.Names, Cache: int(m.GetCacheBytes()),
		Rules: resolver.Rules{
			Block: blocklist.Set(m.GetBlock()), Refuse: m.GetRefuse(),
			Guard: m.GetGuard(), GuardExcept: slices.Clone(m.GetGuardExcept()),
		},
	}
	for _, s := range m.GetServers() {
		server, err := serverOf(s, pools)
		if err != nil {
			return cfg, fmt.Errorf("resolver %s: %w", s.Host, err)
		}
		if forTheRest(s) {
			cfg.Servers = append(cfg.Servers, server)
			continue
		}
		cfg.Zones = append(cfg.Zones, resolver.Zone{Names: s.Zones, Servers: []resolver.Server{server}})
		cfg.Rules.GuardExcept = append(cfg.Rules.GuardExcept, s.Zones...) // who names their server knows them
	}
	return cfg, nil
}

func serverOf(s *ipc.DNSServer, pools *pools) (resolver.Server, error) {
	addr, err := netip.ParseAddr(s.Host)
	server := resolver.Server{Addr: netip.AddrPortFrom(addr, uint16(s.Port)), Path: s.Path}
	if err != nil {
		server.Host = s.Host
		server.Addr = netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(s.Port))
	}
	switch s.Kind {
	case "udp":
		if err != nil {
			return server, errors.New("no address")
		}
		return server, nil
	case "tls":
		server.Kind = resolver.TLS
	case "https":
		server.Kind = resolver.HTTPS
	default:
		return server, fmt.Errorf("no kind '%s'", s.Kind)
	}
	name := s.ServerName
	if name == "" {
		name = s.Host
	}
	t, err := pools.peer(name, s.Fingerprint, s.Pins, s.Roots)
	if t.Protocols = []string{"dot"}; server.Kind == resolver.HTTPS { // as IANA has them for RFC 7858 and RFC 9113
		t.Protocols = []string{"h2"}
	}
	server.TLS = &t
	return server, err
}
