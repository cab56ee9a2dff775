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

// resumedSuite says whether id is a suite a resumed session can have.
func resumedSuite(id uint16) bool {
	switch id {
	case dtlsrecord.ECDHERSAWithAES128GCMSHA256, dtlsrecord.ECDHERSAWithAES256GCMSHA384,
		dtlsrecord.RSAWithAES128GCMSHA256, dtlsrecord.RSAWithAES256GCMSHA384:
		return true
	}
	return false
}

// suiteOption makes pion offer exactly one suite.
func suiteOption(suite dtlsrecord.Suite) pion.ServerOption {
	switch suite.ID() {
	case dtlsrecord.PSKWithAES256GCMSHA384, dtlsrecord.RSAWithAES128GCMSHA256, dtlsrecord.RSAWithAES256GCMSHA384:
	default:
		return pion.WithCipherSuites(pion.CipherSuiteID(suite.ID()))
	}
	// pion asks more than once in a handshake, and the suite holds its keys.
	s := &gcmSuite{suite: suite}
	return pion.WithCustomCipherSuites(func() []pion.CipherSuite { return []pion.CipherSuite{s} })
}

// gcmSuite is one of the suites that pion lacks: PSK with AES-256-GCM (RFC 5487),
// which GnuTLS clients like best, and RSA with AES-GCM (RFC 5288), by which older
// clients resume. It serves the handshake, whose last messages are encrypted. One
// value belongs to one handshake.
type gcmSuite struct {
	suite dtlsrecord.Suite
	gcm   atomic.Pointer[ciphersuite.GCM]
}

const gcmSaltLen = 4

func (s *gcmSuite) String() string                          { return s.suite.String() }
func (s *gcmSuite) ID() pion.CipherSuiteID                  { return pion.CipherSuiteID(s.suite.ID()) }
func (s *gcmSuite) CertificateType() clientcertificate.Type { return 0 }
func (s *gcmSuite) HashFunc() func() hash.Hash              { return s.suite.Hash() }
func (s *gcmSuite) ECC() bool                               { return false }
func (s *gcmSuite) IsInitialized() bool                     { return s.gcm.Load() != nil }

func (s *gcmSuite) AuthenticationType() pion.CipherSuiteAuthenticationType {
	if pskSuite(s.suite.ID()) {
		return pion.CipherSuiteAuthenticationTypePreSharedKey
	}
	return pion.CipherSuiteAuthenticationTypeCertificate
}

func (s *gcmSuite) KeyExchangeAlgorithm() pion.CipherSuiteKeyExchangeAlgorithm {
	if pskSuite(s.suite.ID()) {
		return pion.CipherSuiteKeyExchangeAlgorithmPsk
	}
	return pion.CipherSuiteKeyExchangeAlgorithmNone
}

// Init implements pion.CipherSuite.
func (s *gcmSuite) Init(master, clientRandom, serverRandom []byte, isClient bool) error {
	keys, err := prf.GenerateEncryptionKeys(master, clientRandom, serverRandom, 0, s.suite.KeyLen(), gcmSaltLen, s.suite.Hash())
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
func (s *gcmSuite) Encrypt(r *recordlayer.RecordLayer, raw []byte) ([]byte, error) {
	return s.gcm.Load().Encrypt(r, raw)
}

// Decrypt implements pion.CipherSuite.
func (s *gcmSuite) Decrypt(h recordlayer.Header, in []byte) ([]byte, error) {
	return s.gcm.Load().Decrypt(h, in)
}
