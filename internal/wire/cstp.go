package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

const (
	// HeaderLen is the length of a CSTP frame header in bytes.
	HeaderLen = 8

	// MaxPayload is the longest payload of a CSTP frame in bytes: a frame is
	// one TLS record, which takes 2^14 bytes (RFC 8446 section 5.1).
	MaxPayload = 1<<14 - HeaderLen
)

// PacketType is the type byte of a CSTP frame and the first byte of a DTLS
// record's content (draft-mavrogiannopoulos-openconnect-04 section 2.2).
type PacketType byte

// Types of packets. A server ignores types it does not know; openconnect does not.
const (
	Data       PacketType = 0 // one IP packet
	DPDReq     PacketType = 3 // answered with DPDResp
	DPDResp    PacketType = 4
	Disconnect PacketType = 5 // CSTP only; see ParseDisconnect
	Keepalive  PacketType = 7 // never answered
	Compressed PacketType = 8 // one IP packet, compressed
	Terminate  PacketType = 9 // CSTP only, server to client
)

// Packet is what a frame, or the content of a DTLS record, says.
type Packet struct {
	Type    PacketType
	Payload []byte
}

// String names the type as the draft does.
func (t PacketType) String() string {
	switch t {
	case Data:
		return "DATA"
	case DPDReq:
		return "DPD-REQ"
	case DPDResp:
		return "DPD-RESP"
	case Disconnect:
		return "DISCONNECT"
	case Keepalive:
		return "KEEPALIVE"
	case Compressed:
		return "COMPRESSED"
	case Terminate:
		return "TERMINATE"
	}
	return fmt.Sprintf("packet type %d", byte(t))
}

// Errors of ParseHeader. There is no way to find the next frame after any of
// them but ErrHeaderShort: the connection is to be closed.
var (
	ErrHeaderShort  = errors.New("wire: CSTP header needs 8 bytes")
	ErrHeaderMagic  = errors.New("wire: not a CSTP header")
	ErrFrameTooLong = errors.New("wire: CSTP frame is longer than a TLS record")
)

// PutHeader writes the header of a frame with n bytes of payload to
// b[:HeaderLen].
func PutHeader(b []byte, t PacketType, n int) {
	if n < 0 || n > MaxPayload {
		panic(fmt.Sprintf("wire: internal error: CSTP payload of %d bytes", n))
	}
	_ = b[HeaderLen-1]
	b[0], b[1], b[2], b[3] = 'S', 'T', 'F', 1
	binary.BigEndian.PutUint16(b[4:], uint16(n))
	b[6], b[7] = byte(t), 0
}

// ParseHeader reads the header at the start of b and returns the type and the
// length of the payload that follows it. Types are not judged.
func ParseHeader(b []byte) (t PacketType, n int, err error) {
	if len(b) < HeaderLen {
		return 0, 0, ErrHeaderShort
	}
	// openconnect and ocserv alike take no header with another last byte
	// (openconnect cstp.c, ocserv worker-vpn.c).
	if b[0] != 'S' || b[1] != 'T' || b[2] != 'F' || b[3] != 1 || b[7] != 0 {
		return 0, 0, ErrHeaderMagic
	}
	n = int(binary.BigEndian.Uint16(b[4:]))
	if n > MaxPayload {
		return 0, 0, ErrFrameTooLong
	}
	return PacketType(b[6]), n, nil
}

// DisconnectCode is the first byte of a Disconnect packet's payload: what the
// client wants of its session.
type DisconnectCode byte

// Codes seen from clients (openconnect sends the first only; the others are
// AnyConnect's, by ocserv worker-vpn.c).
const (
	DisconnectUser       DisconnectCode = 0xb0 // the user logged out
	DisconnectReconnect  DisconnectCode = 0x91 // the client is about to come back
	DisconnectPause      DisconnectCode = 0xd1 // the device sleeps
	DisconnectLocalError DisconnectCode = 0x70 // something broke on the client's side
	DisconnectNone       DisconnectCode = 0    // no payload: about to come back
)

// Ends says that the session is over, not just this connection: the cookie
// must not work again. Everything but the user's own word keeps the session
// (ocserv worker-vpn.c): an iOS client disconnects in the middle of its set-up
// and comes back with the same cookie.
func (c DisconnectCode) Ends() bool { return c == DisconnectUser }

// maxDisconnectText bounds what of a client's words goes to a log line.
const maxDisconnectText = 128

// ParseDisconnect reads the payload of a Disconnect packet. The text is the
// client's own, cut and made printable.
func ParseDisconnect(payload []byte) (code DisconnectCode, text string) {
	if len(payload) == 0 {
		return DisconnectNone, ""
	}
	return DisconnectCode(payload[0]), printable(string(payload[1:]), maxDisconnectText)
}

// AppendDisconnect appends the payload that makes a client end its session and
// show text (openconnect cstp.c prints whatever code it gets; 0xb0 is the only
// one known to be understood by all).
func AppendDisconnect(dst []byte, text string) []byte {
	return append(append(dst, byte(DisconnectUser)), printable(text, maxDisconnectText)...)
}

// printable makes text of a foreign source fit for one log line: at most n
// bytes, valid UTF-8, control characters replaced.
func printable(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.Map(func(r rune) rune {
		if isControl(r) {
			return '.'
		}
		return r
	}, strings.ToValidUTF8(s, "."))
}

// isControl covers C0, DEL, C1 and the two line separators of Unicode.
func isControl(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029'
}
