package dtls

import (
	"hash"
	"sync/atomic"

	pion "github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/ciphersuite"
	"github.com/pion/dtls/v3/pkg/crypto/clientcertificate"
	"github.com/pion/dtls/v3/pkg/crypto/prf"
	"github.com/pion/dtls/v3/pkg/protocol/recordlayer"

	"rocserv/internal/dtlsrecord"
)

// pskSuite says whether id is a suite this channel can negotiate.
func pskSuite(id uint16) bool {
	switch id {
	case dtlsrecord.PSKWithAES128GCMSHA256, dtlsrecord.PSKWithAES256GCMSHA384, dtlsrecord.PSKWithChaCha20Poly1305SHA256:
		return true
	}
	return false
}

// suiteOption makes pion offer exactly one suite.
func suiteOption(suite dtlsrecord.Suite) pion.ServerOption {
	if suite.ID() != dtlsrecord.PSKWithAES256GCMSHA384 {
		return pion.WithCipherSuites(pion.CipherSuiteID(suite.ID()))
	}
	// pion asks more than once in a handshake, and the suite holds its keys.
	s := &aes256GCM{suite: suite}
	return pion.WithCustomCipherSuites(func() []pion.CipherSuite { return []pion.CipherSuite{s} })
}

// aes256GCM is TLS_PSK_WITH_AES_256_GCM_SHA384 (RFC 5487), which pion lacks and
// which GnuTLS clients like best. It serves the handshake, whose last messages
// are encrypted. One value belongs to one handshake.
type aes256GCM struct {
	suite dtlsrecord.Suite
	gcm   atomic.Pointer[ciphersuite.GCM]
}

const (
	aes256KeyLen = 32
	gcmSaltLen   = 4
)

func (s *aes256GCM) String() string                          { return "TLS_PSK_WITH_AES_256_GCM_SHA384" }
func (s *aes256GCM) ID() pion.CipherSuiteID                  { return pion.CipherSuiteID(s.suite.ID()) }
func (s *aes256GCM) CertificateType() clientcertificate.Type { return 0 }
func (s *aes256GCM) HashFunc() func() hash.Hash              { return s.suite.Hash() }
func (s *aes256GCM) ECC() bool                               { return false }
func (s *aes256GCM) IsInitialized() bool                     { return s.gcm.Load() != nil }

func (s *aes256GCM) AuthenticationType() pion.CipherSuiteAuthenticationType {
	return pion.CipherSuiteAuthenticationTypePreSharedKey
}

func (s *aes256GCM) KeyExchangeAlgorithm() pion.CipherSuiteKeyExchangeAlgorithm {
	return pion.CipherSuiteKeyExchangeAlgorithmPsk
}

// Init implements pion.CipherSuite.
func (s *aes256GCM) Init(master, clientRandom, serverRandom []byte, isClient bool) error {
	keys, err := prf.GenerateEncryptionKeys(master, clientRandom, serverRandom, 0, aes256KeyLen, gcmSaltLen, s.suite.Hash())
	if err != nil {
		return err
	}
	var gcm *ciphersuite.GCM
	if isClient {
		gcm, err = ciphersuite.NewGCM(keys.ClientWriteKey, keys.ClientWriteIV, keys.ServerWriteKey, keys.ServerWriteIV)
	} else {
		gcm, err = ciphersuite.NewGCM(keys.ServerWriteKey, keys.ServerWriteIV, keys.ClientWriteKey, keys.ClientWriteIV)
	}
	if err == nil {
		s.gcm.Store(gcm)
	}
	return err
}

// Encrypt implements pion.CipherSuite.
func (s *aes256GCM) Encrypt(r *recordlayer.RecordLayer, raw []byte) ([]byte, error) {
	return s.gcm.Load().Encrypt(r, raw)
}

// Decrypt implements pion.CipherSuite.
func (s *aes256GCM) Decrypt(h recordlayer.Header, in []byte) ([]byte, error) {
	return s.gcm.Load().Decrypt(h, in)
}
