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
func egressOf(g *config.Global, u *config.User, a session.Account, files *egressFiles) *ipc.EgressPolicy {
	m := &ipc.EgressPolicy{Internet: u.EgressInternet}
	for _, p := range g.EgressAllowUnsafe {
		m.AllowUnsafe = append(m.AllowUnsafe, ipc.PutPrefix(p))
	}
	for _, r := range u.EgressRules {
		m.Rules = append(m.Rules, &ipc.EgressRule{
			Allow: r.Allow, Text: r.String(), Where: destinationOf([]netip.Prefix{r.Net}, []string{r.Domain}, r.Ports),
		})
	}
	resolverOf(m, u, a, files)
	m.ClientDns = u.ClientDNS
	for _, f := range u.Forwards {
		m.Forwards = append(m.Forwards, &ipc.GatewayForward{Port: uint32(f.Port), Host: f.Host, To: uint32(f.To)})
	}
	waysOf(m, u, a, files)
	return m
}

// resolverOf adds how the gateway's resolver answers this user.
func resolverOf(m *ipc.EgressPolicy, u *config.User, a session.Account, files *egressFiles) {
	r := &ipc.GatewayResolver{
		Block: files.block, Refuse: u.Resolver.Refuse,
		Guard: u.Resolver.Guard, GuardExcept: u.Resolver.GuardExcept, CacheBytes: uint64(u.Resolver.Cache),
	}
	for _, names := range u.Resolver.Via {
		r.Via = append(r.Via, shared(names, a.User)...)
	}
	for _, d := range u.Resolver.Servers {
		s := &ipc.DNSServer{Kind: d.Kind, Host: d.Host, Port: uint32(d.Port), Path: d.Path, Zones: d.Zones}
		if d.Kind != "udp" {
			s.Pins, s.Roots, s.ServerName = pinsOf(&d.Peer), files.cas[d.CA], d.ServerName
			if s.Fingerprint = d.Fingerprint; s.Fingerprint == "" {
				s.Fingerprint = u.Fingerprint
			}
			if d.CA == "" {
				m.Roots = files.system
			}
		}
		r.Servers = append(r.Servers, s)
	}
	m.Resolver = r
}

// waysOf adds the lines of egress-via that are about this user, and of the ways
// those that they name: what a user cannot take, its worker does not know.
func waysOf(m *ipc.EgressPolicy, u *config.User, a session.Account, files *egressFiles) {
	used := map[string]bool{}
	for _, n := range m.Resolver.Via {
		used[n] = true
	}
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
			m.Ways = append(m.Ways, wayOf(w, u.Fingerprint, files))
			if w.Kind == "https" && w.CA == "" {
				m.Roots = files.system
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

func wayOf(w *config.Way, fingerprint string, files *egressFiles) *ipc.WayOut {
	m := &ipc.WayOut{
		Name: w.Name, Kind: w.Kind, Host: w.Host, Port: uint32(w.Port),
		User: w.User, Password: w.Password.Reveal(), Bearer: w.Bearer.Reveal(),
		Roots: files.cas[w.CA], Pins: pinsOf(&w.Peer), ServerName: w.ServerName, Fingerprint: w.Fingerprint, OldHttp: w.OldHTTP,
		Check: w.Check, TimeoutMs: uint32(w.Timeout / time.Millisecond), Interface: w.Interface,
	}
	if k := files.clients[w.Client]; k != nil {
		m.ClientChain = k.Chain()
	}
	if m.Fingerprint == "" {
		m.Fingerprint = fingerprint
	}
	if w.OldHTTP {
		m.Fingerprint = "go" // a browser's would offer HTTP/2
	}
	if w.Source4.IsValid() {
		m.Source4 = ipc.PutAddr(w.Source4)
	}
	if w.Source6.IsValid() {
		m.Source6 = ipc.PutAddr(w.Source6)
	}
	return m
}

func pinsOf(p *config.Peer) (pins [][]byte) {
	for _, s := range p.Pins {
		b, _ := base64.StdEncoding.DecodeString(s) // config has looked
		pins = append(pins, b)
	}
	return pins
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
