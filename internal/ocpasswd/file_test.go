package ocpasswd

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

const (
	hashA = "$5$saltstringsaltst$jLZQheM22MPm6SnLJWD3VQoX3IEoDyQRzGwNm7I7TtC"
	hashB = "$1$saltsalt$NuzA7WTAelpl95xgBGWN60"
)

func parse(t *testing.T, s string) *File {
	t.Helper()
	f, err := Parse([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLookup(t *testing.T) {
	f := parse(t, "# comment: with: colons\n"+
		"\n"+
		"broken\n"+
		"half:*\n"+
		"half:vip:"+hashA+"\n"+
		"twice:g1:"+hashA+"\n"+
		"twice:g2:"+hashB+"\n"+
		"crlf: g1 , g2,x:"+hashA+"\r\n"+
		"more:*:"+hashA+":left:over\n"+
		":*:"+hashA+"\n"+
		"locked:*:!"+hashA+"\n"+
		strings.Repeat("x", MaxLine)+":*:"+hashA+"\n"+
		"none::"+hashA+"\n"+
		"last:*:"+hashA)
	for _, c := range []struct {
		user   string
		groups []string
		hash   string
		locked bool
		ok     bool
	}{
		{"half", []string{"vip"}, hashA, false, true},
		{"twice", []string{"g1"}, hashA, false, true},
		{"crlf", []string{"g1", "g2"}, hashA, false, true},
		{"more", nil, hashA, false, true},
		{"locked", nil, hashA, true, true},
		{"none", nil, hashA, false, true},
		{"last", nil, hashA, false, true},
		{user: "broken"}, {user: ""}, {user: "# comment"}, {user: "half:*"}, {user: strings.Repeat("x", MaxLine)},
	} {
		e, ok := f.Lookup(c.user)
		if ok != c.ok || e.Hash != c.hash || e.Locked != c.locked || !slices.Equal(e.Groups, c.groups) {
			t.Errorf("Lookup(%.20q) = %+v, %v", c.user, e, ok)
		}
	}
	if got, want := f.Groups(), []string{"vip", "g1", "g2"}; !slices.Equal(got, want) {
		t.Errorf("Groups() = %q, want %q", got, want)
	}
	if got, want := f.Users(), []string{"half", "twice", "crlf", "more", "locked", "none", "last"}; !slices.Equal(got, want) {
		t.Errorf("Users() = %q, want %q", got, want)
	}
}

func TestEdit(t *testing.T) {
	const odd = "# a comment\n\nnonsense\r\n"
	set := func(user, groups, hash string) func(*File) error {
		return func(f *File) error { return f.Set(user, groups, hash) }
	}
	found := func(op func(*File, string) bool, user string, want bool) func(*File) error {
		return func(f *File) error {
			if got := op(f, user); got != want {
				return errors.New("wrong report of whether the user exists")
			}
			return nil
		}
	}
	for _, c := range []struct {
		name, before, after string
		op                  func(*File) error
	}{
		{"add to nothing", "", "u:*:" + hashA + "\n", set("u", "", hashA)},
		{"add", odd + "a:*:" + hashB + "\n", odd + "a:*:" + hashB + "\nu:g1,g2:" + hashA + "\n", set("u", "g1,g2", hashA)},
		{"add after a line without end", odd + "a:*:" + hashB, odd + "a:*:" + hashB + "\nu:*:" + hashA + "\n", set("u", "", hashA)},
		{"change in place", "u:g:" + hashB + "\n" + odd, "u:g:" + hashA + "\n" + odd, set("u", "", hashA)},
		{"change groups", "u:g:" + hashB + "\n" + odd, "u:*:" + hashA + "\n" + odd, set("u", "*", hashA)},
		{"change unlocks", "u:g:!" + hashB + "\n", "u:g:" + hashA + "\n", set("u", "", hashA)},
		{"change leaves one", "u:g1:" + hashB + "\na:*:x\nu:g2:" + hashB + "\n", "u:g1:" + hashA + "\na:*:x\n", set("u", "", hashA)},
		{"comment is no user", "#u:g:" + hashB + "\n", "#u:g:" + hashB + "\nu:*:" + hashA + "\n", set("u", "", hashA)},
		{"lock", odd + "u:g:" + hashA + "\r\nv:*:x", odd + "u:g:!" + hashA + "\r\nv:*:x", found((*File).Lock, "u", true)},
		{"lock twice", "u:g:!" + hashA + "\n", "u:g:!" + hashA + "\n", found((*File).Lock, "u", true)},
		{"lock all lines", "u:g:" + hashA + "\nu:h:" + hashB + "\n", "u:g:!" + hashA + "\nu:h:!" + hashB + "\n", found((*File).Lock, "u", true)},
		{"lock nobody", odd, odd, found((*File).Lock, "u", false)},
		{"unlock", "u:g:!" + hashA + ":z\n" + odd, "u:g:" + hashA + ":z\n" + odd, found((*File).Unlock, "u", true)},
		{"unlock only once", "u:g:!!\n", "u:g:!\n", found((*File).Unlock, "u", true)},
		{"unlock the unlocked", "u:g:" + hashA + "\n", "u:g:" + hashA + "\n", found((*File).Unlock, "u", true)},
		{"delete", odd + "u:g:" + hashA + "\nuu:*:x\nu:g:" + hashA, odd + "uu:*:x\n", found((*File).Delete, "u", true)},
		{"delete nobody", odd + "uu:*:x", odd + "uu:*:x", found((*File).Delete, "u", false)},
	} {
		f := parse(t, c.before)
		if err := c.op(f); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := string(f.Bytes()); got != c.after {
			t.Errorf("%s:\n%q\nwant\n%q", c.name, got, c.after)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	const before = "a:*:" + hashA + "\n"
	for _, c := range []struct {
		user, groups, hash string
		want               error
	}{
		{"", "", hashA, ErrBadName},
		{"a:b", "", hashA, ErrBadName},
		{"a\nb", "", hashA, ErrBadName},
		{"a\x00", "", hashA, ErrBadName},
		{"#a", "", hashA, ErrBadName},
		{" a", "", hashA, ErrBadName},
		{"a\xff", "", hashA, ErrBadName},
		{strings.Repeat("a", MaxName+1), "", hashA, ErrBadName},
		{"u", "g:h", hashA, ErrBadName},
		{"u", "g,,h", hashA, ErrBadName},
		{"u", "g\n", hashA, ErrBadName},
		{"u", "", "", ErrUnsupported},
		{"u", "", "!" + hashA, ErrUnsupported},
		{"u", "", hashA + "\nroot:*:" + hashA, ErrBadHash},
	} {
		f := parse(t, before)
		if err := f.Set(c.user, c.groups, c.hash); !errors.Is(err, c.want) {
			t.Errorf("Set(%q, %q, %q) = %v, want %v", c.user, c.groups, c.hash, err, c.want)
		}
		if got := string(f.Bytes()); got != before {
			t.Errorf("Set(%q) changed the file: %q", c.user, got)
		}
	}
	if err := parse(t, "").Set(strings.Repeat("a", MaxName), "vpn/users,*", hashA); err != nil {
		t.Error(err)
	}
	if _, err := Parse(make([]byte, MaxFile+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Parse of too much: %v", err)
	}
}

// Whatever the bytes are: they come back, and an edit of one user is seen by
// Lookup and leaves every line of others as it was.
func FuzzFile(f *testing.F) {
	f.Add([]byte("# c\nu:g1,g2:"+hashA+"\n\nx\nv:*:!"+hashB), "u")
	f.Add([]byte("u:*:\r\nu::\n:::\n!\n"), "u")
	f.Add([]byte("\xef\xbb\xbfu:*:x"), "ü")
	f.Fuzz(func(t *testing.T, b []byte, user string) {
		file, err := Parse(b)
		if err != nil {
			t.Skip()
		}
		if !bytes.Equal(file.Bytes(), b) {
			t.Fatalf("%q came back as %q", b, file.Bytes())
		}
		others := withoutUser(b, user)
		if err := file.Set(user, "", hashA); err != nil {
			return
		}
		if e, ok := file.Lookup(user); !ok || e.Hash != hashA || e.Locked {
			t.Fatalf("after Set: %+v, %v", e, ok)
		}
		if !file.Lock(user) {
			t.Fatal("Lock finds nobody")
		}
		if e, _ := file.Lookup(user); !e.Locked || e.Hash != hashA {
			t.Fatalf("after Lock: %+v", e)
		}
		if got := withoutUser(file.Bytes(), user); !bytes.Equal(bytes.TrimSuffix(got, []byte("\n")), bytes.TrimSuffix(others, []byte("\n"))) {
			t.Fatalf("others were %q, are %q", others, got)
		}
		file.Delete(user)
		if _, ok := file.Lookup(user); ok {
			t.Fatal("found after Delete")
		}
	})
}

// withoutUser is Delete by other means.
func withoutUser(b []byte, user string) []byte {
	var out []byte
	for l := range bytes.Lines(b) {
		name, rest, ok := bytes.Cut(l, []byte(":"))
		if ok && bytes.Contains(rest, []byte(":")) && string(name) == user && len(l) <= MaxLine {
			continue
		}
		out = append(out, l...)
	}
	return out
}
