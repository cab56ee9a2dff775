package tlsclient

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"

	utls "github.com/refraction-networking/utls"
)

// Pin is the SHA-256 of a certificate's SubjectPublicKeyInfo.
type Pin [sha256.Size]byte

// Config says whom to expect and what to look like.
type Config struct {
	ServerName  string // what the certificate must be for; also sent, unless it is an address
	Roots       *x509.CertPool
	Pins        []Pin // none: every certificate of a good chain will do
	Fingerprint string
	Protocols   []string     // offered by ALPN; a browser's hello has its own
	Certificate *Certificate // shown if the server asks; nil: none is
}

// Certificate is a chain in DER, its own first, and its key, which signs texts
// (crypto.MessageSigner) and, with a browser's fingerprint, digests.
type Certificate struct {
	Chain [][]byte
	Key   crypto.Signer
}

// Conn is a TLS connection after its handshake.
type Conn interface {
	net.Conn
	CloseWrite() error           // close_notify: the other direction goes on
	SetLinger(seconds int) error // 0: Close says no goodbye, and resets what is below
	Protocol() string            // agreed by ALPN; empty: none
}

// ErrPin is a certificate that is good but is not the one pinned.
var ErrPin = errors.New("no certificate of the chain has a pinned key")

// hellos are utls' imitations.
var hellos = map[string]*utls.ClientHelloID{
	"chrome":     &utls.HelloChrome_Auto,
	"firefox":    &utls.HelloFirefox_Auto,
	"safari":     &utls.HelloSafari_Auto,
	"ios":        &utls.HelloIOS_Auto,
	"randomized": &randomized,
}

// randomized is utls.HelloRandomizedALPN without what does not work in 1.8.2:
// it offers X25519MLKEM768 and its key share by coins of their own, and cannot
// go on when a server asks for a group that has no share. And with TLS 1.3
// always, which some servers want.
var randomized = utls.ClientHelloID{
	Client: utls.HelloRandomizedALPN.Client, Version: utls.HelloRandomizedALPN.Version, Weights: &weights,
}

var weights = func() utls.Weights {
	w := utls.DefaultWeights
	w.CurveIDs_Append_X25519, w.KeyShare_Append_RandomGroups = 0, 0
	w.TLSVersMax_Set_VersionTLS13 = 1
	return w
}()

// Known says whether there is such a fingerprint.
func Known(fingerprint string) bool { return fingerprint == "go" || hellos[fingerprint] != nil }

// Client does the handshake. On an error conn is closed.
func Client(ctx context.Context, conn net.Conn, cfg *Config) (Conn, error) {
	c, err := cfg.client(conn)
	if err == nil {
		err = c.HandshakeContext(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return c, nil
}

type handshaker interface {
	Conn
	HandshakeContext(context.Context) error
}

func (cfg *Config) client(conn net.Conn) (handshaker, error) {
	if cfg.Fingerprint == "go" || cfg.Fingerprint == "" {
		t := &tls.Config{
			ServerName: cfg.ServerName, RootCAs: cfg.Roots, NextProtos: cfg.Protocols,
			MinVersion: tls.VersionTLS12, VerifyPeerCertificate: cfg.verify,
		}
		if c := cfg.Certificate; c != nil { // whoever the server says may vouch for it
			t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: c.Chain, PrivateKey: c.Key}, nil
			}
		}
		return &plain{raw: conn, Conn: tls.Client(conn, t)}, nil
	}
	hello := hellos[cfg.Fingerprint]
	if hello == nil {
		return nil, fmt.Errorf("no fingerprint '%s'", cfg.Fingerprint)
	}
	u := &utls.Config{
		ServerName: cfg.ServerName, RootCAs: cfg.Roots, NextProtos: cfg.Protocols,
		VerifyPeerCertificate: cfg.verify,
	}
	if c := cfg.Certificate; c != nil {
		u.GetClientCertificate = func(*utls.CertificateRequestInfo) (*utls.Certificate, error) {
			return &utls.Certificate{Certificate: c.Chain, PrivateKey: c.Key}, nil
		}
	}
	return &imitation{raw: conn, UConn: utls.UClient(conn, u, *hello)}, nil
}

// verify runs after the chain was found good.
func (cfg *Config) verify(_ [][]byte, chains [][]*x509.Certificate) error {
	if len(cfg.Pins) == 0 {
		return nil
	}
	for _, chain := range chains {
		for _, c := range chain {
			if slices.Contains(cfg.Pins, sha256.Sum256(c.RawSubjectPublicKeyInfo)) {
				return nil
			}
		}
	}
	return ErrPin
}

type plain struct {
	*tls.Conn
	raw   net.Conn
	reset atomic.Bool
}

func (c *plain) Protocol() string { return c.ConnectionState().NegotiatedProtocol }

func (c *plain) SetLinger(seconds int) error {
	c.reset.Store(seconds == 0)
	return setLinger(c.raw, seconds)
}

func (c *plain) Close() error {
	if c.reset.Load() {
		return c.raw.Close()
	}
	return c.Conn.Close()
}

type imitation struct {
	*utls.UConn
	raw   net.Conn
	reset atomic.Bool
}

func (c *imitation) Protocol() string { return c.ConnectionState().NegotiatedProtocol }

func (c *imitation) SetLinger(seconds int) error {
	c.reset.Store(seconds == 0)
	return setLinger(c.raw, seconds)
}

func (c *imitation) Close() error {
	if c.reset.Load() {
		return c.raw.Close()
	}
	return c.UConn.Close()
}

func setLinger(c net.Conn, seconds int) error {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		return l.SetLinger(seconds)
	}
	return nil
}
