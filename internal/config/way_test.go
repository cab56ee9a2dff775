package config

import (
	"slices"
	"strings"
	"testing"
)

func TestWays(t *testing.T) {
	file := least + `egress = corp https://anna:p%40ss@Proxy.Example:8443 pin-sha256=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= tls-fingerprint=chrome
egress = plain http://[2001:db8::1]/ bearer=abc timeout=3 check=www.example.org:443
egress = tor socks5h://127.0.0.1:9050
egress = tor socks5://u:p@127.0.0.1:9051
egress = out direct source=192.0.2.1,2001:db8::1 interface=eth1
egress = shown https://h client-cert=/c.pem client-key=/k.pem
egress-via = tor for *.onion 10.0.0.0/8 tcp(80), udp(1-2)
egress-via = corp|plain,direct for user:anna group:staff any
egress-via = blackhole
`
	c := mustParse(t, file)
	u := c.Vhosts[0].User
	if got, want := stringsOf(u.Ways), []string{
		"corp https://anna:[redacted]@proxy.example:8443 pin-sha256=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= tls-fingerprint=chrome",
		"plain http://[2001:db8::1]:3128 bearer=[redacted] check=www.example.org:443 timeout=3",
		"tor socks5://u:[redacted]@127.0.0.1:9051",
		"out direct source=192.0.2.1,2001:db8::1 interface=eth1",
		"shown https://h:443 client-cert=/c.pem client-key=/k.pem",
	}; !slices.Equal(got, want) {
		t.Errorf("ways\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got, want := stringsOf(u.Via), []string{
		"tor for 10.0.0.0/8 *.onion tcp(80) udp(1-2)",
		"corp|plain,direct for 0.0.0.0/0 ::/0 user:anna group:staff",
		"blackhole",
	}; !slices.Equal(got, want) {
		t.Errorf("via\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if w := u.Ways[0]; w.Password.Reveal() != "p@ss" || w.User != "anna" {
		t.Errorf("%q %q", w.User, w.Password.Reveal())
	}
	v := u.Via[1]
	for who, want := range map[[2]string]bool{{"anna", ""}: true, {"bert", "staff"}: true, {"bert", "guests"}: false, {"bert", ""}: false} {
		if v.Holds(who[0], who[1]) != want {
			t.Errorf("%v: %v", who, !want)
		}
	}
	inMain, err := Parse("test.conf", []byte(file), Main)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range inMain.Vhosts[0].User.Ways {
		if w.User+w.Password.Reveal()+w.Bearer.Reveal() != "" {
			t.Errorf("main knows the login of %s", w.Name)
		}
	}
}

// A user's file adds ways to those there are, and uses its own lines of
// egress-via instead of them.
func TestWaysOfAUser(t *testing.T) {
	base := mustParse(t, least+"egress = a socks5://h\negress = b socks5://h\negress-via = a\n").Vhosts[0].User
	u, _, err := ParseUserFile("anna", []byte("egress = a socks5://u:p@h\negress = c http://h\negress-via = c,b\ntls-fingerprint = ios\n"), base)
	if err != nil {
		t.Fatal(err)
	}
	if got := stringsOf(u.Ways); !slices.Equal(got, []string{"b socks5://h:1080", "a socks5://u:[redacted]@h:1080", "c http://h:3128"}) {
		t.Errorf("%q", got)
	}
	if got := stringsOf(u.Via); !slices.Equal(got, []string{"c,b"}) || u.Fingerprint != "ios" || base.Fingerprint != "go" {
		t.Errorf("%q %s", got, u.Fingerprint)
	}
	if _, _, err := ParseUserFile("anna", []byte("egress-via = nowhere\n"), base); err == nil || !strings.Contains(err.Error(), "'nowhere'") {
		t.Errorf("a way that there is not: %v", err)
	}
}

// What is wrong is told, and never with a word that may be a password.
func TestWaysRefused(t *testing.T) {
	const secret = "s3cret"
	for line, want := range map[string]string{
		"egress = corp":                                        "has a name and a URL",
		"egress = socks5://u:s3cret@h":                         "has a name and a URL",
		"egress = s3cret@x socks5://h":                         "a name of a way",
		"egress = direct socks5://h":                           "a name of a way",
		"egress = a ftp://u:s3cret@h":                          "none of socks5, http and https",
		"egress = a https://u:s3cret@h/path":                   "goes on after the port",
		"egress = a https://u:s3%zzcret@h":                     "cannot be read",
		"egress = a https://u:s3cret@":                         "cannot be read",
		"egress = a https://u:s3cret@h:0":                      "no port",
		"egress = a https://u:s3cret@h:99999":                  "no port",
		"egress = a https://u:s3cret@h:s3cret":                 "cannot be read",
		"egress = a https://u@10.0.0.256":                      "no address and no name",
		"egress = a https://h s3cret":                          "a word that is none of",
		"egress = a https://h password=s3cret":                 "a word that is none of",
		"egress = a https://u:p@h bearer=s3cret":               "instead of a user",
		"egress = a socks5://h bearer=s3cret":                  "bearer is for http and https",
		"egress = a https://h pin-sha256=s3cret":               "base64 of 32 bytes",
		"egress = a https://h tls-fingerprint=opera":           "is one of go, chrome",
		"egress = a https://h tls-fingerprint=chrome http=1.1": "does not go with",
		"egress = a http://h tls-fingerprint=chrome":           "is for https",
		"egress = a https://h check=h":                         "check is HOST:PORT",
		"egress = a https://h timeout=0":                       "timeout is",
		"egress = a https://h client-cert=/s3cret":             "go together",
		"egress = a https://h client-key=/s3cret":              "go together",
		"egress = a http://h client-cert=/a client-key=/b":     "is for https",
		"egress = a direct source=x":                           "source is an address",
		"egress = a direct check=h:1":                          "are for proxies",
		"egress = a socks5://:s3cret@h":                        "SOCKS5 has users",
		"egress-via = corp":                                    "no egress line defines it",
		"egress-via = direct for":                              "nothing follows",
		"egress-via = direct for 10.0.0.256":                   "is no network",
		"egress-via = direct for tcp(x)":                       "neither a port",
		"egress-via = a:b":                                     "is not the name of a way",
		"egress-via = for any":                                 "names no way",
		"tls-fingerprint = netscape":                           "'tls-fingerprint' is one of",
	} {
		got := problems(t, least+line+"\n")
		if len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: %q", line, got)
		}
		if strings.Contains(strings.Join(got, ""), secret) {
			t.Errorf("%s: %q tells a secret", line, got)
		}
	}
}

func FuzzWay(f *testing.F) {
	for _, s := range []string{"a direct", "a https://u:p@h:1 bearer=x ca=/y", "a socks5://[::1] check=a:1", "a direct source=1.2.3.4,::1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := parseWay(s)
		if err != nil {
			return
		}
		w.Password, w.Bearer = Secret{}, Secret{}
		again, err := parseWay(w.String())
		if err != nil || again.String() != w.String() {
			t.Errorf("%q is %q, which is %q: %v", s, w, again, err)
		}
	})
}

func FuzzVia(f *testing.F) {
	for _, s := range []string{"a,b|c for 10.0.0.0/8 tcp(1) user:x group:y", "direct", "a for any *.x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := parseVia(s)
		if err != nil {
			return
		}
		again, err := parseVia(v.String())
		if err != nil || again.String() != v.String() {
			t.Errorf("%q is %q, which is %q: %v", s, v, again, err)
		}
	})
}
