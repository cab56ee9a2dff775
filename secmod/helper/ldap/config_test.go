package ldap

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const least = "uri = ldaps://a.example\nfilter = (uid=%u)\nbase = dc=example\n"

func TestParse(t *testing.T) {
	c, warnings, err := parse(`# of the operator
uri = ldaps://a.example ldap://b.example:3890 ldaps://[2001:db8::1]
 base = ou=people, dc=example
filter = (&(objectClass=person)(uid=%u)(!(cn=100%%)))
user-attribute = sAMAccountName
group-attribute =
group-base = ou=groups,dc=example
group-filter = (|(member=%d)(memberUid=%u))
group-name = description
bind-dn = cn=vpn,dc=example
bind-password = a = b # c
timeout = 9
`)
	if err != nil || len(warnings) != 0 {
		t.Fatal(err, warnings)
	}
	var addrs []string
	for _, s := range c.servers {
		addrs = append(addrs, s.String())
	}
	if got := strings.Join(addrs, " "); got != "a.example:636 b.example:3890 [2001:db8::1]:636" || !c.servers[0].tls || c.servers[1].tls || c.servers[2].host != "2001:db8::1" {
		t.Errorf("servers %s", got)
	}
	if c.user != "sAMAccountName" || c.memberOf != "" || c.name != "description" || c.bindPassword.Reveal() != "a = b # c" || c.timeout != 9*time.Second || !c.startTLS {
		t.Errorf("%+v", c)
	}
	if got := c.search.filter.expand(map[byte]string{'u': "x"}); got != "(&(objectClass=person)(uid=x)(!(cn=100%)))" {
		t.Errorf("filter %s", got)
	}
}

func TestParseRefuses(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("hidden\nmore"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "'uri' is missing"},
		{"no user", "uri = ldaps://a", "one of 'filter' and 'bind-template'"},
		{"both", least + "bind-template = uid=%u,dc=example", "one of 'filter' and 'bind-template'"},
		{"no base", "uri = ldaps://a\nfilter = (uid=%u)", "needs its 'base'"},
		{"no group base", least + "group-filter = (member=%d)", "needs its 'base' or 'group-base'"},
		{"a base for nothing", least + "group-base = dc=x", "without its filter"},
		{"unknown key", least + "bindpw = hidden", "line 4: unknown key 'bindpw'"},
		{"twice", least + "base = dc=x", "line 4: 'base' is set twice"},
		{"no value", least + "bind-dn =", "'bind-dn' has no value"},
		{"no pair", least + "hidden", "line 4: not KEY = VALUE"},
		{"another scheme", "uri = http://a", "ldaps:// or ldap://"},
		{"with a path", "uri = ldaps://a/dc=x", "ldaps://HOST"},
		{"with a password", "uri = ldaps://u:hidden@a", "ldaps://HOST"},
		{"filter without a user", "uri = ldaps://a\nbase = dc=x\nfilter = (uid=x)", "the user's name is missing"},
		{"filter with a strange place", "uri = ldaps://a\nbase = dc=x\nfilter = (uid=%u%s)", "after % comes"},
		{"filter that ends with %", "uri = ldaps://a\nbase = dc=x\nfilter = (uid=%u)%", "after % comes"},
		{"no filter", "uri = ldaps://a\nbase = dc=x\nfilter = (uid=%u", "not a filter"},
		{"no DN", "uri = ldaps://a\nbind-template = %u", "not a DN"},
		{"base", "uri = ldaps://a\nbase = x\nfilter = (uid=%u)", "not a DN"},
		{"DN of somebody in a search", "uri = ldaps://a\nbase = dc=x\nfilter = (uid=%d)", "after % comes"},
		{"who without a password", least + "bind-dn = cn=x", "goes with"},
		{"a password without who", least + "bind-password = hidden", "goes with"},
		{"a password twice", least + "bind-dn = cn=x\nbind-password-file = " + secret + ".no", "no such file"},
		{"time", least + "timeout = 0", "1 to 120"},
		{"truth", least + "start-tls = maybe", "true or false"},
		{"no authority", least + "ca-file = " + secret, "no certificate in it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := parse(tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "hidden") {
				t.Errorf("the error tells a value: %v", err)
			}
		})
	}
	c, _, err := parse(least + "bind-dn = cn=x\nbind-password-file = " + secret)
	if err != nil || c.bindPassword.Reveal() != "hidden" {
		t.Errorf("password file: %v", err)
	}
	if _, warnings, err := parse("start-tls = false\n" + strings.Replace(least, "ldaps:", "ldap:", 1)); err != nil || len(warnings) != 1 {
		t.Errorf("without encryption: %v %v", warnings, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(least)
	f.Add("uri = ldap://[::1%25x]\nbind-template = cn=%u%%,dc=%d\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "file") {
			return // reads what it names
		}
		c, _, err := parse(text)
		if err == nil && (len(c.servers) == 0 || c.tls.RootCAs == nil) {
			t.Errorf("taken: %q", text)
		}
	})
}
