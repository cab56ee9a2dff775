package wire

import (
	"encoding/base64"
	"strings"
)

const schemeNegotiate = "Negotiate"

// NegotiateToken returns the token of `Authorization: Negotiate` (RFC 4559,
// section 4.2); what is none is an empty one, which nobody takes.
func NegotiateToken(h Header) (token []byte, ok bool) {
	scheme, text, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, schemeNegotiate) {
		return nil, false
	}
	token, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		token = nil
	}
	return token, true
}

// SupportsHTTPAuth reports whether a client can be asked for HTTP authentication:
// it says so, or it is none of those that must.
func SupportsHTTPAuth(h Header, a Agent) bool {
	return strings.EqualFold(h.Get("X-Support-HTTP-Auth"), "true") || a == AgentUnknown
}

// AskNegotiate asks for a ticket. With a form to fall back to, openconnect that
// has no ticket asks for it.
func AskNegotiate(form bool) *Response {
	fields := []Field{{"WWW-Authenticate", schemeNegotiate}}
	if form {
		fields = append(fields, Field{"X-HTTP-Auth-Support", "fallback"})
	}
	return Challenge(fields...)
}
