package secmod

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"
	"time"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
	"rocserv/internal/session"
)

// egressOf is what a user may reach, as the worker gets it.
func egressOf(g *config.Global, u *config.User, a session.Account, cas *caFiles) *ipc.EgressPolicy {
	m := &ipc.EgressPolicy{Internet: u.EgressInternet}
	for _, p := range g.EgressAllowUnsafe {
		m.AllowUnsafe = append(m.AllowUnsafe, ipc.PutPrefix(p))
	}
	for _, r := range u.EgressRules {
		m.Rules = append(m.Rules, &ipc.EgressRule{
			Allow: r.Allow, Text: r.String(), Where: destinationOf([]netip.Prefix{r.Net}, []string{r.Domain}, r.Ports),
		})
	}
	for _, r := range u.Resolvers {
		m.Resolvers = append(m.Resolvers, ipc.PutAddrPort(r))
	}
	m.ClientDns = u.ClientDNS
	for _, f := range u.Forwards {
		m.Forwards = append(m.Forwards, &ipc.GatewayForward{Port: uint32(f.Port), Host: f.Host, To: uint32(f.To)})
	}
	waysOf(m, u, a, cas)
	return m
}

// waysOf adds the lines of egress-via that are about this user, and of the ways
// those that they name: what a user cannot take, its worker does not know.
func waysOf(m *ipc.EgressPolicy, u *config.User, a session.Account, cas *caFiles) {
	used := map[string]bool{}
	for _, v := range u.Via {
		if !v.Holds(a.User, a.Group) {
			continue
		}
		via := &ipc.EgressVia{Text: v.String(), Where: destinationOf(v.Nets, v.Domains, v.Ports)}
		for _, names := range v.Ways {
			via.Ways = append(via.Ways, shared(names, a.User)...)
		}
		for _, n := range via.Ways {
			used[n] = true
		}
		m.Via = append(m.Via, via)
	}
	for i := range u.Ways {
		if w := &u.Ways[i]; used[w.Name] {
			m.Ways = append(m.Ways, wayOf(w, u.Fingerprint, cas))
			if w.Kind == "https" && w.CA == "" {
				m.Roots = cas.system
			}
		}
	}
}

// shared puts the ways of "a|b|c" into an order that is the user's own, always
// the same and evenly spread (rendezvous hashing): so users share the ways, and
// each stays with its own.
func shared(names, user string) []string {
	list := strings.Split(names, "|")
	if len(list) == 1 {
		return list
	}
	weight := func(name string) []byte {
		sum := sha256.Sum256([]byte(user + "\x00" + name))
		return sum[:]
	}
	slices.SortFunc(list, func(a, b string) int { return bytes.Compare(weight(a), weight(b)) })
	return list
}

func wayOf(w *config.Way, fingerprint string, cas *caFiles) *ipc.WayOut {
	m := &ipc.WayOut{
		Name: w.Name, Kind: w.Kind, Host: w.Host, Port: uint32(w.Port),
		User: w.User, Password: w.Password.Reveal(), Bearer: w.Bearer.Reveal(),
		Roots: cas.files[w.CA], ServerName: w.ServerName, Fingerprint: w.Fingerprint, OldHttp: w.OldHTTP,
		Check: w.Check, TimeoutMs: uint32(w.Timeout / time.Millisecond), Interface: w.Interface,
	}
	if m.Fingerprint == "" {
		m.Fingerprint = fingerprint
	}
	if w.OldHTTP {
		m.Fingerprint = "go" // a browser's would offer HTTP/2
	}
	for _, p := range w.Pins {
		b, _ := base64.StdEncoding.DecodeString(p) // config has looked
		m.Pins = append(m.Pins, b)
	}
	if w.Source4.IsValid() {
		m.Source4 = ipc.PutAddr(w.Source4)
	}
	if w.Source6.IsValid() {
		m.Source6 = ipc.PutAddr(w.Source6)
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
