package config

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseUserFile reads a per-user or per-group file over base: the virtual
// host's settings, or what the group's file has made of them. A value replaces
// base's, a list (all lines of a name together) replaces base's list. Options
// that cannot stand in such a file are skipped, with a Problem.
//
// The error is an *Error. The session it was read for must then be refused: a
// file that is wrong somewhere may restrict somewhere else.
func ParseUserFile(name string, b []byte, base User) (User, []Problem, error) {
	p := newParser(name, SecMod)
	p.perUser, p.began = true, map[string]bool{}
	if len(b) > MaxUserFile {
		p.errorf(0, "the file is larger than %d bytes", MaxUserFile)
		return User{}, nil, p.err()
	}
	u := base.clone()
	d := newDraft()
	if n := base.IPv4Network; n.IsValid() {
		d.v4, d.v4bits = n.Addr(), n.Bits()
	}
	if n := base.IPv6Network; n.IsValid() {
		d.v6, d.v6bits = n.Addr(), n.Bits()
	}
	p.to = target{user: &u, draft: d}
	lex := newLexer(b)
	for it, ok := lex.next(); ok; it, ok = lex.next() {
		p.item(it)
	}
	if d.v4.IsValid() || d.v6.IsValid() {
		p.networks("", &u, d)
	}
	p.finishUser("", &u)
	if err := p.err(); err != nil {
		return User{}, nil, err
	}
	return u, p.warned(), nil
}

// maxFileName is the longest name of a file on Linux (NAME_MAX).
const maxFileName = 255

// SafeFileName reports whether the name of a user or group can be the name of
// a file in its directory and nothing else. Where it is false the session must
// be refused, as in ocserv.
func SafeFileName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= maxFileName &&
		!strings.Contains(name, "/") && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl)
}
