package httpproxy

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"rocserv/internal/secret"
)

type script struct {
	said bytes.Buffer
	in   io.Reader
}

func (s *script) Write(b []byte) (int, error) { return s.said.Write(b) }
func (s *script) Read(b []byte) (int, error)  { return s.in.Read(b) }

const asked = "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n"

func TestConnect(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		login        Login
		said, rest   string
		want         error
		own          bool
	}{
		{name: "plain", answer: "HTTP/1.1 200 OK\r\n\r\n", said: asked + "\r\n"},
		{name: "HTTP/1.0, no reason", answer: "HTTP/1.0 200\r\nVia: x\r\n\r\n", said: asked + "\r\n"},
		{name: "bytes behind it", answer: "HTTP/1.1 200 OK\r\n\r\nSSH-2.0", said: asked + "\r\n", rest: "SSH-2.0"},
		{name: "100 first", answer: "HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx", said: asked + "\r\n", rest: "x"},
		{name: "basic", login: Login{User: "anna", Password: secret.NewText("se:cret")}, answer: "HTTP/1.1 200 OK\r\n\r\n",
			said: asked + "Proxy-Authorization: Basic YW5uYTpzZTpjcmV0\r\n\r\n"},
		{name: "bearer", login: Login{User: "anna", Bearer: secret.NewText("abc")}, answer: "HTTP/1.1 200 OK\r\n\r\n", said: asked + "Proxy-Authorization: Bearer abc\r\n\r\n"},
		{name: "password", answer: "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic\r\n\r\n", want: syscall.EHOSTUNREACH, own: true},
		{name: "no CONNECT", answer: "HTTP/1.1 405 No\r\n\r\n", want: syscall.EHOSTUNREACH, own: true},
		{name: "forbidden", answer: "HTTP/1.1 403 Forbidden\r\n\r\n", want: syscall.EACCES},
		{name: "bad gateway", answer: "HTTP/1.1 502 Bad\r\n\r\n<html>", want: syscall.EHOSTUNREACH},
		{name: "gateway timeout", answer: "HTTP/1.1 504 x\r\n\r\n", want: syscall.ETIMEDOUT},
		{name: "squid, refused", answer: "HTTP/1.1 503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n", want: syscall.ECONNREFUSED},
		{name: "squid, no route", answer: "HTTP/1.1 503 x\r\nx-squid-error: ERR_CONNECT_FAIL 101\r\n\r\n", want: syscall.ENETUNREACH},
		{name: "squid, odd", answer: "HTTP/1.1 503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 2\r\n\r\n", want: syscall.EHOSTUNREACH},
		{name: "squid, denied", answer: "HTTP/1.1 500 x\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n", want: syscall.EACCES},
		{name: "proxy-status", answer: "HTTP/1.1 502 x\r\nProxy-Status: p; error=connection_refused; details=\"x\"\r\n\r\n", want: syscall.ECONNREFUSED},
		{name: "switching", answer: "HTTP/1.1 101 x\r\n\r\n", want: syscall.EHOSTUNREACH},
		{name: "not HTTP", answer: "SSH-2.0-x\r\n", want: ErrProtocol},
		{name: "SOCKS", answer: "\x05\xff", want: io.ErrUnexpectedEOF},
		{name: "no number", answer: "HTTP/1.1 OK\r\n\r\n", want: ErrProtocol},
		{name: "HTTP/2", answer: "HTTP/2 200 OK\r\n\r\n", want: ErrProtocol},
		{name: "cut", answer: "HTTP/1.1 200 OK\r\n", want: io.ErrUnexpectedEOF},
		{name: "endless", answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 5000) + "\r\n", want: ErrProtocol},
	} {
		for how, in := range map[string]io.Reader{"at once": strings.NewReader(tt.answer), "in bytes": iotest.OneByteReader(strings.NewReader(tt.answer))} {
			s := &script{in: in}
			rest, err := Connect(s, "h:1", tt.login)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%s, %s: %v, want %v", tt.name, how, err, tt.want)
			}
			var st *Status
			if errors.As(err, &st) && st.Own() != tt.own {
				t.Errorf("%s: %v is the proxy's own: %v", tt.name, st, st.Own())
			}
			if tt.said != "" && s.said.String() != tt.said {
				t.Errorf("%s: said %q, want %q", tt.name, s.said.String(), tt.said)
			}
			left, _ := io.ReadAll(in)
			if err == nil && string(rest)+string(left) != tt.rest {
				t.Errorf("%s, %s: %q and %q are left, want %q", tt.name, how, rest, left, tt.rest)
			}
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\n\r\nx", "HTTP/1.1 407 x\r\nProxy-Status: a; error=b\r\n\r\n", "HTTP/1.1 103 \r\n\r\nHTTP/1.1 503 x\r\nX-Squid-Error: E 1\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rest, err := Connect(&script{in: bytes.NewReader(b)}, "h:1", Login{})
		if err == nil && !bytes.HasSuffix(b, rest) {
			t.Errorf("%q leaves %q", b, rest)
		}
		var s *Status
		if errors.As(err, &s) && strings.ContainsAny(s.Error(), "\r\n\x1b") {
			t.Errorf("%q in a log", s.Error())
		}
	})
}

// deaf is a peer that takes no request.
type deaf struct{ io.Reader }

func (deaf) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestConnectToTheDeaf(t *testing.T) {
	alert := errors.New("remote error: tls: certificate required")
	for _, tt := range []struct {
		name string
		said io.Reader
		want error
	}{
		{"nothing", strings.NewReader(""), syscall.EPIPE},
		{"an alert", iotest.ErrReader(alert), alert},
		{"an answer", strings.NewReader("HTTP/1.1 403 Forbidden\r\n\r\n"), syscall.EACCES},
	} {
		if _, err := Connect(deaf{tt.said}, "h:1", Login{}); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}
