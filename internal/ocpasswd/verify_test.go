package ocpasswd

import (
	"errors"
	"strings"
	"testing"
)

// Results of crypt(3) of libxcrypt 4.4.33. The passwords are "correct horse",
// the empty one and "päss".
var passwords = []string{"correct horse", "", "päss"}

var vectors = []struct {
	name   string
	hashes [3]string
}{
	{"md5", [3]string{
		"$1$saltsalt$NuzA7WTAelpl95xgBGWN60", "$1$saltsalt$5Jhcit4zN9UlGiA0txPkO0", "$1$saltsalt$npHVA9aR/rej/t9wc6U4V0"}},
	{"sha256", [3]string{
		"$5$saltstringsaltst$jLZQheM22MPm6SnLJWD3VQoX3IEoDyQRzGwNm7I7TtC",
		"$5$saltstringsaltst$fZ6M5HzkVbdG/lB/Id.WJL8Z4MwBAkXlboKmx8NceL8",
		"$5$saltstringsaltst$pqVO3ghtD0./eH6R60SpHyfYLhK5C1r7DCl.Zr9oNW8"}},
	{"sha256 rounds", [3]string{
		"$5$rounds=1000$abc$/cRuvrIiQqQvcPwD.a/LO47x90cA9f8oqYBouKihds1",
		"$5$rounds=1000$abc$sP9FmVrTEqPcRDE7OxGDY0efugGF1dtCtqYcUsX9wmD",
		"$5$rounds=1000$abc$gUuHo6YZQYy2UINa0AVOP23zFpKJgnbcopyxIfzNuW4"}},
	{"sha256 default rounds named", [3]string{
		"$5$rounds=5000$abc$HEtZB/1K6XJ99xRK14R.qL6AxT3f9/cPAGbTKZddAT6",
		"$5$rounds=5000$abc$bBHLwRRW2Li0XKaX13kz/g2fkDil4Jx46aNvd.48MS8",
		"$5$rounds=5000$abc$rbJIji9FGZ1LNFXwILu1yxkvK/c/SCH9ijeD7pT6QM8"}},
	{"sha256 without salt", [3]string{
		"$5$$SCAp760RlvU0CgD9TQAY9wchWGPvPJ8P8S7gF/3F/S0",
		"$5$$3c2QQ0KjIU1OLtB29cl8Fplc2WN7X89bnoEjaR7tWu.",
		"$5$$Wungvch7QORCMhwzfacOJJm/5DFgpIhWKzbCklhwCd2"}},
	{"sha512", [3]string{
		"$6$saltstringsaltst$bCw7Luzu/QuQ7MeikTUrtG/H3qEhWE0qeSa7fQ7Q.KB7rHffvy6nWAiqxozGGanThe/hZPI9w1X/Yv09XRqnt1",
		"$6$saltstringsaltst$mF.lV5IMswQVU8GZ/VfE3B4FofDTMTejz7bcl0fJ8pWP1XGeFTkx.SaUuOeq7PK3tr8wJN.pIG6v6Dl3jM1ag0",
		"$6$saltstringsaltst$evQi6O2YSE.6f6Z.hwn7NiVhCu5A/ojwpE9YLXNHp/b.5qRohNml/p/33rKOgE/VcNqPQPfEJwVo.SHABshwv/"}},
	{"sha512 rounds", [3]string{
		"$6$rounds=1234$zz$JBnB81SA9WixtcYspXeboPWGa5NP.UpDvri4jl569DAd9RChhq7ZXfUslq8E6.79NdDyqep6f524a8k7txDYd/",
		"$6$rounds=1234$zz$5Npq8TETHJXpUIb..MH166IrVKTIgMGtgqIllWYMuLFF63kRQcjw8qa3O8/AaCaOtH7RwFRkkd.KpfhxOA7bW.",
		"$6$rounds=1234$zz$BkOYt/PgUwZmdB6SRiWJgzdUyoHgrBGy7lruD76oj3ALLObHJONAMkV3d17XyqDhlM4X8Enl94.NG3y5eGw.b1"}},
	{"bcrypt a", [3]string{
		"$2a$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
		"$2a$05$abcdefghijklmnopqrstuu0oImNDIy4flhldV9YqunRgBAePKmw7m",
		"$2a$05$abcdefghijklmnopqrstuuQNr.NUko7cjRuTOhPz.WP0eA4f4.Xuq"}},
	{"bcrypt b", [3]string{
		"$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
		"$2b$05$abcdefghijklmnopqrstuu0oImNDIy4flhldV9YqunRgBAePKmw7m",
		"$2b$05$abcdefghijklmnopqrstuuQNr.NUko7cjRuTOhPz.WP0eA4f4.Xuq"}},
	{"bcrypt y", [3]string{
		"$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2",
		"$2y$05$abcdefghijklmnopqrstuu0oImNDIy4flhldV9YqunRgBAePKmw7m",
		"$2y$05$abcdefghijklmnopqrstuuQNr.NUko7cjRuTOhPz.WP0eA4f4.Xuq"}},
	{"yescrypt small", [3]string{
		"$y$j75$abcdefghijkl$pG0KXbHxpjIKguh3BCfALSHrI366WlMzNka7nozr8.8",
		"$y$j75$abcdefghijkl$LI.4C.XSTCHy/730EFn5uMrpeb7/TU.arBJQztBN7M9",
		"$y$j75$abcdefghijkl$Zg13yzRDzhiETfRRkm0I/nw72gjnCkYEFDtM3/JtW98"}},
	{"yescrypt default", [3]string{
		"$y$j9T$F5Jx5fExrKuPp53xLKQ..1$zwtVrjrUCmXcyLTs6oxLTQlzifSUkF8RHJ./tK5KU79",
		"$y$j9T$F5Jx5fExrKuPp53xLKQ..1$5P1uc1zvKhieqEtKttbwCQrTPXpY1cK9wEnTDKAqLD8",
		"$y$j9T$F5Jx5fExrKuPp53xLKQ..1$94d1YIXoALO8Ixt4PXbeiRYl4EXyDwSnZOP32kX0vc/"}},
	{"yescrypt without salt", [3]string{
		"$y$j9T$$VRWgiI/Aw3NHCcmxsqRb7HF5miOyCINwmBJDnIFabz2",
		"$y$j9T$$EBiO75E.nlsNSY6EaCJLzant.b1uUsOgoDdj78FKfO7",
		"$y$j9T$$7aGobf6GYAg6NWEiCA.CWroK7Jnaj77fgcHFj2KtAj8"}},
}

func TestVerifyAgainstLibxcrypt(t *testing.T) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			for i, hash := range v.hashes {
				for j, pw := range passwords {
					if i != j && strings.HasPrefix(hash, "$y$j9T") {
						continue // dear, and the small ones tell the same
					}
					ok, err := Verify(hash, []byte(pw))
					if err != nil || ok != (i == j) {
						t.Errorf("Verify(%s, %q) = %v, %v; want %v", hash, pw, ok, err, i == j)
					}
				}
			}
		})
	}
}

// A result that differs in its last character, or is cut short, is no match.
func TestVerifyWholeResult(t *testing.T) {
	for _, v := range vectors {
		hash := v.hashes[0]
		if strings.HasPrefix(hash, "$y$j9T") {
			continue
		}
		for _, n := range []int{1, 2, 20} {
			if ok, err := Verify(hash[:len(hash)-n], []byte(passwords[0])); ok || !errors.Is(err, ErrBadHash) {
				t.Errorf("%s: cut by %d: %v, %v; want ErrBadHash", v.name, n, ok, err)
			}
		}
		other := byte('a')
		if hash[len(hash)-2] == other {
			other = 'b'
		}
		changed := hash[:len(hash)-2] + string(other) + hash[len(hash)-1:]
		if ok, err := Verify(changed, []byte(passwords[0])); ok || err != nil {
			t.Errorf("%s: changed: %v, %v", v.name, ok, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	r43, r53 := strings.Repeat("a", 42)+".", strings.Repeat("a", 53)
	for _, c := range []struct {
		hash string
		want error
	}{
		{"", ErrNoPassword},
		{"!", ErrLocked},
		{"!" + vectors[1].hashes[0], ErrLocked},
		{"x", ErrUnsupported},
		{"abhfCpXqd4GrI", ErrUnsupported}, // DES
		{"$2x$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2", ErrUnsupported}, // sign-extension bug by name
		{"$7$CU..../....abcdefgh$zsdaqwx89mPOv8.UAUJOC7yCeca1WUSV.qqzsN2U1JA", ErrUnsupported},
		{"$gy$j75$abcdefghijkl$mASCt7sl4rWwBxI0co.Ak8I1tDmVuK6b0qgi0kM1fG7", ErrUnsupported},
		{"$plaintext$correct horse", ErrUnsupported},
		{"$5$", ErrBadHash},
		{"$5$" + r43, ErrBadHash},
		{"$5$rounds=999$abc$" + r43, ErrBadHash},
		{"$5$rounds=01000$abc$" + r43, ErrBadHash},
		{"$5$rounds=$abc$" + r43, ErrBadHash},
		{"$5$rounds=-1$abc$" + r43, ErrBadHash},
		{"$5$rounds=1000001$abc$" + r43, ErrTooCostly},
		{"$5$rounds=999999999999999999999$abc$" + r43, ErrTooCostly},
		{"$5$12345678901234567$" + r43, ErrBadHash},
		{"$5$a b$" + r43, ErrBadHash},
		{"$5$rounds=1000,rounds=9999999$abc$" + r43, ErrBadHash},
		{"$1$123456789$" + r43[:22], ErrBadHash},
		{"$2b$15$" + r53, ErrTooCostly},
		{"$2b$31$" + r53, ErrTooCostly},
		{"$2b$03$" + r53, ErrBadHash},
		{"$2b$-5$" + r53, ErrBadHash},
		{"$2b$xx$" + r53, ErrBadHash},
		{"$y$jBT$" + r43[:8] + "$" + r43, nil},          // 64 MB: the limit
		{"$y$jCT$" + r43[:8] + "$" + r43, ErrTooCostly}, // 128 MB
		{"$y$jzz$" + r43[:8] + "$" + r43, ErrTooCostly},
		{"$y$j.5$" + r43[:8] + "$" + r43, ErrBadHash},
		{"$y$jU5$" + r43[:8] + "$" + r43, ErrTooCostly},
		{"$y$i75$" + r43[:8] + "$" + r43, ErrBadHash},
		{"$y$j75$aaaaa$" + r43, ErrBadHash},
		{"$y$j75$aaaaaa$" + r43, ErrBadHash},
		{"$y$j75$aaaa$" + r43[:42] + "a", ErrBadHash},
		{"$y$j756$" + r43[:8] + "$" + r43, ErrBadHash},
		{"$y$j75$" + strings.Repeat("a", 87) + "$" + r43, ErrBadHash},
	} {
		if c.want == nil { // the dearest allowed: not computed here
			if _, err := parseHash(c.hash); err != nil {
				t.Errorf("%q: %v", c.hash, err)
			}
			continue
		}
		ok, err := Verify(c.hash, []byte("correct horse"))
		if ok || !errors.Is(err, c.want) {
			t.Errorf("Verify(%q) = %v, %v; want %v", c.hash, ok, err, c.want)
		}
	}
	if ok, err := Verify(vectors[1].hashes[0], make([]byte, MaxPassword+1)); ok || !errors.Is(err, ErrTooLong) {
		t.Errorf("long password: %v, %v", ok, err)
	}
	if ok, err := Verify(vectors[1].hashes[0], make([]byte, MaxPassword)); ok || err != nil {
		t.Errorf("longest password: %v, %v", ok, err)
	}
}

func TestHash(t *testing.T) {
	for s, prefix := range map[Scheme]string{SHA256: "$5$", SHA512: "$6$"} {
		h1, err := Hash(s, []byte("päss word"))
		if err != nil {
			t.Fatal(err)
		}
		h2, err := Hash(s, []byte("päss word"))
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split(h1, "$")
		if !strings.HasPrefix(h1, prefix) || len(parts) != 4 || len(parts[2]) != 16 {
			t.Errorf("%s: %s: want %s, a salt of 16 characters and no rounds", s, h1, prefix)
		}
		if h1 == h2 {
			t.Errorf("%s: the same hash twice: %s", s, h1)
		}
		for pw, want := range map[string]bool{"päss word": true, "päss wor": false, "päss wordd": false, "": false} {
			if ok, err := Verify(h1, []byte(pw)); ok != want || err != nil {
				t.Errorf("%s: Verify(%q) = %v, %v; want %v", s, pw, ok, err, want)
			}
		}
	}
	for _, c := range []struct {
		scheme Scheme
		pw     string
		want   error
	}{
		{SHA256, "", ErrEmpty},
		{SHA256, "a\nb", ErrControl},
		{SHA256, "a\x00b", ErrControl},
		{SHA256, strings.Repeat("x", MaxPassword+1), ErrTooLong},
		{"md5", "x", ErrUnknownScheme},
	} {
		if h, err := Hash(c.scheme, []byte(c.pw)); h != "" || !errors.Is(err, c.want) {
			t.Errorf("Hash(%s, %d bytes) = %q, %v; want %v", c.scheme, len(c.pw), h, err, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	f, err := Parse([]byte("# alice:*:" + vectors[1].hashes[0] + "\n" +
		"alice:staff,vip,x:" + vectors[1].hashes[0] + "\n" +
		"bob:*:!" + vectors[1].hashes[0] + "\n" +
		"empty:*:\n" +
		"odd:*:$7$what\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, pw string
		ok       bool
		err      error
	}{
		{"alice", "correct horse", true, nil},
		{"alice", "wrong", false, nil},
		{"bob", "correct horse", false, ErrLocked},
		{"bob", "wrong", false, ErrLocked},
		{"empty", "", false, ErrNoPassword},
		{"empty", "x", false, ErrNoPassword},
		{"odd", "x", false, ErrUnsupported},
		{"nobody", "correct horse", false, nil}, // though the decoy's password is that
		{"", "correct horse", false, nil},
		{"# alice", "correct horse", false, nil},
		{"Alice", "correct horse", false, nil},
	} {
		e, ok, err := f.Check(c.user, []byte(c.pw))
		if ok != c.ok || !errors.Is(err, c.err) {
			t.Errorf("Check(%q, %q) = %v, %v; want %v, %v", c.user, c.pw, ok, err, c.ok, c.err)
		}
		if ok && e.User != c.user {
			t.Errorf("Check(%q): entry of %q", c.user, e.User)
		}
	}
	if (&File{}).decoy() != decoy || f.decoy() != vectors[1].hashes[0] {
		t.Error("the decoy is not the first usable hash")
	}
	if _, err := parseHash(decoy); err != nil {
		t.Errorf("the built-in decoy costs nothing: %v", err)
	}
}

func FuzzVerify(f *testing.F) {
	for _, v := range vectors {
		f.Add(v.hashes[0], []byte(passwords[0]))
	}
	f.Add("$5$rounds=999999999$a$b", []byte("x"))
	f.Add("$y$j9T$$", []byte("x"))
	f.Fuzz(func(t *testing.T, hash string, pw []byte) {
		// Only the cost bounds and the parsers are wanted here.
		s, err := parseHash(hash)
		if err != nil {
			return
		}
		small := strings.HasPrefix(hash, "$y$j75$") || strings.HasPrefix(hash, "$2b$04$") ||
			!strings.HasPrefix(hash, "$y$") && !strings.HasPrefix(hash, "$2") && !strings.Contains(hash, "rounds=")
		if !small || len(pw) > 64 {
			return
		}
		if _, err := s.match(hash, pw); err != nil {
			t.Errorf("%q passed the check and failed in the computation: %v", hash, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	r43, r53 := strings.Repeat("a", 42)+".", strings.Repeat("a", 53)
	for name, h := range map[string]string{
		"sha256": vectors[1].hashes[0], "sha512": vectors[5].hashes[0], "yescrypt": vectors[11].hashes[0],
		"sha256-most": "$5$rounds=1000000$abc$" + r43, "bcrypt-most": "$2b$14$" + r53, "yescrypt-most": "$y$jBT$aaaaaaaa$" + r43,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Verify(h, []byte("wrong")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
