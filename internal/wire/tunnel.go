package wire

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Errors of Tunnel.Response beside ErrField.
var (
	ErrNoAddress = errors.New("wire: tunnel without an address")
	ErrTunnel    = errors.New("wire: tunnel cannot be described")
)

// Tunnel is what a client is told in answer to its CONNECT.
type Tunnel struct {
	Agent      Agent
	ServerName string
	Hostname   string // of the client
	Addresses  Addresses
	Names      Names
	Routes     Routes
	Timers     Timers
	MTU        MTU
	DTLS       *TunnelDTLS // nil: CSTP only
	Encoding   string      // compression on the CSTP channel; empty: none
	DynDNS     bool        // the client resolves our name anew when it reconnects
	ProxyURL   string      // of a PAC file
	Banner     string
	Custom     []string // custom-header: "Name: value", ready to send
	HTTP       []string // included-http-headers, the same
}

// Addresses are the client's own. At least one is needed.
type Addresses struct {
	IPv4  netip.Addr // invalid: none
	Bits4 int        // of the pool
	IPv6  netip.Addr
	Bits6 int
	Old6  bool // the client does not know X-CSTP-Address-IP6 (Connect.FullIPv6)
}

// Names is how the client is to resolve names.
type Names struct {
	DNS       []netip.Addr
	NBNS      []netip.Addr
	Split     []string // domains that go to the VPN's DNS
	Domain    string   // search list, separated by blanks, "," or ";"
	TunnelAll bool     // every question goes through the tunnel
}

// Routes is what the client is to send into the tunnel.
type Routes struct {
	Include []netip.Prefix // empty: everything
	Exclude []netip.Prefix // 0.0.0.0/32 means the client's own LAN
	Bypass  bool           // a family without address goes outside, not nowhere
}

// Timers are those of the session; what is zero does not run.
type Timers struct {
	DPD         time.Duration
	Keepalive   time.Duration
	Idle        time.Duration
	Session     time.Duration
	SessionLeft time.Duration // of Session
	Rekey       time.Duration // always by a new connection: Go has no renegotiation
}

// TunnelDTLS is what the client needs for the DTLS channel.
type TunnelDTLS struct {
	Port     int
	ID       []byte // 32 bytes, fresh: App-ID (PSK) or session id (legacy)
	Choice   DTLSChoice
	Encoding string
}

// dtlsIDLen is the length of App-ID and session id: openconnect takes no other
// session id (openconnect cstp.c), and no longer App-ID.
const dtlsIDLen = 32

// Response gives the reply with which the tunnel starts: headers in the case
// openconnect compares them in, in ocserv's order. It is to be written at once,
// and no packet in the same TLS record.
func (t *Tunnel) Response() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	var w headerWriter
	w.line("HTTP/1.1 200 ", "CONNECTED")
	w.field("X-CSTP-Version", "1")
	w.field("X-CSTP-Server-Name", t.ServerName)
	if t.Hostname != "" {
		w.field("X-CSTP-Hostname", t.Hostname)
	}
	w.field("X-CSTP-DPD", seconds(t.Timers.DPD))
	t.addresses(&w)
	t.names(&w)
	t.routes(&w)
	t.timers(&w)
	t.fixed(&w)
	t.dtls(&w)
	w.field("X-CSTP-Base-MTU", strconv.Itoa(t.MTU.Link))
	w.field("X-CSTP-MTU", strconv.Itoa(t.MTU.Tunnel))
	if t.Banner != "" {
		w.field("X-CSTP-Banner", oneLine(t.Banner))
	}
	t.encodings(&w)
	return w.end()
}

// check wants what a client cannot do without.
func (t *Tunnel) check() error {
	a, d := t.Addresses, t.DTLS
	switch {
	case !t.has4() && !t.has6():
		return ErrNoAddress
	case t.MTU.Tunnel <= 0: // openconnect gives up
		return fmt.Errorf("%w: no MTU", ErrTunnel)
	case t.has4() && !netip.PrefixFrom(a.IPv4, a.Bits4).IsValid(),
		t.has6() && !netip.PrefixFrom(a.IPv6, a.Bits6).IsValid():
		return fmt.Errorf("%w: network of the address", ErrTunnel)
	case d != nil && (len(d.ID) != dtlsIDLen || d.Choice.Mode == DTLSNone):
		return fmt.Errorf("%w: DTLS", ErrTunnel)
	}
	return nil
}

func (t *Tunnel) has4() bool { return t.Addresses.IPv4.Is4() }

// has6 says whether the tunnel carries IPv6: there is an address, and packets
// of the least size IPv6 has fit.
func (t *Tunnel) has6() bool { return t.Addresses.IPv6.Is6() && t.MTU.Tunnel >= MinMTU6 }

// full6 says whether the client is told routes and DNS servers of IPv6.
func (t *Tunnel) full6() bool {
	return t.has6() && !t.Addresses.Old6 && t.Agent.ipv6Routes()
}

func (t *Tunnel) addresses(w *headerWriter) {
	// One header: of several, openconnect takes the last.
	domains := strings.FieldsFunc(t.Names.Domain, func(r rune) bool { return strings.ContainsRune(" \t,;", r) })
	if len(domains) > 0 {
		w.field("X-CSTP-Default-Domain", strings.Join(domains, ","))
	}
	a := t.Addresses
	if t.has4() {
		w.field("X-CSTP-Address", a.IPv4.String())
		w.field("X-CSTP-Netmask", dottedMask(a.Bits4))
	}
	switch {
	case !t.has6():
	case a.Old6:
		w.field("X-CSTP-Address", a.IPv6.String())
		w.field("X-CSTP-Netmask", netip.PrefixFrom(a.IPv6, a.Bits6).String())
	default:
		w.field("X-CSTP-Address-IP6", netip.PrefixFrom(a.IPv6, a.Bits6).String())
	}
}

// shown says whether the client is told about an address of that family.
func (t *Tunnel) shown(a netip.Addr) bool {
	return a.Is4() && t.has4() || a.Is6() && t.full6()
}

func (t *Tunnel) names(w *headerWriter) {
	for _, a := range t.Names.DNS {
		if a = a.Unmap(); t.shown(a) {
			w.field(t.Agent.dnsHeader(a.Is6()), a.String())
		}
	}
	for _, a := range t.Names.NBNS {
		if a = a.Unmap(); t.shown(a) {
			w.field("X-CSTP-NBNS", a.String())
		}
	}
	for _, domain := range t.Names.Split {
		w.field("X-CSTP-Split-DNS", domain)
	}
}

func (t *Tunnel) routes(w *headerWriter) {
	is6 := func(p netip.Prefix) bool { return p.Addr().Is6() }
	if t.full6() && t.Agent.wantsIPv6Include() && !slices.ContainsFunc(t.Routes.Include, is6) {
		w.field("X-CSTP-Split-Include-IP6", "2000::/3")
	}
	for _, p := range t.Routes.Include {
		t.route(w, "X-CSTP-Split-Include", p)
	}
	w.field("X-CSTP-Tunnel-All-DNS", strconv.FormatBool(t.Names.TunnelAll))
	w.field("X-CSTP-Client-Bypass-Protocol", strconv.FormatBool(t.Routes.Bypass))
	// Cisco's clients know the exclude of their LAN only as the first.
	exclude := slices.Clone(t.Routes.Exclude)
	slices.SortStableFunc(exclude, func(a, b netip.Prefix) int { return isLAN(b) - isLAN(a) })
	for _, p := range exclude {
		t.route(w, "X-CSTP-Split-Exclude", p)
	}
}

func isLAN(p netip.Prefix) int {
	if p == netip.PrefixFrom(netip.IPv4Unspecified(), 32) {
		return 1
	}
	return 0
}

func (t *Tunnel) route(w *headerWriter, name string, p netip.Prefix) {
	switch {
	case !p.IsValid():
		w.fail(name)
	case !t.shown(p.Addr()):
	case p.Addr().Is4():
		// Never "/8": sslcon would read it as no mask at all.
		w.field(name, p.Addr().String()+"/"+dottedMask(p.Bits()))
	default:
		w.field(name+"-IP6", p.String())
	}
}

func (t *Tunnel) timers(w *headerWriter) {
	w.field("X-CSTP-Keepalive", seconds(t.Timers.Keepalive))
	w.field("X-CSTP-Idle-Timeout", secondsOrNone(t.Timers.Idle))
	w.field("X-CSTP-Smartcard-Removal-Disconnect", "true")
	if t.DynDNS {
		w.field("X-CSTP-DynDNS", "true")
	}
	t.rekey(w, "X-CSTP-", t.Timers.Rekey)
	if t.ProxyURL != "" {
		w.field("X-CSTP-MSIE-Proxy-Pac-URL", t.ProxyURL) // ocserv's spelling
		w.field("X-CSTP-MSIE-Proxy-PAC-URL", t.ProxyURL) // what openconnect knows
	}
	// The last one of the two that is not "none" is what openconnect shows.
	w.field("X-CSTP-Session-Timeout", secondsOrNone(t.Timers.Session))
	if t.Timers.Session > 0 {
		w.field("X-CSTP-Session-Timeout-Remaining", seconds(max(t.Timers.SessionLeft, 0)))
	}
}

// rekey tells how keys are renewed: by connecting anew, as Go does not
// renegotiate.
func (t *Tunnel) rekey(w *headerWriter, prefix string, after time.Duration) {
	if t.Timers.Rekey <= 0 {
		w.field(prefix+"Rekey-Method", "none")
		return
	}
	w.field(prefix+"Rekey-Time", seconds(after))
	w.field(prefix+"Rekey-Method", "new-tunnel")
}

// fixed writes what is the same for all, and what the operator added.
func (t *Tunnel) fixed(w *headerWriter) {
	w.field("X-CSTP-Disconnected-Timeout", "none")
	w.field("X-CSTP-Keep", "true")
	w.field("X-CSTP-TCP-Keepalive", "true")
	w.field("X-CSTP-License", "accept")
	for _, line := range t.Custom {
		f, err := ParseField(line)
		if err != nil {
			w.fail("custom-header")
			continue
		}
		w.field(f.Name, f.Value)
	}
	for _, line := range t.HTTP { // what is no header line is left out of other replies too
		if f, err := ParseField(line); err == nil {
			w.field(f.Name, f.Value)
		}
	}
}

// dtlsRekeyLater is how many seconds the DTLS channel is renewed after the CSTP
// channel, so that one renewal does for both (ocserv worker-vpn.c).
const dtlsRekeyLater = 10 * time.Second

func (t *Tunnel) dtls(w *headerWriter) {
	d := t.DTLS
	if d == nil {
		return
	}
	w.field("X-DTLS-DPD", seconds(t.Timers.DPD))
	w.field("X-DTLS-Port", strconv.Itoa(d.Port))
	t.rekey(w, "X-DTLS-", t.Timers.Rekey+dtlsRekeyLater)
	w.field("X-DTLS-Keepalive", seconds(t.Timers.Keepalive))
	if d.Choice.Mode == DTLSPSK {
		w.field("X-DTLS-App-ID", hex.EncodeToString(d.ID))
	} else {
		w.field("X-DTLS-Session-ID", hex.EncodeToString(d.ID))
	}
	if d.Choice.Header12 {
		w.field("X-DTLS12-CipherSuite", d.Choice.Name)
	} else {
		w.field("X-DTLS-CipherSuite", d.Choice.Name)
	}
	if d.Choice.Mode == DTLSLegacy {
		w.field("X-DTLS-MTU", strconv.Itoa(t.MTU.Tunnel)) // iOS wants both alike
	}
}

func (t *Tunnel) encodings(w *headerWriter) {
	if t.Encoding != "" {
		w.field("X-CSTP-Content-Encoding", t.Encoding)
	}
	if t.DTLS != nil && t.DTLS.Encoding != "" {
		w.field("X-DTLS-Content-Encoding", t.DTLS.Encoding)
	}
}

// ParseRoute parses a route as configurations write it: "10.0.0.0/8",
// "10.0.0.0/255.0.0.0" or "fd00::/8". Bits of the host are dropped.
func ParseRoute(s string) (netip.Prefix, error) {
	addr, mask, ok := strings.Cut(s, "/")
	if m, err := netip.ParseAddr(mask); ok && err == nil && m.Is4() {
		a, err := netip.ParseAddr(addr)
		bits := maskBits(m)
		if err != nil || !a.Is4() || bits < 0 {
			return netip.Prefix{}, fmt.Errorf("wire: bad route %q", printable(s, 64))
		}
		return netip.PrefixFrom(a, bits).Masked(), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("wire: bad route %q", printable(s, 64))
	}
	return p.Masked(), nil
}

func dottedMask(bits int) string {
	m := ^uint32(0) << (32 - uint(bits))
	return netip.AddrFrom4([4]byte{byte(m >> 24), byte(m >> 16), byte(m >> 8), byte(m)}).String()
}

// maskBits is the inverse of dottedMask, -1 for a mask with holes.
func maskBits(m netip.Addr) int {
	for bits := range 33 {
		if dottedMask(bits) == m.String() {
			return bits
		}
	}
	return -1
}

func secondsOrNone(d time.Duration) string {
	if d <= 0 {
		return "none"
	}
	return seconds(d)
}

// oneLine makes a text of several lines one of one.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\r' || r == '\n' }), " ")
}
