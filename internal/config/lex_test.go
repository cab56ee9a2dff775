package config

import (
	"slices"
	"strings"
	"testing"
)

// lexed returns the items of a file as text: line, kind, key and value.
func lexed(s string) []string {
	var all []string
	lex := newLexer([]byte(s))
	for it, ok := lex.next(); ok; it, ok = lex.next() {
		line := string(rune('0'+it.line)) + " "
		switch it.kind {
		case assignment:
			line += it.key + "=" + it.text
		case section:
			line += "[" + it.text + "]"
		case broken:
			line += "! " + it.text
		}
		if it.warn != "" {
			line += " ?"
		}
		all = append(all, line)
	}
	return all
}

func TestLexer(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string
	}{
		{"empty", "", nil},
		{"comments and blanks", "# a = b\n  ; c = d\n\n \t\n;x", nil},
		{"plain", "a = b", []string{"1 a=b"}},
		{"colon", "a: b\nc:d=e\nf=g:h", []string{"1 a=b", "2 c=d=e", "3 f=g:h"}},
		{"trimmed", "a \t=\t b c \t\r\n", []string{"1 a=b c"}},
		{"no value", "a =\nb=", []string{"1 a=", "2 b="}},
		{"case is kept", "Aa = Bb", []string{"1 Aa=Bb"}},
		{"quotes", `a = "b c"` + "\n" + `b = "" x "y" z""`, []string{"1 a=b c", `2 b=x "y" z`}},
		{"only quotes", `a = " "`, []string{"1 a="}},
		{"inline comment", "a = b # c\nd = e#f\ng = h\t#i\nj = #k", []string{"1 a=b", "2 d=e#f", "3 g=h", "4 j="}},
		{"comment within quotes", `a = "b # c"`, []string{"1 a=b ?"}},
		{"semicolon is no inline comment", "h = max-age=1 ; sub", []string{"1 h=max-age=1 ; sub"}},
		{"byte order mark", "\xef\xbb\xbfa = b", []string{"1 a=b"}},
		{"continuation", "a = b\n  c\n\n# x\n\td # e\nf = g", []string{"1 a=b", "2 a=c", "5 a=d", "6 f=g"}},
		{"continuation that looks like a key", "a = b\n  c = d", []string{"1 a=b", "2 a=c = d ?"}},
		{"continuation that looks like a section", "a = b\n [c]", []string{"1 a=b", "2 a=[c] ?"}},
		{"continuation with a URL", "a = b\n https://x/?y=z", []string{"1 a=b", "2 a=https://x/?y=z"}},
		{"indented first line", "  a = b", []string{"1 a=b"}},
		{"section", "[a b] rest\nc = d\n[]", []string{"1 [a b]", "2 c=d", "3 []"}},
		{"section ends continuation", "a = b\n[s]\n  c = d", []string{"1 a=b", "2 [s]", "3 c=d"}},
		{"broken section", "[a\nb = c", []string{"1 ! section without a closing bracket", "2 b=c"}},
		{"no equals sign", "a\nb = c\n d", []string{"1 ! neither 'key = value' nor a section", "2 b=c", "3 b=d"}},
		{"equals sign in the comment", "a # = b", []string{"1 ! neither 'key = value' nor a section"}},
		{"control", "a = b\x00c\nd = e\x7f\nf = \x1b[0m\n# \x00", []string{
			"1 ! line holds a control character", "2 ! line holds a control character", "3 ! line holds a control character"}},
		{"carriage return within", "a = b\rc = d", []string{"1 ! line holds a control character"}},
		{"not UTF-8", "a = b\xffc\n# \xff", []string{"1 a=b\ufffdc ?"}},
		{"long", "a = " + strings.Repeat("x", 2044) + "\nb = " + strings.Repeat("x", 2045), []string{
			"1 a=" + strings.Repeat("x", 2044), "2 ! line too long: more than 2048 bytes"}},
		{"long comment", "#" + strings.Repeat("x", 5000), nil},
	} {
		if got := lexed(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q\n got %q\nwant %q", c.name, c.in, got, c.want)
		}
	}
}

// included-http-headers keeps its quotes.
func TestLexerRaw(t *testing.T) {
	it, _ := newLexer([]byte(`h =  "a"; b "c"  # d`)).next()
	if it.raw != `"a"; b "c"` || it.text != `a"; b "c` {
		t.Errorf("raw %q, text %q", it.raw, it.text)
	}
}
