package config

import (
	"net/netip"
	"slices"
	"strings"
)

// finish puts together what several lines say and applies ocserv's checks that
// need no file. Those that open certificates and keys are sec-mod's.
func (p *parser) finish() {
	base := p.config.Vhosts[0]
	for _, v := range p.config.Vhosts {
		d := p.drafts[v]
		if v != base {
			v.takeOver(base, d, p.drafts[base])
		}
		p.checkAuth(v)
		p.keys(v, d)
		p.tls(v, d)
		p.networks(v.Name, &v.User, d)
		p.finishUser(v.Name, &v.User)
		p.checkVhost(v)
		v.DTLSLegacy = v.DTLSLegacy || v.CiscoClientCompat || v.CiscoSVCCompat
		v.SelectGroupByURL = v.SelectGroupByURL || v.CiscoClientCompat
	}
	p.checkGlobal()
}

// takeOver fills in from the default virtual host what cannot be reloaded and
// was not set, and what is global though it is kept per virtual host.
func (v *Vhost) takeOver(base *Vhost, d, from *draft) {
	if d.certs == nil {
		d.certs = from.certs
	}
	if d.keys == nil {
		d.keys = from.keys
	}
	if v.CACert == "" {
		v.CACert = base.CACert
	}
	if v.PinFile == "" && v.KeyPin.IsZero() {
		v.PinFile, v.KeyPin = base.PinFile, base.KeyPin
	}
	if v.Auth == nil {
		v.Auth = cloneMethods(base.Auth)
		if v.EnableAuth == nil {
			v.EnableAuth = cloneMethods(base.EnableAuth)
		}
	}
	if v.Acct == nil {
		v.Acct = cloneMethods(base.Acct)
	}
	v.DTLSPSK, v.TryMTUDiscovery = base.DTLSPSK, base.TryMTUDiscovery
}

func (p *parser) checkGlobal() {
	p.notef(0, "setting 'file' as supplemental config option") // there is no other
	g := &p.config.Global
	if g.SocketFile == "" {
		p.errorf(0, "the 'socket-file' configuration option must be specified!")
	}
	if g.TCPPort == 0 {
		p.errorf(0, "the tcp-port option is mandatory!")
	}
	if g.Device == "" {
		p.errorf(0, "the 'device' configuration option must be specified!")
	}
	if len(g.UDPListen) == 0 {
		g.UDPListen = g.Listen
	}
	switch {
	case g.ListenProxyProto && len(g.ProxyTrusted) == 0:
		p.warnf(p.lineOf("", "listen-proxy-proto"), "'listen-proxy-proto' without 'proxy-proto-trusted': whoever reaches the port can claim any address, and bans do not hold him")
	case !g.ListenProxyProto && len(g.ProxyTrusted) > 0:
		p.warnf(p.lineOf("", "proxy-proto-trusted"), "'proxy-proto-trusted' has no effect without 'listen-proxy-proto'")
	}
}

// keys pairs certificates with keys.
func (p *parser) keys(v *Vhost, d *draft) {
	where := vhostPrefix(v.Name)
	switch {
	case len(d.certs) == 0 || len(d.keys) == 0:
		p.errorf(0, "%sthe 'server-cert' and 'server-key' configuration options must be specified!", where)
		return
	case len(d.certs) > len(d.keys):
		p.errorf(p.lineOf(v.Name, "server-cert"), "%sthe specified number of keys doesn't match the certificates", where)
		return
	case len(d.certs) < len(d.keys):
		p.errorf(p.lineOf(v.Name, "server-key"), "%sthe specified number of keys doesn't match the certificates", where)
		return
	}
	for i := range d.certs {
		v.Keys = append(v.Keys, KeyPair{Cert: d.certs[i], Key: d.keys[i]})
	}
}

func certFiles(pairs []KeyPair) (files []string) {
	for _, k := range pairs {
		files = append(files, k.Cert)
	}
	return files
}

func keyFiles(pairs []KeyPair) (files []string) {
	for _, k := range pairs {
		files = append(files, k.Key)
	}
	return files
}

// tls makes protocol settings of the priority string. cisco-client-compat
// takes TLS 1.3 away, but only from a string that the file does not name.
func (p *parser) tls(v *Vhost, d *draft) {
	s := v.TLS.Priorities
	if v.CiscoClientCompat && !d.priorities {
		s += ":-VERS-TLS1.3"
	}
	line := p.lineOf(v.Name, "tls-priorities")
	t, warnings, err := parsePriorities(s)
	for _, w := range warnings {
		p.warnf(line, "%stls-priorities: %s", vhostPrefix(v.Name), w)
	}
	if err != nil {
		p.errorf(line, "%stls-priorities: %v", vhostPrefix(v.Name), err)
	}
	v.TLS = t
}

// lineOf returns where a virtual host's value of an option stands.
func (p *parser) lineOf(vhost, option string) int {
	if p.config == nil { // a per-user file
		return 0
	}
	return p.config.line(vhost, option, maxList)
}

// networks makes the pools of addresses and lengths.
func (p *parser) networks(vhost string, u *User, d *draft) {
	where, line4, line6 := vhostPrefix(vhost), p.lineOf(vhost, "ipv4-network"), p.lineOf(vhost, "ipv6-network")
	if !d.v4.IsValid() && !d.v6.IsValid() {
		p.errorf(0, "%sno ipv4-network or ipv6-network options set.", where)
		return
	}
	if d.v4.IsValid() {
		if d.v4bits < 1 {
			p.errorf(line4, "%sno mask found for IPv4 network.", where)
		} else {
			u.IPv4Network = netip.PrefixFrom(d.v4, d.v4bits).Masked()
		}
		if d.v4bits > 31 { // of two the gateway has one (RFC 3021)
			p.warnf(line4, "%sipv4-network %s has no address for a client", where, u.IPv4Network)
		}
	}
	if !d.v6.IsValid() {
		return
	}
	switch {
	case d.v6bits < 1:
		p.errorf(line6, "%sno prefix found for IPv6 network.", where)
	case d.v6bits >= u.IPv6SubnetBits:
		p.errorf(line6, "%sthe subnet prefix (%d) cannot be smaller or equal to network's (%d)", where, u.IPv6SubnetBits, d.v6bits)
	default:
		u.IPv6Network = netip.PrefixFrom(d.v6, d.v6bits).Masked()
	}
}

// finishUser completes settings that a virtual host and per-user files share.
func (p *parser) finishUser(vhost string, u *User) {
	if u.MobileDPD == 0 {
		u.MobileDPD = u.DPD
	}
	u.Routes = withoutDefault(u.Routes)
	p.checkWays(vhost, u)
}

func (p *parser) checkVhost(v *Vhost) {
	where := vhostPrefix(v.Name)
	p.checkCertificate(where, v)
	p.checkCamouflage(where, v)
	v.NoCompressLimit = max(v.NoCompressLimit, 64) // as ocserv
	if v.Compression {
		p.warnf(p.lineOf(v.Name, "compression"), "%s'compression' lets who sees the tunnel's packets guess what is in them by their lengths, if he can send to a client too", where)
	}
	if v.MatchCiphers && (v.DTLSLegacy || v.CiscoClientCompat) {
		p.errorf(p.lineOf(v.Name, "match-tls-dtls-ciphers"), "%s'match-tls-dtls-ciphers' cannot be applied when 'dtls-legacy' or 'cisco-client-compat' is on", where)
	}
	if udp := p.config.Global.UDPPort; v.CiscoSVCCompat && udp != 0 && udp != 443 {
		p.errorf(p.lineOf(v.Name, "cisco-svc-client-compat"), "%s'cisco-svc-client-compat' needs 'udp-port' to be 443 or 0", where)
	}
	for _, m := range v.Auth {
		group, _ := parseBool(m.Options["groupconfig"])
		if m.Name == "radius" && group && (v.ConfigPerUser != "" || v.ConfigPerGroup != "") {
			p.errorf(m.Line, "%sthe option 'groupconfig' cannot be combined with 'config-per-user' or 'config-per-group'", where)
		}
	}
}

// checkCamouflage: nobody could ever say a secret that is not there, or that no
// request can hold (RFC 9112 section 3.2). Main has not read it.
func (p *parser) checkCamouflage(where string, v *Vhost) {
	if p.role != SecMod || !v.Camouflage {
		return
	}
	switch secret := v.CamouflageSecret.Reveal(); {
	case secret == "":
		p.errorf(p.lineOf(v.Name, "camouflage"), "%s'camouflage' needs a 'camouflage_secret'", where)
	case strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }):
		p.errorf(p.lineOf(v.Name, "camouflage_secret"), "%s'camouflage_secret' has a character that no URL can have", where)
	}
}

// checkCertificate: who logs in with a certificate must be named in it.
func (p *parser) checkCertificate(where string, v *Vhost) {
	line := -1
	for _, m := range slices.Concat(v.Auth, v.EnableAuth) {
		if m.Name == "certificate" {
			line = m.Line
		}
	}
	if line < 0 {
		return
	}
	if v.CACert == "" {
		p.errorf(line, "%sclient certificates are asked for, and no 'ca-cert' says whose they may be", where)
	}
	switch oid := v.CertUserOID; {
	case oid == "":
		p.errorf(line, "%sa certificate is requested by the option 'cert-user-oid' is not set", where)
	case !isOID(oid) && !strings.EqualFold(oid, "SAN(rfc822name)"):
		p.errorf(p.lineOf(v.Name, "cert-user-oid"), "%sunsupported 'cert-user-oid': '%s'", where, oid)
	}
	if oid := v.CertGroupOID; oid != "" && !isOID(oid) {
		p.errorf(p.lineOf(v.Name, "cert-group-oid"), "%sunsupported 'cert-group-oid': '%s'", where, oid)
	}
}

// isOID tells whether s is numbers with dots between them.
func isOID(s string) bool {
	parts := strings.Split(s, ".")
	for _, n := range parts {
		if _, exact := parseNumber(n, 1<<40); !exact {
			return false
		}
	}
	return len(parts) > 1
}
