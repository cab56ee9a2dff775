package config

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// everything is the route that stands for all others while a file is read.
var everything = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// RouteString is a route as clients, scripts and operators are shown it: IPv4
// as address/dotted-mask, IPv6 as address/length. Bits of the host are shown
// as they were written.
func RouteString(p netip.Prefix) string {
	if !p.Addr().Is4() {
		return p.String()
	}
	return p.Addr().String() + "/" + maskOf(p.Bits()).String()
}

// RouteStrings is RouteString of a list.
func RouteStrings(list []netip.Prefix) []string {
	s := make([]string, len(list))
	for i, p := range list {
		s[i] = RouteString(p)
	}
	return s
}

// maskOf is the dotted mask of an IPv4 prefix length.
func maskOf(length int) netip.Addr {
	m := ^uint32(0) << (32 - length) // 0 for length 0: Go shifts to nothing
	return netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)})
}

// parseMask returns the length of a contiguous dotted mask.
func parseMask(s string) (length int, ok bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return 0, false
	}
	b := a.As4()
	m := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	length = bits.LeadingZeros32(^m)
	return length, a == maskOf(length)
}

// parseRoute reads address/length, IPv4 address/mask, or default, which is
// everything. Bits of the host are kept: ocserv neither checks nor clears them.
func parseRoute(s string) (netip.Prefix, error) {
	if strings.EqualFold(s, "default") {
		return everything, nil
	}
	addr, length, ok := strings.Cut(s, "/")
	if !ok {
		return netip.Prefix{}, fmt.Errorf("route '%s' is missing a /prefix, use address/prefix", s)
	}
	wrong := fmt.Errorf("cannot figure format of route '%s'", s)
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Prefix{}, wrong
	}
	if a.Is4() {
		if n, ok := parseMask(length); ok {
			return netip.PrefixFrom(a, n), nil
		}
	}
	n, ok := parseLength(length, a.BitLen())
	if !ok {
		return netip.Prefix{}, wrong
	}
	return netip.PrefixFrom(a, n), nil
}

// parseLength reads a prefix length: digits only, at most most.
func parseLength(s string, most int) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 8)
	return int(n), err == nil && int(n) <= most
}

func setRoute(p *parser, t *target, it item) { p.route(&t.user.Routes, it) }

func setIRoute(p *parser, t *target, it item) { p.network(&t.user.IRoutes, it) }

func setNoRoute(p *parser, t *target, it item) { p.network(&t.user.NoRoutes, it) }

func (p *parser) route(list *[]netip.Prefix, it item) {
	r, err := parseRoute(it.text)
	if err != nil {
		p.errorf(it.line, "%v", err)
		return
	}
	*list = append(*list, r)
}

// network is a route where "default" has no meaning.
func (p *parser) network(list *[]netip.Prefix, it item) {
	if strings.EqualFold(it.text, "default") {
		p.errorf(it.line, "'%s' cannot be 'default'", it.key)
		return
	}
	p.route(list, it)
}

// withoutDefault makes the list as it takes effect: with everything in it, it
// is empty, which means everything.
func withoutDefault(list []netip.Prefix) []netip.Prefix {
	for _, r := range list {
		if r.Bits() == 0 && r.Addr().Is4() {
			return nil
		}
	}
	return list
}

// WithVhostRoutes returns u with the virtual host's routes after its own, if
// append-routes says so; u is what the user's and group's files have made of
// v.User. A user without routes has the default route and keeps it.
func (v *Vhost) WithVhostRoutes(u User) User {
	if !v.AppendRoutes {
		return u
	}
	if len(u.Routes) > 0 {
		u.Routes = join(u.Routes, v.User.Routes)
	}
	u.NoRoutes = join(u.NoRoutes, v.User.NoRoutes)
	return u
}

// join returns a new list of a and those of b that are not in a.
func join(a, b []netip.Prefix) []netip.Prefix {
	seen := make(map[netip.Prefix]bool, len(a)+len(b))
	var all []netip.Prefix
	for _, list := range [][]netip.Prefix{a, b} {
		for _, r := range list {
			if !seen[r] {
				seen[r] = true
				all = append(all, r)
			}
		}
	}
	return all
}
