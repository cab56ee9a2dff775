package config

import (
	"fmt"
	"slices"
	"strings"
)

// method is a way to log in that ocserv knows, or ldap, and what of it is in effect.
type method struct {
	name     string
	options  []string // sub-options it takes
	required []string // at least one of them must be there
	legacy   []string // sub-options by position, in the older form name[a,b]
	password bool     // asks for passwords in the login form: one such at most
	ready    []string // sub-options in effect; nil: the method is not
	remote   bool     // a login helper plays it, not sec-mod
	acct     bool     // its accounting is in effect
}

// methods in the order in which their names are tried as prefixes.
var methods = [...]method{
	{name: "plain", options: []string{"passwd", "otp"}, required: []string{"passwd", "otp"}, legacy: []string{"passwd"},
		password: true, ready: []string{"passwd", "otp"}},
	{name: "pam", options: []string{"service", "gid-min"}, password: true, remote: true, acct: true, ready: []string{"service", "gid-min"}},
	{name: "radius", options: []string{"config", "groupconfig", "nas-identifier", "group-separator"}, required: []string{"config"},
		legacy: []string{"config", "groupconfig"}, password: true, remote: true, acct: true,
		ready: []string{"config", "groupconfig", "nas-identifier", "group-separator"}},
	{name: "gssapi", options: []string{"keytab", "require-local-user-map", "tgt-freshness-time", "gid-min"},
		ready: []string{"keytab", "require-local-user-map", "tgt-freshness-time", "gid-min"}, remote: true},
	{name: "oidc", options: []string{"config", "sso"}, required: []string{"config"}, ready: []string{"config", "sso"}, remote: true},
	{name: "ldap", options: []string{"config"}, required: []string{"config"}, password: true, ready: []string{"config"}, remote: true},
	{name: "certificate", ready: []string{}},
}

// maxSubOptions is how many a method may be given; maxMethods how many methods a vhost.
const (
	maxSubOptions = 5
	maxMethods    = 4
)

func methodNamed(name string) *method {
	for i := range methods {
		if methods[i].name == name {
			return &methods[i]
		}
	}
	return nil
}

// parseMethod reads `name` or `name[k=v,...]`. The name is matched without
// regard to case and may have a tail, as in ocserv. note is about the form.
func parseMethod(s string) (m Method, note string, err error) {
	var kind *method
	for i := range methods {
		if strings.HasPrefix(strings.ToLower(s), methods[i].name) {
			kind = &methods[i]
			break
		}
	}
	if kind == nil {
		name, _, _ := strings.Cut(s, "[")
		return Method{}, "", fmt.Errorf("unknown or unsupported auth method: %s", name)
	}
	m.Name = kind.name
	m.Options, note, err = parseSubOptions(kind, s[len(kind.name):])
	if err != nil {
		return Method{}, "", err
	}
	if kind.required != nil && !slices.ContainsFunc(kind.required, func(o string) bool { return m.Options[o] != "" }) {
		return Method{}, "", fmt.Errorf("auth method '%s' needs the option '%s'", kind.name, strings.Join(kind.required, "' or '"))
	}
	if v, ok := m.Options["sso"]; ok && v != "true" && v != "false" {
		return Method{}, "", fmt.Errorf("auth method '%s': sso is true or false, not '%.32s'", kind.name, v)
	}
	return m, note, nil
}

func parseSubOptions(kind *method, s string) (options map[string]string, note string, err error) {
	options = map[string]string{}
	tail, list, ok := strings.Cut(s, "[")
	if strings.TrimSpace(tail) != "" {
		note = fmt.Sprintf("'%s' is taken as auth method '%s'", kind.name+tail, kind.name)
	}
	if !ok {
		return options, note, nil
	}
	list, _, ok = strings.Cut(list, "]")
	if !ok {
		return nil, "", fmt.Errorf("auth method '%s': no closing bracket", kind.name)
	}
	parts := strings.Split(list, ",")
	if len(parts) > maxSubOptions {
		return nil, "", fmt.Errorf("auth method '%s': more than %d options", kind.name, maxSubOptions)
	}
	if first := strings.TrimSpace(parts[0]); first != "" && !strings.Contains(first, "=") {
		note = fmt.Sprintf("parsing %s auth method subconfig using legacy format", kind.name)
		return options, note, parseLegacy(kind, parts, options)
	}
	for _, part := range parts {
		if strings.TrimSpace(part) == "" {
			continue
		}
		key, value, _ := strings.Cut(part, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !slices.Contains(kind.options, key) {
			return nil, "", fmt.Errorf("unknown option '%s'", key)
		}
		options[key] = strings.Trim(value, blanks+`"`)
	}
	return options, note, nil
}

// parseLegacy reads options by position: plain[/file], radius[/file,groupconfig].
func parseLegacy(kind *method, parts []string, options map[string]string) error {
	if len(parts) > len(kind.legacy) {
		return fmt.Errorf("auth method '%s': cannot parse its options", kind.name)
	}
	for i, part := range parts {
		name, value := kind.legacy[i], strings.Trim(part, blanks+`"`)
		if name == "groupconfig" {
			if !strings.EqualFold(value, "groupconfig") {
				return fmt.Errorf("unknown option '%s'", value)
			}
			value = "true"
		}
		options[name] = value
	}
	return nil
}

// Remote reports whether a login helper plays the method, or KDCProxy (package helper):
// sec-mod does not open the files that it names.
func (m Method) Remote() bool {
	kind := methodNamed(m.Name)
	return kind != nil && kind.remote || m.Name == KDCProxy
}

// SSO reports whether the method is played in the user's browser.
func (m Method) SSO() bool { return m.Options["sso"] == "true" }

// String is the method as one would write it.
func (m Method) String() string {
	if len(m.Options) == 0 {
		return m.Name
	}
	var parts []string
	for _, o := range methodNamed(m.Name).options {
		if v, ok := m.Options[o]; ok {
			parts = append(parts, o+"="+v)
		}
	}
	return m.Name + "[" + strings.Join(parts, ",") + "]"
}

func setAuth(p *parser, t *target, it item) { p.method(&t.vhost.Auth, it) }

func setEnableAuth(p *parser, t *target, it item) { p.method(&t.vhost.EnableAuth, it) }

func (p *parser) method(list *[]Method, it item) {
	m, note, err := parseMethod(it.text)
	if err != nil {
		p.errorf(it.line, "%s%v", p.vhostTag(), err)
		return
	}
	if note != "" {
		p.notef(it.line, "%s%s", p.vhostTag(), note)
	}
	m.Line = it.line
	*list = append(*list, m)
}

func setAcct(p *parser, t *target, it item) {
	m, note, err := parseMethod(it.text)
	if err != nil || m.Name != "radius" && m.Name != "pam" {
		p.errorf(it.line, "%sunknown or unsupported accounting method: %s", p.vhostTag(), it.text)
		return
	}
	if note != "" {
		p.notef(it.line, "%s%s", p.vhostTag(), note)
	}
	m.Line = it.line
	t.vhost.Acct = []Method{m}
}

// checkAuth applies the rules for a virtual host's methods, says what they are
// as ocserv does, and leaves only those that are in effect. Of methods that all
// must succeed none may be missing: that is an error, as is to have none. One
// that alone would be enough is left out with a warning.
func (p *parser) checkAuth(v *Vhost) {
	if len(v.Auth) == 0 {
		p.errorf(0, "%sthe 'auth' configuration option was not specified!", vhostPrefix(v.Name))
		return
	}
	tag := vhostTag(v.Name)
	p.checkMixed(tag, v)
	p.notef(0, "%ssetting '%s' as primary authentication method", tag, methodNames(v.Auth))
	for _, m := range v.Auth {
		if why := m.notReady(); why != "" {
			p.errorf(m.Line, "%sunknown or unsupported auth method: %s", tag, why)
		}
	}
	var ready []Method
	for _, m := range v.EnableAuth {
		if why := m.notReady(); why != "" {
			p.warnf(m.Line, "%sunknown or unsupported auth method: %s; it is left out", tag, why)
			continue
		}
		p.notef(0, "%senabling '%s' as authentication method", tag, m.Name)
		ready = append(ready, m)
	}
	v.EnableAuth = ready
	var accounts []Method
	for _, m := range v.Acct {
		if !methodNamed(m.Name).acct {
			p.warnf(m.Line, "%saccounting method %s is not in effect yet; it is left out", tag, m.Name)
			continue
		}
		p.notef(0, "%ssetting '%s' as accounting method", tag, m.Name)
		accounts = append(accounts, m)
	}
	v.Acct = accounts
}

// checkMixed refuses combinations that no login could satisfy.
func (p *parser) checkMixed(tag string, v *Vhost) {
	if n := len(v.Auth) + len(v.EnableAuth); n > maxMethods {
		p.errorf(v.Auth[0].Line, "%s%d authentication methods, at most %d", tag, n, maxMethods)
	}
	passwords, modules := "", ""
	for _, m := range v.Auth {
		if m.Name == "certificate" {
			continue
		}
		if modules != "" {
			p.errorf(m.Line, "%syou cannot mix multiple authentication methods of %s type", tag, m.Name)
			return
		}
		modules = m.Name
		if methodNamed(m.Name).password {
			passwords = m.Name
		}
	}
	for _, m := range v.EnableAuth {
		if !methodNamed(m.Name).password {
			continue
		}
		if passwords != "" {
			p.errorf(m.Line, "%syou cannot mix multiple authentication methods of %s type", tag, m.Name)
			return
		}
		passwords = m.Name
	}
}

// notReady names what of a method is not in effect, or "".
func (m Method) notReady() string {
	kind := methodNamed(m.Name)
	if kind.ready == nil {
		return m.Name
	}
	for o := range m.Options {
		if !slices.Contains(kind.ready, o) {
			return m.Name + "[" + o + "=]"
		}
	}
	return ""
}

func methodNames(list []Method) string {
	names := make([]string, len(list))
	for i, m := range list {
		names[i] = m.Name
	}
	return strings.Join(names, "+")
}

// MethodName is a way to log in that the file knows.
type MethodName struct {
	Name  string
	Ready bool // in effect; else it is accepted and does nothing
}

// MethodNames are all of them.
func MethodNames() (list []MethodName) {
	for _, m := range methods {
		list = append(list, MethodName{m.name, m.ready != nil})
	}
	return list
}
