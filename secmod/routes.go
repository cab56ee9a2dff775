package secmod

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"rocserv/internal/config"
)

// mostRoutes is how many networks AnyConnect's clients take of a list; its mobile
// ones take about half of that.
const mostRoutes = 200

// aggregate makes a user's lists of routes shorter without changing whose way is
// which: for each address the longest network of both lists that it is in decides,
// and of equal ones that of no-route.
func aggregate(u *config.User) {
	routes := aggregated(u.Routes, u.NoRoutes)
	u.NoRoutes = aggregated(u.NoRoutes, u.Routes)
	u.Routes = routes
}

// tooMany says of which list, made as short as it can be, clients will not take all;
// empty: of none.
func tooMany(u *config.User) (option, why string) {
	for _, list := range []struct {
		option string
		n      int
	}{{"route", len(u.Routes)}, {"no-route", len(u.NoRoutes)}} {
		if list.n > mostRoutes {
			return list.option, fmt.Sprintf("%s: %d networks, put together as far as they can be: AnyConnect takes %d of a list, on phones about half of that",
				list.option, list.n, mostRoutes)
		}
	}
	return "", ""
}

// warnRoutes says so of a virtual host, or of what a user's file makes of it.
func (l *loader) warnRoutes(c *config.Vhost, file string, u config.User) {
	aggregate(&u)
	switch option, why := tooMany(&u); {
	case why == "":
	case file != "":
		l.warnings = append(l.warnings, file+": "+why)
	default:
		l.warn(c, option, 0, why)
	}
}

// aggregated leaves out of a list what is within another network of it, and puts
// two halves together, but not across a network of the list beside it. What stays
// is as it was written, and where it was. Halves of everything stay two: who
// writes 0.0.0.0/1 and 128.0.0.0/1 does not want a default route.
func aggregated(list, beside []netip.Prefix) []netip.Prefix {
	if len(list) < 2 {
		return list
	}
	a := aggregation{at: make(map[netip.Prefix]int, len(list)), beside: make(map[netip.Prefix]bool, len(beside))}
	for _, n := range beside {
		if n = n.Masked(); !a.beside[n] {
			a.beside[n] = true
			a.sorted = append(a.sorted, n)
		}
	}
	slices.SortFunc(a.sorted, netip.Prefix.Compare)
	for i, r := range list {
		if m := r.Masked(); !a.has(m) {
			a.at[m] = i
		}
	}
	a.dropCovered()
	a.mergeHalves()
	kept := make([]netip.Prefix, 0, len(a.at))
	for m := range a.at {
		kept = append(kept, m)
	}
	slices.SortFunc(kept, func(x, y netip.Prefix) int { return cmp.Compare(a.at[x], a.at[y]) })
	for i, m := range kept {
		if was := list[a.at[m]]; was.Masked() == m {
			kept[i] = was // with its bits of the host
		}
	}
	return kept
}

// aggregation is a list on its way: networks, and where each, or the first part of
// it, was in the list.
type aggregation struct {
	at     map[netip.Prefix]int
	beside map[netip.Prefix]bool
	sorted []netip.Prefix // beside
}

func (a *aggregation) has(p netip.Prefix) bool {
	_, ok := a.at[p]
	return ok
}

// apart says whether inner is within a network beside that is within outer.
func (a *aggregation) apart(outer, inner netip.Prefix) bool {
	for bits := outer.Bits(); bits <= inner.Bits(); bits++ {
		if a.beside[shorter(inner, bits)] {
			return true
		}
	}
	return false
}

// parted says whether a network beside is within p.
func (a *aggregation) parted(p netip.Prefix) bool {
	i, _ := slices.BinarySearchFunc(a.sorted, p.Addr(), func(n netip.Prefix, first netip.Addr) int { return n.Addr().Compare(first) })
	for ; i < len(a.sorted) && p.Contains(a.sorted[i].Addr()); i++ {
		if a.sorted[i].Bits() >= p.Bits() {
			return true
		}
	}
	return false
}

func (a *aggregation) dropCovered() {
	for p := range a.at {
		for bits := p.Bits() - 1; bits >= 0; bits-- {
			if q := shorter(p, bits); a.has(q) && !a.apart(q, p) {
				delete(a.at, p) // q stays, or is within another one by the same rule
				break
			}
		}
	}
}

func (a *aggregation) mergeHalves() {
	byBits := map[int][]netip.Prefix{}
	for p := range a.at {
		byBits[p.Bits()] = append(byBits[p.Bits()], p)
	}
	for bits := 128; bits > 1; bits-- {
		for _, p := range byBits[bits] {
			whole, other := shorter(p, bits-1), sibling(p)
			if !a.has(p) || !a.has(other) || a.has(whole) || a.parted(whole) {
				continue
			}
			a.at[whole] = min(a.at[p], a.at[other])
			delete(a.at, p)
			delete(a.at, other)
			byBits[bits-1] = append(byBits[bits-1], whole)
		}
	}
}

// shorter is the network of that length that p is in.
func shorter(p netip.Prefix, bits int) netip.Prefix {
	return netip.PrefixFrom(p.Addr(), bits).Masked()
}

// sibling is the other half of the network that p is a half of.
func sibling(p netip.Prefix) netip.Prefix {
	b := p.Addr().AsSlice()
	i := p.Bits() - 1
	b[i/8] ^= 0x80 >> (i % 8)
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, p.Bits())
}
