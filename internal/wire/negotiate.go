package wire

import (
	"encoding/base64"
	"strings"
)

const (
	schemeNegotiate = "Negotiate"
	schemeBearer    = "Bearer"
)

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

// NegotiateLeg is the field with the server's part of what a client and it say by
// Negotiate (RFC 4559, section 4.1).
func NegotiateLeg(token []byte) Field {
	return Field{"WWW-Authenticate", schemeNegotiate + " " + base64.StdEncoding.EncodeToString(token)}
}

// BearerToken returns the token of `Authorization: Bearer` (RFC 6750, section 2.1).
func BearerToken(h Header) (token []byte, ok bool) {
	scheme, text, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, schemeBearer) {
		return nil, false
	}
	return []byte(strings.TrimSpace(text)), true
}

// SupportsHTTPAuth reports whether a client can be asked for HTTP authentication:
// it says so, or it is none of those that must.
func SupportsHTTPAuth(h Header, a Agent) bool {
	return strings.EqualFold(h.Get("X-Support-HTTP-Auth"), "true") || a == AgentUnknown
}

// AskTicket asks for a Kerberos ticket, or a bearer's token. With a form to fall back
// to, openconnect that has neither asks for it.
func AskTicket(negotiate, bearer, form bool) *Response {
	var fields []Field
	if negotiate {
		fields = append(fields, Field{"WWW-Authenticate", schemeNegotiate})
	}
	if bearer {
		fields = append(fields, Field{"WWW-Authenticate", schemeBearer})
	}
	if form {
		fields = append(fields, Field{"X-HTTP-Auth-Support", "fallback"})
	}
	return Challenge(fields...)
}
