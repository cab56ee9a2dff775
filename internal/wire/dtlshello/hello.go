package dtlshello

import "encoding/binary"

// Hello is what tells whose ClientHello it is.
type Hello struct {
	ID         []byte   // 1 to 32 bytes, part of the datagram: the session it asks for
	Random     [32]byte // equal in retransmissions, and after a HelloVerifyRequest
	MessageSeq uint16   // 0, or 1 with the cookie of a HelloVerifyRequest
	Version    uint16   // client_version: one of the constants below
}

// Values of Hello.Version.
const (
	DTLS12    = 0xfefd
	DTLS10    = 0xfeff
	DTLSCisco = 0x0100 // from before the standard
)

// Lengths and numbers of RFC 6347 section 4 and RFC 5246 section 7.4.1.2.
const (
	recordHeader    = 13
	handshakeHeader = 12
	typeHandshake   = 22
	typeData        = 23
	typeClientHello = 1
	maxID           = 32
	randomLen       = 32
)

// extensionAppID carries the App-ID in openconnect up to 7.08, which could not
// set the session id (openconnect gnutls-dtls.c).
const extensionAppID = 48018

// Parse looks at the first record of a datagram. It is true if that is a
// ClientHello, or the first fragment of one, that names a session.
func Parse(datagram []byte) (Hello, bool) {
	b, ok := record(datagram)
	if !ok {
		return Hello{}, false
	}
	var h Hello
	body, whole, ok := h.fragment(b)
	if !ok || !h.fields(body, whole) {
		return Hello{}, false
	}
	return h, true
}

// IsData says whether a datagram begins like a record of data under keys that a
// handshake has made: DTLS 1.2, epoch 1. Nothing more can be told without the keys.
func IsData(d []byte) bool {
	return len(d) > recordHeader && d[0] == typeData && binary.BigEndian.Uint16(d[1:]) == DTLS12 &&
		binary.BigEndian.Uint16(d[3:]) == 1 && int(binary.BigEndian.Uint16(d[11:])) == len(d)-recordHeader
}

// record returns the content of a handshake record of epoch 0.
func record(d []byte) ([]byte, bool) {
	if len(d) < recordHeader || d[0] != typeHandshake || !known(binary.BigEndian.Uint16(d[1:])) {
		return nil, false
	}
	if binary.BigEndian.Uint16(d[3:]) != 0 { // epoch
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(d[11:]))
	if n > len(d)-recordHeader {
		return nil, false
	}
	return d[recordHeader : recordHeader+n], true
}

func known(version uint16) bool {
	return version == DTLS12 || version == DTLS10 || version == DTLSCisco
}

// fragment takes a handshake message's header off and returns what is there of
// the message, and whether that is all of it.
func (h *Hello) fragment(b []byte) (body []byte, whole, ok bool) {
	if len(b) < handshakeHeader || b[0] != typeClientHello {
		return nil, false, false
	}
	length, offset, n := uint24(b[1:]), uint24(b[6:]), uint24(b[9:])
	if offset != 0 || n > length || n > len(b)-handshakeHeader {
		return nil, false, false
	}
	h.MessageSeq = binary.BigEndian.Uint16(b[4:])
	return b[handshakeHeader : handshakeHeader+n], n == length, true
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// fields reads the message. A first fragment needs to reach to the end of the
// session id only; in a whole message everything has to fit.
func (h *Hello) fields(b []byte, whole bool) bool {
	c := cursor{b: b}
	version := c.take(2)
	random := c.take(randomLen)
	id := c.vector8()
	if c.short || len(id) > maxID {
		return false
	}
	h.Version = binary.BigEndian.Uint16(version)
	h.Random = [32]byte(random)
	// GnuTLS 3.6.3 to 3.6.12 sent a random of zeros (CVE-2020-11501): the
	// keys of such a handshake are nobody's secret.
	if !known(h.Version) || h.Random == [32]byte{} {
		return false
	}
	c.vector8()  // cookie
	c.vector16() // cipher_suites
	c.vector8()  // compression_methods
	app, ok := cursor{b: c.rest(), short: c.short}.appID()
	if !ok && whole {
		return false
	}
	if len(app) > 0 {
		id = app
	}
	h.ID = id
	return len(id) > 0
}

// appID finds the App-ID among the extensions; not finding one is no failure,
// not being able to look is.
func (c cursor) appID() (id []byte, ok bool) {
	if c.short {
		return nil, false
	}
	if len(c.b) == 0 {
		return nil, true // no extensions
	}
	list := cursor{b: c.vector16()}
	if c.short || len(c.b) != 0 {
		return nil, false
	}
	for len(list.b) > 0 && !list.short {
		kind := list.take(2)
		data := cursor{b: list.vector16()}
		if list.short || binary.BigEndian.Uint16(kind) != extensionAppID {
			continue
		}
		id = data.vector8()
		if data.short || len(data.b) != 0 || len(id) == 0 || len(id) > maxID {
			return nil, false
		}
		return id, true
	}
	return nil, !list.short
}

// cursor reads from the front of b. After the first read beyond its end it is
// short, and gives nothing any more.
type cursor struct {
	b     []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || n > len(c.b) {
		c.short, c.b = true, nil
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

// vector8 takes bytes that follow their length of one byte, vector16 of two.
func (c *cursor) vector8() []byte {
	n := c.take(1)
	if n == nil {
		return nil
	}
	return c.take(int(n[0]))
}

func (c *cursor) vector16() []byte {
	n := c.take(2)
	if n == nil {
		return nil
	}
	return c.take(int(binary.BigEndian.Uint16(n)))
}

func (c *cursor) rest() []byte { return c.b }
