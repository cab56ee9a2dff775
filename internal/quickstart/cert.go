package quickstart

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// How long a certificate is good for, and when its end is near.
const (
	validity  = 10 * 365 * 24 * time.Hour
	nearlyEnd = 30 * 24 * time.Hour
)

// maxNames bounds the addresses a certificate names: some hosts have thousands.
const maxNames = 64

// newKey makes a key, as PEM (PKCS #8).
func newKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseKey reads what newKey has made.
func parseKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("not PEM")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an ECDSA key")
	}
	return key, nil
}

// newCert makes a self-signed certificate for a key, as PEM. It names the
// host, localhost, the host's addresses and the one it is told to listen on.
func newCert(key *ecdsa.PrivateKey, h *host, l listen) ([]byte, error) {
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails
	serial[0] &= 0x7f        // RFC 5280 section 4.1.2.2: positive
	serial[0] |= 0x40
	t := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               pkix.Name{CommonName: commonName(h)},
		NotBefore:             h.now().Add(-24 * time.Hour), // clients' clocks
		NotAfter:              h.now().Add(validity),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	addName(t, h.name)
	addName(t, l.host)
	for _, a := range h.addresses() {
		if len(t.IPAddresses) < maxNames {
			addName(t, a.String())
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// addName adds an address or a host name to a certificate, once.
func addName(t *x509.Certificate, name string) {
	if ip := net.ParseIP(name); ip != nil {
		for _, known := range t.IPAddresses {
			if known.Equal(ip) {
				return
			}
		}
		if !ip.IsUnspecified() {
			t.IPAddresses = append(t.IPAddresses, ip)
		}
		return
	}
	for _, known := range t.DNSNames {
		if known == name {
			return
		}
	}
	if name != "" && len(name) <= 253 && hostLike(name) {
		t.DNSNames = append(t.DNSNames, name)
	}
}

// commonName is for people who look at the certificate. RFC 5280 allows 64 characters.
func commonName(h *host) string {
	if h.name == "" || len(h.name) > 64 || !hostLike(h.name) {
		return "rocserv"
	}
	return h.name
}

// readCert returns the first certificate of a PEM file.
func readCert(b []byte) (*x509.Certificate, error) {
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			return nil, errors.New("no certificate in it")
		}
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
		b = rest
	}
}

// pin is what clients compare: pin-sha256 of the public key (RFC 7469 section 2.4,
// openconnect --servercert).
func pin(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "pin-sha256:" + base64.StdEncoding.EncodeToString(sum[:])
}
