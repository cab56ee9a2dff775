package resolver

import (
	"iter"
	"net/netip"
	"slices"
	"strings"

	"rocserv/egress/tlsclient"
)

// maxServers bounds the servers of a zone, and of what is in none.
const maxServers = 8

// Kind is how a server is spoken to.
type Kind uint8

// The kinds.
const (
	Plain Kind = iota // RFC 1035: by UDP, and by TCP what does not fit
	TLS               // RFC 7858
	HTTPS             // RFC 8484
)

// Server is a DNS server.
type Server struct {
	Kind Kind
	Addr netip.AddrPort // of a server without a Host
	Host string         // name of a server; its port is Addr's
	Path string         // of HTTPS
	TLS  *tlsclient.Config
}

func (s *Server) same(o *Server) bool { return *s == *o }

// Zone is names that are asked of servers of their own.
type Zone struct {
	Names   []string // in lower case, without a dot at the end: the name and all below
	Servers []Server
}

// servers are who is asked for what.
type servers struct {
	rest  []*upstream
	zones map[string][]*upstream
}

func zonesOf(list []Zone) map[string][]*upstream {
	if len(list) == 0 {
		return nil
	}
	m := map[string][]*upstream{}
	for _, z := range list {
		group := upstreams(z.Servers[:min(len(z.Servers), maxServers)])
		for _, n := range z.Names {
			m[n] = append(m[n], group...)
		}
	}
	return m
}

// of is who is asked for a name: the servers of the longest zone it is in.
func (s *servers) of(name string) []*upstream {
	if len(s.zones) > 0 {
		for zone := range suffixes(name) {
			if group := s.zones[zone]; group != nil {
				return group
			}
		}
	}
	return s.rest
}

// all are the servers, some more than once.
func (s *servers) all() iter.Seq[*upstream] {
	return func(yield func(*upstream) bool) {
		for _, u := range s.rest {
			if !yield(u) {
				return
			}
		}
		for _, group := range s.zones {
			for _, u := range group {
				if !yield(u) {
					return
				}
			}
		}
	}
}

// suffixes are the name itself and the domains it is in, the longest first.
func suffixes(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for name != "" && yield(name) {
			_, name, _ = strings.Cut(name, ".")
		}
	}
}

// inAny says whether a name is one of some domains or below.
func inAny(name string, domains []string) bool {
	for s := range suffixes(name) {
		if slices.Contains(domains, s) {
			return true
		}
	}
	return false
}
