package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// v2 builds a header of version 2.
func v2(command, family byte, content ...[]byte) []byte {
	b := slices.Concat(content...)
	h := append([]byte(v2Magic), command, family)
	return append(binary.BigEndian.AppendUint16(h, uint16(len(b))), b...)
}

func tlv(kind byte, value ...[]byte) []byte {
	v := slices.Concat(value...)
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(v))), v...)
}

var (
	tcp4 = []byte("\xc0\x00\x02\x0a\xc6\x33\x64\x01\xc3\x50\x01\xbb")
	tcp6 = slices.Concat(netip.MustParseAddr("2001:db8::1").AsSlice(), netip.MustParseAddr("2001:db8::2").AsSlice(), []byte("\xc3\x50\x01\xbb"))
	with = Header{Version: 2, Source: ap("192.0.2.10:50000"), Dest: ap("198.51.100.1:443")}
)

func withTLS(t TLS) Header {
	h := with
	h.TLS = t
	return h
}

var good = []struct {
	name, in string
	want     Header
}{
	{"v1 TCP4", "PROXY TCP4 192.0.2.10 198.51.100.1 50000 443\r\n", Header{1, false, ap("192.0.2.10:50000"), ap("198.51.100.1:443"), TLS{}}},
	{"v1 TCP6", "PROXY TCP6 2001:db8::1 2001:db8::2 50000 443\r\n", Header{1, false, ap("[2001:db8::1]:50000"), ap("[2001:db8::2]:443"), TLS{}}},
	{"v1 mapped", "PROXY TCP6 ::ffff:192.0.2.10 ::ffff:198.51.100.1 0 65535\r\n", Header{1, false, ap("192.0.2.10:0"), ap("198.51.100.1:65535"), TLS{}}},
	{"v1 shortest", "PROXY UNKNOWN\r\n", Header{Version: 1, Local: true}},
	{"v1 unknown", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", Header{Version: 1, Local: true}},
	{"v1 longest", "PROXY UNKNOWN " + strings.Repeat("x", v1Max-16) + "\r\n", Header{Version: 1, Local: true}},
	{"v2 TCP4", string(v2(0x21, 0x11, tcp4)), with},
	{"v2 TCP6", string(v2(0x21, 0x21, tcp6)), Header{2, false, ap("[2001:db8::1]:50000"), ap("[2001:db8::2]:443"), TLS{}}},
	{"v2 local", string(v2(0x20, 0x00)), Header{Version: 2, Local: true}},
	{"v2 local with addresses", string(v2(0x20, 0x11, tcp4)), Header{Version: 2, Local: true}},
	{"v2 local with anything", string(v2(0x20, 0x11, []byte("x"))), Header{Version: 2, Local: true}},
	{"v2 unspecified", string(v2(0x21, 0x00, []byte("whatever"))), Header{Version: 2, Local: true}},
	{"v2 UDP", string(v2(0x21, 0x12, tcp4)), Header{Version: 2, Local: true}},
	{"v2 unix", string(v2(0x21, 0x31, make([]byte, 216))), Header{Version: 2, Local: true}},
	{"v2 new family", string(v2(0x21, 0xff)), Header{Version: 2, Local: true}},
	{"v2 TLVs", string(v2(0x21, 0x11, tcp4, tlv(0x01, []byte("h2")), tlv(0x04), tlv(0x03, []byte("crc!")))), with},
	{"v2 longest", string(v2(0x21, 0x11, tcp4, tlv(0x04, make([]byte, MaxLen-16-12-3)))), with},
	{"v2 TLS", string(v2(0x21, 0x11, tcp4, tlv(0x20, []byte{1, 0, 0, 0, 0}, tlv(0x21, []byte("TLSv1.3"))))), withTLS(TLS{Used: true})},
	{"v2 certificate", string(v2(0x21, 0x11, tcp4, tlv(0x20, []byte{7, 0, 0, 0, 0}, tlv(0x21, []byte("TLSv1.3")), tlv(0x22, []byte("alice")), tlv(0x23, []byte("AES"))))),
		withTLS(TLS{Used: true, Cert: true, Verified: true, CN: "alice"})},
	{"v2 certificate of the session", string(v2(0x21, 0x11, tcp4, tlv(0x20, []byte{5, 0, 0, 0, 0}))), withTLS(TLS{Used: true, Cert: true, Verified: true})},
	{"v2 bad certificate", string(v2(0x21, 0x11, tcp4, tlv(0x20, []byte{3, 0, 0, 0, 1}, tlv(0x22, []byte("alice"))))), withTLS(TLS{Used: true, Cert: true, CN: "alice"})},
	{"v2 no certificate", string(v2(0x21, 0x11, tcp4, tlv(0x20, []byte{1, 0, 0, 0, 0}))), withTLS(TLS{Used: true})},
}

func TestParse(t *testing.T) {
	for _, tt := range good {
		t.Run(tt.name, func(t *testing.T) {
			b := []byte(tt.in)
			for _, rest := range []string{"", "\x16\x03\x01", "\r\n", strings.Repeat("x", 5000)} {
				h, n, err := Parse(append(b[:len(b):len(b)], rest...))
				if err != nil || n != len(b) || h != tt.want {
					t.Fatalf("followed by %.5q: %+v, %d of %d, %v", rest, h, n, len(b), err)
				}
			}
			// Every shorter one wants more, but not more than there is.
			for i := range b {
				h, n, err := Parse(b[:i])
				if err != ErrMore || n <= i || n > len(b) || h != (Header{}) {
					t.Fatalf("%d of %d bytes: %+v, %d, %v", i, len(b), h, n, err)
				}
			}
			// Read as doc.go says, with the reads that takes.
			reads, at := 0, 0
			for {
				_, n, err := Parse(b[:at])
				if err == nil {
					break
				}
				reads, at = reads+1, n
			}
			if at != len(b) || reads > 1+len(b)/2 {
				t.Errorf("%d bytes of %d in %d reads", at, len(b), reads)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	line := func(s string) string { return "PROXY " + s + "\r\n" }
	tests := []struct {
		name, in string
		err      error
	}{
		{"TLS", "\x16\x03\x01\x02\x00\x01", ErrMalformed},
		{"HTTP", "GET / HTTP/1.1\r\n", ErrMalformed},
		{"POST", "POST / HTTP/1.1\r\n", ErrMalformed},
		{"small letters", "proxy UNKNOWN\r\n", ErrMalformed},
		{"no blank", "PROXYTCP4", ErrMalformed},
		{"nothing", line(""), ErrMalformed},
		{"bare LF", "PROXY TCP4 192.0.2.10 198.51.100.1 50000 443\n", ErrMalformed},
		{"LF first", "PROXY \n", ErrMalformed},
		{"CR inside", "PROXY UNKNOWN \r x\r\n", ErrMalformed},
		{"UNKNOWNX", line("UNKNOWNX"), ErrMalformed},
		{"UDP4", line("UDP4 192.0.2.10 198.51.100.1 50000 443"), ErrMalformed},
		{"family", line("TCP4 2001:db8::1 2001:db8::2 50000 443"), ErrMalformed},
		{"other family", line("TCP6 192.0.2.10 198.51.100.1 50000 443"), ErrMalformed},
		{"mixed", line("TCP4 192.0.2.10 2001:db8::2 50000 443"), ErrMalformed},
		{"zone", line("TCP6 fe80::1%eth0 2001:db8::2 50000 443"), ErrMalformed},
		{"no port", line("TCP4 192.0.2.10 198.51.100.1 50000"), ErrMalformed},
		{"three ports", line("TCP4 192.0.2.10 198.51.100.1 50000 443 1"), ErrMalformed},
		{"two blanks", line("TCP4  192.0.2.10 198.51.100.1 50000 443"), ErrMalformed},
		{"blank at the end", line("TCP4 192.0.2.10 198.51.100.1 50000 443 "), ErrMalformed},
		{"port 65536", line("TCP4 192.0.2.10 198.51.100.1 65536 443"), ErrMalformed},
		{"port of six", line("TCP4 192.0.2.10 198.51.100.1 000443 443"), ErrMalformed},
		{"leading zero", line("TCP4 192.0.2.10 198.51.100.1 50000 0443"), ErrMalformed},
		{"signed port", line("TCP4 192.0.2.10 198.51.100.1 50000 +443"), ErrMalformed},
		{"empty port", line("TCP4 192.0.2.10 198.51.100.1  443"), ErrMalformed},
		{"octet", line("TCP4 192.0.2.256 198.51.100.1 50000 443"), ErrMalformed},
		{"octal", line("TCP4 192.0.2.010 198.51.100.1 50000 443"), ErrMalformed},
		{"name", line("TCP4 localhost 198.51.100.1 50000 443"), ErrMalformed},
		{"NUL", line("TCP4 192.0.2.10\x00 198.51.100.1 50000 443"), ErrMalformed},
		{"one too long", "PROXY UNKNOWN " + strings.Repeat("x", v1Max-15) + "\r\n", ErrTooLong},
		{"endless", "PROXY " + strings.Repeat("x", 5000), ErrTooLong},
		{"magic", "\r\n\r\n\x00\r\nQUIX\n", ErrMalformed},
		{"only line breaks", "\r\n\r\n\r\n", ErrMalformed},
		{"version 1", string(v2(0x11, 0x11, tcp4)), ErrMalformed},
		{"version 3", string(v2(0x31, 0x11, tcp4)), ErrMalformed},
		{"command 2", string(v2(0x22, 0x11, tcp4)), ErrMalformed},
		{"short IPv4", string(v2(0x21, 0x11, tcp4[:11])), ErrMalformed},
		{"short IPv6", string(v2(0x21, 0x21, tcp6[:35])), ErrMalformed},
		{"v2 too long", string(v2(0x21, 0x11, make([]byte, MaxLen-15))), ErrTooLong},
		{"v2 far too long", v2Magic + "\x21\x11\xff\xff", ErrTooLong},
		{"one byte of a TLV", string(v2(0x21, 0x11, tcp4, []byte{4})), ErrMalformed},
		{"two bytes of a TLV", string(v2(0x21, 0x11, tcp4, []byte{4, 0})), ErrMalformed},
		{"TLV longer than the header", string(v2(0x21, 0x11, tcp4, []byte{4, 0, 1})), ErrMalformed},
		{"TLS of four", string(v2(0x21, 0x11, tcp4, tlv(0x20, []byte{1, 0, 0, 0}))), ErrMalformed},
		{"two TLS", string(v2(0x21, 0x11, tcp4, tlv(0x20, []byte{1, 0, 0, 0, 0}), tlv(0x20, []byte{7, 0, 0, 0, 0}))), ErrMalformed},
		{"two TLS, the first of nothing", string(v2(0x21, 0x11, tcp4, tlv(0x20, []byte{0, 0, 0, 0, 0}), tlv(0x20, []byte{7, 0, 0, 0, 0}))), ErrMalformed},
		{"TLV in TLS", string(v2(0x21, 0x11, tcp4, tlv(0x20, []byte{7, 0, 0, 0, 0, 0x22, 0, 9, 'a'}))), ErrMalformed},
		{"two names", string(v2(0x21, 0x11, tcp4, tlv(0x20, []byte{7, 0, 0, 0, 0}, tlv(0x22, []byte("a")), tlv(0x22, []byte("b"))))), ErrMalformed},
		{"empty name", string(v2(0x21, 0x11, tcp4, tlv(0x20, []byte{7, 0, 0, 0, 0}, tlv(0x22)))), ErrMalformed},
		{"long name", string(v2(0x21, 0x11, tcp4, tlv(0x20, []byte{7, 0, 0, 0, 0}, tlv(0x22, make([]byte, maxCN+1))))), ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, _, err := Parse([]byte(tt.in))
			if !errors.Is(err, tt.err) || h != (Header{}) {
				t.Errorf("%+v, %v, want %v", h, err, tt.err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range good {
		f.Add([]byte(tt.in))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		h, n, err := Parse(b)
		if !bytes.Equal(b, before) {
			t.Fatal("the input was changed")
		}
		switch err {
		case nil:
			if n < v1Least || n > len(b) || n > MaxLen {
				t.Fatalf("%d of %d bytes", n, len(b))
			}
			if h.Local != !h.Source.IsValid() || h.Local != !h.Dest.IsValid() || h.Source.Addr().Is4In6() {
				t.Fatalf("%+v", h)
			}
			if again, m, err := Parse(b[:n]); again != h || m != n || err != nil {
				t.Fatalf("without the rest: %+v, %d, %v", again, m, err)
			}
			if _, m, err := Parse(b[:n-1]); err != ErrMore || m != n {
				t.Fatalf("one byte less: %d, %v", m, err)
			}
		case ErrMore:
			if n <= len(b) || n > MaxLen || h != (Header{}) {
				t.Fatalf("%d after %d bytes, %+v", n, len(b), h)
			}
		case ErrMalformed, ErrTooLong:
			if h != (Header{}) {
				t.Fatalf("%+v", h)
			}
		default:
			t.Fatal(err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	header := v2(0x21, 0x21, tcp6, tlv(0x04, make([]byte, 40)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Parse(header); err != nil {
			b.Fatal(err)
		}
	}
}
