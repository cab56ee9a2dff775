package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var today = time.Now()

func pin(s string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(s), nil }
}

// issue makes a certificate for pub, signed by parent (itself if nil).
func issue(t testing.TB, name string, pub crypto.PublicKey, parent *x509.Certificate, signer crypto.Signer, ca bool) *x509.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name},
		NotBefore: today.Add(-time.Hour), NotAfter: today.Add(time.Hour),
		BasicConstraintsValid: true, IsCA: ca,
	}
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newPrivate(t testing.TB, k Kind) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch k {
	case RSA:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case P256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func pemOf(certs ...*x509.Certificate) (b []byte) {
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

func pkcs8(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func write(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadEveryForm(t *testing.T) {
	for _, kind := range []Kind{RSA, P256, P384, P521, Ed25519} {
		key := newPrivate(t, kind)
		cert := issue(t, "vpn", key.Public(), nil, key, false)
		p8 := pkcs8(t, key)
		forms := map[string][]byte{
			"PKCS#8 DER": p8,
			"PKCS#8 PEM": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p8}),
		}
		switch k := key.(type) {
		case *rsa.PrivateKey:
			forms["PKCS#1 DER"] = x509.MarshalPKCS1PrivateKey(k)
			forms["PKCS#1 PEM"] = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: forms["PKCS#1 DER"]})
		case *ecdsa.PrivateKey:
			forms["SEC 1 DER"], _ = x509.MarshalECPrivateKey(k)
			forms["SEC 1 PEM"] = append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"),
				pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: forms["SEC 1 DER"]})...)
		}
		forms["with the certificate before it"] = append(pemOf(cert), forms["PKCS#8 PEM"]...)
		for name, b := range forms {
			t.Run(kind.String()+" "+name, func(t *testing.T) {
				k, warnings, err := Load(write(t, "cert", cert.Raw), write(t, "key", b), nil, today)
				if err != nil || k.Kind() != kind || len(warnings) > 0 {
					t.Fatalf("Load = %v, %v, %v", k, warnings, err)
				}
				if len(k.Chain()) != 1 || !bytes.Equal(k.Chain()[0], cert.Raw) || !k.Leaf().Equal(cert) {
					t.Error("not the chain of the file")
				}
			})
		}
	}
}

func TestLoadEncrypted(t *testing.T) {
	for _, name := range []string{"ec-pkcs8.pem", "ec-sec1.pem", "ec-pbes2-aes256.pem", "ec-pbes2-sha512.pem", "ec-pbes2-sha1.pem",
		"ec-pbes2-scrypt.pem", "ec-pbes2-3des.der", "ec-openssl.pem", "ec-certtool.pem"} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name)
			k, _, err := Load("testdata/ec-cert.pem", file, pin("hunter2"), today)
			if err != nil || k.Kind() != P256 {
				t.Fatalf("Load = %v, %v", k, err)
			}
			if name == "ec-pkcs8.pem" || name == "ec-sec1.pem" {
				return
			}
			for what, p := range map[string]func() ([]byte, error){"wrong": pin("hunter3"), "empty": pin(""), "no": nil} {
				if _, _, err := Load("testdata/ec-cert.pem", file, p, today); !errors.Is(err, ErrPin) {
					t.Errorf("%s pin: %v", what, err)
				}
			}
		})
	}
}

func TestLoadRefusals(t *testing.T) {
	key, other := newPrivate(t, P256), newPrivate(t, P256)
	ca := newPrivate(t, P384)
	root := issue(t, "root", ca.Public(), nil, ca, true)
	leaf := issue(t, "vpn", key.Public(), root, ca, false)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(t, key)})
	const part = "does not belong"
	for _, tt := range []struct {
		name      string
		cert, key []byte
		is        error
		text      string
	}{
		{"key of another certificate", leaf.Raw, pkcs8(t, other), nil, part},
		{"root first", pemOf(root, leaf), keyPEM, nil, "must come first"},
		{"empty certificate file", nil, keyPEM, errEmpty, ""},
		{"empty key file", leaf.Raw, nil, errEmpty, ""},
		{"no certificate in the file", keyPEM, keyPEM, ErrNoCert, ""},
		{"no key in the file", pemOf(leaf), pemOf(leaf), ErrNoKey, ""},
		{"garbage certificate", []byte("garbage"), keyPEM, nil, "cert"},
		{"garbage key", pemOf(leaf), []byte("garbage"), nil, "private key"},
		{"truncated key", leaf.Raw, pkcs8(t, key)[:40], nil, "private key"},
		{"P-224", issue(t, "x", p224.Public(), nil, p224, false).Raw, pkcs8(t, p224), ErrUnsupported, "P-224"},
		{"TPM key", leaf.Raw, []byte("-----BEGIN TSS2 PRIVATE KEY-----\nAAAA\n-----END TSS2 PRIVATE KEY-----\n"), ErrUnsupported, "TPM"},
		{"too large", leaf.Raw, make([]byte, MaxFile+1), nil, "more than"},
		{"a bundle of roots", bytes.Repeat(root.Raw, maxChain+1), keyPEM, nil, "make a chain"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Load(write(t, "cert", tt.cert), write(t, "key", tt.key), nil, today)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("Load: %v", err)
			}
		})
	}
	for _, tt := range []struct {
		cert, key string
		is        error
	}{
		{"testdata/none", "testdata/ec-sec1.pem", os.ErrNotExist},
		{"testdata/ec-cert.pem", "testdata/none", os.ErrNotExist},
		{"testdata/ec-cert.pem", "pkcs11:token=x", ErrUnsupported},
		{"testdata/ec-cert.pem", "testdata/ec-pbes1.pem", ErrUnsupported},
		{"testdata/pss-cert.pem", "testdata/pss-key.pem", ErrUnsupported},
		{"testdata/ec-cert.pem", "testdata/pss-key.pem", ErrUnsupported},
	} {
		if _, _, err := Load(tt.cert, tt.key, pin("hunter2"), today); !errors.Is(err, tt.is) {
			t.Errorf("Load(%s, %s): %v", tt.cert, tt.key, err)
		}
	}
	if _, _, err := Load("testdata/ec-cert.pem", t.TempDir(), nil, today); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a folder as key: %v", err)
	}
}

func TestChainOrder(t *testing.T) {
	rootKey, midKey, key := newPrivate(t, P256), newPrivate(t, P256), newPrivate(t, P256)
	root := issue(t, "root", rootKey.Public(), nil, rootKey, true)
	mid := issue(t, "middle", midKey.Public(), root, rootKey, true)
	leaf := issue(t, "leaf", key.Public(), mid, midKey, false)
	stray := issue(t, "stray", rootKey.Public(), nil, rootKey, true)
	namesake := issue(t, "middle", rootKey.Public(), root, rootKey, true) // not the one that signed
	for _, tt := range []struct {
		name     string
		in       []*x509.Certificate
		want     []*x509.Certificate
		warnings int
	}{
		{"in order", []*x509.Certificate{leaf, mid, root}, []*x509.Certificate{leaf, mid, root}, 0},
		{"out of order", []*x509.Certificate{leaf, root, mid}, []*x509.Certificate{leaf, mid, root}, 0},
		{"a stray one", []*x509.Certificate{leaf, stray, mid}, []*x509.Certificate{leaf, mid}, 1},
		{"the middle missing", []*x509.Certificate{leaf, root}, []*x509.Certificate{leaf}, 1},
		{"a namesake", []*x509.Certificate{leaf, namesake, mid, root}, []*x509.Certificate{leaf, mid, root}, 1},
		{"twice", []*x509.Certificate{leaf, mid, mid, root}, []*x509.Certificate{leaf, mid, root}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, warnings, err := Load(write(t, "cert", pemOf(tt.in...)), write(t, "key", pkcs8(t, key)), nil, today)
			if err != nil || len(warnings) != tt.warnings || len(k.Chain()) != len(tt.want) {
				t.Fatalf("Load: %d certificates, %q, %v", len(k.Chain()), warnings, err)
			}
			for i, c := range tt.want {
				if !bytes.Equal(k.Chain()[i], c.Raw) {
					t.Errorf("certificate %d is not %s", i+1, c.Subject)
				}
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	key := newPrivate(t, P256)
	cert := write(t, "cert", issue(t, "vpn", key.Public(), nil, key, false).Raw)
	file := write(t, "key", pkcs8(t, key))
	for _, tt := range []struct {
		name string
		now  time.Time
		mode os.FileMode
		want string
	}{
		{"nothing", today, 0o600, ""},
		{"nothing, read-only", today, 0o400, ""},
		{"expired", today.Add(2 * time.Hour), 0o600, "expired"},
		{"not yet valid", today.Add(-2 * time.Hour), 0o600, "not valid before"},
		{"group", today, 0o640, "readable by others"},
		{"world", today, 0o604, "readable by others"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.Chmod(file, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, warnings, err := Load(cert, file, nil, tt.now)
			all := strings.Join(warnings, "\n")
			if err != nil || (tt.want == "") != (all == "") || !strings.Contains(all, tt.want) {
				t.Errorf("warnings %q, %v", all, err)
			}
		})
	}
}

func TestSame(t *testing.T) {
	load := func(key crypto.Signer) *Key {
		k, _, err := Load(write(t, "c", issue(t, "vpn", key.Public(), nil, key, false).Raw), write(t, "k", pkcs8(t, key)), nil, today)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	a, b := newPrivate(t, P256), newPrivate(t, Ed25519)
	if !load(a).Same(load(a)) || load(a).Same(load(b)) || load(b).Same(load(a)) || !load(b).Same(load(b)) {
		t.Error("Same does not tell keys apart")
	}
}

func TestKeyNeverPrints(t *testing.T) {
	for _, kind := range []Kind{RSA, P256, Ed25519} {
		priv := newPrivate(t, kind)
		k := newKey(kind, nil, priv)
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "k", k, "in", struct{ K *Key }{k})
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "k", k, "in", struct{ K *Key }{k})
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			fmt.Fprintf(&log, verb+" "+verb+" "+verb+" "+verb+"\n", k, struct{ K *Key }{k}, &struct{ k *Key }{k}, map[int]*Key{1: k})
		}
		var parts []string
		switch p := priv.(type) {
		case *rsa.PrivateKey:
			parts = []string{p.D.String(), p.Primes[0].String(), p.D.Text(16)}
		case *ecdsa.PrivateKey:
			d, _ := p.Bytes()
			parts = []string{new(big.Int).SetBytes(d).String(), fmt.Sprintf("%x", d)}
		case ed25519.PrivateKey:
			parts = []string{fmt.Sprintf("%x", []byte(p)), strings.Trim(fmt.Sprint([]byte(p[:8])), "[]")}
		}
		for _, part := range parts {
			if strings.Contains(log.String(), part) {
				t.Errorf("%v: the private key shows in %s", kind, log.String())
			}
		}
	}
}
