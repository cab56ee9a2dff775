package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrField is returned for a header line that cannot be sent: its name is no
// token, its value holds a line break or another control character, or it is
// one that Response writes itself.
var ErrField = errors.New("wire: bad header field")

// Response is a reply of the login phase. Names keep their case, fields their
// order.
type Response struct {
	Status int
	Reason string // empty: the usual words
	Header Header
	Body   []byte
	Close  bool // the connection ends with this reply
}

// Append appends the reply as sent, always with a Content-Length. A field that
// could be read as anything but one line makes it fail with ErrField.
func (r *Response) Append(dst []byte) ([]byte, error) {
	w := headerWriter{b: dst}
	reason := r.Reason
	if reason == "" {
		reason = statusText(r.Status)
	}
	// The blank after the status is wanted even where no words follow (RFC
	// 9112 section 4; openconnect http.c).
	w.line("HTTP/1.1 "+strconv.Itoa(r.Status)+" ", reason)
	for _, f := range r.Header {
		if f.frames() {
			w.fail(f.Name)
		}
		w.field(f.Name, f.Value)
	}
	w.field("Content-Length", strconv.Itoa(len(r.Body)))
	if r.Close {
		w.field("Connection", "close")
	} else {
		w.field("Connection", "Keep-Alive") // a HTTP/1.0 client must be told
	}
	b, err := w.end()
	if err != nil {
		return dst, err
	}
	return append(b, r.Body...), nil
}

func statusText(status int) string {
	switch status {
	case 200:
		return "OK"
	case 302:
		return "Found"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not found" // ocserv's spelling
	case 405:
		return "Method Not Allowed"
	case 413:
		return "Content Too Large"
	case 415:
		return "Unsupported Media Type"
	case 500:
		return "Internal error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	}
	return ""
}

// ParseField parses a header line of the configuration (custom-header,
// included-http-headers): "Name: value".
func ParseField(line string) (Field, error) {
	f, ok := parseField(line)
	if !ok || f.frames() {
		return Field{}, fmt.Errorf("%w: %q", ErrField, printable(f.Name, 64))
	}
	return f, nil
}

// frames says that the field tells where a message ends: only Response writes such.
func (f Field) frames() bool {
	return strings.EqualFold(f.Name, "Content-Length") || strings.EqualFold(f.Name, "Transfer-Encoding")
}

// Unauthorized is the reply to a failed login or a cookie that is no longer
// good: openconnect gives up, other clients log in anew. The reason is shown.
func Unauthorized(reason string) *Response {
	return &Response{Status: 401, Reason: reason, Close: true}
}

// Challenge is a 401 that asks for another leg of HTTP authentication, on the
// same connection. Only for clients that sent X-Support-HTTP-Auth: others take
// it for a failed login.
func Challenge(fields ...Field) *Response {
	return &Response{Status: 401, Header: fields}
}

// Unavailable is the reply to a CONNECT that cannot be served now, with a good
// cookie: clients that are reconnecting try again. The reason is shown
// (openconnect cstp.c, X-Reason).
func Unavailable(reason string) *Response {
	return &Response{Status: 503, Header: Header{{"X-Reason", printable(reason, 256)}}, Close: true}
}

// NotFound is the reply to a path that nobody serves.
func NotFound() *Response {
	return &Response{
		Status: 404,
		Header: Header{{"Content-Type", "text/html"}},
		Body:   []byte("<html><body><h1>404 Not Found</h1></body></html>\r\n"),
		Close:  true,
	}
}

// NotAllowed is the reply to a method that a path does not have.
func NotAllowed() *Response { return &Response{Status: 405, Close: true} }

// BasicLogin asks for a login of HTTP, which nobody has.
func BasicLogin(realm string) *Response {
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(printable(realm, 128)) // RFC 9110 section 5.6.4
	return &Response{Status: 401, Header: Header{{"WWW-Authenticate", `Basic realm="` + quoted + `"`}}, Close: true}
}

// headerWriter builds a block of header lines and keeps the first error.
type headerWriter struct {
	b   []byte
	err error
}

func (w *headerWriter) fail(name string) {
	if w.err == nil {
		w.err = fmt.Errorf("%w: %q", ErrField, printable(name, 64))
	}
}

// field adds one line. No blank is left at the end of the value: openconnect
// would take it for a part of it (openconnect cstp.c).
func (w *headerWriter) field(name, value string) {
	f, ok := parseField(name + ":" + value)
	switch {
	case !ok || f.Name != name:
		w.fail(name)
	case f.Value == "":
		w.line(f.Name+":", "")
	default:
		w.line(f.Name+": ", f.Value)
	}
}

// line adds a line that starts with what we wrote ourselves.
func (w *headerWriter) line(ours, value string) {
	if !isFieldValue(value) {
		w.fail(ours)
		return
	}
	w.b = append(append(append(w.b, ours...), value...), "\r\n"...)
}

// end adds the empty line.
func (w *headerWriter) end() ([]byte, error) {
	if w.err != nil {
		return nil, w.err
	}
	return append(w.b, "\r\n"...), nil
}
