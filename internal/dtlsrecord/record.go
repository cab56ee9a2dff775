package dtlsrecord

import "encoding/binary"

// Content types, RFC 5246 section 6.2.1.
const (
	TypeChangeCipherSpec = 20
	TypeAlert            = 21
	TypeHandshake        = 22
	TypeApplicationData  = 23
)

const (
	// HeaderLen is the length of a record header in bytes.
	HeaderLen = 13
	// TagLen is the length of the authentication tag of all suites in bytes.
	TagLen = 16
	// MaxPlaintext is the most a record carries, RFC 6347 section 4.1.1.
	MaxPlaintext = 1 << 14
	// MaxSequence is the last sequence number of an epoch, RFC 6347 section 4.1.
	MaxSequence = 1<<48 - 1
	// Epoch is the one under which records are sealed and opened here.
	Epoch = 1

	explicitNonceLen = 8
	nonceLen         = 12
	version12        = 0xfefd // RFC 6347 section 4.1
	majorDTLS        = 0xfe
)

// Header is what a record says about itself in clear text.
type Header struct {
	Type     byte
	Epoch    uint16
	Sequence uint64
}

// Cut takes the first record off a datagram, which may hold several (RFC 6347
// section 4.1.1). record is the record with its header, rest what follows it.
// ok is false if the datagram does not begin with a whole record of DTLS 1.0 or
// 1.2; a first ClientHello comes under either version.
func Cut(datagram []byte) (h Header, record, rest []byte, ok bool) {
	if len(datagram) < HeaderLen || datagram[1] != majorDTLS {
		return Header{}, nil, nil, false
	}
	n := HeaderLen + int(binary.BigEndian.Uint16(datagram[11:]))
	if n > len(datagram) {
		return Header{}, nil, nil, false
	}
	number := binary.BigEndian.Uint64(datagram[3:])
	h = Header{Type: datagram[0], Epoch: uint16(number >> 48), Sequence: number & MaxSequence}
	return h, datagram[:n:n], datagram[n:], true
}

// putHeader writes the header of an application epoch record.
func putHeader(b []byte, typ byte, number uint64, length int) {
	b[0] = typ
	binary.BigEndian.PutUint16(b[1:], version12)
	binary.BigEndian.PutUint64(b[3:], number)
	binary.BigEndian.PutUint16(b[11:], uint16(length))
}

// putAAD writes the additional data of a record: its number, type, version and
// the length of its plaintext, RFC 5246 section 6.2.3.3.
func putAAD(b []byte, typ byte, number uint64, length int) {
	binary.BigEndian.PutUint64(b, number)
	b[8] = typ
	binary.BigEndian.PutUint16(b[9:], version12)
	binary.BigEndian.PutUint16(b[11:], uint16(length))
}
