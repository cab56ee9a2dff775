package wire

import (
	"strings"
	"testing"
)

func TestNegotiateToken(t *testing.T) {
	for _, tt := range []struct {
		header, token string
		ok            bool
	}{
		{"", "", false},
		{"Basic YTpi", "", false},
		{"Bearer YTpi", "", false},
		{"NegotiateYTpi", "", false},
		{"Negotiate YTpi", "a:b", true},
		{"negotiate   YTpi ", "a:b", true},
		{"Negotiate", "", true},
		{"Negotiate ?", "", true},
		{"Negotiate YTp", "", true},
	} {
		var h Header
		if tt.header != "" {
			h = Header{{"authorization", tt.header}}
		}
		if token, ok := NegotiateToken(h); string(token) != tt.token || ok != tt.ok {
			t.Errorf("%q: %q, %t", tt.header, token, ok)
		}
	}
}

func TestSupportsHTTPAuth(t *testing.T) {
	says := Header{{"X-Support-HTTP-Auth", "true"}}
	for _, tt := range []struct {
		header Header
		agent  string
		want   bool
	}{
		{says, "Open AnyConnect VPN Agent v9.12", true},
		{nil, "Open AnyConnect VPN Agent v9.12", false},
		{Header{{"X-Support-HTTP-Auth", "false"}}, "Open AnyConnect VPN Agent v9.12", false},
		{nil, "Cisco AnyConnect VPN Agent for Windows", false},
		{nil, "curl/8.0", true},
		{nil, "", true},
	} {
		if got := SupportsHTTPAuth(tt.header, ParseAgent(tt.agent)); got != tt.want {
			t.Errorf("%v, %q: %t", tt.header, tt.agent, got)
		}
	}
}

func TestBearerToken(t *testing.T) {
	for _, tt := range []struct {
		header, token string
		ok            bool
	}{
		{"", "", false},
		{"Negotiate YTpi", "", false},
		{"BearerYTpi", "", false},
		{"Bearer a.b.c", "a.b.c", true},
		{"bearer   a.b.c ", "a.b.c", true},
		{"Bearer", "", true},
	} {
		var h Header
		if tt.header != "" {
			h = Header{{"authorization", tt.header}}
		}
		if token, ok := BearerToken(h); string(token) != tt.token || ok != tt.ok {
			t.Errorf("%q: %q, %t", tt.header, token, ok)
		}
	}
}

func TestAskTicket(t *testing.T) {
	for _, tt := range []struct {
		negotiate, bearer, form bool
		want                    string
	}{
		{true, false, false, "WWW-Authenticate: Negotiate"},
		{false, true, false, "WWW-Authenticate: Bearer"},
		{true, true, true, "WWW-Authenticate: Negotiate, WWW-Authenticate: Bearer, X-HTTP-Auth-Support: fallback"},
	} {
		rep := AskTicket(tt.negotiate, tt.bearer, tt.form)
		var got []string
		for _, f := range rep.Header {
			if f.Name == "WWW-Authenticate" || f.Name == "X-HTTP-Auth-Support" {
				got = append(got, f.Name+": "+f.Value)
			}
		}
		if s := strings.Join(got, ", "); rep.Status != 401 || s != tt.want {
			t.Errorf("%+v: %d %s", tt, rep.Status, s)
		}
	}
}
