package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// KDCProxy is what the login helper is called that plays kkdcp; it is no method of
// a login.
const KDCProxy = "kkdcp"

const (
	maxKDCs     = 32  // lines of kkdcp in a virtual host
	maxKDCWord  = 255 // bytes of a path, a realm, a host
	defaultKDC  = "88"
	kdcLineForm = "PATH REALM tcp|udp@HOST:PORT"
)

// KDC is one line of kkdcp: a Kerberos KDC that clients reach by a path of the
// server's (MS-KKDCP).
type KDC struct {
	Path  string // that requests are posted to
	Realm string
	Proto string // tcp, udp
	Host  string // name or address
	Port  int
}

func setKDC(p *parser, t *target, it item) {
	k, err := parseKDC(it.text)
	if err != nil {
		p.errorf(it.line, "%skkdcp: %v", p.vhostTag(), err)
		return
	}
	if len(t.vhost.KDCs) == maxKDCs {
		p.errorf(it.line, "%skkdcp: more than %d", p.vhostTag(), maxKDCs)
		return
	}
	t.vhost.KDCs = append(t.vhost.KDCs, k)
}

func getKDCs(t *target) []string { return stringsOf(t.vhost.KDCs) }

// parseKDC reads `PATH REALM PROTO@HOST:PORT` (ocserv, parse_kkdcp). Without a port
// it is Kerberos' own.
func parseKDC(s string) (k KDC, err error) {
	words := strings.Fields(s)
	if len(words) != 3 {
		return k, fmt.Errorf("'%.64s' is not %s", s, kdcLineForm)
	}
	k.Path, k.Realm = words[0], words[1]
	if k.Path[0] != '/' || len(k.Path) < 2 || strings.ContainsAny(k.Path, "?#") || !isVisible(k.Path) {
		return k, fmt.Errorf("'%.64s' is no path: /NAME", k.Path)
	}
	if !isVisible(k.Realm) {
		return k, fmt.Errorf("'%.64s' is no realm", k.Realm)
	}
	proto, at, _ := strings.Cut(words[2], "@")
	if k.Proto = strings.ToLower(proto); k.Proto != "tcp" && k.Proto != "udp" {
		return k, fmt.Errorf("'%.64s' is not tcp|udp@HOST:PORT", words[2])
	}
	host, port, err := net.SplitHostPort(at)
	if err != nil { // perhaps there is no port
		host, port = strings.TrimSuffix(strings.TrimPrefix(at, "["), "]"), defaultKDC
		if strings.Contains(host, ":") && !strings.HasPrefix(at, "[") {
			return k, fmt.Errorf("'%.64s' is not HOST:PORT", at)
		}
	}
	if k.Host = host; !isVisible(host) || strings.ContainsAny(host, "[]%/@") {
		return k, fmt.Errorf("'%.64s' is not HOST:PORT", at)
	}
	if k.Port, err = portNumber(port); err != nil || k.Port == 0 {
		return k, fmt.Errorf("'%.64s' is no port", port)
	}
	return k, nil
}

// isVisible takes a word of visible ASCII that is not too long.
func isVisible(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return s != "" && len(s) <= maxKDCWord
}

func (k KDC) address() string { return net.JoinHostPort(k.Host, strconv.Itoa(k.Port)) }

// String is the line as kkdcp has it.
func (k KDC) String() string { return k.Path + " " + k.Realm + " " + k.Proto + "@" + k.address() }

// KDCPaths are the paths of kkdcp in a virtual host, each with what the login helper
// is told of it: a Method named KDCProxy whose option kdcs has a line for each KDC,
// `REALM tcp|udp HOST:PORT`.
func (v *Vhost) KDCPaths() map[string]Method {
	of := map[string]Method{}
	for _, k := range v.KDCs {
		m, known := of[k.Path]
		if !known {
			m = Method{Name: KDCProxy, Options: map[string]string{}}
			of[k.Path] = m
		}
		m.Options["kdcs"] += k.Realm + " " + k.Proto + " " + k.address() + "\n"
	}
	return of
}
