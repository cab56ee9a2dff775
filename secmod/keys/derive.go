package keys

import (
	"crypto"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
)

// Derive returns 32 bytes that only who has the private key can make. They say
// nothing about the key, or about those of another label (HKDF, RFC 5869). The
// same key in another file or form gives the same bytes.
func (k *Key) Derive(label string) ([]byte, error) { return k.derive(label) }

func deriveFrom(priv crypto.Signer, label string) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return hkdf.Key(sha256.New, der, nil, label, 32)
}
