package wire

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Prompts of ocserv, for Form.Message; scripts around clients look for them.
const (
	PromptBoth        = "Please enter your username and password."
	PromptUsername    = "Please enter your username."
	PromptPassword    = "Please enter your password."
	PromptFailed      = "Login failed.\nPlease enter your password."
	PromptOTP         = "Please enter your OTP password."
	PromptSelectGroup = "Please select your group."
	PromptBrowser     = "Please log in with your browser."
)

const (
	xmlDecl    = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	xmlVersion = `<version who="sg">0.1(1)</version>` + "\n"
	formAction = "/auth"
)

// Option is a group to choose from.
type Option struct {
	Value string
	Label string // shown; empty: the value
}

// Form asks the user something.
type Form struct {
	Banner   string // shown before the form
	Message  string // the prompt
	Error    string // why it is asked again; empty: nothing went wrong
	Username bool   // ask for the user's name
	Password bool   // ask for a password
	Counter  int    // how many passwords this login has asked for before
	Groups   []Option
	Group    string // value or label of the group to start with
	Query    string // of the URL the answer goes to: the camouflage secret
	SSO      *SSO   // a browser answers; nil: none
}

// Document gives the form as a document for the class of client.
//
// Texts stand in element bodies, and no element gets the attributes param1 and
// param2: so openconnect leaves a "%s" in them alone (openconnect auth.c).
func (f *Form) Document(agent Agent) []byte {
	var d document
	d.raw(xmlDecl)
	if !agent.BareForms() {
		d.raw(`<config-auth client="vpn" type="auth-request" aggregate-auth-version="2">` + "\n" + xmlVersion)
	}
	id := "main"
	if agent.BareForms() && !f.Username {
		id = "passwd" // what such clients know the second step by
	}
	d.raw(`<auth id="` + id + `">` + "\n")
	d.optional("banner", f.Banner)
	if f.Error != "" {
		d.raw(`<error id="88">`) // bad credentials, of Cisco's numbers
		d.text(f.Error)
		d.raw("</error>")
	}
	d.element("message", f.Message)
	d.raw("\n")
	if f.SSO != nil {
		f.SSO.elements(&d)
	}
	d.raw(`<form method="post" action="` + formAction)
	if f.Query != "" {
		d.text("?" + f.Query)
	}
	d.raw(`">` + "\n")
	f.inputs(&d)
	f.groups(&d)
	d.raw("</form></auth>\n")
	if !agent.BareForms() {
		d.raw("</config-auth>")
	}
	return d
}

func (f *Form) inputs(d *document) {
	if f.SSO != nil {
		d.raw(`<input type="sso" name="sso-token" />` + "\n")
	}
	if f.Username {
		d.raw(`<input type="text" name="username" label="Username:" />` + "\n")
	}
	if !f.Password {
		return
	}
	if f.Counter == 0 {
		d.raw(`<input type="password" name="password" label="Password:" />` + "\n")
		return
	}
	// The name makes openconnect use its OTP generator or the second form
	// entry (openconnect auth.c); the number is ocserv's.
	d.raw(`<input type="password" name="secondary_password" label="Password` + strconv.Itoa(f.Counter+1) + `:" />` + "\n")
}

// groups offers the selected group first: ocserv's way to preselect, and all
// that old clients understand.
func (f *Form) groups(d *document) {
	if len(f.Groups) == 0 {
		return
	}
	d.raw(`<select name="group_list" label="GROUP:">` + "\n")
	selected := FindOption(f.Groups, f.Group)
	if selected >= 0 {
		d.option(f.Groups[selected], true)
	}
	for i, o := range f.Groups {
		if i != selected {
			d.option(o, false)
		}
	}
	d.raw("</select>\n")
}

// FindOption finds the group a client named: openconnect sends the value, sslcon
// the label, and people type either in any case. What fits exactly goes before
// what fits so. -1: none.
func FindOption(options []Option, name string) int {
	if name == "" {
		return -1
	}
	for _, fits := range []func(Option) bool{
		func(o Option) bool { return o.Value == name },
		func(o Option) bool { return o.Label == name },
		func(o Option) bool { return strings.EqualFold(o.Value, name) },
		func(o Option) bool { return strings.EqualFold(o.Label, name) },
	} {
		if i := slices.IndexFunc(options, fits); i >= 0 {
			return i
		}
	}
	return -1
}

// AuthResponse wraps a document of the login dialogue.
func AuthResponse(document []byte, cookies ...Field) *Response {
	return &Response{Status: 200, Body: document, Header: append(Header{
		{"Content-Type", "text/xml; charset=utf-8"},
		{"X-Transcend-Version", "1"},
	}, cookies...)}
}

// Success ends a login.
type Success struct {
	SID      string // as FormatSID gives it
	Banner   string
	CertSHA1 [20]byte // of the server certificate presented on this connection, DER
	Profile  *Profile // nil: none
}

// Response gives the reply to a good login. The SID goes by both ways clients
// look for it: the cookie (openconnect) and the document (AnyConnect).
func (s *Success) Response(agent Agent) *Response {
	return AuthResponse(s.document(agent), s.cookies()...)
}

func (s *Success) document(agent Agent) []byte {
	var d document
	d.raw(xmlDecl)
	if !agent.BareForms() {
		d.raw(`<config-auth client="vpn" type="complete" aggregate-auth-version="2">` + "\n" + xmlVersion)
		d.raw("<session-id>1</session-id>\n")
		d.element("session-token", s.SID)
		d.raw("\n")
	}
	d.raw(`<auth id="success">` + "\n" + "<title>SSL VPN Service</title>")
	d.optional("banner", s.Banner)
	d.raw("</auth>\n")
	if agent.BareForms() {
		return d
	}
	d.raw(`<config client="vpn" type="private"><vpn-base-config>`)
	d.element("server-cert-hash", upperHex(s.CertSHA1[:]))
	d.raw("</vpn-base-config>")
	if s.Profile != nil {
		d.raw(`<vpn-profile-manifest><vpn rev="1.0"><file type="profile" service-type="user">`)
		d.element("uri", profilePath+"/"+escapePath(s.Profile.Name))
		d.raw(`<hash type="sha1">` + upperHex(s.Profile.SHA1[:]) + `</hash></file></vpn></vpn-profile-manifest>`)
	}
	d.raw("\n</config></config-auth>")
	return d
}

// ClientCertRequest asks the client to come back with a certificate. If it has
// none it says so: AuthRequest.ClientCertFail.
func ClientCertRequest() *Response {
	return AuthResponse([]byte(xmlDecl +
		`<config-auth client="vpn" type="auth-request" aggregate-auth-version="2">` + "\n" + xmlVersion +
		"<client-cert-request/>\n</config-auth>"))
}

// LoggedOut is the reply to a logout.
func LoggedOut() *Response {
	return AuthResponse([]byte(xmlDecl+
		`<config-auth client="vpn" type="complete" aggregate-auth-version="2">`+"\n"+xmlVersion+
		"</config-auth>"), ClearCookie(CookieContext), ClearCookie(CookieSession))
}

// document is XML that is being written.
type document []byte

func (d *document) raw(s string) { *d = append(*d, s...) }

func (d *document) element(name, text string) {
	d.raw("<" + name + ">")
	d.text(text)
	d.raw("</" + name + ">")
}

// optional writes nothing for an empty text.
func (d *document) optional(name, text string) {
	if text != "" {
		d.element(name, text)
	}
}

func (d *document) option(o Option, selected bool) {
	d.raw(`<option value="`)
	d.text(o.Value)
	if selected {
		d.raw(`" selected="true">`)
	} else {
		d.raw(`">`)
	}
	if o.Label == "" {
		o.Label = o.Value
	}
	d.text(o.Label)
	d.raw("</option>\n")
}

// text escapes for element bodies and attribute values alike. What XML 1.0
// cannot hold (section 2.2) becomes U+FFFD.
func (d *document) text(s string) {
	for _, r := range s {
		switch {
		case r == '&':
			d.raw("&amp;")
		case r == '<':
			d.raw("&lt;")
		case r == '>':
			d.raw("&gt;")
		case r == '"':
			d.raw("&#34;")
		case r == '\'':
			d.raw("&#39;")
		case r == '\r':
			d.raw("&#13;")
		case r < ' ' && r != '\n' && r != '\t', r == '\ufffe', r == '\uffff':
			d.raw("\ufffd")
		default:
			*d = utf8.AppendRune(*d, r)
		}
	}
}
