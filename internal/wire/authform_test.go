package wire

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

func TestParseAgent(t *testing.T) {
	tests := []struct {
		ua    string
		agent Agent
	}{
		{"", AgentUnknown},
		{"Mozilla/5.0", AgentUnknown},
		{"Open AnyConnect VPN Agent v9.01-3", AgentOpenConnect},
		{"open anyconnect vpn agent V9.01-3", AgentOpenConnect},
		{"Open AnyConnect VPN Agent v3.20", AgentOpenConnectV3},
		{"Open AnyConnect VPN Agent v3", AgentOpenConnectV3},
		{"Open AnyConnect VPN Agent v2.26", AgentOpenConnectV3},
		{"Open AnyConnect VPN Agent v30.1", AgentOpenConnect},
		{"Open AnyConnect VPN Agent v10", AgentOpenConnect},
		{"Open AnyConnect VPN Agent", AgentOpenConnect},
		{"Open AnyConnect VPN Agent v", AgentOpenConnect},
		{"AnyConnect-compatible OpenConnect VPN Agent v9.20", AgentOpenConnect},
		{"OpenConnect VPN Agent (NetworkManager) v9.01", AgentOpenConnect},
		{"OpenConnect VPN Agent (Java) v9.01", AgentOpenConnect},
		{"openconnect-gui 1.6.2", AgentOpenConnect},
		{"AnyConnect Windows 4.10.07061", AgentAnyConnect},
		{"AnyConnect Linux_amd64 4.10.07062", AgentAnyConnect},
		{"AnyConnect AppleSSLVPN_Darwin_ARM (iPhone) 4.0.03004", AgentAnyConnectIOS},
		{"Cisco AnyConnect VPN Agent for Apple iPhone 4.0.03004", AgentAnyConnectIOS},
		{"Cisco AnyConnect VPN Agent for Windows 4.10", AgentAnyConnect},
		{"Cisco Secure Client VPN Agent 5.1", AgentAnyConnect},
		{"Clavister OneConnect VPN 1.0", AgentClavister},
		{"AnyLink Secure Client 1", AgentAnyLink},
		{"Cisco SVC IPPhone Client v1.0 (1.0)", AgentIPPhone},
		{"Any", AgentUnknown},
	}
	names := map[string]bool{}
	for _, tt := range tests {
		a := ParseAgent(tt.ua)
		if a != tt.agent {
			t.Errorf("%q is %v, want %v", tt.ua, a, tt.agent)
		}
		names[a.String()] = true
	}
	if len(names) != len(agentNames) {
		t.Errorf("names %v", names)
	}
}

func TestForm(t *testing.T) {
	groups := []Option{{"eng", "Engineering"}, {"ops", ""}, {"a&b", `"A" <B>`}}
	tests := []struct {
		name  string
		form  Form
		agent Agent
		want  string
	}{
		{
			"both at once", Form{Banner: "Welcome", Message: PromptBoth, Username: true, Password: true}, AgentOpenConnect,
			`<?xml version="1.0" encoding="UTF-8"?>
<config-auth client="vpn" type="auth-request" aggregate-auth-version="2">
<version who="sg">0.1(1)</version>
<auth id="main">
<banner>Welcome</banner><message>Please enter your username and password.</message>
<form method="post" action="/auth">
<input type="text" name="username" label="Username:" />
<input type="password" name="password" label="Password:" />
</form></auth>
</config-auth>`,
		},
		{
			"after a failure", Form{Error: "Login failed.", Message: PromptPassword, Password: true}, AgentAnyConnect,
			`<?xml version="1.0" encoding="UTF-8"?>
<config-auth client="vpn" type="auth-request" aggregate-auth-version="2">
<version who="sg">0.1(1)</version>
<auth id="main">
<error id="88">Login failed.</error><message>Please enter your password.</message>
<form method="post" action="/auth">
<input type="password" name="password" label="Password:" />
</form></auth>
</config-auth>`,
		},
		{
			"second password", Form{Message: PromptOTP, Password: true, Counter: 1}, AgentUnknown,
			`<?xml version="1.0" encoding="UTF-8"?>
<config-auth client="vpn" type="auth-request" aggregate-auth-version="2">
<version who="sg">0.1(1)</version>
<auth id="main">
<message>Please enter your OTP password.</message>
<form method="post" action="/auth">
<input type="password" name="secondary_password" label="Password2:" />
</form></auth>
</config-auth>`,
		},
		{
			"groups", Form{Message: PromptUsername, Username: true, Groups: groups, Group: "OPS"}, AgentOpenConnect,
			`<?xml version="1.0" encoding="UTF-8"?>
<config-auth client="vpn" type="auth-request" aggregate-auth-version="2">
<version who="sg">0.1(1)</version>
<auth id="main">
<message>Please enter your username.</message>
<form method="post" action="/auth">
<input type="text" name="username" label="Username:" />
<select name="group_list" label="GROUP:">
<option value="ops" selected="true">ops</option>
<option value="eng">Engineering</option>
<option value="a&amp;b">&#34;A&#34; &lt;B&gt;</option>
</select>
</form></auth>
</config-auth>`,
		},
		{
			"old: name", Form{Message: PromptUsername, Username: true}, AgentOpenConnectV3,
			`<?xml version="1.0" encoding="UTF-8"?>
<auth id="main">
<message>Please enter your username.</message>
<form method="post" action="/auth">
<input type="text" name="username" label="Username:" />
</form></auth>
`,
		},
		{
			"old: password", Form{Message: PromptPassword, Password: true}, AgentOpenConnectV3,
			`<?xml version="1.0" encoding="UTF-8"?>
<auth id="passwd">
<message>Please enter your password.</message>
<form method="post" action="/auth">
<input type="password" name="password" label="Password:" />
</form></auth>
`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(tt.form.Document(tt.agent)); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// Our forms are ocserv's, but for what is meant to differ.
func TestFormAsOcserv(t *testing.T) {
	old := Form{Message: PromptPassword, Password: true}
	group := Form{Banner: "Welcome", Message: PromptUsername, Username: true, Groups: []Option{{"eng", "Engineering"}, {"ops", ""}}}
	tests := []struct {
		file  string
		form  Form
		agent Agent
	}{
		{"openconnect-9.01/ua-v3", old, AgentOpenConnectV3},
		{"openconnect-9.01/xml", old, AgentOpenConnect},
		{"openconnect-9.01/xml-group", group, AgentOpenConnect},
		{"openconnect-9.01/wrong-password", Form{Message: PromptFailed, Password: true}, AgentOpenConnect},
	}
	for _, tt := range tests {
		ours := string(tt.form.Document(tt.agent))
		ours = strings.Replace(ours, ` aggregate-auth-version="2"`, "", 1) // what AnyConnect wants of newer servers
		ours = strings.Replace(ours, "GROUP:", "Group:", 1)                // later ocserv
		var all []byte
		for _, c := range transcript(t, tt.file) {
			all = append(all, c.server...)
		}
		if !bytes.Contains(all, []byte(ours)) {
			t.Errorf("%s: ocserv does not say\n%s", tt.file, ours)
		}
	}
}

// Whatever stands in a text, the document says it and nothing else.
func TestFormEscapes(t *testing.T) {
	const evil = "</message><form action=\"x\"> & '%s' \"%n\" 100% ]]> &amp; \x00\x1b\ufffe\xff m\u00fcller\n\r\tx"
	const read = "</message><form action=\"x\"> & '%s' \"%n\" 100% ]]> &amp; \ufffd\ufffd\ufffd\ufffd m\u00fcller\n\r\tx"
	f := Form{Banner: evil, Message: evil, Error: evil, Username: true, Groups: []Option{{"x" + evil, "y" + evil}}, Group: "x" + evil}
	var doc struct {
		XMLName xml.Name `xml:"config-auth"`
		Auth    struct {
			Banner  string `xml:"banner"`
			Message struct {
				Text string     `xml:",chardata"`
				Attr []xml.Attr `xml:",any,attr"`
			} `xml:"message"`
			Error struct {
				Text string     `xml:",chardata"`
				Attr []xml.Attr `xml:",any,attr"`
			} `xml:"error"`
			Forms []struct {
				Action  string `xml:"action,attr"`
				Options []struct {
					Value string `xml:"value,attr"`
					Text  string `xml:",chardata"`
				} `xml:"select>option"`
			} `xml:"form"`
		} `xml:"auth"`
	}
	if err := xml.Unmarshal(f.Document(AgentOpenConnect), &doc); err != nil {
		t.Fatal(err)
	}
	a := doc.Auth
	if a.Banner != read || a.Message.Text != read || a.Error.Text != read {
		t.Errorf("banner %q, message %q, error %q", a.Banner, a.Message.Text, a.Error.Text)
	}
	// With param1 openconnect would replace the %s.
	if len(a.Message.Attr) != 0 || len(a.Error.Attr) != 1 || a.Error.Attr[0].Name.Local != "id" {
		t.Errorf("attributes %v, %v", a.Message.Attr, a.Error.Attr)
	}
	if len(a.Forms) != 1 || a.Forms[0].Action != "/auth" || len(a.Forms[0].Options) != 1 {
		t.Fatalf("forms %+v", a.Forms)
	}
	if o := a.Forms[0].Options[0]; o.Value != "x"+read || o.Text != "y"+read {
		t.Errorf("option %q %q", o.Value, o.Text)
	}
}

func TestFindOption(t *testing.T) {
	options := []Option{{"a", "B"}, {"b", "Alpha"}, {"c", ""}, {"ALPHA", "x"}}
	for name, want := range map[string]int{"a": 0, "b": 1, "B": 0, "A": 0, "Alpha": 1, "alpha": 3, "ALPHA": 3, "c": 2, "C": 2, "X": 3, "": -1, "d": -1, "Alp": -1} {
		if got := FindOption(options, name); got != want {
			t.Errorf("%q: %d, want %d", name, got, want)
		}
	}
}

func success() *Success {
	s := &Success{SID: testSID, Banner: "Hi there"}
	for i := range s.CertSHA1 {
		s.CertSHA1[i] = byte(0xa0 + i)
	}
	return s
}

const testHash = "A0A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3"

func TestSuccess(t *testing.T) {
	s := success()
	s.Profile = &Profile{Name: "corp profile.xml", SHA1: s.CertSHA1}
	r := s.Response(AgentAnyConnect)
	want := Header{
		{"Content-Type", "text/xml; charset=utf-8"},
		{"X-Transcend-Version", "1"},
		{"Set-Cookie", "webvpncontext=" + testSID + "; Secure; HttpOnly"},
		{"Set-Cookie", "webvpn=" + testSID + "; Secure; HttpOnly"},
		{"Set-Cookie", "webvpnc=; expires=Thu, 01 Jan 1970 22:00:00 GMT; path=/; Secure; HttpOnly"},
		{"Set-Cookie", "webvpnc=bu:/&p:t&iu:1/&sh:" + testHash +
			"&lu:/+CSCOT+/translation-table?textdomain%3DAnyConnect%26type%3Dmanifest&fu:profiles%2Fcorp%20profile.xml&fh:" + testHash +
			"; path=/; Secure; HttpOnly"},
	}
	for i := range want {
		if r.Header[i] != want[i] {
			t.Errorf("field %d: %q, want %q", i, r.Header[i], want[i])
		}
	}
	if len(r.Header) != len(want) || r.Status != 200 {
		t.Errorf("%d, %q", r.Status, r.Header)
	}
	const doc = `<?xml version="1.0" encoding="UTF-8"?>
<config-auth client="vpn" type="complete" aggregate-auth-version="2">
<version who="sg">0.1(1)</version>
<session-id>1</session-id>
<session-token>SID</session-token>
<auth id="success">
<title>SSL VPN Service</title><banner>Hi there</banner></auth>
<config client="vpn" type="private"><vpn-base-config><server-cert-hash>HASH</server-cert-hash></vpn-base-config>` +
		`<vpn-profile-manifest><vpn rev="1.0"><file type="profile" service-type="user"><uri>/profiles/corp%20profile.xml</uri><hash type="sha1">HASH</hash></file></vpn></vpn-profile-manifest>
</config></config-auth>`
	if got := string(r.Body); got != strings.NewReplacer("SID", testSID, "HASH", testHash).Replace(doc) {
		t.Errorf("document\n%s", got)
	}
}

func TestSuccessWithout(t *testing.T) {
	s := success()
	s.Banner = ""
	r := s.Response(AgentOpenConnect)
	if b := string(r.Body); strings.Contains(b, "manifest") || strings.Contains(b, "banner") {
		t.Errorf("document\n%s", b)
	}
	if v := r.Header[5].Value; v != "webvpnc=bu:/&p:t&iu:1/&sh:"+testHash+"; path=/; Secure; HttpOnly" {
		t.Errorf("webvpnc: %s", v)
	}
	// What ocserv says to an old client, but for the banner.
	s.Banner = "Hi there"
	ours := s.Response(AgentOpenConnectV3).Body
	if c := transcript(t, "openconnect-9.01/ua-v3")[0]; !bytes.Contains(c.server, ours) {
		t.Errorf("ocserv does not say\n%s", ours)
	}
}

// Every document is one for an XML parser.
func TestDocumentsAreXML(t *testing.T) {
	for name, b := range map[string][]byte{
		"certificate": ClientCertRequest().Body,
		"logout":      LoggedOut().Body,
		"manifest":    []byte(emptyManifest.Body),
		"success":     success().Response(AgentAnyConnect).Body,
	} {
		d := xml.NewDecoder(bytes.NewReader(b))
		n := 0
		for {
			tok, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, ok := tok.(xml.StartElement); ok {
				n++
			}
		}
		if n == 0 {
			t.Errorf("%s: nothing", name)
		}
	}
	if !bytes.Contains(ClientCertRequest().Body, []byte("<client-cert-request/>")) {
		t.Error("no client-cert-request")
	}
	if h := LoggedOut().Header.Values("Set-Cookie"); len(h) != 2 || !strings.HasPrefix(h[1], "webvpn=;") {
		t.Errorf("logout: %q", h)
	}
}

func FuzzForm(f *testing.F) {
	f.Add("Please enter your password.", "Engineering", uint8(7))
	f.Add("</message>%s&", "\"<\x00", uint8(3))
	f.Fuzz(func(t *testing.T, text, group string, agent uint8) {
		form := Form{Banner: text, Message: text, Error: text, Username: true, Password: true, Counter: int(agent % 3), Groups: []Option{{group, text}}}
		d := xml.NewDecoder(bytes.NewReader(form.Document(Agent(agent) % Agent(len(agentNames)))))
		forms := 0
		for {
			tok, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if s, ok := tok.(xml.StartElement); ok && s.Name.Local == "form" {
				forms++
			}
		}
		if forms != 1 {
			t.Fatalf("%d forms", forms)
		}
	})
}
