package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	dnsPort       = 53
	maxResolvers  = 8   // asked for the same names
	maxDNSServers = 128 // of all zones
	maxDNSCache   = 16 << 20
)

// Resolver is how the gateway's resolver works for a user.
type Resolver struct {
	Servers     []DNSServer // without zones none: the host's
	Via         []string    // ways that questions take; empty: the host's own sockets
	Block       []string    // domains, and files of domains, which have a / in them
	Refuse      bool        // resolver-block-answer = refused
	Guard       bool        // a public name does not lead to a private address
	GuardExcept []string    // domains that may
	Cache       int         // bytes; 0: none
}

// DNSServer is a server that the gateway's resolver asks.
type DNSServer struct {
	Kind  string // udp, tls, https
	Host  string // address, or name: not with udp
	Port  int
	Path  string   // of https
	Zones []string // asked for these only; empty: for what is in no zone
	Peer
}

// clone returns a copy that shares nothing with r.
func (r Resolver) clone() Resolver {
	r.Servers, r.Via = slices.Clone(r.Servers), slices.Clone(r.Via)
	r.Block, r.GuardExcept = slices.Clone(r.Block), slices.Clone(r.GuardExcept)
	for i := range r.Servers {
		s := &r.Servers[i]
		s.Zones, s.Pins = slices.Clone(s.Zones), slices.Clone(s.Pins)
	}
	return r
}

// setResolver reads `SERVER[, SERVER...] [for ZONE[, ZONE...]]`.
func setResolver(p *parser, t *target, it item) {
	list, err := parseDNSServers(it.text)
	if err != nil {
		p.errorf(it.line, "resolver: %v", err)
		return
	}
	all := &t.user.Resolver.Servers
	*all = append(*all, list...)
	same := 0
	for _, s := range *all {
		if slices.Equal(s.Zones, list[0].Zones) {
			same++
		}
	}
	if same > maxResolvers || len(*all) > maxDNSServers {
		p.errorf(it.line, "resolver: more than %d for the same names, or %d in all", maxResolvers, maxDNSServers)
		*all = (*all)[:len(*all)-len(list)]
	}
}

func getResolvers(t *target) []string { return stringsOf(t.user.Resolver.Servers) }

func parseDNSServers(s string) (list []DNSServer, err error) {
	servers, zones, bound := strings.Cut(" "+s+" ", " for ")
	for _, word := range split(servers) {
		key, value, setting := strings.Cut(word, "=")
		if setting && !strings.Contains(word, "://") {
			if len(list) == 0 || list[len(list)-1].Kind == "udp" {
				return nil, fmt.Errorf("%.64s= is for the tls:// or https:// server before it", key)
			}
			known, err := list[len(list)-1].set(key, value)
			if err == nil && !known {
				err = fmt.Errorf("'%.64s' is none of pin-sha256, ca, name and tls-fingerprint", key)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		d, err := parseDNSServer(word)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("it names no server")
	}
	if !bound {
		return list, nil
	}
	names, err := parseZones(zones)
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("nothing follows 'for'")
	}
	for i := range list {
		list[i].Zones = names
	}
	return list, err
}

// parseDNSServer reads an address with or without a port (192.0.2.1:53,
// 2001:db8::1, [2001:db8::1]:53), tls://HOST[:PORT] or https://HOST[:PORT][/PATH].
func parseDNSServer(s string) (d DNSServer, err error) {
	if strings.Contains(s, "://") {
		return parseDNSURL(s)
	}
	a, err := parseResolver(s)
	return DNSServer{Kind: "udp", Host: a.Addr().String(), Port: int(a.Port())}, err
}

func parseDNSURL(s string) (d DNSServer, err error) {
	u, err := url.Parse(s)
	port := map[string]int{"tls": 853, "https": 443} // RFC 7858 section 3.1, RFC 8484
	switch {
	case err != nil || u.Hostname() == "" || port[u.Scheme] == 0:
		return d, fmt.Errorf("'%.64s' is not tls://HOST[:PORT] or https://HOST[:PORT]/PATH", s)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme == "tls" && u.Path != "":
		return d, fmt.Errorf("'%.64s' has more than a host, a port and, with https, a path", s)
	}
	d = DNSServer{Kind: u.Scheme, Port: port[u.Scheme]}
	if s := u.Port(); s != "" {
		if d.Port, err = portNumber(s); err != nil || d.Port == 0 {
			return d, fmt.Errorf("'%.64s' is no port", s)
		}
	}
	if d.Host, err = parseHost(u.Hostname()); err != nil {
		return d, fmt.Errorf("'%.64s' is no address and no name", u.Hostname())
	}
	if d.Kind == "https" {
		if d.Path = u.EscapedPath(); d.Path == "" || d.Path == "/" {
			d.Path = "/dns-query" // RFC 8484 section 4.1.1, by convention
		}
	}
	return d, nil
}

// parseHost reads an address or a name.
func parseHost(s string) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return a.Unmap().String(), nil
	}
	name, err := CanonicalName(s)
	if err == nil && !isDomain(name) {
		err = fmt.Errorf("no name")
	}
	return name, err
}

// parseResolver reads an address with or without a port.
func parseResolver(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return a, fmt.Errorf("'%.64s' is neither an address nor an address and a port", s)
		}
		a = netip.AddrPortFrom(addr, dnsPort)
	}
	switch addr := a.Addr(); {
	case addr.Zone() != "":
		return a, fmt.Errorf("'%.64s': an address with a zone is not supported", s)
	case addr.IsUnspecified() || addr.IsMulticast() || a.Port() == 0:
		return a, fmt.Errorf("'%.64s' is no address of a server", s)
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}

// parseZones reads domains, each of which means itself and everything below.
func parseZones(s string) (list []string, err error) {
	for _, word := range split(s) {
		name, err := CanonicalName(strings.TrimPrefix(word, "*."))
		if err != nil || !isDomain(name) {
			return nil, fmt.Errorf("'%.64s' is no domain", word)
		}
		list = append(list, name)
	}
	return list, nil
}

// String is the server as one would write it.
func (d DNSServer) String() string {
	s := net.JoinHostPort(d.Host, strconv.Itoa(d.Port))
	if d.Kind != "udp" {
		s = d.Kind + "://" + s + d.Path + d.Peer.words()
	}
	if len(d.Zones) > 0 {
		s += " for " + strings.Join(d.Zones, ", ")
	}
	return s
}

func setResolverVia(p *parser, t *target, it item) {
	names, err := parseWayNames(it.text)
	if err != nil {
		p.errorf(it.line, "resolver-via: %v", err)
		return
	}
	t.user.Resolver.Via = append(t.user.Resolver.Via, names...)
}

func getResolverVia(t *target) []string {
	return text(strings.Join(t.user.Resolver.Via, ","), len(t.user.Resolver.Via) == 0)
}

func setResolverBlock(p *parser, t *target, it item) {
	r := &t.user.Resolver
	for _, word := range split(it.text) {
		if strings.Contains(word, "/") {
			r.Block = append(r.Block, word)
			continue
		}
		zones, err := parseZones(word)
		if err != nil {
			p.errorf(it.line, "resolver-block: %v, nor a file, which has a / in its name", err)
			return
		}
		r.Block = append(r.Block, zones...)
	}
}

// BlockFiles are the files among Block.
func (r *Resolver) BlockFiles() (files []string) {
	for _, b := range r.Block {
		if strings.Contains(b, "/") {
			files = append(files, b)
		}
	}
	return files
}

func setBlockAnswer(p *parser, t *target, it item) {
	switch it.text {
	case "nxdomain", "refused":
		t.user.Resolver.Refuse = it.text == "refused"
	default:
		p.errorf(it.line, "'resolver-block-answer' is nxdomain or refused, not '%.64s'", it.text)
	}
}

func getBlockAnswer(t *target) []string {
	if t.user.Resolver.Refuse {
		return []string{"refused"}
	}
	return []string{"nxdomain"}
}

func setGuardExcept(p *parser, t *target, it item) {
	zones, err := parseZones(it.text)
	if err != nil {
		p.errorf(it.line, "resolver-guard-except: %v", err)
		return
	}
	t.user.Resolver.GuardExcept = append(t.user.Resolver.GuardExcept, zones...)
}
