package blocklist

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func parse(t testing.TB, text string) (Set, *Builder) {
	t.Helper()
	b := new(Builder)
	if err := b.Parse([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return b.Set(), b
}

func TestFormats(t *testing.T) {
	s, b := parse(t, `# a list
ads.example
*.wild.example   # below and itself
||adblock.example^
! a remark too
0.0.0.0 hosts.example other.example localhost
::1 ip6-localhost
127.0.0.1	tabs.example
UPPER.Example.
ads.example
zip
_dmarc.x-y.example

two words
bad..example
http://url.example/
127.0.0.1
192.0.2.1 bad!name.example
`)
	for name, want := range map[string]bool{
		"ads.example": true, "a.b.ads.example": true, "bads.example": false, "example": false, "ads.example.net": false,
		"wild.example": true, "x.wild.example": true, "adblock.example": true, "hosts.example": true, "other.example": true,
		"localhost": false, "ip6-localhost": false, "tabs.example": true, "upper.example": true, "zip": true, "any.zip": true,
		"_dmarc.x-y.example": true, "x-y.example": false, "url.example": false, "name.example": false, "": false, ".": false, "..": false,
	} {
		if got := s.Has(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if s.Len() != 9 {
		t.Errorf("%d names", s.Len())
	}
	if b.Bad != 5 || b.First != 14 {
		t.Errorf("%d lines are no names, the first is %d", b.Bad, b.First)
	}
	if Set(nil).Has("ads.example") {
		t.Error("nothing has something")
	}
}

func TestBound(t *testing.T) {
	var text strings.Builder
	for i := range MaxNames {
		fmt.Fprintf(&text, "n%d.example\n", i)
	}
	b := new(Builder)
	if err := b.Parse([]byte(text.String())); err != nil {
		t.Fatal(err)
	}
	if n := b.Set().Len(); n != MaxNames {
		t.Errorf("%d names, of %d: some have the same hash", n, MaxNames)
	}
	text.WriteString("one.more\n")
	if err := new(Builder).Parse([]byte(text.String())); !errors.Is(err, ErrTooLong) {
		t.Errorf("one too many: %v", err)
	}
}

// FuzzParse: what was taken is found, with everything below.
func FuzzParse(f *testing.F) {
	f.Add("0.0.0.0 a.example\n||b.example^\n*.c\nd")
	f.Add("a.example\r\n\x00\n. \n..\n")
	f.Fuzz(func(t *testing.T, text string) {
		b := new(Builder)
		if b.Parse([]byte(text)) != nil {
			return
		}
		s := b.Set()
		for line := range strings.Lines(text) {
			name := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(line), "."))
			if isDomain(name) && (!s.Has(name) || !s.Has("below."+name)) {
				t.Fatalf("%q is not found", name)
			}
		}
		if len(s) != 8*s.Len() {
			t.Fatalf("%d bytes", len(s))
		}
	})
}
