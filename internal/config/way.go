package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"rocserv/internal/secret"
)

// Way is a way out: one line `egress = NAME URL [KEY=VALUE ...]`.
type Way struct {
	Name     string
	Kind     string // direct, blackhole, socks5, http, https
	Host     string
	Port     int
	User     string // this and the next two are read by sec-mod only
	Password Secret
	Bearer   Secret

	Peer              // of https
	Client    KeyPair // files of a certificate that it is shown; only sec-mod reads them
	OldHTTP   bool    // http=1.1: HTTP/2 is not offered
	Check     string  // host:port
	Timeout   time.Duration
	Source4   netip.Addr
	Source6   netip.Addr
	Interface string
}

// Via is one line of egress-via: which ways traffic takes.
type Via struct {
	Ways    []string // in order; those with | between them share users
	Nets    []netip.Prefix
	Domains []string
	Ports   []PortRange
	Users   []string // whose traffic; with Groups empty: everybody's
	Groups  []string
}

// The ways that are there without a line.
var builtInWays = []string{"direct", "blackhole"}

const maxWayName = 32

func setWay(p *parser, t *target, it item) {
	w, err := parseWay(it.text)
	if err != nil {
		p.errorf(it.line, "egress: %v", err) // with no word of the line: it may be a password
		return
	}
	if p.role == Main { // who logs in to proxies is no business of main
		w.User, w.Password, w.Bearer = "", Secret{}, Secret{}
	}
	u := t.user
	u.Ways = slices.DeleteFunc(u.Ways, func(o Way) bool { return o.Name == w.Name })
	u.Ways = append(u.Ways, w)
}

func getWays(t *target) []string { return stringsOf(t.user.Ways) }

// parseWay reads `NAME URL [KEY=VALUE ...]`. Its errors name no value, for any
// may be a password.
func parseWay(s string) (w Way, err error) {
	words := strings.Fields(s)
	if len(words) < 2 {
		return w, fmt.Errorf("a way has a name and a URL: NAME socks5://HOST:PORT")
	}
	if w.Name = words[0]; !isWayName(w.Name) || slices.Contains(builtInWays, w.Name) {
		return w, fmt.Errorf("a name of a way has up to %d letters, digits, - and _, and is not direct or blackhole", maxWayName)
	}
	if err := w.url(words[1]); err != nil {
		return w, fmt.Errorf("%s: %w", w.Name, err)
	}
	for _, word := range words[2:] {
		key, value, _ := strings.Cut(word, "=")
		if err := w.set(key, value); err != nil {
			return w, fmt.Errorf("%s: %w", w.Name, err)
		}
	}
	return w, w.check()
}

func isWayName(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= maxWayName
}

func (w *Way) url(s string) error {
	switch strings.TrimSuffix(s, ":") {
	case "direct", "blackhole":
		w.Kind = strings.TrimSuffix(s, ":")
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return fmt.Errorf("its URL cannot be read: socks5://, http:// or https://, with [USER:PASSWORD@]HOST[:PORT] in percent-encoding, or direct")
	}
	port := map[string]int{"socks5": 1080, "socks5h": 1080, "http": 3128, "https": 443}[u.Scheme]
	switch {
	case port == 0:
		return fmt.Errorf("its URL is none of socks5, http and https")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("its URL goes on after the port")
	}
	w.Kind, w.Host, w.Port = strings.TrimSuffix(u.Scheme, "h"), u.Hostname(), port
	if s := u.Port(); s != "" {
		if w.Port, err = portNumber(s); err != nil || w.Port == 0 {
			return fmt.Errorf("its port is no port")
		}
	}
	if w.Host, err = parseHost(w.Host); err != nil {
		return fmt.Errorf("its host is no address and no name")
	}
	if u.User != nil {
		password, _ := u.User.Password()
		w.User, w.Password = u.User.Username(), secret.NewText(password)
	}
	return nil
}

func (w *Way) set(key, value string) error {
	if known, err := w.Peer.set(key, value); known {
		return err
	}
	switch key {
	case "client-cert":
		w.Client.Cert = value
	case "client-key":
		w.Client.Key = value
	case "bearer":
		w.Bearer = secret.NewText(value)
	case "http":
		if value != "1.1" {
			return fmt.Errorf("http is 1.1, or left out")
		}
		w.OldHTTP = true
	case "check":
		host, port, err := net.SplitHostPort(value)
		if n, err2 := portNumber(port); err != nil || err2 != nil || n == 0 || host == "" {
			return fmt.Errorf("check is HOST:PORT")
		}
		w.Check = value
	case "timeout":
		n, exact := parseNumber(value, 300)
		if !exact || n == 0 {
			return fmt.Errorf("timeout is 1 to 300 seconds")
		}
		w.Timeout = time.Duration(n) * time.Second
	case "source":
		return w.source(value)
	case "interface":
		if value == "" || len(value) > 15 {
			return fmt.Errorf("interface is the name of one")
		}
		w.Interface = value
	default:
		return fmt.Errorf("it has a word that is none of bearer, pin-sha256, ca, client-cert, client-key, name, tls-fingerprint, http, check, timeout, source and interface, each with =")
	}
	return nil
}

func (w *Way) source(value string) error {
	for s := range strings.SplitSeq(value, ",") {
		a, err := parseAddr(s)
		switch {
		case err != nil:
			return fmt.Errorf("source is an address, or one of each family with a comma between")
		case a.Is4():
			w.Source4 = a
		default:
			w.Source6 = a
		}
	}
	return nil
}

// check looks at what does not go together.
func (w *Way) check() error {
	proxy := w.Host != ""
	tls := w.Peer.isSet() || w.OldHTTP || w.Client != KeyPair{}
	switch {
	case tls && w.Kind != "https":
		return fmt.Errorf("%s: what concerns TLS is for https", w.Name)
	case (w.Client.Cert == "") != (w.Client.Key == ""):
		return fmt.Errorf("%s: client-cert and client-key go together", w.Name)
	case !proxy && (w.Check != "" || w.Timeout != 0):
		return fmt.Errorf("%s: check and timeout are for proxies", w.Name)
	case !w.Bearer.IsZero() && (w.Kind == "socks5" || !proxy || w.User != ""):
		return fmt.Errorf("%s: bearer is for http and https, and instead of a user", w.Name)
	case w.OldHTTP && w.Fingerprint != "" && w.Fingerprint != "go":
		return fmt.Errorf("%s: http=1.1 does not go with a browser's fingerprint, which offers HTTP/2", w.Name)
	case w.Kind == "socks5" && w.User == "" && !w.Password.IsZero(),
		w.Kind == "socks5" && (len(w.User) > 255 || len(w.Password.Reveal()) > 255):
		return fmt.Errorf("%s: SOCKS5 has users and passwords of 1 to 255 bytes", w.Name)
	}
	return nil
}

// String is the way as one would write it, without its secrets.
func (w Way) String() string {
	b := w.Name + " " + w.Kind
	if w.Host != "" {
		b += "://"
		if w.User != "" || !w.Password.IsZero() {
			b += url.User(w.User).String()
			if !w.Password.IsZero() {
				b += ":[redacted]"
			}
			b += "@"
		}
		b += net.JoinHostPort(w.Host, strconv.Itoa(w.Port))
	}
	if !w.Bearer.IsZero() {
		b += " bearer=[redacted]"
	}
	b += w.Peer.words()
	var source []string
	for _, a := range []netip.Addr{w.Source4, w.Source6} {
		if a.IsValid() {
			source = append(source, a.String())
		}
	}
	timeout, old := "", ""
	if w.Timeout > 0 {
		timeout = strconv.Itoa(int(w.Timeout / time.Second))
	}
	if w.OldHTTP {
		old = "1.1"
	}
	for _, kv := range [][2]string{{"client-cert", w.Client.Cert}, {"client-key", w.Client.Key}, {"http", old}, {"check", w.Check}, {"timeout", timeout}, {"source", strings.Join(source, ",")}, {"interface", w.Interface}} {
		if kv[1] != "" {
			b += " " + kv[0] + "=" + kv[1]
		}
	}
	return b
}

func setVia(p *parser, t *target, it item) {
	v, err := parseVia(it.text)
	if err != nil {
		p.errorf(it.line, "egress-via: %v", err)
		return
	}
	t.user.Via = append(t.user.Via, v)
}

func getVia(t *target) []string { return stringsOf(t.user.Via) }

// parseWayNames reads NAME[,NAME...], each of which may be several with | between.
func parseWayNames(s string) (names []string, err error) {
	names = split(s)
	for _, n := range names {
		for one := range strings.SplitSeq(n, "|") {
			if !isWayName(one) {
				return nil, fmt.Errorf("'%.64s' is not the name of a way", one)
			}
		}
	}
	return names, nil
}

// parseVia reads `NAME[,NAME...] [for NETWORK|DOMAIN|user:NAME|group:NAME|PORTS ...]`.
func parseVia(s string) (v Via, err error) {
	names, conditions, _ := strings.Cut(" "+s+" ", " for ")
	if v.Ways, err = parseWayNames(names); err != nil {
		return v, err
	}
	if len(v.Ways) == 0 {
		return v, fmt.Errorf("it names no way")
	}
	for _, c := range split(conditions) {
		if err := v.condition(c); err != nil {
			return v, err
		}
	}
	if strings.TrimSpace(conditions) == "" && strings.HasSuffix(strings.TrimSpace(s), " for") {
		return v, fmt.Errorf("nothing follows 'for'")
	}
	return v, nil
}

func (v *Via) condition(s string) error {
	kind, name, named := strings.Cut(s, ":")
	switch {
	case strings.HasSuffix(s, ")"):
		r, err := parsePortRange(s)
		v.Ports = append(v.Ports, r)
		return err
	case named && kind == "user" && name != "":
		v.Users = append(v.Users, name)
		return nil
	case named && kind == "group" && name != "":
		v.Groups = append(v.Groups, name)
		return nil
	}
	network, domain, err := parseDestination(s)
	switch {
	case err != nil:
		return err
	case network.IsValid():
		v.Nets = append(v.Nets, network)
	case domain != "":
		v.Domains = append(v.Domains, domain)
	default:
		v.Nets = append(v.Nets, everything, netip.PrefixFrom(netip.IPv6Unspecified(), 0)) // any
	}
	return nil
}

// Holds says whether the line is about this user.
func (v *Via) Holds(user, group string) bool {
	return len(v.Users)+len(v.Groups) == 0 || slices.Contains(v.Users, user) || group != "" && slices.Contains(v.Groups, group)
}

// String is the line as one would write it.
func (v Via) String() string {
	b := strings.Join(v.Ways, ",")
	var conditions []string
	for _, n := range v.Nets {
		conditions = append(conditions, n.String())
	}
	conditions = append(conditions, v.Domains...)
	for _, r := range v.Ports {
		conditions = append(conditions, r.String())
	}
	for _, u := range v.Users {
		conditions = append(conditions, "user:"+u)
	}
	for _, g := range v.Groups {
		conditions = append(conditions, "group:"+g)
	}
	if len(conditions) > 0 {
		b += " for " + strings.Join(conditions, " ")
	}
	return b
}

func setFingerprint(p *parser, t *target, it item) {
	if !slices.Contains(fingerprints, it.text) {
		p.errorf(it.line, "'tls-fingerprint' is one of %s, not '%.64s'", strings.Join(fingerprints, ", "), it.text)
		return
	}
	t.user.Fingerprint = it.text
}

func getFingerprint(t *target) []string { return text(t.user.Fingerprint, t.user.Fingerprint == "") }

// checkWays: every way that is used is defined.
func (p *parser) checkWays(vhost string, u *User) {
	check := func(option string, names []string) {
		for one := range strings.SplitSeq(strings.Join(names, "|"), "|") {
			defined := func(w Way) bool { return w.Name == one }
			if one != "" && !slices.Contains(builtInWays, one) && !slices.ContainsFunc(u.Ways, defined) {
				p.errorf(p.lineOf(vhost, option), "%s%s names the way '%s', and no egress line defines it", vhostPrefix(vhost), option, one)
			}
		}
	}
	for _, v := range u.Via {
		check("egress-via", v.Ways)
	}
	check("resolver-via", u.Resolver.Via)
}
