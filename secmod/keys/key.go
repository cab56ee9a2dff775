package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Kind is what a key can do.
type Kind uint8

const (
	RSA Kind = iota + 1
	P256
	P384
	P521
	Ed25519
)

func (k Kind) String() string {
	switch k {
	case RSA:
		return "RSA"
	case P256:
		return "ECDSA P-256"
	case P384:
		return "ECDSA P-384"
	case P521:
		return "ECDSA P-521"
	case Ed25519:
		return "Ed25519"
	}
	return fmt.Sprintf("key kind %d", uint8(k))
}

// ErrUnsupported is wrapped by the error about a key or certificate of a kind
// that is not served.
var ErrUnsupported = errors.New("not supported")

// Key is a private key with its certificate chain. It is immutable and never
// prints the private part.
type Key struct {
	kind  Kind
	chain [][]byte // DER, leaf first
	leaf  *x509.Certificate
	pub   crypto.PublicKey
	// sign is the private key's. A function is what fmt and reflection see
	// nothing of, also where they do not ask Format.
	sign func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
	// derive is of the private key too.
	derive func(label string) ([]byte, error)
}

func newKey(kind Kind, leaf *x509.Certificate, priv crypto.Signer) *Key {
	return &Key{kind: kind, leaf: leaf, pub: priv.Public(), sign: func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
		return priv.Sign(rand.Reader, digest, opts)
	}, derive: func(label string) ([]byte, error) { return deriveFrom(priv, label) }}
}

// Kind returns the kind of the key.
func (k *Key) Kind() Kind { return k.kind }

// Chain returns the certificates in DER, leaf first. It is not to be changed.
func (k *Key) Chain() [][]byte { return k.chain }

// Leaf returns the parsed first certificate of the chain.
func (k *Key) Leaf() *x509.Certificate { return k.leaf }

// Same reports whether both have the same public key.
func (k *Key) Same(o *Key) bool {
	pub, ok := k.pub.(interface{ Equal(crypto.PublicKey) bool })
	return ok && pub.Equal(o.pub)
}

// Format implements fmt.Formatter for every verb.
func (k *Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// String implements fmt.Stringer: the kind and nothing else.
func (k *Key) String() string { return "[" + k.kind.String() + " key]" }

// GoString implements fmt.GoStringer.
func (k *Key) GoString() string { return k.String() }

// LogValue implements slog.LogValuer.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// kindOf says what a public key is; the error is ErrUnsupported.
func kindOf(pub crypto.PublicKey) (Kind, error) {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		if p.N.BitLen() < 1024 {
			return 0, fmt.Errorf("RSA key of %d bits: %w", p.N.BitLen(), ErrUnsupported)
		}
		return RSA, nil
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			return P256, nil
		case elliptic.P384():
			return P384, nil
		case elliptic.P521():
			return P521, nil
		}
		return 0, fmt.Errorf("ECDSA key on %s: %w", p.Curve.Params().Name, ErrUnsupported)
	case ed25519.PublicKey:
		return Ed25519, nil
	}
	return 0, fmt.Errorf("key of type %T: %w", pub, ErrUnsupported)
}
