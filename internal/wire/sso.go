package wire

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"
)

// Capabilities of clients, and what single sign-on calls its cookies (AnyConnect 4.10,
// openconnect auth.c).
const (
	capBrowser         = "single-sign-on-v2"
	capExternalBrowser = "single-sign-on-external-browser"

	cookieToken = "acSamlv2Token"
	cookieError = "acSamlv2Error"

	maxClientKey = 512 // characters
)

// Browser is the browser that a client can open.
type Browser struct {
	External bool   // the user's own; its word comes to the client by a listener on the loopback
	Key      []byte // with External: what the client's token is sealed to, in DER
}

// BrowserOf says what browser a client can open; false: none.
func BrowserOf(h Header, m *AuthRequest) (b Browser, ok bool) {
	if text := h.Get("X-AnyConnect-STRAP-DH-Pubkey"); slices.Contains(m.Capabilities, capExternalBrowser) && text != "" && len(text) <= maxClientKey {
		if key, err := base64.StdEncoding.DecodeString(text); err == nil {
			return Browser{External: true, Key: key}, true
		}
	}
	return Browser{}, m.XML && slices.Contains(m.Capabilities, capBrowser)
}

// SSO is what a form says of the browser that is to answer it.
type SSO struct {
	Login, Final string // URLs
	External     bool
}

func (s *SSO) elements(d *document) {
	d.element("sso-v2-login", s.Login)
	d.element("sso-v2-login-final", s.Final)
	d.element("sso-v2-token-cookie-name", cookieToken)
	d.element("sso-v2-error-cookie-name", cookieError)
	if s.External {
		d.element("sso-v2-browser-mode", "external")
	}
	d.raw("\n")
}

// Param returns a parameter of the query, decoded; false: it is not there once, or not
// encoded as it should be.
func (r *Request) Param(name string) (value string, ok bool) {
	for pair := range strings.SplitSeq(r.Query, "&") {
		k, v, _ := strings.Cut(pair, "=")
		if k != name {
			continue
		}
		b, good := unescape([]byte(v))
		if ok || !good {
			return "", false
		}
		value, ok = string(b), true
	}
	return value, ok
}

// Redirect sends a browser elsewhere.
func Redirect(location string, cookies ...Field) *Response {
	return &Response{Status: 302, Header: append(Header{{"Location", location}, {"Cache-Control", "no-store"}, {"Referrer-Policy", "no-referrer"}}, cookies...)}
}

// Page tells the user something in his browser.
func Page(status int, text string, cookies ...Field) *Response {
	var d document
	d.raw("<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>VPN</title></head><body><p>")
	d.text(text)
	d.raw("</p></body></html>\n")
	return &Response{Status: status, Body: d, Header: append(Header{
		{"Content-Type", "text/html; charset=utf-8"},
		{"Cache-Control", "no-store"},
		{"Referrer-Policy", "no-referrer"},
		{"X-Content-Type-Options", "nosniff"},
		{"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
	}, cookies...)}
}

// BrowserCookie is a cookie for a browser's way to a provider and back, which is another
// site: so it is Lax. With an empty value the browser forgets it.
func BrowserCookie(name, value, path string, life time.Duration) Field {
	return setCookie(name, value+"; Max-Age="+seconds(life)+"; Path="+path+"; Secure; HttpOnly; SameSite=Lax")
}

// TokenCookie gives a client's own browser the token, ErrorCookie why there is none:
// the client looks for either where its form said that the end is.
func TokenCookie(token string) Field { return setCookie(cookieToken, token+"; Path=/; Secure") }

// ErrorCookie is described with TokenCookie.
func ErrorCookie() Field { return setCookie(cookieError, "failed; Path=/; Secure") }
