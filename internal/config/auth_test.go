package config

import (
	"strings"
	"testing"
)

func TestParseMethod(t *testing.T) {
	for _, c := range []struct{ in, want, note string }{
		{"plain[passwd=/a]", "plain[passwd=/a]", ""},
		{"PLAIN[PassWD=/a/B, otp = /c ]", "plain[passwd=/a/B,otp=/c]", ""},
		{"plain[otp=/c]", "plain[otp=/c]", ""},
		{"plain[passwd=\"/a b\",]", "plain[passwd=/a b]", ""},
		{"plain[/a]", "plain[passwd=/a]", "legacy format"},
		{"plain[ /a ]trailing", "plain[passwd=/a]", "legacy format"},
		{"plaintext[passwd=/a]", "plain[passwd=/a]", "'plaintext' is taken as auth method 'plain'"},
		{"pam", "pam", ""},
		{"pam[]", "pam", ""},
		{"pam[gid-min=1000,service=vpn]", "pam[service=vpn,gid-min=1000]", ""},
		{"radius[config=/r,groupconfig=true,nas-identifier=x,group-separator=comma]",
			"radius[config=/r,groupconfig=true,nas-identifier=x,group-separator=comma]", ""},
		{"radius[/r,groupconfig]", "radius[config=/r,groupconfig=true]", "legacy format"},
		{"radius[/r]", "radius[config=/r]", "legacy format"},
		{"gssapi[keytab=/k,require-local-user-map=true,tgt-freshness-time=900,gid-min=1]",
			"gssapi[keytab=/k,require-local-user-map=true,tgt-freshness-time=900,gid-min=1]", ""},
		{"oidc[config=/o.json]", "oidc[config=/o.json]", ""},
		{"oidc[config=/o.json,sso=true]", "oidc[config=/o.json,sso=true]", ""},
		{"oidc[config=/o.json,sso=yes]", "! sso is true or false, not 'yes'", ""},
		{"certificate", "certificate", ""},
		{"certificate[optional]", "! cannot parse its options", ""},
		{"plain", "! needs the option 'passwd' or 'otp'", ""},
		{"plain[passwd=]", "! needs the option", ""},
		{"radius", "! needs the option 'config'", ""},
		{"radius[/r,foo]", "! unknown option 'foo'", ""},
		{"radius[/r,groupconfig,x]", "! cannot parse its options", ""},
		{"oidc", "! needs the option 'config'", ""},
		{"plain[passwd=/a", "! no closing bracket", ""},
		{"plain[foo=/a]", "! unknown option 'foo'", ""},
		{"plain[passwd=/a,passwd=/b,passwd=/c,passwd=/d,passwd=/e,otp=/f]", "! more than 5 options", ""},
		{"pla", "! unknown or unsupported auth method: pla", ""},
		{"", "! unknown or unsupported auth method: ", ""},
		{"foo[secret=x]", "! unknown or unsupported auth method: foo", ""},
	} {
		m, note, err := parseMethod(c.in)
		if err != nil {
			if want, ok := strings.CutPrefix(c.want, "! "); !ok || !strings.HasSuffix(err.Error(), want) && !strings.Contains(err.Error(), want+" ") {
				t.Errorf("%q: %v, want %q", c.in, err, c.want)
			}
			continue
		}
		if got := m.String(); got != c.want || (note == "") != (c.note == "") || !strings.Contains(note, c.note) {
			t.Errorf("%q: %q with note %q; want %q, %q", c.in, got, note, c.want, c.note)
		}
	}
}

// Every way to combine methods: which are refused as a combination. (That most
// methods are not in effect is another matter.)
func TestMixedMethods(t *testing.T) {
	full := map[string]string{"plain": "plain[passwd=/a]", "radius": "radius[config=/r]", "oidc": "oidc[config=/o]"}
	text := func(name string) string {
		if full[name] != "" {
			return full[name]
		}
		return name
	}
	for _, c := range []struct {
		auth, enable string
		mixed        bool
	}{
		{"plain", "", false}, {"certificate", "", false}, {"plain certificate", "", false}, {"certificate plain", "", false},
		{"plain", "certificate", false}, {"certificate", "plain", false}, {"plain", "gssapi", false}, {"gssapi", "plain", false},
		{"gssapi", "plain certificate", false}, {"plain certificate", "gssapi", false}, {"oidc", "plain", false}, {"certificate", "plain gssapi", false},
		{"plain pam", "", true}, {"plain radius", "", true}, {"plain plain", "", true}, {"pam gssapi", "", true}, {"plain oidc", "", true},
		{"plain", "pam", true}, {"plain certificate", "radius", true}, {"certificate", "plain pam", true}, {"gssapi", "plain radius", true},
	} {
		file := strings.Replace(least, "auth = \"plain[passwd=/tmp/users]\"\n", "cert-user-oid = 2.5.4.3\n", 1)
		for name := range strings.FieldsSeq(c.auth) {
			file += "auth = " + text(name) + "\n"
		}
		for name := range strings.FieldsSeq(c.enable) {
			file += "enable-auth = " + text(name) + "\n"
		}
		mixed := false
		for _, p := range problems(t, file) {
			mixed = mixed || strings.Contains(p, "cannot mix")
		}
		if mixed != c.mixed {
			t.Errorf("auth %s, enable-auth %s: mixed is %v", c.auth, c.enable, mixed)
		}
	}
}

// What ocserv prints at its start.
func TestMethodNotes(t *testing.T) {
	p := newParser("test.conf", SecMod)
	p.begin()
	v := p.config.Vhosts[0]
	v.Auth = []Method{{Name: "plain", Options: map[string]string{"passwd": "/a"}}, {Name: "certificate"}}
	v.EnableAuth = []Method{{Name: "gssapi", Options: map[string]string{"gid-min": "1"}}}
	v.Acct = []Method{{Name: "radius"}}
	p.checkAuth(v)
	if len(p.notes) != 3 || p.notes[0].Text != "vhost:default: setting 'plain+certificate' as primary authentication method" ||
		p.notes[1].Text != "vhost:default: enabling 'gssapi' as authentication method" ||
		p.notes[2].Text != "vhost:default: setting 'radius' as accounting method" {
		t.Errorf("notes %v", p.notes)
	}
	if len(v.EnableAuth) != 1 || len(p.errors) != 0 || len(p.warnings) != 0 {
		t.Errorf("left %v, errors %v, warnings %v", v.EnableAuth, p.errors, p.warnings)
	}
}
