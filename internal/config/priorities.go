package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// defaultPriorities is ocserv's default of tls-priorities.
const defaultPriorities = "NORMAL:%SERVER_PRECEDENCE:%COMPAT"

// TLS versions, cipher suites and groups by their IANA numbers. They are here
// as numbers because main, which links this package, must not link crypto/tls.
const (
	tls12 = 0x0303
	tls13 = 0x0304

	x25519 = 29
	p256   = 23
	p384   = 24
	p521   = 25
	mlkem  = 4588 // X25519MLKEM768
)

// suite is a TLS 1.2 suite that crypto/tls has, in GnuTLS's terms.
type suite struct {
	id                       uint16
	cipher, mac, keyExchange string
}

// suites in GnuTLS's NORMAL order of ciphers. Suites with RSA key exchange are
// not among them: sec-mod signs and does not decrypt.
var suites = [...]suite{
	{0xc02c, "AES-256-GCM", "AEAD", "ECDHE-ECDSA"},
	{0xc030, "AES-256-GCM", "AEAD", "ECDHE-RSA"},
	{0xcca9, "CHACHA20-POLY1305", "AEAD", "ECDHE-ECDSA"},
	{0xcca8, "CHACHA20-POLY1305", "AEAD", "ECDHE-RSA"},
	{0xc00a, "AES-256-CBC", "SHA1", "ECDHE-ECDSA"},
	{0xc014, "AES-256-CBC", "SHA1", "ECDHE-RSA"},
	{0xc02b, "AES-128-GCM", "AEAD", "ECDHE-ECDSA"},
	{0xc02f, "AES-128-GCM", "AEAD", "ECDHE-RSA"},
	{0xc009, "AES-128-CBC", "SHA1", "ECDHE-ECDSA"},
	{0xc013, "AES-128-CBC", "SHA1", "ECDHE-RSA"},
	{0xc023, "AES-128-CBC", "SHA256", "ECDHE-ECDSA"}, // only where SHA256 is named
	{0xc027, "AES-128-CBC", "SHA256", "ECDHE-RSA"},
}

// curve returns the number of a group by GnuTLS's name, or 0.
func curve(name string) uint16 {
	switch name {
	case "X25519":
		return x25519
	case "SECP256R1":
		return p256
	case "SECP384R1":
		return p384
	case "SECP521R1":
		return p521
	case "X25519-MLKEM768":
		return mlkem
	}
	return 0
}

// priority is a priority string while it is read: what is switched on, in order.
type priority struct {
	versions []string
	ciphers  []string
	macs     []string
	exchange []string
	groups   []string
	warnings []string

	chosen       bool // ciphers, MACs or key exchanges differ from the keyword's
	chosenGroups bool
}

var errNoVersion = errors.New("no TLS version is left: 1.2 and 1.3 are supported")

// parsePriorities translates a GnuTLS priority string. What crypto/tls cannot
// be told is a warning; an error is a string that leaves no TLS version or no
// cipher suite. Suites and Curves are left empty, which means Go's own, where
// the string is content with a keyword's.
func parsePriorities(s string) (TLS, []string, error) {
	t := TLS{Priorities: s}
	p := &priority{}
	if strings.TrimSpace(s) == "" {
		s = defaultPriorities
	}
	for i, word := range strings.Split(s, ":") {
		word = strings.ToUpper(strings.TrimSpace(word))
		switch {
		case word == "":
		case word[0] == '%':
			p.flag(word)
		case strings.IndexByte("+-!", word[0]) >= 0:
			p.change(word[0] == '+', word[1:])
		case i > 0:
			p.warnf("'%s' is only known as the first word", word)
		default:
			p.keyword(word)
		}
	}
	err := p.versionsOf(&t)
	if err == nil {
		err = p.suitesOf(&t)
	}
	p.groupsOf(&t)
	return t, p.warnings, err
}

func (p *priority) warnf(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

var (
	normalCiphers   = []string{"AES-256-GCM", "CHACHA20-POLY1305", "AES-256-CBC", "AES-128-GCM", "AES-128-CBC"}
	fastCiphers     = []string{"AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305", "AES-128-CBC", "AES-256-CBC"}
	strongCiphers   = []string{"AES-256-GCM", "CHACHA20-POLY1305"}
	normalMACs      = []string{"AEAD", "SHA1"}
	normalExchanges = []string{"ECDHE-ECDSA", "ECDHE-RSA"}
	normalGroups    = []string{"X25519", "SECP256R1", "SECP384R1", "SECP521R1"}
	bothVersions    = []string{"TLS1.3", "TLS1.2"}
)

// keyword begins a string: what it names is switched on.
func (p *priority) keyword(word string) {
	p.versions, p.macs, p.exchange = slices.Clone(bothVersions), slices.Clone(normalMACs), slices.Clone(normalExchanges)
	p.groups, p.ciphers = slices.Clone(normalGroups), slices.Clone(normalCiphers)
	switch word {
	case "NORMAL", "SECURE128", "SECURE100", "SECURE", "PFS", "LEGACY", "@SYSTEM", "SYSTEM":
	case "PERFORMANCE":
		p.ciphers = slices.Clone(fastCiphers)
	case "SECURE192", "SECURE256", "SUITEB192":
		p.ciphers, p.macs, p.chosen = slices.Clone(strongCiphers), []string{"AEAD"}, true
		p.groups, p.chosenGroups = []string{"SECP384R1", "SECP521R1"}, true
		if word == "SECURE256" {
			p.groups = []string{"SECP521R1"}
		}
	case "SUITEB128":
		p.ciphers, p.macs, p.chosen = []string{"AES-128-GCM", "AES-256-GCM"}, []string{"AEAD"}, true
		p.groups, p.chosenGroups = []string{"SECP256R1", "SECP384R1"}, true
	case "NONE":
		p.versions, p.ciphers, p.macs, p.exchange, p.groups = nil, nil, nil, nil, nil
		p.chosen, p.chosenGroups = true, true
	default:
		p.warnf("'%s' is not known, NORMAL is taken", word)
	}
	if strings.HasPrefix(word, "SUITEB") {
		p.versions, p.exchange = []string{"TLS1.2"}, []string{"ECDHE-ECDSA"}
	}
	if word == "SUITEB192" {
		p.ciphers, p.groups = []string{"AES-256-GCM"}, []string{"SECP384R1"}
	}
}

// flag is a word with a %: an option of GnuTLS itself. That the server's order
// of suites holds is always so, and the ways to please old clients are not needed.
func (p *priority) flag(word string) {
	switch word {
	case "%SERVER_PRECEDENCE", "%COMPAT", "%SAFE_RENEGOTIATION", "%PARTIAL_RENEGOTIATION", "%DISABLE_SAFE_RENEGOTIATION",
		"%LATEST_RECORD_VERSION", "%SSL3_RECORD_VERSION", "%STATELESS_COMPRESSION", "%DUMBFW", "%ALLOW_SMALL_RECORDS":
	default:
		p.warnf("'%s' cannot be expressed", word)
	}
}

// change switches something on or off.
func (p *priority) change(on bool, name string) {
	switch {
	case strings.HasPrefix(name, "VERS-"):
		p.version(on, name[len("VERS-"):])
	case strings.HasPrefix(name, "GROUP-"):
		p.group(on, name[len("GROUP-"):])
	case strings.HasPrefix(name, "CURVE-"):
		p.group(on, name[len("CURVE-"):])
	case strings.HasPrefix(name, "COMP-"), strings.HasPrefix(name, "CTYPE-"): // there is one of each
	case strings.HasPrefix(name, "SIGN-"):
		if name != "SIGN-ALL" {
			p.warnf("'%s' cannot be expressed: signatures are chosen by the key", name)
		}
	case name == "CIPHER-ALL":
		p.all(on, &p.ciphers, normalCiphers)
	case name == "MAC-ALL":
		p.all(on, &p.macs, normalMACs)
	case name == "KX-ALL":
		p.all(on, &p.exchange, normalExchanges)
	default:
		p.algorithm(on, name)
	}
}

func (p *priority) all(on bool, list *[]string, full []string) {
	p.chosen = true
	*list = nil
	if on {
		*list = slices.Clone(full)
	}
}

func (p *priority) version(on bool, name string) {
	switch name {
	case "ALL", "TLS-ALL":
		p.versions = nil
		if on {
			p.versions = slices.Clone(bothVersions)
		}
	case "TLS1.2", "TLS1.3":
		p.versions = with(p.versions, name, on)
	case "SSL3.0", "TLS1.0", "TLS1.1":
		if on {
			p.warnf("'VERS-%s' is not supported", name)
		}
	case "DTLS-ALL", "DTLS0.9", "DTLS1.0", "DTLS1.2":
		if on == (name == "DTLS0.9" || name == "DTLS1.0") {
			p.warnf("'VERS-%s' has no effect: the DTLS channel has version 1.2", name)
		}
	default:
		p.warnf("'VERS-%s' is not known", name)
	}
}

func (p *priority) group(on bool, name string) {
	p.chosenGroups = true
	switch {
	case name == "ALL":
		p.groups = nil
		if on {
			p.groups = slices.Clone(normalGroups)
		}
	case curve(name) != 0:
		p.groups = with(p.groups, name, on)
	case on:
		p.warnf("the group '%s' is not supported", name)
	}
}

// algorithm is a cipher, a MAC or a key exchange.
func (p *priority) algorithm(on bool, name string) {
	if name == "ECDHE-ALL" {
		p.algorithm(on, "ECDHE-ECDSA")
		p.algorithm(on, "ECDHE-RSA")
		return
	}
	for _, s := range suites {
		switch name {
		case s.cipher:
			p.ciphers = with(p.ciphers, name, on)
		case s.mac:
			p.macs = with(p.macs, name, on)
		case s.keyExchange:
			p.exchange = with(p.exchange, name, on)
		default:
			continue
		}
		p.chosen = true
		return
	}
	if on { // what we do not have is as good as switched off
		p.warnf("'%s' is not supported", name)
	}
}

// with returns the list with or without a name.
func with(list []string, name string, on bool) []string {
	i := slices.Index(list, name)
	switch {
	case on && i < 0:
		return append(list, name)
	case !on && i >= 0:
		return slices.Delete(list, i, i+1)
	}
	return list
}

func (p *priority) versionsOf(t *TLS) error {
	has12, has13 := slices.Contains(p.versions, "TLS1.2"), slices.Contains(p.versions, "TLS1.3")
	t.MinVersion, t.MaxVersion = tls12, tls13
	switch {
	case !has12 && !has13:
		return errNoVersion
	case !has12:
		t.MinVersion = tls13
	case !has13:
		t.MaxVersion = tls12
	}
	return nil
}

// suitesOf chooses the TLS 1.2 suites. Without any the version itself goes.
// TLS 1.3 has suites of its own, which crypto/tls does not let one choose.
func (p *priority) suitesOf(t *TLS) error {
	if !p.chosen {
		return nil
	}
	if t.MaxVersion == tls13 && !p.allOf13() {
		p.warnf("ciphers of TLS 1.3 cannot be chosen: all three are offered (add -VERS-TLS1.3 to keep to the list)")
	}
	if t.MinVersion == tls13 {
		return nil
	}
	for _, c := range p.ciphers {
		for _, s := range suites {
			if s.cipher == c && slices.Contains(p.macs, s.mac) && slices.Contains(p.exchange, s.keyExchange) {
				t.Suites = append(t.Suites, s.id)
			}
		}
	}
	if len(t.Suites) > 0 {
		return nil
	}
	if t.MaxVersion == tls12 {
		return errors.New("no cipher suite is left")
	}
	p.warnf("no cipher suite is left for TLS 1.2, only 1.3 is offered")
	t.MinVersion = tls13
	return nil
}

func (p *priority) allOf13() bool {
	for _, c := range []string{"AES-256-GCM", "CHACHA20-POLY1305", "AES-128-GCM"} {
		if !slices.Contains(p.ciphers, c) {
			return false
		}
	}
	return true
}

func (p *priority) groupsOf(t *TLS) {
	if !p.chosenGroups {
		return
	}
	for _, g := range p.groups {
		t.Curves = append(t.Curves, curve(g))
	}
	if len(t.Curves) == 0 {
		p.warnf("no group is left, the usual ones are offered")
	}
}
