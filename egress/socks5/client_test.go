package socks5

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"rocserv/internal/secret"
)

// script is a proxy that says what it says, whatever it is told.
type script struct {
	said bytes.Buffer // by us
	in   *bytes.Reader
}

func newScript(answer string) *script { return &script{in: bytes.NewReader([]byte(answer))} }

func (s *script) Write(b []byte) (int, error) { return s.said.Write(b) }
func (s *script) Read(b []byte) (int, error)  { return s.in.Read(b) }

func TestGreet(t *testing.T) {
	login := Login{"anna", secret.NewText("secret")}
	for _, tt := range []struct {
		name, answer string
		login        Login
		said         string
		want         error
	}{
		{"no login asked", "\x05\x00", Login{}, "\x05\x01\x00", nil},
		{"login offered, none asked", "\x05\x00", login, "\x05\x02\x00\x02", nil},
		{"login", "\x05\x02\x01\x00", login, "\x05\x02\x00\x02\x01\x04anna\x06secret", nil},
		{"wrong password", "\x05\x02\x01\x01", login, "\x05\x02\x00\x02\x01\x04anna\x06secret", ErrPassword},
		{"wrong password, closed", "\x05\x02", login, "\x05\x02\x00\x02\x01\x04anna\x06secret", ErrPassword},
		{"login asked, we have none", "\x05\x02", Login{}, "\x05\x01\x00", ErrMethods},
		{"no method will do", "\x05\xff", login, "\x05\x02\x00\x02", ErrMethods},
		{"a method we did not offer", "\x05\x01", login, "\x05\x02\x00\x02", ErrProtocol},
		{"HTTP", "HTTP/1.1 400 Bad", Login{}, "\x05\x01\x00", ErrProtocol},
		{"SOCKS 4", "\x00\x5b", Login{}, "\x05\x01\x00", ErrProtocol},
		{"closed", "", Login{}, "\x05\x01\x00", io.ErrUnexpectedEOF},
		{"too long", "", Login{strings.Repeat("u", 256), secret.NewText("x")}, "", ErrPassword},
	} {
		s := newScript(tt.answer)
		if err := Greet(s, tt.login); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if got := s.said.String(); got != tt.said {
			t.Errorf("%s: said %q, want %q", tt.name, got, tt.said)
		}
	}
}

// Whatever a proxy says, what follows its answer is left unread.
func TestConnect(t *testing.T) {
	dst := netip.MustParseAddrPort("192.0.2.1:443")
	for _, tt := range []struct {
		name, host, answer, said string
		dst                      netip.AddrPort
		want                     error
	}{
		{"IPv4", "", "\x05\x00\x00\x01\x0a\x00\x00\x01\x12\x34", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", dst, nil},
		{"mapped", "", "\x05\x00\x00\x01\x0a\x00\x00\x01\x12\x34", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", netip.MustParseAddrPort("[::ffff:192.0.2.1]:443"), nil},
		{"IPv6", "", "\x05\x00\x00\x04" + strings.Repeat("\x00", 18), "\x05\x01\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x00\x50", netip.MustParseAddrPort("[2001:db8::1]:80"), nil},
		{"name", "www.example.org", "\x05\x00\x00\x03\x01x\x12\x34", "\x05\x01\x00\x03\x0fwww.example.org\x01\xbb", dst, nil},
		{"refused", "", "\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", dst, syscall.ECONNREFUSED},
		{"refused, odd address", "", "\x05\x05\x00\x09", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", dst, syscall.ECONNREFUSED},
		{"general", "", "\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", dst, syscall.EHOSTUNREACH},
		{"rules", "", "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", dst, syscall.EACCES},
		{"network", "", "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", dst, syscall.ENETUNREACH},
		{"TTL", "", "\x05\x06\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", dst, syscall.ETIMEDOUT},
		{"no number we know", "", "\x05\x77\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", dst, syscall.EHOSTUNREACH},
		{"odd address", "", "\x05\x00\x00\x02", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", dst, ErrProtocol},
		{"version", "", "\x04\x00\x00\x01", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", dst, ErrProtocol},
		{"cut", "", "\x05\x00\x00\x01\x0a", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", dst, io.ErrUnexpectedEOF},
	} {
		s := newScript(tt.answer + "after")
		if tt.want != nil && errors.Is(tt.want, io.ErrUnexpectedEOF) {
			s = newScript(tt.answer)
		}
		err := Connect(s, tt.host, tt.dst)
		if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if got := s.said.String(); got != tt.said {
			t.Errorf("%s: said %q, want %q", tt.name, got, tt.said)
		}
		if rest, _ := io.ReadAll(s.in); err == nil && string(rest) != "after" {
			t.Errorf("%s: %q is left, want %q", tt.name, rest, "after")
		}
	}
}

func TestAssociate(t *testing.T) {
	s := newScript("\x05\x00\x00\x01\x0a\x00\x00\x01\x12\x34")
	if got, err := Associate(s, false); err != nil || got != netip.MustParseAddrPort("10.0.0.1:4660") {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Associate(newScript("\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"), true); !errors.Is(err, NoCommand) || got.IsValid() {
		t.Errorf("%v, %v", got, err)
	}
}

func TestDatagram(t *testing.T) {
	for _, a := range []string{"192.0.2.1:53", "[2001:db8::1]:53"} {
		dst := netip.MustParseAddrPort(a)
		b := append(AppendHeader(nil, dst), "payload"...)
		if from, payload, ok := ParseDatagram(b); !ok || from != dst || string(payload) != "payload" {
			t.Errorf("%s: %v %q %v", a, from, payload, ok)
		}
		for n := range len(b) - len("payload") {
			if _, _, ok := ParseDatagram(b[:n]); ok {
				t.Errorf("%s: %d bytes are a datagram", a, n)
			}
		}
		b[2] = 1
		if _, _, ok := ParseDatagram(b); ok {
			t.Error("a fragment is a datagram")
		}
	}
}

func FuzzReplies(f *testing.F) {
	for _, s := range []string{"\x05\x00\x05\x00\x00\x01\x0a\x00\x00\x01\x12\x34", "\x05\x02\x01\x00\x05\x05\x00\x03\x03abc\x00\x00", "HTTP/1.0"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newScript(string(b))
		if Greet(s, Login{"u", secret.NewText("p")}) == nil {
			Connect(s, "x", netip.AddrPort{})
		}
		if from, payload, ok := ParseDatagram(b); ok && !bytes.Equal(append(AppendHeader([]byte{}, from), payload...)[3:], b[3:]) && b[3] != typeIPv6 {
			t.Errorf("%x is from %v", b, from)
		}
	})
}
