package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// Role says who reads the file.
type Role uint8

const (
	Main   Role = iota // the values of secret options are skipped
	SecMod             // everything is read
)

// MaxFile is the most bytes of a configuration file, MaxUserFile of a per-user
// or per-group file.
const (
	MaxFile     = 4 << 20
	MaxUserFile = 1 << 20
)

// parser reads one file.
type parser struct {
	report
	role    Role
	table   []Option
	options map[string]*Option // the table's rows by name
	config  *Config
	to      target
	drafts  map[*Vhost]*draft
	skip    bool            // in a section of no meaning
	said    map[string]bool // options whose status was warned about
	perUser bool            // a per-user or per-group file
	began   map[string]bool // lists of such a file that have their first value
}

// draft is what of a virtual host is put together only at the end.
type draft struct {
	certs, keys []string
	priorities  bool // tls-priorities was set
	v4, v6      netip.Addr
	v4bits      int // -1: not set
	v6bits      int
}

func newDraft() *draft { return &draft{v4bits: -1, v6bits: -1} }

func (d *draft) clone() *draft {
	c := *d
	c.certs, c.keys = slices.Clone(d.certs), slices.Clone(d.keys)
	return &c
}

func newParser(name string, role Role) *parser {
	p := &parser{report: report{file: name}, role: role, table: Options(), options: map[string]*Option{}, said: map[string]bool{}}
	for i := range p.table {
		p.options[p.table[i].Name] = &p.table[i]
	}
	return p
}

// Parse reads an ocserv.conf. name is the file's, for messages; nothing is
// opened. The error is an *Error with everything that is wrong. Warnings and
// notes for the operator are in the Config.
func Parse(name string, b []byte, role Role) (*Config, error) {
	p := newParser(name, role)
	if len(b) > MaxFile {
		p.errorf(0, "the file is larger than %d bytes", MaxFile)
		return nil, p.err()
	}
	p.begin()
	lex := newLexer(b)
	for it, ok := lex.next(); ok; it, ok = lex.next() {
		p.item(it)
	}
	p.finish()
	if err := p.err(); err != nil {
		return nil, err
	}
	p.config.Warnings, p.config.Notes = p.warned(), p.notes
	return p.config, nil
}

// begin makes the default virtual host and puts the table's defaults in.
func (p *parser) begin() {
	v := &Vhost{}
	v.User.NetPriority = -1
	p.config = &Config{Vhosts: []*Vhost{v}, file: p.file, lines: map[place][]int{}}
	p.drafts = map[*Vhost]*draft{v: newDraft()}
	p.enter(v)
	for i := range p.table {
		if o := &p.table[i]; o.Default != "" {
			p.put(o, item{key: o.Name, text: o.Default, raw: o.Default})
		}
	}
}

// enter makes a virtual host the one that assignments go to.
func (p *parser) enter(v *Vhost) {
	p.skip = false
	p.to = target{global: &p.config.Global, vhost: v, user: &v.User, draft: p.drafts[v]}
}

func (p *parser) item(it item) {
	switch it.kind {
	case broken:
		p.errorf(it.line, "%s", it.text)
	case section:
		p.section(it)
	case assignment:
		if !p.skip {
			p.assign(it)
		}
	}
}

// section enters [vhost:NAME]. At its first line a virtual host becomes a copy
// of the default one as it is by then.
func (p *parser) section(it item) {
	if p.perUser {
		p.errorf(it.line, "a section in a file that has none")
		p.skip = true
		return
	}
	typed, ok := strings.CutPrefix(it.text, "vhost:")
	if !ok {
		p.warnf(it.line, "skipping unknown section '%.64s'", it.text)
		p.skip = true
		return
	}
	typed = strings.TrimSpace(typed)
	name, err := CanonicalName(typed)
	if err != nil || len(it.text) > maxSection {
		p.errorf(it.line, "'%.64s' cannot be the name of a virtual host", typed)
		p.skip = true
		return
	}
	for _, v := range p.config.Vhosts[1:] {
		if v.Name == name {
			p.enter(v)
			return
		}
	}
	if len(p.config.Vhosts) == maxVhosts {
		p.errorf(it.line, "more than %d virtual hosts", maxVhosts)
		p.skip = true
		return
	}
	if name != typed {
		p.notef(it.line, "virtual host name '%s' was canonicalized to '%s'", typed, name)
	}
	p.notef(it.line, "adding virtual host: %s", name)
	p.add(name)
}

// add makes a new virtual host and enters it.
func (p *parser) add(name string) {
	base := p.config.Vhosts[0]
	v := base.inherit(name)
	d := p.drafts[base].clone()
	d.certs, d.keys = nil, nil
	p.drafts[v] = d
	p.config.Vhosts = append(p.config.Vhosts, v)
	p.enter(v)
}

// maxSection is the longest name of a section in inih (MAX_SECTION 50). The
// others bound what a file can make of itself, since a section copies lists.
const (
	maxSection = 49
	maxVhosts  = 256
	maxList    = 10000
)

// CanonicalName returns a host name as Config.Vhost compares it: lower case,
// IDNA A-labels, no dot at the end.
func CanonicalName(host string) (string, error) {
	host = strings.TrimSuffix(host, ".")
	for i := range len(host) {
		if host[i] >= 0x80 {
			return idna.Lookup.ToASCII(host) // RFC 5891 section 5
		}
	}
	if host == "" || strings.ContainsAny(host, " \t/:[]\"") {
		return "", fmt.Errorf("'%s' is not a host name", host)
	}
	return strings.ToLower(host), nil
}

// inherit copies the settings of the default virtual host for a new one. What
// cannot be reloaded is left out: it is taken over at the end, where unset.
func (v *Vhost) inherit(name string) *Vhost {
	c := v.clone()
	c.Name = name
	c.Keys, c.KeyPin, c.PinFile, c.CACert = nil, Secret{}, "", ""
	c.Auth, c.EnableAuth, c.Acct = nil, nil, nil
	return c
}

// clone returns a copy that shares nothing with v.
func (v *Vhost) clone() *Vhost {
	c := *v
	c.Keys = slices.Clone(v.Keys)
	c.TLS.Suites, c.TLS.Curves = slices.Clone(v.TLS.Suites), slices.Clone(v.TLS.Curves)
	c.Auth, c.EnableAuth, c.Acct = cloneMethods(v.Auth), cloneMethods(v.EnableAuth), cloneMethods(v.Acct)
	c.CustomHeaders, c.HTTPHeaders = slices.Clone(v.CustomHeaders), slices.Clone(v.HTTPHeaders)
	c.SelectGroups, c.KDCs = slices.Clone(v.SelectGroups), slices.Clone(v.KDCs)
	c.Unused = maps.Clone(v.Unused)
	for k, list := range c.Unused {
		c.Unused[k] = slices.Clone(list)
	}
	c.User = v.User.clone()
	return &c
}

func cloneMethods(list []Method) []Method {
	c := slices.Clone(list)
	for i := range c {
		c[i].Options = maps.Clone(c[i].Options)
	}
	return c
}

// clone returns a copy that shares nothing with u.
func (u User) clone() User {
	u.Ports = slices.Clone(u.Ports)
	u.SplitDNS = slices.Clone(u.SplitDNS)
	u.Routes, u.NoRoutes, u.IRoutes = slices.Clone(u.Routes), slices.Clone(u.NoRoutes), slices.Clone(u.IRoutes)
	u.DNS, u.NBNS = slices.Clone(u.DNS), slices.Clone(u.NBNS)
	u.EgressRules = slices.Clone(u.EgressRules)
	u.Forwards = slices.Clone(u.Forwards)
	u.Resolver = u.Resolver.clone()
	u.Ways, u.Via = slices.Clone(u.Ways), slices.Clone(u.Via)
	for i := range u.Ways {
		u.Ways[i].Pins = slices.Clone(u.Ways[i].Pins)
	}
	for i := range u.Via {
		v := &u.Via[i]
		v.Ways, v.Nets, v.Domains = slices.Clone(v.Ways), slices.Clone(v.Nets), slices.Clone(v.Domains)
		v.Ports, v.Users, v.Groups = slices.Clone(v.Ports), slices.Clone(v.Users), slices.Clone(v.Groups)
	}
	for i := range u.EgressRules {
		u.EgressRules[i].Ports = slices.Clone(u.EgressRules[i].Ports)
	}
	return u
}

// assign reads one `key = value`.
func (p *parser) assign(it item) {
	o := p.options[it.key]
	if o == nil || !p.allows(o) {
		p.warnf(it.line, "%sskipping unknown option '%.64s'", p.prefix(), it.key)
		return
	}
	if it.warn != "" {
		p.warnf(it.line, "%s", it.warn)
	}
	if o.Alias != "" && o.set == nil {
		o = p.options[o.Alias]
	}
	if o.Scope == ScopeGlobal && p.to.vhost != nil && p.to.vhost.Name != "" {
		p.errorf(it.line, "'%s' cannot be set inside a virtual host section", it.key)
		return
	}
	if o.List && p.cleared(o, it) {
		return
	}
	p.put(o, it)
	p.say(o, it)
}

// allows tells whether an option may stand in this kind of file.
func (p *parser) allows(o *Option) bool {
	if p.perUser {
		return o.Scope == ScopeUser || o.Scope == ScopeUserOnly
	}
	return o.Scope != ScopeUserOnly
}

// cleared empties a list where its line says so: an empty value does it (ours),
// and in a per-user file the first value does it, so that the file's list
// replaces the one before. done means that nothing is to be added.
func (p *parser) cleared(o *Option, it item) (done bool) {
	if o.Into != "" {
		o = p.options[o.Into]
	}
	n, empty := list(o, &p.to)
	if p.perUser && !p.began[o.Name] && !o.Merge {
		p.began[o.Name] = true
		empty()
		n = 0
	}
	switch {
	case it.text == "":
		empty()
		if p.config != nil {
			delete(p.config.lines, p.place(o))
		}
		return true
	case n >= maxList:
		p.errorf(it.line, "more than %d lines of '%s'", maxList, o.Name)
		return true
	}
	return false
}

// put puts a value where it belongs.
func (p *parser) put(o *Option, it item) {
	if p.config != nil && it.line > 0 {
		where := p.place(o)
		if o.List {
			p.config.lines[where] = append(p.config.lines[where], it.line)
		} else {
			p.config.lines[where] = []int{it.line}
		}
	}
	switch {
	case o.Secret && (p.role == Main || o.at == nil): // not kept, not even as text
	case o.set != nil:
		o.set(p, &p.to, it)
	case o.at != nil:
		p.store(o, o.at(&p.to), it)
	default:
		p.unused(o, &p.to, it)
	}
}

// place is where an option is set by a line.
func (p *parser) place(o *Option) place {
	if o.Scope >= ScopeVhost {
		return place{p.to.vhost.Name, o.Name}
	}
	return place{"", o.Name}
}

// say warns, once per option, that it does not do what the file wants.
func (p *parser) say(o *Option, it item) {
	if o.Status == Gone || p.said[o.Name] || o.Status != InEffect && !o.differs(it.text) {
		return
	}
	p.said[o.Name] = true
	if o.Status == InEffect {
		if o.Note != "" {
			p.notef(it.line, "'%s' works otherwise than in ocserv: %s", o.Name, o.Note)
		}
		return
	}
	note := ""
	if o.Note != "" {
		note = ": " + o.Note
	}
	switch {
	case o.Status == Refused:
		p.errorf(it.line, "'%s' is not supported%s", o.Name, note)
	case o.Quiet && o.Note != "":
		p.notef(it.line, "'%s' has no effect%s", o.Name, note)
	case o.Quiet:
	case o.Status == Later:
		p.warnf(it.line, "'%s' is accepted but not yet in effect%s", o.Name, note)
	case o.Status == NoEffect:
		p.warnf(it.line, "'%s' has no effect%s", o.Name, note)
	}
}

// differs tells whether a value asks for something else than the default.
func (o *Option) differs(value string) bool {
	if o.Type == Bool {
		is, _ := parseBool(value)
		was, _ := parseBool(o.Default)
		return is != was
	}
	return value != "" && value != o.Default
}

// prefix begins messages about a line in a named virtual host.
func (p *parser) prefix() string {
	if p.to.vhost == nil {
		return ""
	}
	return vhostPrefix(p.to.vhost.Name)
}

// vhostTag begins messages that ocserv marks for the default virtual host as well.
func (p *parser) vhostTag() string { return vhostTag(p.to.vhost.Name) }

func vhostPrefix(name string) string {
	if name == "" {
		return ""
	}
	return vhostTag(name)
}

func vhostTag(name string) string {
	if name == "" {
		name = "default"
	}
	return "vhost:" + name + ": "
}
