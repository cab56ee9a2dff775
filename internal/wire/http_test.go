package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

// oneSafeLine is what may go to a log line.
func oneSafeLine(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, isControl)
}

func next(s string) (*Request, error) { return NewReader(strings.NewReader(s)).Next() }

func TestReadRequest(t *testing.T) {
	const in = "POST /auth?secret=1&x HTTP/1.1\r\nHost: vpn\r\nX-A:b \t\r\nx-a:  c d\r\nX-Empty:\r\n" +
		"X-Utf8: m\u00fcller\r\nContent-Length: 5\r\n\r\nhello"
	for name, src := range map[string]io.Reader{
		"at once":      strings.NewReader(in),
		"byte by byte": iotest.OneByteReader(strings.NewReader(in)),
		"data and EOF": iotest.DataErrReader(strings.NewReader(in)),
		"empty line":   strings.NewReader("\r\n" + in),
		"and after":    strings.NewReader(in + "\r\n"),
		"half of it":   strings.NewReader(in + "\r"),
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReader(src)
			req, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			if req.Method != "POST" || req.Path != "/auth" || req.Query != "secret=1&x" || req.Minor != 1 || req.Close {
				t.Errorf("%+v", req)
			}
			if string(req.Body) != "hello" {
				t.Errorf("body %q", req.Body)
			}
			want := Header{{"Host", "vpn"}, {"X-A", "b"}, {"x-a", "c d"}, {"X-Empty", ""}, {"X-Utf8", "m\u00fcller"}, {"Content-Length", "5"}}
			if fmt.Sprint(req.Header) != fmt.Sprint(want) {
				t.Errorf("header %q", req.Header)
			}
			if got := req.Header.Values("X-a"); len(got) != 2 || got[1] != "c d" || req.Header.Get("X-a") != "b" {
				t.Errorf("X-A %q", got)
			}
			if req.Header.Has("X-B") || !req.Header.Has("x-EMPTY") || req.Header.Get("nothing") != "" {
				t.Error("Has, Get")
			}
			if s := fmt.Sprint(req); s != "POST /auth" {
				t.Errorf("prints as %q", s)
			}
			if req.Clear(); string(req.Body) != "\x00\x00\x00\x00\x00" {
				t.Errorf("body after Clear %q", req.Body)
			}
			if _, err := r.Next(); err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Errorf("end: %v", err)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	const ok = "GET / HTTP/1.1\r\n"
	long := strings.Repeat("x", MaxHeader)
	tests := []struct {
		name, in string
		err      error
	}{
		{"nothing", "", io.EOF},
		{"only an empty line", "\r\n", io.EOF},
		{"cut", "GET / HT", io.ErrUnexpectedEOF},
		{"cut in fields", ok + "Host: x\r\n", io.ErrUnexpectedEOF},
		{"cut in body", ok + "Content-Length: 5\r\n\r\nabc", io.ErrUnexpectedEOF},
		{"body missing", ok + "Content-Length: 5\r\n\r\n", io.ErrUnexpectedEOF},
		{"TLS inside TLS", "\x16\x03\x01\x02\x00", ErrMalformed},
		{"frame", "STF\x01\x00\x00\x03\x00", ErrMalformed},
		{"long word", strings.Repeat("A", 100), ErrMalformed},
		{"blank first", " GET / HTTP/1.1\r\n\r\n", ErrMalformed},
		{"empty lines", "\r\n\r\nGET / HTTP/1.1\r\n\r\n", ErrMalformed},
		{"bare LF", "GET / HTTP/1.1\n\n", ErrMalformed},
		{"bare LF in fields", ok + "Host: x\n\r\n", ErrMalformed},
		{"LF first", "\nGET / HTTP/1.1\r\n\r\n", ErrMalformed},
		{"bare CR in a field", ok + "Host: x\rTransfer-Encoding: chunked\r\n\r\n", ErrMalformed},
		{"bare CR in the line", "GET /\rx HTTP/1.1\r\n\r\n", ErrMalformed},
		{"two CR", ok + "Host: x\r\r\n\r\n", ErrMalformed},
		{"NUL in a field", ok + "Host: x\x00y\r\n\r\n", ErrMalformed},
		{"NUL in the target", "GET /\x00 HTTP/1.1\r\n\r\n", ErrMalformed},
		{"DEL in a field", ok + "Host: \x7f\r\n\r\n", ErrMalformed},
		{"obs-fold", ok + "X-A: b\r\n c\r\n\r\n", ErrMalformed},
		{"obs-fold first", ok + "\tc\r\n\r\n", ErrMalformed},
		{"blank before colon", ok + "Content-Length : 5\r\n\r\nhello", ErrMalformed},
		{"no colon", ok + "Host\r\n\r\n", ErrMalformed},
		{"no name", ok + ": x\r\n\r\n", ErrMalformed},
		{"bad name", ok + "X(A): x\r\n\r\n", ErrMalformed},
		{"two blanks", "GET  / HTTP/1.1\r\n\r\n", ErrMalformed},
		{"tab", "GET\t/\tHTTP/1.1\r\n\r\n", ErrMalformed},
		{"no target", "GET HTTP/1.1\r\n\r\n", ErrMalformed},
		{"no method", "/ HTTP/1.1\r\n\r\n", ErrMalformed},
		{"fragment", "GET /#a HTTP/1.1\r\n\r\n", ErrMalformed},
		{"not ASCII", "GET /\u00fc HTTP/1.1\r\n\r\n", ErrMalformed},
		{"HTTP/0.9", "GET /\r\n\r\n", ErrMalformed},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ErrHTTPVersion},
		{"HTTP/1.2", "GET / HTTP/1.2\r\n\r\n", ErrHTTPVersion},
		{"words after version", "GET / HTTP/1.1 x\r\n\r\n", ErrHTTPVersion},
		{"two lengths", ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", ErrMalformed},
		{"two equal lengths", ok + "Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello", ErrMalformed},
		{"list of lengths", ok + "Content-Length: 5, 5\r\n\r\nhello", ErrMalformed},
		{"signed length", ok + "Content-Length: +5\r\n\r\nhello", ErrMalformed},
		{"negative length", ok + "Content-Length: -1\r\n\r\n", ErrMalformed},
		{"hex length", ok + "Content-Length: 0x5\r\n\r\nhello", ErrMalformed},
		{"empty length", ok + "Content-Length:\r\n\r\n", ErrMalformed},
		{"too long a body", ok + "Content-Length: 262145\r\n\r\n", ErrBodyTooLarge},
		{"length beyond 64 bits", ok + "Content-Length: 36893488147419103237\r\n\r\nhello", ErrBodyTooLarge},
		{"chunked", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ErrTransferEncoding},
		{"both", ok + "Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello", ErrTransferEncoding},
		{"two hosts", ok + "Host: a\r\nHost: b\r\n\r\n", ErrMalformed},
		{"pipelined", ok + "\r\n" + ok + "\r\n", ErrPipelined},
		{"pipelined after a body", ok + "Content-Length: 1\r\n\r\nxG", ErrPipelined},
		{"longer body than said", ok + "Content-Length: 5\r\n\r\nhello world", ErrPipelined},
		{"body of a CONNECT", "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", ErrMalformed},
		{"long target", "GET /" + long + " HTTP/1.1\r\n\r\n", ErrHeaderTooLarge},
		{"long field", ok + "X-A: " + long + "\r\n\r\n", ErrHeaderTooLarge},
		{"long without end", ok + "X-A: " + long + long, ErrHeaderTooLarge},
		{"many fields", ok + strings.Repeat("a:\r\n", maxFields+1) + "\r\n", ErrHeaderTooLarge},
		{"a little too long", ok + strings.Repeat("X-A: b\r\n", (MaxHeader-len(ok))/8) + "\r\n", ErrHeaderTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			half := len(tt.in) / 2
			if tt.err == ErrPipelined {
				half = 0 // in two parts it may well be two requests
			}
			for _, in := range [][2]string{{tt.in, ""}, {tt.in[:half], tt.in[half:]}} {
				r := NewReader(io.MultiReader(strings.NewReader(in[0]), strings.NewReader(in[1])))
				req, err := r.Next()
				if !errors.Is(err, tt.err) || req != nil {
					t.Fatalf("error %v, want %v", err, tt.err)
				}
				if _, again := r.Next(); again != err {
					t.Errorf("then: %v", again)
				}
			}
		})
	}
}

func TestReadHeaderAtTheLimit(t *testing.T) {
	const start, end = "GET / HTTP/1.1\r\nX-A: ", "\r\n\r\n"
	in := start + strings.Repeat("x", MaxHeader-len(start)-len(end)) + end
	if _, err := next("\r\n" + in); err != nil {
		t.Errorf("%d bytes: %v", len(in), err)
	}
	body := strings.Repeat("b", MaxBody)
	req, err := next(fmt.Sprintf("POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	if err != nil || string(req.Body) != body {
		t.Errorf("body of %d bytes: %v", len(body), err)
	}
}

func TestKeepAlive(t *testing.T) {
	tests := []struct {
		version, fields string
		close           bool
	}{
		{"1.1", "", false},
		{"1.0", "", true},
		{"1.1", "Connection: close\r\n", true},
		{"1.1", "Connection: x, Close\r\n", true},
		{"1.1", "Connection: x\r\nConnection: CLOSE\r\n", true},
		{"1.0", "Connection: Keep-Alive\r\n", false},
		{"1.0", "Connection: keep-alive, close\r\n", true},
		{"1.1", "Connection: closed\r\n", false},
		{"1.0", "Proxy-Connection: keep-alive\r\n", true},
	}
	for _, tt := range tests {
		req, err := next("GET / HTTP/" + tt.version + "\r\n" + tt.fields + "\r\n")
		if err != nil || req.Close != tt.close {
			t.Errorf("HTTP/%s %q: %v, %v", tt.version, tt.fields, req, err)
		}
	}
}

func TestTargets(t *testing.T) {
	tests := []struct {
		line, path, query string
		tunnel            bool
	}{
		{"GET /", "/", "", false},
		{"GET /?a?b", "/", "a?b", false},
		{"GET /a%2e%2e/../b", "/a%2e%2e/../b", "", false}, // left alone
		{"GET https://vpn.example.com/eng?secret", "/eng", "secret", false},
		{"GET HTTP://vpn.example.com", "/", "", false},
		{"GET http://vpn.example.com?secret", "/", "secret", false},
		{"CONNECT /CSCOSSLC/tunnel", "/CSCOSSLC/tunnel", "", true},
		{"CONNECT CSCOSSLC/tunnel", "CSCOSSLC/tunnel", "", true}, // Clavister
		{"CONNECT /CSCOSSLC/tunnel?x", "/CSCOSSLC/tunnel", "x", true},
		{"CONNECT //CSCOSSLC/tunnel", "//CSCOSSLC/tunnel", "", false},
		{"CONNECT www.example.com:443", "www.example.com:443", "", false},
		{"connect /CSCOSSLC/tunnel", "/CSCOSSLC/tunnel", "", false},
		{"GET /CSCOSSLC/tunnel", "/CSCOSSLC/tunnel", "", false},
	}
	for _, tt := range tests {
		req, err := next(tt.line + " HTTP/1.1\r\n\r\n")
		if err != nil {
			t.Errorf("%s: %v", tt.line, err)
			continue
		}
		if req.Path != tt.path || req.Query != tt.query || req.IsTunnel() != tt.tunnel {
			t.Errorf("%s: %q %q %v", tt.line, req.Path, req.Query, req.IsTunnel())
		}
	}
}

// What follows a CONNECT is the tunnel's, and requests before it are counted.
func TestConnectLeavesTheRest(t *testing.T) {
	const frame = "STF\x01\x00\x00\x07\x00"
	r := NewReader(strings.NewReader("CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\nContent-Length: 0\r\n\r\n" + frame))
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if string(r.Buffered()) != frame {
		t.Errorf("rest %q", r.Buffered())
	}
}

func TestTooManyRequests(t *testing.T) {
	get, connect := "GET / HTTP/1.1\r\n\r\n", "CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\n\r\n"
	for _, last := range []struct {
		line string
		err  error
	}{{get, ErrTooManyRequests}, {connect, nil}} {
		r := NewReader(&oneByOne{b: []byte(strings.Repeat(get, MaxRequests) + last.line)})
		for range MaxRequests {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Next(); err != last.err {
			t.Errorf("%q: %v", last.line, err)
		}
	}
}

// The buffer keeps nothing of what was taken from it.
func TestReaderWipes(t *testing.T) {
	for _, in := range []string{
		"POST / HTTP/1.1\r\nCookie: webvpn=secret\r\nContent-Length: 9\r\n\r\nsecret-pw",
		"POST / HTTP/1.1\r\nX: " + strings.Repeat("secret", 1000) + "\r\nContent-Length: 9\r\n\r\nsecret-pw",
	} {
		r := NewReader(strings.NewReader(in))
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(r.buf, []byte("secret")) {
			t.Errorf("left behind: %q", r.buf)
		}
	}
}

func TestReaderSourceErrors(t *testing.T) {
	r := NewReader(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("GET / HTTP/1.1\r\n\r\n"))))
	if _, err := r.Next(); err != iotest.ErrTimeout {
		t.Errorf("timeout: %v", err)
	}
	if _, err := NewReader(idle{}).Next(); err != io.ErrNoProgress {
		t.Errorf("a source that gives nothing: %v", err)
	}
	body := io.MultiReader(strings.NewReader("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab"), iotest.ErrReader(os.ErrDeadlineExceeded))
	if _, err := NewReader(body).Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("deadline in a body: %v", err)
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func FuzzReader(f *testing.F) {
	for _, c := range transcripts(f) {
		f.Add(c.client, uint8(0))
		f.Add(c.client[:requestLen(c.client)], uint8(1))
	}
	f.Add([]byte("GET / HTTP/1.1\r\nX-A: b\r\n c\r\n\r\n"), uint8(3))
	f.Add([]byte("\r\nPOST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx\r\n"), uint8(7))
	f.Fuzz(func(t *testing.T, b []byte, chunk uint8) {
		read := func(src io.Reader) (list []string, err error) {
			r := NewReader(src)
			for {
				req, err := r.Next()
				if err != nil {
					return list, err
				}
				checkFuzzed(t, req)
				list = append(list, fmt.Sprintf("%q", req.Method+req.Path+req.Query+fmt.Sprint(req.Header)+string(req.Body)))
				if req.Method == "CONNECT" {
					return list, nil
				}
			}
		}
		atOnce, err1 := read(bytes.NewReader(b))
		parts, err2 := read(&chunks{b: b, n: int(chunk%64) + 1})
		// However the bytes arrive, the same requests are seen, but for those
		// that are refused when they come before their turn.
		if err1 == nil && err2 == nil && fmt.Sprint(atOnce) != fmt.Sprint(parts) {
			t.Fatalf("%q\n%q", atOnce, parts)
		}
		for i := range min(len(atOnce), len(parts)) {
			if atOnce[i] != parts[i] {
				t.Fatalf("request %d: %q, %q", i, atOnce[i], parts[i])
			}
		}
	})
}

// chunks gives n bytes at a time.
type chunks struct {
	b []byte
	n int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.n)], c.b)
	c.b = c.b[n:]
	return n, nil
}

// checkFuzzed holds what is true of any request.
func checkFuzzed(t *testing.T, r *Request) {
	t.Helper()
	if !isTokens(r.Method) || strings.ContainsAny(r.Path+r.Query, " \r\n\x00") || len(r.Body) > MaxBody {
		t.Fatalf("%q", r)
	}
	for _, f := range r.Header {
		if !isTokens(f.Name) || strings.ContainsAny(f.Value, "\r\n\x00") {
			t.Fatalf("field %q", f)
		}
	}
	if !oneSafeLine(r.String()) {
		t.Fatalf("prints as %q", r.String())
	}
	if m, err := ParseAuth(r.Body); err == nil {
		m.Clear()
	}
	if _, err := r.Cookie(CookieSession); err != nil && !errors.Is(err, ErrCookieConflict) && !errors.Is(err, ErrCookieTooLong) {
		t.Fatal(err)
	}
}
