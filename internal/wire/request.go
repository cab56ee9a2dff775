package wire

import "strings"

// Field is one header line.
type Field struct{ Name, Value string }

// Header is the fields of a message in their order.
type Header []Field

// Get returns the value of the first field of that name, in any case, or "".
func (h Header) Get(name string) string {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// Values returns the values of all fields of that name, in any case.
func (h Header) Values(name string) []string {
	var v []string
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			v = append(v, f.Value)
		}
	}
	return v
}

// Has says whether there is a field of that name, in any case.
func (h Header) Has(name string) bool { return h.count(name) > 0 }

func (h Header) count(name string) (n int) {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			n++
		}
	}
	return n
}

// Request is one request of the login phase.
type Request struct {
	Method string // as sent: methods are case-sensitive
	Path   string // up to "?", neither decoded nor cleaned
	Query  string // after "?"
	Minor  int    // of the version: 0 or 1
	Header Header
	Body   []byte // Clear when done: it may hold a password
	Close  bool   // the connection ends with the reply (RFC 9112 section 9.3)
}

// String gives what may be logged: neither query, cookies nor body.
func (r *Request) String() string {
	return printable(r.Method+" "+r.Path, 256)
}

// UserAgent is the client's word for what it is, fit to be shown: a field may hold
// any bytes above 0x7f, and other processes take text only.
func (r *Request) UserAgent() string { return fact(r.Header.Get("User-Agent")) }

// Clear wipes the body.
func (r *Request) Clear() { clear(r.Body) }

// IsTunnel says whether the request opens the tunnel. Clavister's client omits
// the leading slash.
func (r *Request) IsTunnel() bool {
	return r.Method == "CONNECT" && strings.TrimPrefix(r.Path, "/") == "CSCOSSLC/tunnel"
}

// phonePath is where Cisco's IP phones log in and open their tunnel (ocserv
// worker-svc.c).
const phonePath = "/svc"

// IsPhone says whether the request is that of a phone.
func (r *Request) IsPhone() bool { return PathIs(r.Path, phonePath) }

// parseHead parses a head that ends with an empty line, and returns the length
// of the body.
func parseHead(head string) (*Request, int, error) {
	line, rest, _ := strings.Cut(head, "\r\n")
	req, err := parseRequestLine(line)
	if err != nil {
		return nil, 0, err
	}
	for {
		line, rest, _ = strings.Cut(rest, "\r\n")
		if line == "" {
			break
		}
		f, ok := parseField(line)
		if !ok {
			return nil, 0, malformed("header field")
		}
		if len(req.Header) == maxFields {
			return nil, 0, ErrHeaderTooLarge
		}
		req.Header = append(req.Header, f)
	}
	n, err := req.framing()
	return req, n, err
}

func parseRequestLine(line string) (*Request, error) {
	method, rest, ok1 := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || !isTokens(method) {
		return nil, malformed("request line")
	}
	if !isTarget(target) {
		return nil, malformed("request target")
	}
	req := &Request{Method: method}
	switch version {
	case "HTTP/1.1":
		req.Minor = 1
	case "HTTP/1.0":
	default:
		return nil, ErrHTTPVersion
	}
	req.Path, req.Query, _ = strings.Cut(originForm(target), "?")
	return req, nil
}

// originForm strips scheme and authority of an absolute target (RFC 9112
// section 3.2.2), which proxies leave behind.
func originForm(target string) string {
	for _, scheme := range []string{"https://", "http://"} {
		if len(target) < len(scheme) || !strings.EqualFold(target[:len(scheme)], scheme) {
			continue
		}
		rest := target[len(scheme):]
		i := strings.IndexAny(rest, "/?")
		switch {
		case i < 0:
			return "/"
		case rest[i] == '?':
			return "/" + rest[i:]
		}
		return rest[i:]
	}
	return target
}

// framing checks the fields that say where a request ends, and returns the
// length of its body. Nothing here is repaired: two readers that repair
// differently see different requests.
//
// A Transfer-Encoding is refused altogether, although RFC 9112 section 7.1 wants
// chunked understood: no client of this protocol sends one.
func (r *Request) framing() (int, error) {
	if r.Header.Has("Transfer-Encoding") {
		return 0, ErrTransferEncoding
	}
	if r.Header.count("Host") > 1 {
		return 0, malformed("two Host fields") // RFC 9112 section 3.2
	}
	r.Close = r.closes()
	switch r.Header.count("Content-Length") {
	case 0:
		return 0, nil
	case 1:
	default:
		return 0, malformed("two Content-Length fields")
	}
	n, ok := decimal(r.Header.Get("Content-Length"), MaxBody+1)
	if !ok {
		return 0, malformed("Content-Length")
	}
	if n > MaxBody {
		return 0, ErrBodyTooLarge
	}
	return n, nil
}

// closes says whether the connection ends with the reply, RFC 9112 section 9.3.
func (r *Request) closes() bool {
	keep := r.Minor >= 1
	for _, v := range r.Header.Values("Connection") {
		for option := range strings.SplitSeq(v, ",") {
			switch option = strings.TrimSpace(option); {
			case strings.EqualFold(option, "close"):
				return true
			case strings.EqualFold(option, "keep-alive"):
				keep = true
			}
		}
	}
	return !keep
}

// parseField parses one header line, RFC 9112 section 5: a name, a colon right
// after it, a value. A line that continues another one (obs-fold) has no name.
func parseField(line string) (Field, bool) {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isTokens(name) {
		return Field{}, false
	}
	value = strings.Trim(value, " \t")
	return Field{name, value}, isFieldValue(value)
}

// decimal parses digits, and digits only. Numbers above limit become limit.
func decimal(s string, limit int) (int, bool) {
	if s == "" {
		return 0, false
	}
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int(c-'0'), limit)
	}
	return n, true
}

// isToken says whether c may be in a method or a field name, RFC 9110 section 5.6.2.
func isToken(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func isTokens(s string) bool {
	for i := range len(s) {
		if !isToken(s[i]) {
			return false
		}
	}
	return s != ""
}

// isFieldValue takes what RFC 9110 section 5.5 does: no control characters but
// the tab. Bytes above 0x7f are somebody's language.
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isTarget takes visible ASCII without a fragment.
func isTarget(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	return s != ""
}
