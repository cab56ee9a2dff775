package httpproxy

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"strconv"
	"strings"
)

// maxHeader bounds the header of an answer, in bytes.
const maxHeader = 16 << 10

// ErrProtocol is an answer that is none of HTTP.
var ErrProtocol = errors.New("the proxy does not speak HTTP")

// Connect asks for a connection to authority ("host:port") by HTTP/1.1. rest is
// what came behind the answer: the destination's first bytes.
func Connect(rw io.ReadWriter, authority string, l Login) (rest []byte, err error) {
	s, rest, err := ask(rw, "CONNECT "+authority+" HTTP/1.1\r\nHost: "+authority+"\r\n", l)
	switch {
	case err != nil:
		return nil, err
	case s.Code >= 200 && s.Code < 300:
		return rest, nil
	}
	return nil, s
}

// Probe asks the proxy for nothing (RFC 9110 sections 9.3.7 and 7.6.2), by
// HTTP/1.1. Whatever it answers, it is there; but it may not know the login.
func Probe(rw io.ReadWriter, l Login) error {
	s, _, err := ask(rw, "OPTIONS * HTTP/1.1\r\nHost: proxy\r\nMax-Forwards: 0\r\n", l)
	if err == nil && (s.Code == 401 || s.Code == 407) {
		return s
	}
	return err
}

// ask makes a request, which ends with a header, and returns the final answer
// and what came behind it.
func ask(rw io.ReadWriter, req string, l Login) (s *Status, rest []byte, err error) {
	if h := l.header(); h != "" {
		req += "Proxy-Authorization: " + h + "\r\n"
	}
	// Who does not listen may have said why: by an answer, or by an alert (in TLS
	// 1.3 a client's certificate is refused after the client's handshake).
	_, werr := io.WriteString(rw, req+"\r\n")
	for {
		head, behind, err := readHeader(rw, rest)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = cmp.Or(werr, err)
		}
		if err != nil {
			return nil, nil, err
		}
		s, err := parseHeader(head)
		if err != nil {
			return nil, nil, err
		}
		if rest = behind; s.Code < 100 || s.Code >= 200 || s.Code == 101 { // RFC 9110 section 15.2
			return s, rest, nil
		}
	}
}

// readHeader reads on from b to the end of a header.
func readHeader(r io.Reader, b []byte) (head, rest []byte, err error) {
	for {
		if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
			return b[:i], b[i+4:], nil
		}
		if len(b) >= 5 && !bytes.HasPrefix(b, []byte("HTTP/")) || len(b) >= maxHeader {
			return nil, nil, ErrProtocol
		}
		room := make([]byte, len(b), len(b)+2048)
		copy(room, b)
		n, err := r.Read(room[len(b):cap(room)])
		b = room[:len(b)+n]
		if err != nil && n == 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, nil, err
		}
	}
}

func parseHeader(head []byte) (*Status, error) {
	lines := strings.Split(string(head), "\r\n")
	version, rest, ok := strings.Cut(lines[0], " ")
	digits, _, _ := strings.Cut(rest, " ")
	code, err := strconv.Atoi(digits)
	if !ok || !strings.HasPrefix(version, "HTTP/1.") || err != nil || len(digits) != 3 {
		return nil, ErrProtocol
	}
	s := &Status{Code: code}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "proxy-status":
			s.ProxyStatus = strings.TrimSpace(value)
		case "x-squid-error":
			s.Squid = strings.TrimSpace(value)
		}
	}
	return s, nil
}
