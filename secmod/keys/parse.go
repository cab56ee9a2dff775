package keys

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
)

// Why a file was not understood. ErrPin is about key-pin and pin-file.
var (
	ErrNoCert = errors.New("no certificate found")
	ErrNoKey  = errors.New("no private key found")
	ErrPin    = errors.New("encrypted, and not opened by the pin")
)

// maxChain bounds a chain: longer ones are a bundle of roots given by mistake.
const maxChain = 16

// parseChain reads certificates in PEM or DER; there is at least one.
func parseChain(b []byte) ([]*x509.Certificate, error) {
	der := b
	if bytes.Contains(b, []byte("-----BEGIN ")) {
		der = nil
		for p, rest := pem.Decode(b); p != nil; p, rest = pem.Decode(rest) {
			if p.Type == "CERTIFICATE" || p.Type == "X509 CERTIFICATE" {
				der = append(der, p.Bytes...)
			}
		}
	}
	if len(der) == 0 {
		return nil, ErrNoCert
	}
	certs, err := x509.ParseCertificates(der)
	if err != nil {
		return nil, err
	}
	if len(certs) > maxChain {
		return nil, fmt.Errorf("%d certificates, at most %d make a chain", len(certs), maxChain)
	}
	if certs[0].PublicKey == nil {
		return nil, unknownPublicKey(certs[0])
	}
	return certs, nil
}

// oidRSASSAPSS is id-RSASSA-PSS (RFC 4055).
var oidRSASSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}

var errPSSKey = fmt.Errorf("key restricted to RSA-PSS (id-RSASSA-PSS): %w by Go's TLS; use a certificate with a plain RSA key", ErrUnsupported)

func unknownPublicKey(c *x509.Certificate) error {
	var spki struct {
		Algorithm struct {
			OID    asn1.ObjectIdentifier
			Params asn1.RawValue `asn1:"optional"`
		}
		Key asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &spki); err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	if spki.Algorithm.OID.Equal(oidRSASSAPSS) {
		return errPSSKey
	}
	return fmt.Errorf("public key of algorithm %v: %w", spki.Algorithm.OID, ErrUnsupported)
}

// parseKey reads the first private key in PEM or DER.
func parseKey(b []byte, pin func() ([]byte, error)) (crypto.Signer, error) {
	if !bytes.Contains(b, []byte("-----BEGIN ")) {
		return parseDER(b, pin)
	}
	for p, rest := pem.Decode(b); p != nil; p, rest = pem.Decode(rest) {
		key, err := parseBlock(p, pin)
		if key != nil || err != nil {
			return key, err
		}
	}
	return nil, ErrNoKey
}

// parseBlock reads one PEM block; both results are nil if it holds no key.
func parseBlock(p *pem.Block, pin func() ([]byte, error)) (crypto.Signer, error) {
	defer clear(p.Bytes)
	der := p.Bytes
	switch p.Type {
	case "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
	case "TSS2 PRIVATE KEY":
		return nil, fmt.Errorf("keys in a TPM are %w", ErrUnsupported)
	default: // the certificate in the same file, EC PARAMETERS, ...
		return nil, nil
	}
	switch {
	case encryptedPEM(p):
		return parseEncrypted(pin, func(secret []byte) ([]byte, error) { return openPEM(p, secret) })
	case p.Type == "ENCRYPTED PRIVATE KEY":
		return parseEncrypted(pin, func(secret []byte) ([]byte, error) { return openPBES2(der, secret) })
	}
	return parsePlain(der)
}

// parseDER reads a key without the word PEM puts in front of it.
func parseDER(b []byte, pin func() ([]byte, error)) (crypto.Signer, error) {
	if isEncrypted(b) {
		return parseEncrypted(pin, func(secret []byte) ([]byte, error) { return openPBES2(b, secret) })
	}
	return parsePlain(b)
}

// parsePlain reads PKCS#8, PKCS#1 or SEC 1, whichever it is.
func parsePlain(der []byte) (crypto.Signer, error) {
	if isPSSKey(der) {
		return nil, errPSSKey
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err == nil {
		if s, ok := key.(crypto.Signer); ok {
			return s, nil
		}
		return nil, fmt.Errorf("key of type %T: %w", key, ErrUnsupported)
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	return nil, fmt.Errorf("private key: %w", err)
}

// parseEncrypted opens a key with the pin and reads it.
func parseEncrypted(pin func() ([]byte, error), open func(secret []byte) ([]byte, error)) (crypto.Signer, error) {
	secret, err := askPin(pin)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	plain, err := open(secret)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	key, err := parsePlain(plain)
	if err != nil && !errors.Is(err, ErrUnsupported) {
		return nil, ErrPin // a wrong pin that happened to leave a right padding
	}
	return key, err
}

// askPin returns the pin, which is the caller's to clear.
func askPin(pin func() ([]byte, error)) ([]byte, error) {
	if pin == nil {
		return nil, fmt.Errorf("%w: neither key-pin nor pin-file is set", ErrPin)
	}
	b, err := pin()
	if err != nil {
		return nil, fmt.Errorf("pin: %w", err)
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: neither key-pin nor pin-file is set", ErrPin)
	}
	return b, nil
}

// isPSSKey reports whether der is a PKCS#8 key of id-RSASSA-PSS.
func isPSSKey(der []byte) bool {
	var info struct {
		Version   int
		Algorithm struct {
			OID    asn1.ObjectIdentifier
			Params asn1.RawValue `asn1:"optional"`
		}
		Key  []byte
		Rest asn1.RawValue `asn1:"optional"`
	}
	_, err := asn1.Unmarshal(der, &info)
	return err == nil && info.Algorithm.OID.Equal(oidRSASSAPSS)
}

func matches(priv crypto.Signer, c *x509.Certificate) bool {
	pub, ok := priv.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && c.PublicKey != nil && pub.Equal(c.PublicKey)
}

func rsaBits(c *x509.Certificate) int {
	if pub, ok := c.PublicKey.(*rsa.PublicKey); ok {
		return pub.N.BitLen()
	}
	return 0
}
