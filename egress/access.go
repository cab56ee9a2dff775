package egress

import (
	"net/netip"

	"rocserv/egress/match"
)

// Access is ocserv's restriction of a user to routes and ports, for which
// ocserv itself needs root and a firewall script (ocserv-fw). DNS to the
// servers that clients are given always passes.
type Access struct {
	Routes    []netip.Prefix // empty: everywhere
	NoRoutes  []netip.Prefix // never
	Ports     []match.Ports  // empty: no restriction
	PortsDeny bool           // Ports are those that do not pass
	DNS       []netip.Addr
}

// access is Access, ready to be asked.
type access struct {
	routes, noRoutes, ports *match.Table // nil: none
	portsDeny               bool
	dns                     []netip.Addr
}

func newAccess(c *Access) (*access, error) {
	a := &access{portsDeny: c.PortsDeny, dns: c.DNS}
	var err error
	if a.routes, err = tableOf(len(c.Routes) > 0, match.Rule{Nets: c.Routes}); err != nil {
		return nil, err
	}
	if a.noRoutes, err = tableOf(len(c.NoRoutes) > 0, match.Rule{Nets: c.NoRoutes}); err != nil {
		return nil, err
	}
	if a.ports, err = tableOf(len(c.Ports) > 0, match.Rule{Ports: c.Ports}); err != nil {
		return nil, err
	}
	return a, nil
}

func tableOf(any bool, r match.Rule) (*match.Table, error) {
	if !any {
		return nil, nil
	}
	return match.New([]match.Rule{r})
}

// check is the order of ocserv-fw: DNS, no-routes, ports, routes.
func (a *access) check(proto Proto, dst netip.Addr, port uint16) Denied {
	holds := func(t *match.Table) bool { return t.Find(uint8(proto), dst, port, nil) != match.None }
	switch {
	case port == dnsPort && (proto == UDP || proto == TCP) && a.isDNS(dst):
		return 0
	case a.noRoutes != nil && holds(a.noRoutes):
		return DeniedNoRoute
	case a.ports != nil && holds(a.ports) == a.portsDeny:
		return DeniedPort
	case a.routes != nil && !holds(a.routes):
		return DeniedRoute
	}
	return 0
}

const dnsPort = 53

func (a *access) isDNS(dst netip.Addr) bool {
	for _, s := range a.dns {
		if s == dst {
			return true
		}
	}
	return false
}
