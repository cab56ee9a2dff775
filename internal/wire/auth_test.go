package wire

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"
)

const xmlReply = `<config-auth client="vpn" type="auth-reply" aggregate-auth-version="2">`

func TestParseAuthXML(t *testing.T) {
	const in = `<?xml version="1.0" encoding="UTF-8"?>
<config-auth client="vpn" type="auth-reply" aggregate-auth-version="2">
<version who="vpn">4.10</version>
<device-id computer-name="PC" device-type="VM" platform-version="10.0" unique-id="ab" unique-id-global="cd">win</device-id>
<mac-address-list><mac-address>00-01</mac-address><mac-address public-interface="true">00-02</mac-address></mac-address-list>
<capabilities><auth-method>single-sign-on</auth-method><other/><auth-method>multiple-cert</auth-method></capabilities>
<group-access>https://vpn.example.com/eng?x</group-access>
<group-select> eng </group-select>
<client-cert-fail/>
<session-token>tok</session-token>
<session-id>7</session-id>
<opaque is-for="sg"><a>1</a><!-- x --><b c="&amp;"/></opaque>
<host-scan-token>zzz</host-scan-token>
<unknown><deeper><username>mallory</username></deeper></unknown>
<auth><username>a&amp;b</username><password> p&#x26;w&lt;<!-- c --><![CDATA[&x]]></password><secondary_username>s</secondary_username>
<secondary_password>2</secondary_password><new_password/><sso-token>t0k</sso-token>
<client-cert-chain cert-store="1M"><client-cert-sent-via-protocol/></client-cert-chain>
<client-cert-chain cert-store="1U"><client-cert>AAAA</client-cert></client-cert-chain></auth>
</config-auth>
`
	body := []byte(in)
	m, err := ParseAuth(body)
	if err != nil {
		t.Fatal(err)
	}
	clear(body) // the result is its own
	type facts struct {
		kind                                    AuthKind
		version, group, access, token, id       string
		user, user2, pass, pass2, newPass, sso  string
		device                                  string
		capabilities, opaque                    string
		certFail                                bool
		inputs                                  int
		newPasswordThere, machineCertIsNoAnswer bool
	}
	_, chain := m.Inputs["client-cert-chain"]
	got := facts{
		m.Kind, m.Version, m.GroupSelect, m.GroupAccess, string(m.SessionToken), m.SessionID,
		m.Username(), m.SecondaryUsername(), string(m.Password()), string(m.SecondaryPassword()), string(m.NewPassword()), string(m.SSOToken()),
		fmt.Sprint(m.Device), fmt.Sprint(m.Capabilities), string(m.Opaque), m.ClientCertFail, len(m.Inputs), m.NewPassword() != nil, !chain,
	}
	want := facts{
		AuthReply, "4.10", "eng", "https://vpn.example.com/eng?x", "tok", "7",
		"a&b", "s", " p&w<&x", "2", "", "t0k",
		"{win PC VM 10.0 ab [00-01 00-02]}", "[single-sign-on multiple-cert]", `<a>1</a><!-- x --><b c="&amp;"/>`, true, 6, true, true,
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	m.Clear()
	if s := string(m.Password()) + string(m.SessionToken) + string(m.Opaque) + m.Username(); strings.Trim(s, "\x00") != "" {
		t.Errorf("after Clear: %q", s)
	}
}

func TestParseAuthKinds(t *testing.T) {
	tests := []struct {
		name, in string
		kind     AuthKind
		xml      bool
	}{
		{"empty", "", AuthInit, false},
		{"blank", "\r\n \t", AuthInit, false},
		{"init", `<config-auth type="init"/>`, AuthInit, true},
		{"blanks first", " \r\n<config-auth type=\"init\"/>", AuthInit, true},
		{"mark of UTF-8", "\xef\xbb\xbf<config-auth type=\"init\"/>", AuthInit, true},
		{"namespace", `<x:config-auth xmlns:x="urn:x" type="logout"><x:version/></x:config-auth>`, AuthLogout, true},
		{"default namespace", `<config-auth xmlns="urn:x" type="auth-reply"/>`, AuthReply, true},
		{"comment first", `<!-- hi --><config-auth type="init"/><!-- ho -->` + "\n", AuthInit, true},
		{"unknown", `<config-auth type="auth-poll"/>`, AuthOther, true},
		{"no type", `<config-auth/>`, AuthInit, true},
		{"no type with answers", `<config-auth><auth><username>a</username></auth></config-auth>`, AuthReply, true},
		{"form", "username=a", AuthReply, false},
		{"form with group only", "group_list=a", AuthReply, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ParseAuth([]byte(tt.in))
			if err != nil || m.Kind != tt.kind || m.XML != tt.xml {
				t.Fatalf("%+v, %v", m, err)
			}
		})
	}
	for k, want := range map[AuthKind]string{AuthInit: "init", AuthReply: "auth-reply", AuthLogout: "logout", AuthOther: "other"} {
		if k.String() != want {
			t.Errorf("%d prints as %q", k, k)
		}
	}
}

func TestParseAuthRefuses(t *testing.T) {
	deep := strings.Repeat("<a>", maxAuthDepth) + strings.Repeat("</a>", maxAuthDepth)
	bomb := `<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;">]>` + xmlReply + `<auth><username>&lol2;</username></auth></config-auth>`
	inAuth := func(s string) string { return xmlReply + "<auth>" + s + "</auth></config-auth>" }
	tests := []struct {
		name, in string
		err      error
	}{
		{"other root", `<auth><username>a</username></auth>`, ErrAuthRoot},
		{"only a comment", `<!-- -->`, ErrAuthRoot},
		{"not closed", xmlReply + "<auth>", ErrAuthSyntax},
		{"crossed", xmlReply + "<auth></config-auth></auth>", ErrAuthSyntax},
		{"entities", bomb, ErrAuthSyntax},
		{"unknown entity", inAuth("<username>&hidden;</username>"), ErrAuthSyntax},
		{"bare ampersand", inAuth("<password>hidden&pw</password>"), ErrAuthSyntax},
		{"external", `<!DOCTYPE a SYSTEM "file:///etc/passwd">` + xmlReply + "</config-auth>", ErrAuthSyntax},
		{"late doctype", xmlReply + `<!DOCTYPE a></config-auth>`, ErrAuthSyntax},
		{"encoding", `<?xml version="1.0" encoding="ISO-8859-1"?>` + xmlReply + "</config-auth>", ErrAuthSyntax},
		{"bad UTF-8", inAuth("<username>hidden\xff</username>"), ErrAuthSyntax},
		{"NUL", inAuth("<username>hidden\x00</username>"), ErrAuthSyntax},
		{"NUL by number", inAuth("<password>&#0;</password>"), ErrAuthSyntax},
		{"broken after it", xmlReply + "</config-auth><", ErrAuthSyntax},
		{"broken group", xmlReply + "<group-select>x", ErrAuthSyntax},
		{"broken token", xmlReply + "<session-token>x", ErrAuthSyntax},
		{"broken opaque", xmlReply + "<opaque>x", ErrAuthSyntax},
		{"broken list", xmlReply + "<capabilities><auth-method>x", ErrAuthSyntax},
		{"two documents", xmlReply + "</config-auth>" + xmlReply + "</config-auth>", ErrAuthSyntax},
		{"text after it", xmlReply + "</config-auth>username=x", ErrAuthSyntax},
		{"two usernames", inAuth("<username>a</username><username>b</username>"), ErrAuthDuplicate},
		{"two passwords", inAuth("<password>a</password><password>a</password>"), ErrAuthDuplicate},
		{"in two auths", xmlReply + "<auth><password>a</password></auth><auth><password>b</password></auth></config-auth>", ErrAuthDuplicate},
		{"two groups", xmlReply + "<group-select>a</group-select><group-select>b</group-select></config-auth>", ErrAuthDuplicate},
		{"group by both ways", xmlReply + "<group-select>a</group-select><auth><group_list>b</group_list></auth></config-auth>", ErrAuthDuplicate},
		{"two tokens", xmlReply + "<session-token>a</session-token><session-token>b</session-token></config-auth>", ErrAuthDuplicate},
		{"two opaques", xmlReply + "<opaque>a</opaque><opaque>b</opaque></config-auth>", ErrAuthDuplicate},
		{"line break in a name", inAuth("<username>hidden\nx</username>"), ErrAuthText},
		{"C1 in a name", inAuth("<username>a&#x85;</username>"), ErrAuthText},
		{"tab in a group", xmlReply + "<group-select>a\tb</group-select></config-auth>", ErrAuthText},
		{"too deep", xmlReply + deep + "</config-auth>", ErrAuthTooLarge},
		{"too many elements", xmlReply + strings.Repeat("<a/>", maxAuthElements) + "</config-auth>", ErrAuthTooLarge},
		{"too many attributes", "<config-auth " + strings.Repeat(`a="1" `, maxAuthAttrs+1) + "/>", ErrAuthTooLarge},
		{"too many inputs", inAuth(many("<i%d/>", maxInputs+1)), ErrAuthTooLarge},
		{"long name of an input", inAuth("<" + strings.Repeat("x", maxInputName+1) + "/>"), ErrAuthTooLarge},
		{"long password", inAuth("<password>" + strings.Repeat("x", maxInput+1) + "</password>"), ErrAuthTooLarge},
		{"long version", xmlReply + "<version>" + strings.Repeat("x", maxInput+1) + "</version></config-auth>", ErrAuthTooLarge},
		{"long opaque", xmlReply + "<opaque>" + strings.Repeat("x", maxOpaque+1) + "</opaque></config-auth>", ErrAuthTooLarge},
		{"long document", xmlReply + strings.Repeat(" ", MaxAuth) + "</config-auth>", ErrAuthTooLarge},
		{"form: two usernames", "username=a&username=b", ErrAuthDuplicate},
		{"form: two groups", "group_list=a&group_list=b", ErrAuthDuplicate},
		{"form: bad escape", "password=hidden%zz", ErrAuthSyntax},
		{"form: cut escape", "password=hidden%2", ErrAuthSyntax},
		{"form: bad name", "hidden%f=x", ErrAuthSyntax},
		{"form: NUL", "password=hidden%00", ErrAuthText},
		{"form: latin-1 name", "username=hidden%fc", ErrAuthText},
		{"form: line break", "username=hidden%0d%0aX", ErrAuthText},
		{"form: no name", "=x", ErrAuthTooLarge},
		{"form: long name", strings.Repeat("x", 300) + "=x", ErrAuthTooLarge},
		{"form: many", many("i%d=&", maxInputs+1), ErrAuthTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ParseAuth([]byte(tt.in))
			if !errors.Is(err, tt.err) || m != nil {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("the error tells: %v", err)
			}
		})
	}
}

func many(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestParseAuthForm(t *testing.T) {
	m, err := ParseAuth([]byte("group_list=Eng+%26+Ops&username=m%C3%BCller&password=a%2Bb+c%3D%26%25=d&verify_password=x&empty&answer=\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if m.GroupSelect != "Eng & Ops" || m.Username() != "müller" || string(m.Password()) != "a+b c=&%=d" {
		t.Errorf("%q %q %q", m.GroupSelect, m.Username(), []byte(m.Password()))
	}
	if string(m.Inputs["verify_password"]) != "x" || m.Inputs["empty"] == nil || m.Inputs["answer"] == nil || m.SSOToken() != nil {
		t.Errorf("inputs %v", m.Inputs)
	}
}

func TestAnswer(t *testing.T) {
	tests := []struct{ in, want string }{
		{"username=a", "<nil>"},
		{"password=p", "p"},
		{"username=a&password=p&secondary_password=s", "s"}, // sslcon repeats the first
		{"password=p&answer=a", "a"},
		{"whichpin=w", "w"},
		{"new_password=n&verify_password=n", "n"},
		{"secondary_password=&password=p", ""}, // an empty answer is one
	}
	for _, tt := range tests {
		m, err := ParseAuth([]byte(tt.in))
		if err != nil {
			t.Fatal(err)
		}
		got := string(m.Answer())
		if m.Answer() == nil {
			got = "<nil>"
		}
		if got != tt.want {
			t.Errorf("%q: %q", tt.in, got)
		}
	}
}

// Lists and descriptions are cut, not refused.
func TestParseAuthBounds(t *testing.T) {
	m, err := ParseAuth([]byte(`<config-auth type="init"><device-id computer-name="` + strings.Repeat("x", 1000) + `">win` + "\u0085" + `</device-id>` +
		`<mac-address-list>` + strings.Repeat("<mac-address>m</mac-address>", 100) + `</mac-address-list></config-auth>`))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Device.ComputerName) != maxFact || m.Device.ID != "win" || len(m.Device.MACs) != maxList {
		t.Errorf("%+v", m.Device)
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	m, err := ParseAuth([]byte("username=a&password=hidden"))
	if err != nil {
		t.Fatal(err)
	}
	s := m.Password()
	var log strings.Builder
	for _, h := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(h).Info("x", "secret", s, "in a struct", struct{ S Secret }{s}, "map", m.Inputs)
	}
	hex := fmt.Sprintf("%x", "hidden")
	number := fmt.Sprint([]byte("hidden"))
	for _, out := range []string{
		fmt.Sprint(s), fmt.Sprintf("%s %q %x %X %v %+v %#v %d %02x", s, s, s, s, s, s, s, s, s),
		fmt.Sprintf("%v %+v %#v", m, m, *m), log.String(),
	} {
		lower := strings.ToLower(out)
		if strings.Contains(out, "hidden") || strings.Contains(lower, hex) || strings.Contains(out, number[1:len(number)-1]) || !strings.Contains(out, "[redacted]") {
			t.Errorf("it prints: %s", out)
		}
	}
}

func FuzzParseAuth(f *testing.F) {
	for _, c := range transcripts(f) {
		for _, r := range c.requests(f) {
			f.Add(r.Body)
		}
	}
	f.Add([]byte(xmlReply + "<auth><username>a&#x26;</username><password><![CDATA[x]]></password></auth><opaque>x</opaque></config-auth>"))
	f.Add([]byte("username=a&password=%41+b&group_list=x"))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><config-auth>&b;</config-auth>`))
	known := []error{ErrAuthTooLarge, ErrAuthSyntax, ErrAuthRoot, ErrAuthDuplicate, ErrAuthText}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseAuth(b)
		if err != nil {
			for _, k := range known {
				if errors.Is(err, k) {
					return
				}
			}
			t.Fatalf("unknown error %v", err)
		}
		for _, s := range []string{
			m.Username(), m.SecondaryUsername(), m.GroupSelect, m.GroupAccess, m.Version, m.SessionID,
			m.Device.ID, m.Device.ComputerName, m.Device.Type, m.Device.PlatformVersion, m.Device.UniqueID,
			strings.Join(m.Device.MACs, ""), strings.Join(m.Capabilities, ""),
		} {
			if !utf8.ValidString(s) || strings.ContainsFunc(s, isControl) {
				t.Fatalf("text %q", s)
			}
		}
		if len(m.Inputs) > maxInputs || len(m.Opaque) > maxOpaque {
			t.Fatalf("%d inputs, %d bytes of opaque", len(m.Inputs), len(m.Opaque))
		}
		for name, v := range m.Inputs {
			if name == "" || len(name) > maxInputName || len(v) > maxInput {
				t.Fatalf("input %q of %d bytes", name, len(v))
			}
		}
		m.Clear()
		for _, v := range m.Inputs {
			for _, c := range v {
				if c != 0 {
					t.Fatal("Clear left something")
				}
			}
		}
	})
}

// TestParseAuthWhere: an error says where in the document as it was sent.
func TestParseAuthWhere(t *testing.T) {
	for in, want := range map[string]string{
		`<config-auth><auth></oops></auth></config-auth>`:      "line 1, column 27",
		"<config-auth>\n<auth></oops></auth>\n</config-auth>":  "line 2, column 14",
		"\n \n<config-auth><auth></oops></auth></config-auth>": "line 1, column 27",
	} {
		if _, err := ParseAuth([]byte(in)); !errors.Is(err, ErrAuthSyntax) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
	}
}
