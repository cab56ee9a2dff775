package dtlsrecord

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// Cipher suites by their IANA numbers. The record layer of a suite is given by
// its cipher and hash alone; the key exchange is only part of the name. The
// ones that are not PSK are for resumed sessions.
const (
	PSKWithAES128GCMSHA256        uint16 = 0x00a8
	PSKWithAES256GCMSHA384        uint16 = 0x00a9
	PSKWithChaCha20Poly1305SHA256 uint16 = 0xccab
	ECDHERSAWithAES128GCMSHA256   uint16 = 0xc02f
	ECDHERSAWithAES256GCMSHA384   uint16 = 0xc030
	RSAWithAES128GCMSHA256        uint16 = 0x009c
	RSAWithAES256GCMSHA384        uint16 = 0x009d
)

// ErrSuite is returned for a cipher suite this package does not have.
var ErrSuite = errors.New("dtlsrecord: unknown cipher suite")

// Suite describes the record protection of a cipher suite.
type Suite struct {
	id       uint16
	name     string // key exchange and cipher, in GnuTLS' words
	keyLen   int
	ivLen    int // of the part derived with the keys
	explicit int // bytes of nonce that travel with each record
	newHash  func() hash.Hash
	newAEAD  func(key []byte) (cipher.AEAD, error)
}

// LookupSuite finds a suite by its number, or returns ErrSuite.
func LookupSuite(id uint16) (Suite, error) {
	switch id {
	case PSKWithAES128GCMSHA256:
		return gcmSuite(id, "(PSK)-(AES-128-GCM)", 16), nil
	case PSKWithAES256GCMSHA384:
		return gcmSuite(id, "(PSK)-(AES-256-GCM)", 32), nil
	case PSKWithChaCha20Poly1305SHA256:
		// RFC 7905 section 2: 12 bytes of IV, nothing explicit.
		return Suite{
			id: id, name: "(PSK)-(CHACHA20-POLY1305)", keyLen: chacha20poly1305.KeySize, ivLen: nonceLen,
			newHash: sha256.New, newAEAD: chacha20poly1305.New,
		}, nil
	case ECDHERSAWithAES128GCMSHA256:
		return gcmSuite(id, "(ECDHE-RSA)-(AES-128-GCM)", 16), nil
	case ECDHERSAWithAES256GCMSHA384:
		return gcmSuite(id, "(ECDHE-RSA)-(AES-256-GCM)", 32), nil
	case RSAWithAES128GCMSHA256:
		return gcmSuite(id, "(RSA)-(AES-128-GCM)", 16), nil
	case RSAWithAES256GCMSHA384:
		return gcmSuite(id, "(RSA)-(AES-256-GCM)", 32), nil
	}
	return Suite{}, fmt.Errorf("%w: %#04x", ErrSuite, id)
}

// gcmSuite is RFC 5288 section 3: 4 bytes of salt, 8 bytes of explicit nonce.
// All suites with AES-256 use SHA-384, those with AES-128 SHA-256.
func gcmSuite(id uint16, name string, keyLen int) Suite {
	s := Suite{
		id: id, name: name, keyLen: keyLen, ivLen: nonceLen - explicitNonceLen, explicit: explicitNonceLen,
		newHash: sha256.New, newAEAD: newGCM,
	}
	if keyLen == 32 {
		s.newHash = sha512.New384
	}
	return s
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// ID is the suite's IANA number.
func (s Suite) ID() uint16 { return s.id }

// String describes the suite as GnuTLS does, for example
// "(DTLS1.2)-(PSK)-(AES-128-GCM)".
func (s Suite) String() string { return "(DTLS1.2)-" + s.name }

// Hash returns the hash of the suite's PRF, which also makes the Finished
// messages of its handshake.
func (s Suite) Hash() func() hash.Hash { return s.newHash }

// KeyLen is the length of a key, in bytes.
func (s Suite) KeyLen() int { return s.keyLen }

// Headroom is how many bytes of a record stand in front of its plaintext.
func (s Suite) Headroom() int { return HeaderLen + s.explicit }

// Tailroom is how many bytes of a record stand behind its plaintext.
func (s Suite) Tailroom() int { return TagLen }

// Overhead is by how many bytes a record is longer than its plaintext.
func (s Suite) Overhead() int { return s.Headroom() + s.Tailroom() }
