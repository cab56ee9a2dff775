package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func text13(hash int) []byte {
	b := []byte(strings.Repeat(" ", 64) + "TLS 1.3, server CertificateVerify\x00")
	return append(b, bytes.Repeat([]byte{0xab}, hash)...)
}

func text12(t testing.TB, curve uint16) []byte {
	t.Helper()
	curves := map[uint16]ecdh.Curve{23: ecdh.P256(), 24: ecdh.P384(), 25: ecdh.P521(), 29: ecdh.X25519()}
	key, err := curves[curve].GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point := key.PublicKey().Bytes()
	b := bytes.Repeat([]byte{0xcd}, 64)
	b = append(b, 3)
	b = binary.BigEndian.AppendUint16(b, curve)
	b = append(b, byte(len(point)))
	return append(b, point...)
}

// verify checks a signature the way a client does.
func verify(pub crypto.PublicKey, s Scheme, text, sig []byte) error {
	hash, opts := s.options()
	digest := text
	if hash != 0 {
		h := hash.New()
		h.Write(text)
		digest = h.Sum(nil)
	}
	switch p := pub.(type) {
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(p, hash, digest, sig, &rsa.PSSOptions{SaltLength: hash.Size(), Hash: pss.Hash})
		}
		return rsa.VerifyPKCS1v15(p, hash, digest, sig)
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(p, digest, sig) {
			return errors.New("wrong ECDSA signature")
		}
	case ed25519.PublicKey:
		if !ed25519.Verify(p, text, sig) {
			return errors.New("wrong Ed25519 signature")
		}
	}
	return nil
}

// TestSign is the table of doc.go, for every scheme there is.
func TestSign(t *testing.T) {
	own := map[Kind]string{
		RSA:     "13:0804 13:0805 13:0806 12:0804 12:0805 12:0806 12:0401 12:0501 12:0601",
		P256:    "13:0403 12:0403 12:0503 12:0603",
		P384:    "13:0503 12:0403 12:0503 12:0603",
		P521:    "13:0603 12:0403 12:0503 12:0603",
		Ed25519: "13:0807 12:0807",
	}
	schemes := []Scheme{0, 0x0101, 0x0201, 0x0203, 0x0401, 0x0501, 0x0601, 0x0403, 0x0503, 0x0603,
		0x0804, 0x0805, 0x0806, 0x0807, 0x0808, 0x0809, 0x080a, 0x080b, 0xffff}
	for kind, allowed := range own {
		priv := newPrivate(t, kind)
		k := newKey(kind, nil, priv)
		for _, s := range schemes {
			for v, text := range map[string][]byte{"12": text12(t, 29), "13": text13(32)} {
				sig, err := k.Sign(s, text)
				if !strings.Contains(allowed, fmt.Sprintf("%s:%04x", v, uint16(s))) {
					if !errors.Is(err, ErrScheme) || sig != nil {
						t.Errorf("%v signed 0x%04x in TLS 1.%c: %v", kind, uint16(s), v[1], err)
					}
					continue
				}
				if err != nil {
					t.Errorf("%v, 0x%04x, TLS 1.%c: %v", kind, uint16(s), v[1], err)
				} else if err := verify(priv.Public(), s, text, sig); err != nil {
					t.Errorf("%v, 0x%04x, TLS 1.%c: %v", kind, uint16(s), v[1], err)
				}
			}
		}
	}
}

// What a client signs in TLS 1.2 begins and ends as it must, and is whole.
func TestSignAsClient(t *testing.T) {
	k := newKey(P256, nil, newPrivate(t, P256))
	message := func(typ byte, n int) []byte { return append([]byte{typ, 0, byte(n >> 8), byte(n)}, make([]byte, n)...) }
	flight := func(types ...byte) (b []byte) {
		for _, typ := range types {
			b = append(b, message(typ, 300)...)
		}
		return b
	}
	good := flight(1, 2, 11, 12, 13, 14, 11, 16)
	client13 := []byte(strings.ReplaceAll(string(text13(32)), "server", "client"))
	for name, tt := range map[string]struct {
		text []byte
		want error
	}{
		"TLS 1.3":                        {client13, nil},
		"TLS 1.3, a shorter hash":        {client13[:len(client13)-1], ErrText},
		"TLS 1.3, of a server":           {text13(32), ErrText},
		"TLS 1.2":                        {good, nil},
		"TLS 1.2, of a server":           {text12(t, 23), ErrText},
		"nothing":                        {nil, ErrText},
		"cut":                            {good[:len(good)-1], ErrText},
		"bytes behind it":                {append(bytes.Clone(good), 0), ErrText},
		"not from the beginning":         {flight(2, 11, 12, 13, 14, 11, 16), ErrText},
		"not asked for":                  {flight(1, 2, 11, 12, 14, 11, 16), ErrText},
		"with the server's answer":       {flight(1, 2, 11, 12, 13, 14, 11, 16, 20), ErrText},
		"a server's, that looks like it": {append([]byte{1, 0, 0, 60}, text12(t, 23)[4:]...), ErrText},
	} {
		if sig, err := k.SignAsClient(ecdsaSHA256, tt.text); !errors.Is(err, tt.want) || (sig == nil) != (tt.want != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := k.Sign(ecdsaSHA256, good); !errors.Is(err, ErrText) {
		t.Errorf("a client's text as a server: %v", err)
	}
	if _, err := k.SignAsClient(pkcs1SHA256, good); !errors.Is(err, ErrScheme) {
		t.Errorf("a scheme of another key: %v", err)
	}
	if sig, err := k.SignDigest(ecdsaSHA384, make([]byte, 48)); err != nil || len(sig) == 0 {
		t.Errorf("a digest: %v", err)
	}
	for s, n := range map[Scheme]int{ecdsaSHA256: 31, ecdsaSHA384: 32, pssSHA256: 32, ed25519Pure: 0, 0x0203: 20} {
		if _, err := k.SignDigest(s, make([]byte, n)); !errors.Is(err, ErrScheme) {
			t.Errorf("a digest of %d bytes with 0x%04x: %v", n, uint16(s), err)
		}
	}
}

func TestSignTexts(t *testing.T) {
	k := newKey(P256, nil, newPrivate(t, P256))
	edit := func(b []byte, f func([]byte) []byte) []byte { return f(bytes.Clone(b)) }
	good12 := text12(t, 23)
	client := []byte(strings.Repeat(" ", 64) + "TLS 1.3, client CertificateVerify\x00" + strings.Repeat("h", 32))
	for _, tt := range []struct {
		name string
		text []byte
		want error
	}{
		{"TLS 1.3, SHA-256", text13(32), nil},
		{"TLS 1.3, SHA-384", text13(48), nil},
		{"TLS 1.2, P-256", good12, nil},
		{"TLS 1.2, P-384", text12(t, 24), nil},
		{"TLS 1.2, P-521", text12(t, 25), nil},
		{"TLS 1.2, X25519", text12(t, 29), nil},
		{"nothing", nil, ErrText},
		{"a digest", make([]byte, 32), ErrText},
		{"TLS 1.3, no hash", text13(0), ErrText},
		{"TLS 1.3, a longer hash", text13(64), ErrText},
		{"TLS 1.3, a shorter hash", text13(31), ErrText},
		{"TLS 1.3, more behind the hash", text13(49), ErrText},
		{"TLS 1.3, client", client, ErrText},
		{"TLS 1.3, one space too few", text13(32)[1:], ErrText},
		{"TLS 1.3, no zero", edit(text13(32), func(b []byte) []byte { b[97] = ' '; return b }), ErrText},
		{"TLS 1.2, only randoms", good12[:64], ErrText},
		{"TLS 1.2, no point", edit(good12[:68], func(b []byte) []byte { b[67] = 0; return b }), ErrText},
		{"TLS 1.2, explicit prime", edit(good12, func(b []byte) []byte { b[64] = 1; return b }), ErrText},
		{"TLS 1.2, unknown curve", edit(good12, func(b []byte) []byte { b[66] = 22; return b }), ErrText},
		{"TLS 1.2, another curve's point", edit(good12, func(b []byte) []byte { b[66] = 24; return b }), ErrText},
		{"TLS 1.2, point off the curve", edit(good12, func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), ErrText},
		{"TLS 1.2, wrong length", edit(good12, func(b []byte) []byte { b[67]--; return b }), ErrText},
		{"TLS 1.2, more behind", append(bytes.Clone(good12), 0), ErrText},
		{"TLS 1.2, cut", good12[:len(good12)-1], ErrText},
		{"TLS 1.2, too long", append(bytes.Clone(good12), make([]byte, 200)...), ErrText},
		{"a certificate", append([]byte{0x30, 0x82, 1, 0}, make([]byte, 256)...), ErrText},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sig, err := k.Sign(ecdsaSHA256, tt.text)
			if !errors.Is(err, tt.want) || (err == nil) != (sig != nil) {
				t.Errorf("Sign: %v, want %v", err, tt.want)
			}
		})
	}
}

func FuzzVersionOf(f *testing.F) {
	f.Add(text13(32))
	f.Add(text13(48))
	for _, c := range []uint16{23, 24, 25, 29} {
		f.Add(text12(f, c))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := versionOf(text)
		if err != nil {
			return
		}
		// What is taken can be told apart, and has no room for anything else.
		switch {
		case len(text) > MaxText:
			t.Fatalf("%d bytes taken", len(text))
		case v == tls13 && (text[64] != 'T' || len(text) != 98+32 && len(text) != 98+48):
			t.Fatal("not a TLS 1.3 text")
		case v == tls12 && (text[64] != 3 || int(text[67]) != len(text)-68):
			t.Fatal("not a TLS 1.2 text")
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"ec-pkcs8.pem", "ec-sec1.pem", "ec-pbes2-sha1.pem", "ec-pbes2-scrypt.pem", "ec-pbes2-3des.der", "ec-openssl.pem", "pss-cert.pem", "pss-key.pem", "ec-cert.pem"} {
		b, _, err := readFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if chain, err := parseChain(b); err == nil && (len(chain) == 0 || len(chain) > maxChain) {
			t.Fatalf("a chain of %d", len(chain))
		}
		if len(b) > 2000 {
			return // keeps key derivation of made-up cost out
		}
		key, err := parseKey(bytes.Clone(b), pin("hunter2"))
		if (key == nil) == (err == nil) {
			t.Fatalf("parseKey = %v, %v", key, err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	for kind, s := range map[Kind]Scheme{RSA: pssSHA256, P256: ecdsaSHA256, Ed25519: ed25519Pure} {
		b.Run(kind.String(), func(b *testing.B) {
			k := newKey(kind, nil, newPrivate(b, kind))
			text := text13(32)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Sign(s, text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
