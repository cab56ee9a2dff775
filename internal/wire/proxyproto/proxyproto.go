package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
)

// MaxLen is the longest header that is read, in bytes; the addresses take 52,
// the rest is for what proxies say about TLS.
const MaxLen = 4096

// Errors of Parse.
var (
	ErrMore      = errors.New("proxyproto: header is not complete")
	ErrMalformed = errors.New("proxyproto: not a PROXY header")
	ErrTooLong   = errors.New("proxyproto: header is too long")
)

// Header is what a proxy says of a connection.
type Header struct {
	Version int // 1 or 2
	// Local says that the header names no addresses: those of the socket hold.
	Local  bool
	Source netip.AddrPort // the client
	Dest   netip.AddrPort // what the client connected to
	TLS    TLS
}

// TLS is what a proxy says of the TLS it ended, version 2 only.
type TLS struct {
	Used     bool   // the client came with TLS
	Cert     bool   // with a certificate, on this connection or an earlier one of its session
	Verified bool   // which was found good
	CN       string // common name of the certificate's subject, as sent
}

// Lengths of section 2.1 and 2.2.
const (
	v1Max    = 107 // with CR LF
	v1Least  = len("PROXY UNKNOWN\r\n")
	v2Header = 16
	v1Prefix = "PROXY "
	v2Magic  = "\r\n\r\n\x00\r\nQUIT\n"
)

// Parse reads the header at the start of b. Without error it is b[:n]. With
// ErrMore the header is at least n bytes long, and n > len(b).
func Parse(b []byte) (h Header, n int, err error) {
	if len(b) == 0 {
		return Header{}, 1, ErrMore
	}
	switch b[0] {
	case v1Prefix[0]:
		h, n, err = parseV1(b)
	case v2Magic[0]:
		h, n, err = parseV2(b)
	default:
		err = ErrMalformed
	}
	if err != nil {
		h = Header{}
	}
	return h, n, err
}

// begins says whether b starts as p does, as far as there is of b.
func begins(b []byte, p string) bool {
	n := min(len(b), len(p))
	return string(b[:n]) == p[:n]
}

// parseV1 reads "PROXY TCP4 192.0.2.10 198.51.100.1 50000 443\r\n", section 2.1.
func parseV1(b []byte) (Header, int, error) {
	if !begins(b, v1Prefix) {
		return Header{}, 0, ErrMalformed
	}
	end := bytes.IndexByte(b[:min(len(b), v1Max)], '\n')
	if end < 0 {
		return v1More(b)
	}
	if b[end-1] != '\r' || bytes.IndexByte(b[:end-1], '\r') >= 0 {
		return Header{}, 0, ErrMalformed
	}
	h := Header{Version: 1}
	line := b[len(v1Prefix) : end-1]
	if rest, ok := bytes.CutPrefix(line, []byte("UNKNOWN")); ok && (len(rest) == 0 || rest[0] == ' ') {
		h.Local = true
		return h, end + 1, nil
	}
	var ok bool
	if h.Source, h.Dest, ok = v1Addresses(line); !ok {
		return Header{}, 0, ErrMalformed
	}
	return h, end + 1, nil
}

// v1More says how much more of a line without end is certain: "\r\n" at least,
// or "\n" after "\r".
func v1More(b []byte) (Header, int, error) {
	if len(b) >= v1Max {
		return Header{}, 0, ErrTooLong
	}
	n := len(b) + 2
	if b[len(b)-1] == '\r' {
		n--
	}
	return Header{}, min(max(n, v1Least), v1Max), ErrMore
}

// v1Addresses reads "TCP4 source dest port port".
func v1Addresses(line []byte) (source, dest netip.AddrPort, ok bool) {
	var f [5][]byte
	for i := range f {
		var more bool
		f[i], line, more = bytes.Cut(line, []byte(" "))
		if more != (i < len(f)-1) {
			return source, dest, false
		}
	}
	is6 := string(f[0]) == "TCP6"
	if !is6 && string(f[0]) != "TCP4" {
		return source, dest, false
	}
	source, ok1 := v1AddrPort(f[1], f[3], is6)
	dest, ok2 := v1AddrPort(f[2], f[4], is6)
	return source, dest, ok1 && ok2
}

func v1AddrPort(addr, port []byte, is6 bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(string(addr))
	if err != nil || a.Is6() != is6 || a.Zone() != "" {
		return netip.AddrPort{}, false
	}
	p, ok := v1Port(port)
	return netip.AddrPortFrom(a.Unmap(), p), ok
}

// v1Port reads digits without leading zeros.
func v1Port(s []byte) (uint16, bool) {
	if len(s) == 0 || len(s) > 5 || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return uint16(n), n <= 0xffff
}

// parseV2 reads the binary header, section 2.2.
func parseV2(b []byte) (Header, int, error) {
	if !begins(b, v2Magic) {
		return Header{}, 0, ErrMalformed
	}
	if len(b) < v2Header {
		return Header{}, v2Header, ErrMore
	}
	command, family := b[12], b[13]
	if command>>4 != 2 || command&15 > 1 {
		return Header{}, 0, ErrMalformed
	}
	n := v2Header + int(binary.BigEndian.Uint16(b[14:]))
	if n > MaxLen {
		return Header{}, 0, ErrTooLong
	}
	if len(b) < n {
		return Header{}, n, ErrMore
	}
	h := Header{Version: 2, Local: true}
	if command&15 == 0 { // LOCAL: a health check of the proxy's own
		return h, n, nil
	}
	if ok := h.v2Content(family, b[v2Header:n]); !ok {
		return Header{}, 0, ErrMalformed
	}
	return h, n, nil
}

// v2Content reads what follows the length: addresses, then TLVs.
func (h *Header) v2Content(family byte, b []byte) bool {
	size := 0
	switch family {
	case 0x11: // TCP over IPv4
		size = 4
	case 0x21: // TCP over IPv6
		size = 16
	default: // UNSPEC, UNIX, or something new: only the length is known
		return true
	}
	if len(b) < 2*size+4 {
		return false
	}
	h.Local = false
	h.Source = v2AddrPort(b[:size], b[2*size:])
	h.Dest = v2AddrPort(b[size:2*size], b[2*size+2:])
	seen := false
	return eachTLV(b[2*size+4:], func(kind byte, value []byte) bool {
		if kind != tlvTLS {
			return true
		}
		again := seen
		seen = true
		return !again && h.TLS.parse(value)
	})
}

// v2AddrPort reads an address of 4 or 16 bytes, and a port.
func v2AddrPort(addr, port []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port))
}

// Types of TLVs, section 2.2.
const (
	tlvTLS   = 0x20
	tlvTLSCN = 0x22

	clientTLS      = 0x01
	clientCertConn = 0x02
	clientCertSess = 0x04
)

// maxCN is the longest common name in bytes: 64 characters (RFC 5280 appendix
// A.1, ub-common-name) of UTF-8.
const maxCN = 256

// eachTLV calls f for each TLV in b until it is false.
func eachTLV(b []byte, f func(kind byte, value []byte) bool) bool {
	for len(b) > 0 {
		if len(b) < 3 {
			return false
		}
		kind, n := b[0], int(binary.BigEndian.Uint16(b[1:]))
		if b = b[3:]; n > len(b) {
			return false
		}
		if !f(kind, b[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// parse reads a PP2_TYPE_SSL: client bits (1), verify (4), TLVs.
func (t *TLS) parse(b []byte) bool {
	if len(b) < 5 {
		return false
	}
	t.Used = b[0]&clientTLS != 0
	t.Cert = b[0]&(clientCertConn|clientCertSess) != 0
	t.Verified = t.Cert && binary.BigEndian.Uint32(b[1:]) == 0
	return eachTLV(b[5:], func(kind byte, value []byte) bool {
		if kind != tlvTLSCN {
			return true
		}
		if len(value) == 0 || len(value) > maxCN || t.CN != "" {
			return false
		}
		t.CN = string(value)
		return true
	})
}
