package wire

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"
)

// Bounds of a client's authentication document.
const (
	MaxAuth = 64 << 10 // bytes

	maxAuthDepth    = 12
	maxAuthElements = 512
	maxAuthAttrs    = 32
	maxInputs       = 32
	maxInputName    = 64
	maxInput        = 4 << 10  // bytes of a value
	maxOpaque       = 16 << 10 // bytes
	maxList         = 16       // MAC addresses, capabilities
	maxFact         = 256      // bytes kept of what only describes the client
)

// Errors of ParseAuth. They name the place, never the content.
var (
	ErrAuthTooLarge  = errors.New("wire: authentication request is too large")
	ErrAuthSyntax    = errors.New("wire: malformed authentication request")
	ErrAuthRoot      = errors.New("wire: not a config-auth document")
	ErrAuthDuplicate = errors.New("wire: authentication request says a thing twice")
	ErrAuthText      = errors.New("wire: control character or bad UTF-8 in an authentication request")
)

// AuthKind is what an authentication request is.
type AuthKind uint8

// Kinds of authentication requests.
const (
	AuthInit   AuthKind = iota // begin; also an empty body
	AuthReply                  // answers to a form
	AuthLogout                 // the session is over
	AuthOther                  // nothing we know (auth-poll)
)

// String names the kind as the type attribute does.
func (k AuthKind) String() string {
	switch k {
	case AuthInit:
		return "init"
	case AuthReply:
		return "auth-reply"
	case AuthLogout:
		return "logout"
	}
	return "other"
}

// Device is what a client says of the device it runs on. Anyone can say anything.
type Device struct {
	ID              string // platform: linux-64, win, apple-ios, ...
	ComputerName    string
	Type            string
	PlatformVersion string
	UniqueID        string
	MACs            []string
}

// AuthRequest is a client's authentication request, from XML or from a form.
type AuthRequest struct {
	Kind           AuthKind
	XML            bool   // not a form
	Version        string // of the client
	Device         Device
	Capabilities   []string // auth-method: single-sign-on-v2, ...
	GroupAccess    string   // the URL the user typed; may hold the camouflage secret
	GroupSelect    string   // value or label of a group; empty: none
	ClientCertFail bool     // it was asked for a certificate and has none
	SessionToken   Secret
	SessionID      string
	Opaque         []byte            // content of opaque, as sent; not to be trusted
	Inputs         map[string]Secret // answers, by the name of the input
}

// ParseAuth parses the body of an authentication request. Whether it is XML or
// a form the first byte says: AnyConnect for iOS sends XML as
// application/x-www-form-urlencoded. The result does not refer to body.
func ParseAuth(body []byte) (*AuthRequest, error) {
	if len(body) > MaxAuth {
		return nil, ErrAuthTooLarge
	}
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	body = bytes.TrimLeft(body, " \t\r\n")
	msg := &AuthRequest{Inputs: map[string]Secret{}}
	parse := msg.parseForm
	if len(body) > 0 && body[0] == '<' {
		msg.XML = true
		parse = msg.parseXML
	}
	err := parse(body)
	if err == nil {
		err = msg.check()
	}
	if err != nil {
		msg.Clear()
		return nil, err
	}
	return msg, nil
}

// Clear wipes what is secret.
func (m *AuthRequest) Clear() {
	for _, v := range m.Inputs {
		v.Clear()
	}
	m.SessionToken.Clear()
	clear(m.Opaque)
}

// Username returns the answer to the input username.
func (m *AuthRequest) Username() string { return string(m.Inputs["username"]) }

// SecondaryUsername returns the answer to the input secondary_username.
func (m *AuthRequest) SecondaryUsername() string { return string(m.Inputs["secondary_username"]) }

// Password returns the answer to the input password, nil if there is none.
func (m *AuthRequest) Password() Secret { return m.Inputs["password"] }

// SecondaryPassword returns the answer to the input secondary_password.
func (m *AuthRequest) SecondaryPassword() Secret { return m.Inputs["secondary_password"] }

// NewPassword returns the answer to the input new_password; openconnect sends
// it as password in XML.
func (m *AuthRequest) NewPassword() Secret { return m.Inputs["new_password"] }

// SSOToken returns the token of a single sign-on.
func (m *AuthRequest) SSOToken() Secret { return m.Inputs["sso-token"] }

// Answer returns the answer to a form that asked one secret, whatever its input
// was called, nil if there is none. The first password goes last: sslcon
// repeats it with every later step.
func (m *AuthRequest) Answer() Secret {
	for _, name := range []string{"sso-token", "secondary_password", "answer", "whichpin", "new_password", "password"} {
		if v, ok := m.Inputs[name]; ok {
			return v
		}
	}
	return nil
}

// check looks at what other processes, log files and file names will see:
// names must be UTF-8 without control characters.
func (m *AuthRequest) check() error {
	for _, s := range []string{m.Username(), m.SecondaryUsername(), m.GroupSelect, m.SessionID} {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, isControl) {
			return ErrAuthText
		}
	}
	for _, v := range m.Inputs {
		if bytes.IndexByte(v, 0) >= 0 {
			return ErrAuthText
		}
	}
	return nil
}

// input stores the answer to an input. group_list is one in forms, and
// <group-select> in XML.
func (m *AuthRequest) input(name string, value Secret) error {
	switch {
	case name == "group_list":
		return once(&m.GroupSelect, string(value))
	case name == "" || len(name) > maxInputName || len(value) > maxInput || len(m.Inputs) == maxInputs:
		return ErrAuthTooLarge
	}
	if _, ok := m.Inputs[name]; ok {
		return ErrAuthDuplicate
	}
	m.Inputs[name] = value
	return nil
}

// once sets what must not be said twice.
func once(dst *string, value string) error {
	if *dst != "" {
		return ErrAuthDuplicate
	}
	*dst = value
	return nil
}

// fact makes text that only describes the client fit to be shown.
func fact(s string) string { return printable(strings.TrimSpace(s), maxFact) }
