package keys

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// MaxFile is the most that is read of a certificate or key file, in bytes.
const MaxFile = 1 << 20

// ErrCertificate marks errors of Load that are about the certificate's file; all
// others are about the key's.
var ErrCertificate = errors.New("certificate")

// Load reads a certificate chain and its key. pin returns what encrypted keys
// are opened with; it is asked only for those. The warnings name what works
// but should not stay; now is for the certificate's dates.
func Load(certFile, keyFile string, pin func() ([]byte, error), now time.Time) (k *Key, warnings []string, err error) {
	certs, _, err := readFile(certFile)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	key, mode, err := readFile(keyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("key: %w", err)
	}
	defer clear(key)
	chain, err := parseChain(certs)
	if err != nil {
		return nil, nil, fmt.Errorf("%w %s: %w", ErrCertificate, certFile, err)
	}
	do(func() { k, err = parsePair(chain, key, pin) })
	if err != nil {
		return nil, nil, fmt.Errorf("key %s: %w", keyFile, err)
	}
	chain, unused := order(chain)
	for _, c := range chain {
		k.chain = append(k.chain, c.Raw)
	}
	warnings = about(chain, unused, k, now)
	for i := range warnings {
		warnings[i] = "certificate " + certFile + ": " + warnings[i]
	}
	if mode.Perm()&0o077 != 0 {
		warnings = append(warnings, fmt.Sprintf("key %s: readable by others than its owner (mode %04o)", keyFile, mode.Perm()))
	}
	return k, warnings, nil
}

// parsePair parses the key of a chain and checks that they belong together.
func parsePair(chain []*x509.Certificate, key []byte, pin func() ([]byte, error)) (*Key, error) {
	priv, err := parseKey(key, pin)
	if err != nil {
		return nil, err
	}
	kind, err := kindOf(priv.Public())
	if err != nil {
		return nil, err
	}
	k := newKey(kind, chain[0], priv)
	for i, c := range chain {
		if !matches(priv, c) {
			continue
		}
		if i > 0 {
			return nil, fmt.Errorf("belongs to certificate %d of the chain; the server's own must come first", i+1)
		}
		return k, nil
	}
	return nil, fmt.Errorf("does not belong to the certificate (subject %s)", chain[0].Subject)
}

// order puts the chain in order behind its leaf. What signed nothing in it is
// left over.
func order(certs []*x509.Certificate) (chain, unused []*x509.Certificate) {
	chain, unused = certs[:1:1], certs[1:]
	for len(unused) > 0 {
		next := -1
		last := chain[len(chain)-1]
		if bytes.Equal(last.RawIssuer, last.RawSubject) {
			break // a root
		}
		for i, c := range unused {
			if bytes.Equal(last.RawIssuer, c.RawSubject) && last.CheckSignatureFrom(c) == nil {
				next = i
				break
			}
		}
		if next < 0 {
			break
		}
		chain = append(chain, unused[next])
		unused = append(unused[:next:next], unused[next+1:]...)
	}
	return chain, unused
}

// about lists what an operator should know of a chain.
func about(chain, unused []*x509.Certificate, k *Key, now time.Time) (warnings []string) {
	leaf := chain[0]
	switch {
	case now.After(leaf.NotAfter):
		warnings = append(warnings, "expired on "+leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		warnings = append(warnings, "not valid before "+leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	if !forServers(leaf) {
		warnings = append(warnings, "not for TLS servers (extended key usage)")
	}
	for _, c := range unused {
		warnings = append(warnings, fmt.Sprintf("%s signed nothing in the chain and is left out", c.Subject))
	}
	if bits := rsaBits(leaf); k.kind == RSA && bits < 2048 {
		warnings = append(warnings, fmt.Sprintf("RSA key of only %d bits", bits))
	}
	return warnings
}

func forServers(c *x509.Certificate) bool {
	if len(c.ExtKeyUsage) == 0 && len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	for _, u := range c.ExtKeyUsage {
		if u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageAny {
			return true
		}
	}
	return false
}

// readFile reads a bounded regular file.
func readFile(name string) ([]byte, os.FileMode, error) {
	for _, scheme := range []string{"pkcs11:", "tpmkey:", "system:"} {
		if strings.HasPrefix(name, scheme) {
			return nil, 0, fmt.Errorf("%s: keys in tokens are %w", name, ErrUnsupported)
		}
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !st.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: not a regular file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, 0, err
	}
	if len(b) > MaxFile {
		clear(b)
		return nil, 0, fmt.Errorf("%s: more than %d bytes", name, MaxFile)
	}
	if len(b) == 0 {
		return nil, 0, fmt.Errorf("%s: %w", name, errEmpty)
	}
	return b, st.Mode(), nil
}

var errEmpty = errors.New("empty file")
