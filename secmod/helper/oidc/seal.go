package oidc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
)

// What a sealed token is made of: a version, then fields of a tag, a length and a value
// (openconnect, hpke.c).
const (
	sealVersion = 1
	sealKey     = 1 // ours, of this token only: SubjectPublicKeyInfo
	sealCheck   = 2 // 12 bytes of AES-GCM's tag
	sealText    = 3
	sealNonce   = 4

	sealCheckLen = 12
	sealInfo     = "AC_ECIES"
)

// parseKey reads a client's key, of X-AnyConnect-STRAP-DH-Pubkey.
func parseKey(der []byte) (*ecdh.PublicKey, error) {
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	e, ok := k.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("not a key of an elliptic curve")
	}
	pub, err := e.ECDH()
	if err != nil || pub.Curve() != ecdh.P256() {
		return nil, errors.New("not a key of P-256")
	}
	return pub, nil
}

// seal encrypts a token to a client's key, as base64: ECDH of P-256, HKDF of SHA-256
// without a salt, AES-256-GCM (openconnect, hpke.c).
func seal(to *ecdh.PublicKey, token string) (string, error) {
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	shared, err := own.ECDH(to)
	if err != nil {
		return "", err
	}
	key, err := hkdf.Key(sha256.New, shared, nil, sealInfo, 32)
	if err != nil {
		return "", err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	aead, err := cipher.NewGCMWithTagSize(block, sealCheckLen)
	if err != nil {
		return "", err
	}
	public, err := x509.MarshalPKIXPublicKey(own.PublicKey())
	if err != nil {
		return "", err
	}
	nonce := make([]byte, aead.NonceSize())
	rand.Read(nonce)
	sealed := aead.Seal(nil, nonce, []byte(token), nil)
	text, check := sealed[:len(token)], sealed[len(token):]
	b := binary.BigEndian.AppendUint16(nil, sealVersion)
	for tag, value := range [...][]byte{sealKey: public, sealCheck: check, sealText: text, sealNonce: nonce} {
		if value != nil {
			b = binary.BigEndian.AppendUint16(b, uint16(tag))
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(value))), value...)
		}
	}
	return base64.StdEncoding.EncodeToString(b), nil
}
