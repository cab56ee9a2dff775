package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// What follows reads the options for which one field of its own type is not enough.

func setListen(_ *parser, t *target, it item) { t.global.Listen = hosts(it.text) }

func setUDPListen(_ *parser, t *target, it item) { t.global.UDPListen = hosts(it.text) }

func getListen(t *target) []string {
	return text(strings.Join(t.global.Listen, ","), len(t.global.Listen) == 0)
}

func getUDPListen(t *target) []string {
	return text(strings.Join(t.global.UDPListen, ","), len(t.global.UDPListen) == 0)
}

// hosts cuts a list of addresses and names. One line is one value to ocserv,
// and the last line counts; more than one on a line is ours.
func hosts(s string) []string {
	list := split(s)
	for i, h := range list {
		if n := len(h); n > 2 && h[0] == '[' && h[n-1] == ']' {
			list[i] = h[1 : n-1]
		}
	}
	return list
}

func setTCPPort(p *parser, t *target, it item) { p.port(&t.global.TCPPort, it) }

func setUDPPort(p *parser, t *target, it item) { p.port(&t.global.UDPPort, it) }

func (p *parser) port(field *int, it item) {
	n, exact := parseNumber(it.text, 1<<16)
	if !exact || n > 65535 {
		p.errorf(it.line, "'%s' is a port from 0 to 65535, not '%s'", it.key, it.text)
		return
	}
	*field = int(n)
}

// setPIDFile keeps the first of several, as ocserv does.
func setPIDFile(_ *parser, t *target, it item) {
	if t.global.PIDFile == "" {
		t.global.PIDFile = it.text
	}
}

var facilities = [...]string{"daemon", "user", "auth", "authpriv",
	"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}

func setFacility(p *parser, t *target, it item) {
	name := strings.ToLower(it.text)
	if !slices.Contains(facilities[:], name) {
		p.errorf(it.line, "unknown syslog facility '%s'", it.text)
		return
	}
	t.global.SyslogFacility = name
}

func setLogFormat(p *parser, t *target, it item) {
	switch it.text {
	case "text":
		t.global.LogJSON = false
	case "json":
		t.global.LogJSON = true
	default:
		p.errorf(it.line, "'log-format' is text or json, not '%s'", it.text)
	}
}

func getLogFormat(t *target) []string {
	if t.global.LogJSON {
		return []string{"json"}
	}
	return []string{"text"}
}

func setRekeyMethod(p *parser, t *target, it item) {
	switch strings.ToLower(it.text) {
	case "ssl":
		t.vhost.RekeyNewTunnel = false
	case "new-tunnel":
		t.vhost.RekeyNewTunnel = true
	default:
		p.errorf(it.line, "unknown rekey method '%s'", it.text)
	}
}

func getRekeyMethod(t *target) []string {
	if t.vhost.RekeyNewTunnel {
		return []string{"new-tunnel"}
	}
	return []string{"ssl"}
}

func setPriorities(_ *parser, t *target, it item) {
	t.vhost.TLS.Priorities = it.text
	t.draft.priorities = it.line > 0
}

func setSameClientsPolicy(p *parser, t *target, it item) {
	switch it.text {
	case "reject":
		t.user.ReplaceOldest = false
	case "replace-oldest":
		t.user.ReplaceOldest = true
	default:
		p.errorf(it.line, "'max-same-clients-policy' is reject or replace-oldest, not '%s'", it.text)
	}
}

func getSameClientsPolicy(t *target) []string {
	if t.user.ReplaceOldest {
		return []string{"replace-oldest"}
	}
	return []string{"reject"}
}

// setBanner: the limit is ocserv's (MAX_BANNER_SIZE).
func setBanner(p *parser, t *target, it item) {
	if len(it.text) > 256 {
		p.errorf(it.line, "banner size is too long")
		return
	}
	t.vhost.Banner = it.text
}

// Limits on select-group: ocserv's list, and its buffer for a group's name.
const (
	maxGroups    = 96
	maxGroupName = 63
)

func setSelectGroup(p *parser, t *target, it item) {
	name, label, ok := strings.Cut(it.text, "[")
	name = strings.TrimSpace(name)
	if ok {
		label, _, ok = strings.Cut(label, "]")
		if !ok {
			p.warnf(it.line, "select-group '%s': no closing bracket", name)
		}
	}
	switch {
	case name == "":
		p.errorf(it.line, "'select-group' has no name")
		return
	case len(name) > maxGroupName:
		p.warnf(it.line, "the group name '%s' is longer than %d bytes, no login can choose it", name, maxGroupName)
	case len(t.vhost.SelectGroups) == maxGroups:
		p.warnf(it.line, "more than %d groups, '%s' is left out", maxGroups, name)
		return
	}
	t.vhost.SelectGroups = append(t.vhost.SelectGroups, Group{Name: name, Label: strings.TrimSpace(label)})
}

// setNetPriority reads 0 to 6, or a type of service as 0xNN.
func setNetPriority(p *parser, t *target, it item) {
	if hex, ok := strings.CutPrefix(strings.ToLower(it.text), "0x"); ok {
		if n, err := strconv.ParseUint(hex, 16, 8); err == nil {
			t.user.NetPriority = 0x100 | int(n)
			return
		}
	} else if n, exact := parseNumber(it.text, 6); exact {
		t.user.NetPriority = int(n)
		return
	}
	p.warnf(it.line, "'net-priority' is 0 to 6 or 0xNN, '%s' is left out", it.text)
}

func getNetPriority(t *target) []string {
	switch n := t.user.NetPriority; {
	case n < 0:
		return nil
	case n >= 0x100:
		return []string{fmt.Sprintf("0x%02x", n&0xff)}
	default:
		return []string{strconv.Itoa(n)}
	}
}

func setDNS(p *parser, t *target, it item) {
	if strings.EqualFold(it.text, "local") {
		p.errorf(it.line, "the 'local' DNS keyword is no longer supported.")
		return
	}
	a, err := parseAddr(it.text)
	if err != nil {
		p.errorf(it.line, "%s: %v", it.key, err)
		return
	}
	t.user.DNS = append(t.user.DNS, a)
}

func setExplicit4(p *parser, t *target, it item) {
	if a, err := parseAddr(it.text); err == nil && a.Is4() {
		t.user.ExplicitIPv4 = a
		return
	}
	p.errorf(it.line, "'%s' is not an IPv4 address", it.text)
}

func setExplicit6(p *parser, t *target, it item) {
	if a, err := parseAddr(it.text); err == nil && a.Is6() {
		t.user.ExplicitIPv6 = a
		return
	}
	p.errorf(it.line, "'%s' is not an IPv6 address", it.text)
}

func setNetwork4(p *parser, t *target, it item) {
	addr, length, ok := strings.Cut(it.text, "/")
	a, err := netip.ParseAddr(addr)
	if err != nil || !a.Is4() {
		p.errorf(it.line, "'%s' is not an IPv4 network", it.text)
		return
	}
	t.draft.v4 = a
	if ok {
		p.mask4(t, length, it)
	}
}

func setMask4(p *parser, t *target, it item) { p.mask4(t, it.text, it) }

// mask4 reads a dotted mask or a length.
func (p *parser) mask4(t *target, s string, it item) {
	n, ok := parseMask(s)
	if !ok {
		n, ok = parseLength(s, 32)
	}
	if !ok {
		p.errorf(it.line, "'%s' is not a mask", s)
		return
	}
	t.draft.v4bits = n
}

func getNetwork4(t *target) []string {
	if n := t.user.IPv4Network; n.IsValid() {
		return []string{n.String()}
	}
	return nil
}

func setNetwork6(p *parser, t *target, it item) {
	addr, length, ok := strings.Cut(it.text, "/")
	a, err := netip.ParseAddr(addr)
	if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" {
		p.errorf(it.line, "'%s' is not an IPv6 network", it.text)
		return
	}
	t.draft.v6 = a
	if ok {
		p.prefix6(t, length, it)
	}
}

func setPrefix6(p *parser, t *target, it item) { p.prefix6(t, it.text, it) }

func (p *parser) prefix6(t *target, s string, it item) {
	n, ok := parseLength(s, 128)
	if !ok {
		p.errorf(it.line, "'%s' is not an IPv6 prefix", s)
		return
	}
	t.draft.v6bits = n
}

func getNetwork6(t *target) []string {
	if n := t.user.IPv6Network; n.IsValid() {
		return []string{n.String()}
	}
	return nil
}

// The names that ocserv has given up.

func setListenClear(p *parser, _ *target, it item) {
	p.errorf(it.line, "the 'listen-clear-file' option was removed in ocserv 1.1.2")
}

func setAlwaysRequireCert(p *parser, t *target, it item) {
	if v, known := parseBool(it.text); !v && known {
		p.notef(it.line, "'always-require-cert' was replaced by 'cisco-client-compat'")
		t.vhost.CiscoClientCompat = true
	}
}

func setUseSeccomp(p *parser, _ *target, it item) {
	if v, _ := parseBool(it.text); v {
		p.notef(it.line, "'use-seccomp' was replaced by 'isolate-workers'")
	}
	p.put(p.options["isolate-workers"], it)
}

// setUseDBus: `use-dbus = no` stands in most old files and says nothing.
func setUseDBus(p *parser, _ *target, it item) {
	if v, _ := parseBool(it.text); v {
		p.notef(it.line, "'use-dbus' was replaced by 'use-occtl'")
		p.put(p.options["use-occtl"], it)
	}
}

func setSessionControl(p *parser, _ *target, it item) {
	p.warnf(it.line, "the option 'session-control' is deprecated")
}

func setMinReauth(p *parser, _ *target, it item) {
	p.notef(it.line, "'min-reauth-time' was replaced by 'ban-time'")
	p.put(p.options["ban-time"], it)
}

// setUnknown is for names that are as good as unknown by now.
func setUnknown(p *parser, _ *target, it item) {
	p.warnf(it.line, "skipping unknown option '%s'", it.key)
}
