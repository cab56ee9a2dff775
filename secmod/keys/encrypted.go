package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"hash"

	"golang.org/x/crypto/scrypt"
)

// The work that a key file may ask for; the usual tools write a hundredth of it.
const (
	maxIterations = 10_000_000
	maxScrypt     = 256 << 20 // bytes of memory
)

type algorithm struct {
	OID    asn1.ObjectIdentifier
	Params asn1.RawValue `asn1:"optional"`
}

// encryptedKey is EncryptedPrivateKeyInfo (RFC 5958, section 3).
type encryptedKey struct {
	Algorithm algorithm
	Data      []byte
}

// pbes2Params, pbkdf2Params and scryptParams are those of RFC 8018, appendix
// A.4 and A.2, and RFC 7914, section 7.
type pbes2Params struct {
	KDF    algorithm
	Cipher algorithm
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int       `asn1:"optional"`
	PRF        algorithm `asn1:"optional"`
}

type scryptParams struct {
	Salt      []byte
	N, R, P   int
	KeyLength int `asn1:"optional"`
}

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
)

// prfs are the pseudo-random functions of PBKDF2 (RFC 8018, appendix B.1);
// none named is HMAC with SHA-1.
var prfs = []struct {
	oid asn1.ObjectIdentifier
	new func() hash.Hash
}{
	{nil, sha1.New},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}, sha1.New},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}, sha256.New},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 10}, sha512.New384},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}, sha512.New},
}

// ciphers are the encryption schemes of PBES2, all in CBC mode (RFC 8018, appendix B.2).
var ciphers = []struct {
	oid       asn1.ObjectIdentifier
	keyLength int
	new       func(key []byte) (cipher.Block, error)
}{
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, 16, aes.NewCipher},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24, aes.NewCipher},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, 32, aes.NewCipher},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}, 24, des.NewTripleDESCipher},
}

func isEncrypted(der []byte) bool {
	var k encryptedKey
	_, err := asn1.Unmarshal(der, &k)
	return err == nil
}

// openPBES2 decrypts a PKCS#8 key. ErrPin says that the pin is not the one.
func openPBES2(der, pin []byte) ([]byte, error) {
	var k encryptedKey
	if err := unmarshal(der, &k); err != nil {
		return nil, fmt.Errorf("encrypted key: %w", err)
	}
	if !k.Algorithm.OID.Equal(oidPBES2) {
		return nil, fmt.Errorf("encryption %v: %w; write the key anew with openssl pkcs8 -topk8 -v2 aes256", k.Algorithm.OID, ErrUnsupported)
	}
	var p pbes2Params
	if err := unmarshal(k.Algorithm.Params.FullBytes, &p); err != nil {
		return nil, fmt.Errorf("PBES2: %w", err)
	}
	for _, c := range ciphers {
		if !c.oid.Equal(p.Cipher.OID) {
			continue
		}
		key, err := derive(p.KDF, pin, c.keyLength)
		if err != nil {
			return nil, err
		}
		defer clear(key)
		block, err := c.new(key)
		if err != nil {
			return nil, err
		}
		return openCBC(block, p.Cipher.Params.FullBytes, k.Data)
	}
	return nil, fmt.Errorf("PBES2 with cipher %v: %w", p.Cipher.OID, ErrUnsupported)
}

// derive makes the key of n bytes out of the pin.
func derive(kdf algorithm, pin []byte, n int) ([]byte, error) {
	switch {
	case kdf.OID.Equal(oidPBKDF2):
		return derivePBKDF2(kdf.Params.FullBytes, pin, n)
	case kdf.OID.Equal(oidScrypt):
		return deriveScrypt(kdf.Params.FullBytes, pin, n)
	}
	return nil, fmt.Errorf("PBES2 with key derivation %v: %w", kdf.OID, ErrUnsupported)
}

func derivePBKDF2(params, pin []byte, n int) ([]byte, error) {
	var p pbkdf2Params
	if err := unmarshal(params, &p); err != nil {
		return nil, fmt.Errorf("PBKDF2: %w", err)
	}
	if p.Iterations < 1 || p.Iterations > maxIterations || p.KeyLength != 0 && p.KeyLength != n {
		return nil, fmt.Errorf("PBKDF2 with %d iterations for %d bytes: %w", p.Iterations, p.KeyLength, ErrUnsupported)
	}
	for _, f := range prfs {
		if f.oid.Equal(p.PRF.OID) {
			return pbkdf2.Key(f.new, string(pin), p.Salt, p.Iterations, n)
		}
	}
	return nil, fmt.Errorf("PBKDF2 with %v: %w", p.PRF.OID, ErrUnsupported)
}

func deriveScrypt(params, pin []byte, n int) ([]byte, error) {
	var p scryptParams
	if err := unmarshal(params, &p); err != nil {
		return nil, fmt.Errorf("scrypt: %w", err)
	}
	tooMuch := p.N < 2 || p.R < 1 || p.P < 1 || p.R > 1<<10 || p.P > 16 || p.N > maxScrypt/(128*p.R)
	if tooMuch || p.KeyLength != 0 && p.KeyLength != n {
		return nil, fmt.Errorf("scrypt with N=%d r=%d p=%d: %w", p.N, p.R, p.P, ErrUnsupported)
	}
	return scrypt.Key(pin, p.Salt, p.N, p.R, p.P, n)
}

// openCBC decrypts and removes the padding of RFC 8018, section 6.1.1. There
// is nobody to whom the padding could be an oracle: the file is the operator's.
func openCBC(block cipher.Block, params, data []byte) ([]byte, error) {
	var iv []byte
	if err := unmarshal(params, &iv); err != nil {
		return nil, fmt.Errorf("PBES2: %w", err)
	}
	size := block.BlockSize()
	if len(iv) != size || len(data) == 0 || len(data)%size != 0 {
		return nil, fmt.Errorf("PBES2: %d bytes are no whole blocks", len(data))
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > size || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		clear(plain)
		return nil, ErrPin
	}
	return plain[:len(plain)-pad], nil
}

// unmarshal is asn1.Unmarshal without anything left over.
func unmarshal(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	return err
}

// encryptedPEM and openPEM are OpenSSL's own encryption of PEM. It is weak,
// and x509 calls it deprecated for that; but the files exist, ocserv opens
// them, and whoever could tamper with them could replace the key as well.
func encryptedPEM(p *pem.Block) bool {
	//lint:ignore SA1019 see above
	return x509.IsEncryptedPEMBlock(p)
}

func openPEM(p *pem.Block, pin []byte) ([]byte, error) {
	//lint:ignore SA1019 see above
	der, err := x509.DecryptPEMBlock(p, pin)
	if err != nil {
		return nil, ErrPin
	}
	return der, nil
}
