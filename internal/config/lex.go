package config

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// maxLine is the most bytes of a line, its end not counted (inih INI_MAX_LINE).
const maxLine = 2048

// kind of an item.
type kind uint8

const (
	assignment kind = iota
	section
	broken // text is what is wrong
)

// item is one line of a file that says something.
type item struct {
	kind kind
	line int
	key  string // of an assignment
	text string // value without blanks and quotes around it; name of a section; error
	raw  string // value with its quotes
	warn string // what is odd about the line, if anything
}

// lexer cuts a file into items by the rules of inih r62 as ocserv sets it up
// (stop on error, multi-line values, inline comments begin with " #"). It
// differs in that it goes on after an error, so that all are found at once.
type lexer struct {
	rest []byte
	line int
	key  string // of the last assignment, for continuation lines
}

func newLexer(b []byte) *lexer {
	return &lexer{rest: bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))}
}

// next returns the next item, or false at the end.
func (l *lexer) next() (item, bool) {
	for len(l.rest) > 0 {
		var line []byte
		line, l.rest, _ = bytes.Cut(l.rest, []byte("\n"))
		l.line++
		if it, ok := l.item(line); ok {
			it.line = l.line
			return it, true
		}
	}
	return item{}, false
}

const blanks = " \t\r\v\f"

func (l *lexer) item(line []byte) (item, bool) {
	text := bytes.Trim(line, blanks)
	switch {
	case len(text) == 0 || text[0] == '#' || text[0] == ';':
		return item{}, false
	case len(line) > maxLine:
		return item{kind: broken, text: "line too long: more than 2048 bytes"}, true
	case bytes.ContainsFunc(text, control):
		return item{kind: broken, text: "line holds a control character"}, true
	}
	s, warn := printable(string(text))
	switch {
	case l.key != "" && strings.IndexByte(blanks, line[0]) >= 0:
		return l.continuation(s, warn), true
	case s[0] == '[':
		return l.section(s), true
	}
	s, cut := cutComment(s)
	i := strings.IndexAny(s, "=:")
	if i < 0 {
		l.key = ""
		return item{kind: broken, text: "neither 'key = value' nor a section"}, true
	}
	l.key = strings.TrimRight(s[:i], blanks)
	return assign(l.key, s[i+1:], warn+cut), true
}

// continuation is an indented line: the same key once more.
func (l *lexer) continuation(s, warn string) item {
	s, cut := cutComment(s)
	warn += cut
	if looksLikeKey(s) {
		warn += "the line is indented and so a further value of '" + l.key + "'; "
	}
	return assign(l.key, s, warn)
}

func (l *lexer) section(s string) item {
	l.key = ""
	name, _, ok := strings.Cut(s[1:], "]")
	if !ok {
		return item{kind: broken, text: "section without a closing bracket"}
	}
	return item{kind: section, text: name}
}

func assign(key, value, warn string) item {
	value = strings.Trim(value, blanks)
	return item{
		key: key, raw: value, warn: strings.TrimSuffix(warn, "; "),
		text: strings.Trim(value, blanks+`"`),
	}
}

// cutComment removes an inline comment: a # after a blank, quoted or not.
func cutComment(s string) (kept, warn string) {
	for i := 1; i < len(s); i++ {
		if s[i] != '#' || strings.IndexByte(blanks, s[i-1]) < 0 {
			continue
		}
		kept = strings.TrimRight(s[:i], blanks)
		if strings.Count(kept, `"`)%2 == 1 {
			warn = "what follows ' #' is a comment even within quotes; "
		}
		return kept, warn
	}
	return s, ""
}

// looksLikeKey tells whether a continuation line seems to be meant as a line
// of its own: a section, or the name of an option and an equals sign.
func looksLikeKey(s string) bool {
	if s[0] == '[' {
		return true
	}
	key, _, ok := strings.Cut(s, "=")
	key = strings.TrimRight(key, blanks)
	return ok && key != "" && !strings.ContainsFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

func control(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// printable makes valid UTF-8 of a line, which is what goes to clients.
func printable(s string) (valid, warn string) {
	if utf8.ValidString(s) {
		return s, ""
	}
	return strings.ToValidUTF8(s, "\ufffd"), "the line is not UTF-8; "
}
