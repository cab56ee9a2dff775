package secclient

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/time/rate"

	"rocserv/internal/ipc"
)

var (
	// ErrDigest is the answer to a caller that has only a digest to sign.
	ErrDigest = errors.New("secclient: sec-mod signs texts, not digests")
	// ErrScheme is the answer to options for which TLS has no signature scheme.
	ErrScheme = errors.New("secclient: no signature scheme for these options")
)

// waySigner is the private key of the certificate that a way's proxy is shown.
type waySigner struct {
	client *Client
	pace   *rate.Limiter // of all ways
	way    string
	leaf   [sha256.Size]byte
	pub    crypto.PublicKey
}

// mostSignWait is how long a signature for a way waits for its turn.
const mostSignWait = 2 * time.Second

// maxWayText is the longest text that a record takes, whatever a proxy has sent: in
// TLS 1.2 the text has the proxy's certificates and whoever may vouch for ours. A
// request that cannot be sent would cost the channel.
const maxWayText = ipc.MaxRecord - 1024

var errTooOften = errors.New("secclient: too many signatures for ways")

// WaySigner returns the private key of a way's certificate, for
// tls.Certificate.PrivateKey.
func (c *Client) WaySigner(way string, leaf *x509.Certificate) crypto.MessageSigner {
	const fewer = ipc.WaySignsPerMinute * 9 / 10 // to ask too often would be a violation
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.signs == nil {
		c.signs = rate.NewLimiter(fewer/60, fewer)
	}
	return &waySigner{client: c, pace: c.signs, way: way, leaf: sha256.Sum256(leaf.Raw), pub: leaf.PublicKey}
}

// Public implements crypto.Signer.
func (s *waySigner) Public() crypto.PublicKey { return s.pub }

// SignMessage implements crypto.MessageSigner.
func (s *waySigner) SignMessage(_ io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(msg, opts, false)
}

// Sign implements crypto.Signer, for utls. Of Ed25519 it gives the text.
func (s *waySigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(digest, opts, opts.HashFunc() != 0)
}

func (s *waySigner) sign(msg []byte, opts crypto.SignerOpts, digest bool) ([]byte, error) {
	scheme, err := schemeOf(s.pub, opts)
	switch {
	case err != nil:
		return nil, err
	case len(msg) > maxWayText:
		return nil, fmt.Errorf("secclient: a handshake of %d bytes is too long to be signed", len(msg))
	}
	turn := s.pace.Reserve()
	if turn.Delay() > mostSignWait {
		turn.Cancel()
		return nil, errTooOften
	}
	time.Sleep(turn.Delay())
	req := &ipc.WaySignReq{Way: s.way, LeafSha256: s.leaf[:], Scheme: scheme, Message: msg, Digest: digest}
	rep := new(ipc.SignRep)
	if err := s.client.call(ipc.WaySignT, req, ipc.WaySignRepT, rep); err != nil {
		return nil, err
	}
	return signature(rep)
}

func signature(rep *ipc.SignRep) ([]byte, error) {
	if rep.Error != "" || len(rep.Signature) == 0 {
		return nil, fmt.Errorf("secclient: sec-mod did not sign: %s", rep.Error)
	}
	return rep.Signature, nil
}

// signer is a private key that is in sec-mod.
type signer struct {
	client *Client
	vhost  string
	index  uint32
	pub    crypto.PublicKey
}

// Signer returns the private key of a chain in the worker's configuration,
// for tls.Certificate.PrivateKey. pub is the public key of the chain's leaf.
func (c *Client) Signer(vhost string, keyIndex uint32, pub crypto.PublicKey) crypto.MessageSigner {
	return &signer{client: c, vhost: vhost, index: keyIndex, pub: pub}
}

// Public implements crypto.Signer.
func (s *signer) Public() crypto.PublicKey { return s.pub }

// Sign implements crypto.Signer; it always fails, as crypto.MessageSigner asks
// of signers that want the message.
func (s *signer) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, ErrDigest }

// SignMessage implements crypto.MessageSigner.
func (s *signer) SignMessage(_ io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	scheme, err := schemeOf(s.pub, opts)
	if err != nil {
		return nil, err
	}
	req := &ipc.SignReq{Vhost: s.vhost, KeyIndex: s.index, Scheme: scheme, Message: msg}
	rep := new(ipc.SignRep)
	if err := s.client.call(ipc.SignT, req, ipc.SignRepT, rep); err != nil {
		return nil, err
	}
	return signature(rep)
}

// schemeOf finds the TLS SignatureScheme (RFC 8446, section 4.2.3) of which
// crypto/tls made the options.
func schemeOf(pub crypto.PublicKey, opts crypto.SignerOpts) (uint32, error) {
	var family uint32
	switch pub.(type) {
	case ed25519.PublicKey:
		if opts.HashFunc() != 0 {
			return 0, fmt.Errorf("%w: Ed25519 with %v", ErrScheme, opts.HashFunc())
		}
		return 0x0807, nil
	case *ecdsa.PublicKey:
		family = 3
	case *rsa.PublicKey:
		family = 1
	default:
		return 0, fmt.Errorf("%w: key of type %T", ErrScheme, pub)
	}
	pss, isPSS := opts.(*rsa.PSSOptions)
	if isPSS && (family != 1 || pss.SaltLength != rsa.PSSSaltLengthEqualsHash && pss.SaltLength != pss.Hash.Size()) {
		return 0, fmt.Errorf("%w: salt of %d bytes", ErrScheme, pss.SaltLength)
	}
	for i, h := range [...]crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		switch {
		case h != opts.HashFunc():
		case isPSS:
			return 0x0804 + uint32(i), nil
		default:
			return uint32(4+i)<<8 | family, nil
		}
	}
	return 0, fmt.Errorf("%w: hash %v", ErrScheme, opts.HashFunc())
}
