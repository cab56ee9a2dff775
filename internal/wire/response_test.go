package wire

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestResponse(t *testing.T) {
	tests := []struct {
		name string
		r    *Response
		want string
	}{
		{"usual", &Response{Status: 200, Header: Header{{"X-lower-UPPER", "a"}, {"Set-Cookie", "x=1"}, {"Set-Cookie", "y=2"}}, Body: []byte("hello")},
			"HTTP/1.1 200 OK\r\nX-lower-UPPER: a\r\nSet-Cookie: x=1\r\nSet-Cookie: y=2\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\nhello"},
		{"refused", Unauthorized("Authentication failed"),
			"HTTP/1.1 401 Authentication failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		{"without words", Unauthorized(""), "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		{"negotiate", Challenge(Field{"WWW-Authenticate", "Negotiate"}, Field{"X-HTTP-Auth-Support", "fallback"}),
			"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nX-HTTP-Auth-Support: fallback\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n"},
		{"unavailable", Unavailable("too many\r\nX-Evil: 1"),
			"HTTP/1.1 503 Service Unavailable\r\nX-Reason: too many..X-Evil: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		{"not found", NotFound(),
			"HTTP/1.1 404 Not found\r\nContent-Type: text/html\r\nContent-Length: 50\r\nConnection: close\r\n\r\n<html><body><h1>404 Not Found</h1></body></html>\r\n"},
		{"no words", &Response{Status: 299}, "HTTP/1.1 299 \r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n"},
		{"blanks", &Response{Status: 200, Header: Header{{"X-A", " b \t"}, {"X-B", ""}}},
			"HTTP/1.1 200 OK\r\nX-A: b\r\nX-B:\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n"},
		{"phone", PhoneSuccess("abc"),
			"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nSet-Cookie: webvpn=abc; secure\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n"},
		{"phone login", PhoneLogin(),
			"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nSet-Cookie: webvpn=; expires=Thu, 01 Jan 1970 22:00:00 GMT; path=/; Secure; HttpOnly\r\n" +
				"Set-Cookie: webvpnlogin=1; secure\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := tt.r.Append([]byte("x"))
			if err != nil || string(b) != "x"+tt.want {
				t.Errorf("%v\n%q\n%q", err, b, tt.want)
			}
		})
	}
}

func TestResponseRefuses(t *testing.T) {
	for _, f := range []Field{
		{"X-A", "b\r\nX-Evil: 1"}, {"X-A", "b\nc"}, {"X-A", "b\rc"}, {"X-A", "b\x00c"},
		{"X-A\r\nX-Evil", "1"}, {"X A", "1"}, {"", "1"}, {"X-A ", "1"}, {"X-A:", "1"},
		{"content-length", "1"}, {"Transfer-encoding", "chunked"},
	} {
		r := Response{Status: 200, Header: Header{f}, Body: []byte("secret")}
		if b, err := r.Append([]byte("x")); !errors.Is(err, ErrField) || string(b) != "x" {
			t.Errorf("%q: %v, %q", f, err, b)
		}
	}
	r := Response{Status: 200, Reason: "OK\r\nX-Evil: 1"}
	if _, err := r.Append(nil); !errors.Is(err, ErrField) {
		t.Errorf("reason: %v", err)
	}
}

func TestStatusText(t *testing.T) {
	for _, s := range []int{200, 302, 400, 401, 403, 404, 405, 500, 501, 502, 503} {
		if statusText(s) == "" {
			t.Errorf("no words for %d", s)
		}
	}
}

func TestParseField(t *testing.T) {
	f, err := ParseField("X-Frame-Options:  deny ")
	if err != nil || f != (Field{"X-Frame-Options", "deny"}) {
		t.Errorf("%q, %v", f, err)
	}
	for _, line := range []string{"", "X", "X : y", ": y", "X: a\nb", "X: a\r\nY: b", " X: y"} {
		if _, err := ParseField(line); !errors.Is(err, ErrField) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestCookie(t *testing.T) {
	tests := []struct {
		lines []string
		want  string
		err   error
	}{
		{nil, "", nil},
		{[]string{"webvpn=a"}, "a", nil},
		{[]string{"x=1; webvpn=a; webvpnc=b;webvpncontext=c"}, "a", nil},
		{[]string{"x=1", "webvpn=a"}, "a", nil},
		{[]string{"webvpn=a; webvpn=a"}, "a", nil}, // says the same twice
		{[]string{"webvpn=a; webvpn=b"}, "", ErrCookieConflict},
		{[]string{"webvpn=a", "webvpn=b"}, "", ErrCookieConflict},
		{[]string{"webvpn=; webvpn=b"}, "", ErrCookieConflict},
		{[]string{"WEBVPN=a"}, "", nil},
		{[]string{"webvpn"}, "", nil},
		{[]string{"webvpn=a=b=="}, "a=b==", nil},
		{[]string{";;; ;webvpn=a;"}, "a", nil},
		{[]string{"openconnect_strapkey=MHc=; webvpn=a"}, "a", nil}, // openconnect --cookie
		{[]string{"webvpn=" + strings.Repeat("x", maxCookie)}, strings.Repeat("x", maxCookie), nil},
		{[]string{"webvpn=" + strings.Repeat("x", maxCookie+1)}, "", ErrCookieTooLong},
		{[]string{"other=" + strings.Repeat("x", maxCookie+1) + "; webvpn=a"}, "a", nil},
	}
	for _, tt := range tests {
		var r Request
		for _, l := range tt.lines {
			r.Header = append(r.Header, Field{"cookie", l})
		}
		got, err := r.Cookie(CookieSession)
		if got != tt.want || err != tt.err {
			t.Errorf("%q: %q, %v", tt.lines, got, err)
		}
	}
}

func TestSID(t *testing.T) {
	sid := make([]byte, SIDLen)
	for i := range sid {
		sid[i] = byte(250 + i)
	}
	text := FormatSID(sid)
	if len(text) != 43 || strings.ContainsAny(text, "+/= ;,") {
		t.Errorf("text %q", text)
	}
	if got, err := ParseSID(text); err != nil || string(got) != string(sid) {
		t.Errorf("%x, %v", []byte(got), err)
	}
	for _, bad := range []string{
		"", "bogus", text[:42], text + "A", text + "=", text[:42] + "+", text[:42] + "\n", " " + text[:42],
		text[:42] + "_", // bits beyond the last byte
		strings.Repeat("A", 1<<16),
	} {
		if got, err := ParseSID(bad); err != ErrSID || got != nil {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
}

func TestContextCookie(t *testing.T) {
	if f := ContextCookie("abc", 5*time.Minute); f.Value != "webvpncontext=abc; Max-Age=300; Secure; HttpOnly" {
		t.Errorf("%q", f.Value)
	}
	// As ocserv clears it, to the byte.
	want := "Set-Cookie: " + ContextCookie("", 0).Value + "\r\n"
	if c := transcript(t, "openconnect-9.01/xml")[0]; !strings.Contains(string(c.server), want) {
		t.Errorf("ocserv does not say %q", want)
	}
}

func TestEscapePath(t *testing.T) {
	if got := escapePath("a b/../\u00fc?\r\n&-._~"); got != "a%20b%2F..%2F%C3%BC%3F%0D%0A%26-._~" {
		t.Errorf("%q", got)
	}
}

func TestStatic(t *testing.T) {
	found := map[string]string{
		"/VPNManifest.xml":             "<vpn rev=\"1.0\">",
		"/1/VPNManifest.xml":           "<vpn rev=\"1.0\">",
		"/+CSCOT+/translation-table":   "<vpn rev=\"1.0\">",
		"/+CSCOT+/oem-customization":   "<vpn rev=\"1.0\">",
		"/+CSCOT+/oem-customization/x": "<vpn rev=\"1.0\">",
		"/1/binaries/update.txt":       "0,0,0000\n",
		"/1/binaries/vpndownloader.sh": "#!/bin/sh\n",
		"/1/index.html":                "<html>",
		"/1/Linux":                     "<html>",
		"/1/Linux_64":                  "<html>",
		"/1/Windows":                   "<html>",
		"/1/Windows_ARM64":             "<html>",
		"/1/Darwin_i386":               "<html>",
		"/logout":                      "<html>",
	}
	for path, body := range found {
		s, ok := FindStatic(path)
		if !ok || !strings.Contains(s.Body, body) || s.ContentType == "" {
			t.Errorf("%s: %v, %q", path, ok, s)
			continue
		}
		if r := s.Response(); r.Status != 200 || string(r.Body) != s.Body || r.Header.Get("Content-Type") != s.ContentType || !r.Header.Has("X-Transcend-Version") {
			t.Errorf("%s: %+v", path, r)
		}
	}
	for _, path := range []string{
		"/", "", "/1", "/1/", "/2/index.html", "/logout2", "logout", "//logout", "/1/Linux_640", "/1/../logout",
		"/1/binaries", "/%2bCSCOT%2b/translation-table", "/VPNManifest.xml%00",
	} {
		if s, ok := FindStatic(path); ok {
			t.Errorf("%s: %q", path, s)
		}
	}
	if !PathIs("/", "/") || PathIs("/x", "/") || PathIs("//", "/") || !PathIs("/svc", "/svc") || !PathIs("/profiles/x", "/profiles") {
		t.Error("PathIs")
	}
}

func FuzzCookie(f *testing.F) {
	f.Add("webvpn=a; webvpn=b")
	f.Add("webvpn=" + FormatSID(make([]byte, SIDLen)))
	f.Fuzz(func(t *testing.T, line string) {
		r := Request{Header: Header{{"Cookie", line}}}
		v, err := r.Cookie(CookieSession)
		if err != nil {
			return
		}
		if sid, err := ParseSID(v); err == nil && FormatSID(sid) != v {
			t.Fatalf("%q is another text of a SID", v)
		}
	})
}
