package dtls

import (
	"encoding/binary"
	"slices"

	"rocserv/internal/dtlsrecord"
)

const (
	handshakeHeaderLen = 12 // RFC 6347 section 4.2.2
	randomLen          = 32
	maxSessionID       = 32

	// Handshake messages, RFC 5246 section 7.4.
	msgClientHello       = 1
	msgServerHello       = 2
	msgClientKeyExchange = 16
)

// hello is what of a ClientHello is looked at before pion sees it.
type hello struct {
	random  [randomLen]byte
	session []byte   // the App-ID in PSK mode; a part of the datagram
	suites  []uint16 // offered

	renegotiation bool // the client knows the extension renegotiation_info
}

// isHello says that an epoch 0 handshake record begins a ClientHello.
func isHello(record []byte) bool {
	return len(record) > dtlsrecord.HeaderLen && record[dtlsrecord.HeaderLen] == msgClientHello
}

// parseHello reads the ClientHello that a datagram begins with. It must not be
// fragmented: those of VPN clients are a few hundred bytes long.
func parseHello(datagram []byte) (h hello, ok bool) {
	head, record, _, ok := dtlsrecord.Cut(datagram)
	if !ok || head.Type != dtlsrecord.TypeHandshake || head.Epoch != 0 || !isHello(record) {
		return hello{}, false
	}
	b := record[dtlsrecord.HeaderLen:]
	if len(b) < handshakeHeaderLen {
		return hello{}, false
	}
	length, offset, fragment := be24(b[1:]), be24(b[6:]), be24(b[9:])
	b = b[handshakeHeaderLen:]
	if offset != 0 || fragment != length || length > len(b) {
		return hello{}, false
	}
	b = b[:length]
	// RFC 6347 section 4.2.1: client_version, random, session_id, cookie, cipher_suites.
	if len(b) < 2+randomLen {
		return hello{}, false
	}
	copy(h.random[:], b[2:])
	session, b, ok1 := vector8(b[2+randomLen:])
	_, b, ok2 := vector8(b)
	suites, b, ok3 := vector16(b)
	if !ok1 || !ok2 || !ok3 || len(session) > maxSessionID || len(suites)%2 != 0 {
		return hello{}, false
	}
	if h.random == [randomLen]byte{} { // GnuTLS 3.6.3 to 3.6.12, CVE-2020-11501
		return hello{}, false
	}
	h.session = session
	for ; len(suites) > 0; suites = suites[2:] {
		h.suites = append(h.suites, binary.BigEndian.Uint16(suites))
	}
	h.renegotiation = slices.Contains(h.suites, renegotiationSCSV) || hasExtension(b, renegotiationInfo)
	return h, true
}

// Two ways to say the same, RFC 5746 sections 3.2 and 3.3.
const (
	renegotiationInfo = 0xff01
	renegotiationSCSV = 0x00ff
)

// hasExtension looks for an extension in what follows the cipher suites of a
// ClientHello: compression methods, then extensions, if there are any.
func hasExtension(b []byte, want uint16) bool {
	_, b, ok := vector8(b)
	list, _, ok2 := vector16(b)
	for ok = ok && ok2; ok && len(list) >= 2; _, list, ok = vector16(list[2:]) {
		if binary.BigEndian.Uint16(list) == want {
			return true
		}
	}
	return false
}

// choose picks the first of ours that the client offers. pion would go by the
// client's order, so it is given this one only. If there is none, it is given
// one that the client does not offer, and answers with the proper alert.
func (h *hello) choose(ours []uint16) uint16 {
	for _, id := range ours {
		if slices.Contains(h.suites, id) {
			return id
		}
	}
	return ours[0]
}

// parseServerHello reads our own, as pion sends it: the number of the suite and
// the random value.
func parseServerHello(record []byte) (random [randomLen]byte, suite uint16, ok bool) {
	const fixed = dtlsrecord.HeaderLen + handshakeHeaderLen + 2
	if len(record) < fixed+randomLen || record[dtlsrecord.HeaderLen] != msgServerHello {
		return random, 0, false
	}
	copy(random[:], record[fixed:])
	_, b, ok := vector8(record[fixed+randomLen:])
	if !ok || len(b) < 2 {
		return random, 0, false
	}
	return random, binary.BigEndian.Uint16(b), true
}

func be24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// vector8 cuts a vector with a one-byte length off b.
func vector8(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 1 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n], b[n:], true
}

// vector16 cuts a vector with a two-byte length off b.
func vector16(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return nil, nil, false
	}
	return b[2:n], b[n:], true
}
