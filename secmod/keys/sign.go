package keys

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.SHA256
	_ "crypto/sha512" // for crypto.SHA384 and SHA512
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Why nothing was signed.
var (
	ErrText   = errors.New("keys: not a text that is signed in TLS")
	ErrScheme = errors.New("keys: signature scheme does not fit the key")
)

// MaxText is the length of the longest text that Sign takes: TLS 1.2
// parameters with a P-521 point.
const MaxText = 32 + 32 + 4 + 133

// Scheme is a TLS SignatureScheme (RFC 8446, section 4.2.3).
type Scheme uint16

const (
	pkcs1SHA256 Scheme = 0x0401
	pkcs1SHA384 Scheme = 0x0501
	pkcs1SHA512 Scheme = 0x0601
	ecdsaSHA256 Scheme = 0x0403
	ecdsaSHA384 Scheme = 0x0503
	ecdsaSHA512 Scheme = 0x0603
	pssSHA256   Scheme = 0x0804
	pssSHA384   Scheme = 0x0805
	pssSHA512   Scheme = 0x0806
	ed25519Pure Scheme = 0x0807
)

type version uint8

const (
	tls12 version = 1 << iota
	tls13
)

// fits says which schemes a kind of key may use, and in which versions.
var fits = map[Kind]map[Scheme]version{
	RSA: {
		pkcs1SHA256: tls12, pkcs1SHA384: tls12, pkcs1SHA512: tls12,
		pssSHA256: tls12 | tls13, pssSHA384: tls12 | tls13, pssSHA512: tls12 | tls13,
	},
	P256:    {ecdsaSHA256: tls12 | tls13, ecdsaSHA384: tls12, ecdsaSHA512: tls12},
	P384:    {ecdsaSHA256: tls12, ecdsaSHA384: tls12 | tls13, ecdsaSHA512: tls12},
	P521:    {ecdsaSHA256: tls12, ecdsaSHA384: tls12, ecdsaSHA512: tls12 | tls13},
	Ed25519: {ed25519Pure: tls12 | tls13},
}

// options returns what a crypto.Signer wants to know of a scheme.
func (s Scheme) options() (crypto.Hash, crypto.SignerOpts) {
	var h crypto.Hash
	switch s {
	case pkcs1SHA256, ecdsaSHA256, pssSHA256:
		h = crypto.SHA256
	case pkcs1SHA384, ecdsaSHA384, pssSHA384:
		h = crypto.SHA384
	case pkcs1SHA512, ecdsaSHA512, pssSHA512:
		h = crypto.SHA512
	case ed25519Pure:
		return 0, crypto.Hash(0)
	}
	if s == pssSHA256 || s == pssSHA384 || s == pssSHA512 {
		return h, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
	}
	return h, h
}

// Sign signs a handshake text. It refuses with ErrText what is none, and with
// ErrScheme a scheme that the key must not use in the text's version of TLS.
func (k *Key) Sign(s Scheme, text []byte) (sig []byte, err error) {
	v, err := versionOf(text)
	if err != nil {
		return nil, err
	}
	return k.signText(s, v, text)
}

// SignAsClient is Sign for the text that a client with a certificate signs.
func (k *Key) SignAsClient(s Scheme, text []byte) (sig []byte, err error) {
	v, err := clientVersionOf(text)
	if err != nil {
		return nil, err
	}
	return k.signText(s, v, text)
}

// SignDigest signs a digest of which nobody here knows the text: some TLS
// libraries have no more to give. So the key must be of no other use.
func (k *Key) SignDigest(s Scheme, digest []byte) (sig []byte, err error) {
	if hash, _ := s.options(); fits[k.kind][s] == 0 || hash == 0 || len(digest) != hash.Size() {
		return nil, fmt.Errorf("%w: 0x%04x with %v and a digest of %d bytes", ErrScheme, uint16(s), k.kind, len(digest))
	}
	return k.signWith(s, digest)
}

func (k *Key) signText(s Scheme, v version, text []byte) (sig []byte, err error) {
	if fits[k.kind][s]&v == 0 {
		return nil, fmt.Errorf("%w: 0x%04x with %v", ErrScheme, uint16(s), k.kind)
	}
	if hash, _ := s.options(); hash != 0 {
		h := hash.New()
		h.Write(text)
		text = h.Sum(nil)
	}
	return k.signWith(s, text)
}

func (k *Key) signWith(s Scheme, digest []byte) (sig []byte, err error) {
	_, opts := s.options()
	do(func() {
		var made []byte
		made, err = k.sign(digest, opts)
		sig = append(sig, made...)
	})
	if err != nil {
		return nil, fmt.Errorf("keys: sign with %v: %w", k.kind, err)
	}
	return sig, nil
}

// certificateVerify is what a server's text begins with in TLS 1.3 (RFC 8446, section 4.4.3).
var certificateVerify = strings.Repeat(" ", 64) + "TLS 1.3, server CertificateVerify\x00"

// versionOf says which version of TLS a text belongs to.
func versionOf(text []byte) (version, error) {
	if rest, ok := strings.CutPrefix(string(text), certificateVerify); ok {
		if n := len(rest); n != 32 && n != 48 {
			return 0, fmt.Errorf("%w: transcript hash of %d bytes", ErrText, n)
		}
		return tls13, nil
	}
	if err := checkKeyExchange(text); err != nil {
		return 0, err
	}
	return tls12, nil
}

// clientCertificateVerify is certificateVerify of a client.
var clientCertificateVerify = strings.Repeat(" ", 64) + "TLS 1.3, client CertificateVerify\x00"

// clientVersionOf is versionOf for a client's text: in TLS 1.2 that is the whole
// handshake so far (RFC 5246, section 7.4.8), from ClientHello to ClientKeyExchange.
func clientVersionOf(text []byte) (version, error) {
	if rest, ok := strings.CutPrefix(string(text), clientCertificateVerify); ok {
		if n := len(rest); n != 32 && n != 48 {
			return 0, fmt.Errorf("%w: transcript hash of %d bytes", ErrText, n)
		}
		return tls13, nil
	}
	const clientHello, serverHello, certificateRequest, clientKeyExchange = 1, 2, 13, 16 // RFC 5246 section 7.4
	var types []byte
	for len(text) > 0 {
		if len(text) < 4 {
			return 0, fmt.Errorf("%w: %d bytes behind the messages", ErrText, len(text))
		}
		n := 4 + int(binary.BigEndian.Uint32(text)&0xffffff)
		if n > len(text) {
			return 0, fmt.Errorf("%w: a message cut short", ErrText)
		}
		types, text = append(types, text[0]), text[n:]
	}
	if len(types) < 5 || types[0] != clientHello || types[1] != serverHello || types[len(types)-1] != clientKeyExchange ||
		!slices.Contains(types, certificateRequest) {
		return 0, fmt.Errorf("%w: messages %d", ErrText, types)
	}
	return tls12, nil
}

// checkKeyExchange checks the text of a TLS 1.2 ServerKeyExchange with ECDHE:
// two randoms, then ServerECDHParams (RFC 8422, section 5.4).
func checkKeyExchange(text []byte) error {
	const randoms, fixed = 64, 64 + 4
	if len(text) < fixed || len(text) > MaxText {
		return fmt.Errorf("%w: %d bytes", ErrText, len(text))
	}
	const namedCurve = 3
	if text[randoms] != namedCurve {
		return fmt.Errorf("%w: curve type %d", ErrText, text[randoms])
	}
	var curve ecdh.Curve
	id := binary.BigEndian.Uint16(text[randoms+1:])
	switch id { // NamedCurve, RFC 8422 section 5.1.1
	case 23:
		curve = ecdh.P256()
	case 24:
		curve = ecdh.P384()
	case 25:
		curve = ecdh.P521()
	case 29:
		curve = ecdh.X25519()
	default:
		return fmt.Errorf("%w: curve %d", ErrText, id)
	}
	point := text[fixed:]
	if int(text[fixed-1]) != len(point) {
		return fmt.Errorf("%w: point of %d bytes, said to be %d", ErrText, len(point), text[fixed-1])
	}
	if _, err := curve.NewPublicKey(point); err != nil {
		return fmt.Errorf("%w: no point on curve %d", ErrText, id)
	}
	return nil
}
