package wire

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Names of the cookies (ocserv worker-auth.c).
const (
	CookieContext = "webvpncontext" // of a login that is under way
	CookieSession = "webvpn"        // the SID, once logged in
	cookieClient  = "webvpnc"       // what AnyConnect reads of the server
)

// maxCookie bounds the value of a cookie of ours; the longest is 43 bytes.
const maxCookie = 256

// Errors of Request.Cookie.
var (
	ErrCookieConflict = errors.New("wire: a cookie with two values")
	ErrCookieTooLong  = errors.New("wire: cookie is too long")
)

// Cookie returns the value of the cookie of that name, empty if there is none.
// Two different values are an error: there is no telling which one is meant.
func (r *Request) Cookie(name string) (string, error) {
	value, found := "", false
	for _, line := range r.Header.Values("Cookie") {
		for pair := range strings.SplitSeq(line, ";") {
			k, v, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
			switch {
			case !ok || k != name:
			case len(v) > maxCookie:
				return "", ErrCookieTooLong
			case found && v != value:
				return "", ErrCookieConflict
			default:
				value, found = v, true
			}
		}
	}
	return value, nil
}

// SIDLen is the length of a SID in bytes.
const SIDLen = 32

// ErrSID is returned for text that is no SID.
var ErrSID = errors.New("wire: not a session cookie")

// FormatSID gives the text of a SID as it stands in cookies and documents: 43
// characters that need no quoting in a header, a URL or a shell.
func FormatSID(sid []byte) string { return base64.RawURLEncoding.EncodeToString(sid) }

// ParseSID parses the text of a SID. Only what FormatSID gives is one: the
// length is checked before anything is decoded (ocserv issue 719).
func ParseSID(text string) (Secret, error) {
	enc := base64.RawURLEncoding.Strict()
	if len(text) != enc.EncodedLen(SIDLen) {
		return nil, ErrSID
	}
	sid := make([]byte, SIDLen)
	// Decode skips line breaks; fewer bytes come out then.
	if n, err := enc.Decode(sid, []byte(text)); err != nil || n != SIDLen {
		return nil, ErrSID
	}
	return sid, nil
}

// expired is the date ocserv clears cookies with.
const expired = "expires=Thu, 01 Jan 1970 22:00:00 GMT"

func setCookie(name, value string) Field {
	return Field{"Set-Cookie", name + "=" + value}
}

// ContextCookie is the cookie of a login that is under way, good for life. With
// an empty sid the client forgets it.
func ContextCookie(sid string, life time.Duration) Field {
	if sid == "" {
		return ClearCookie(CookieContext)
	}
	return setCookie(CookieContext, sid+"; Max-Age="+seconds(life)+"; Secure; HttpOnly")
}

// ClearCookie makes the client forget a cookie.
func ClearCookie(name string) Field {
	return setCookie(name, "; "+expired+"; path=/; Secure; HttpOnly")
}

// Profile is the AnyConnect profile a client is to fetch.
type Profile struct {
	Name string   // of the file, without folder
	SHA1 [20]byte // of its bytes
}

// profilePath is what is in front of a profile's name, which counts for nothing:
// whose it is the cookie says.
const profilePath = "/profiles"

// IsProfile says whether the client fetches its profile.
func (r *Request) IsProfile() bool { return r.Method == "GET" && PathIs(r.Path, profilePath) }

// ProfileResponse gives the client its profile.
func ProfileResponse(content []byte) *Response {
	return Static{"text/xml", string(content)}.Response()
}

// cookies of a successful login, in ocserv's order. The context's cookie becomes
// the session's, so that the id of before the login is nowhere in use any more.
func (s *Success) cookies() []Field {
	var b strings.Builder
	b.WriteString("bu:/&p:t&iu:1/&sh:" + upperHex(s.CertSHA1[:]))
	if s.Profile != nil {
		b.WriteString("&lu:/+CSCOT+/translation-table?textdomain%3DAnyConnect%26type%3Dmanifest")
		b.WriteString("&fu:profiles%2F" + escapePath(s.Profile.Name))
		b.WriteString("&fh:" + upperHex(s.Profile.SHA1[:]))
	}
	b.WriteString("; path=/; Secure; HttpOnly")
	return []Field{
		setCookie(CookieContext, s.SID+"; Secure; HttpOnly"),
		setCookie(CookieSession, s.SID+"; Secure; HttpOnly"),
		ClearCookie(cookieClient),
		setCookie(cookieClient, b.String()),
	}
}

// PhoneLogin is what a Cisco IP phone's GET of /svc is answered with (ocserv
// worker-svc.c).
func PhoneLogin() *Response {
	return &Response{Status: 200, Header: Header{
		{"Content-Type", "text/xml"},
		ClearCookie(CookieSession),
		setCookie("webvpnlogin", "1; secure"),
	}}
}

// PhoneSuccess is the answer to a phone's good POST of /svc.
func PhoneSuccess(sid string) *Response {
	return &Response{Status: 200, Header: Header{
		{"Content-Type", "text/xml"},
		setCookie(CookieSession, sid+"; secure"),
	}}
}

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// seconds gives whole seconds.
func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// escapePath percent-encodes one segment of a path, RFC 3986 section 3.3.
func escapePath(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}
