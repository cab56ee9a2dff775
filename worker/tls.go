package worker

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"rocserv/internal/ipc"
)

const handshakeTimeout = 30 * time.Second

// exporterLabel is that of the DTLS channel's key (openconnect gnutls-dtls.c,
// ocserv common.h); there is no context, and the key has 32 bytes.
const exporterLabel = "EXPORTER-openconnect-psk"

// alpn is answered to who offers it. Who offers only others is not refused (RFC
// 7301 section 3.2 would have it): no VPN client sends the extension, and curl
// for HTTP/1.0 sends another.
const alpn = "http/1.1"

// secured is a connection after its TLS handshake.
type secured struct {
	conn     *tls.Conn
	vhost    *ipc.Vhost
	certSHA1 [sha1.Size]byte // of the certificate presented

	certificate certificate // the client's; nil: it has shown none
	hiding      hiding
}

// certificate is a client's, in DER, with the ones it brought along, its own
// first. The handshake has proved that the client has the key; whether it is a
// good one only sec-mod knows.
type certificate [][]byte

// maxCertificate bounds what is passed on to sec-mod, in bytes.
const maxCertificate = 32 << 10

// hash names the certificate in AUTH_COOKIE_REQ; nil: there is none.
func (c certificate) hash() []byte {
	if len(c) == 0 {
		return nil
	}
	sum := sha256.Sum256(c[0])
	return sum[:]
}

// errProbe is the end of a connection whose client said nothing: a health probe.
var errProbe = errors.New("connection closed without a byte")

// handshake does the TLS handshake. The key stays in sec-mod, which is asked
// for the one signature it takes.
func (c *client) handshake() error {
	base := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c.secure.vhost = c.vhostFor(hello.ServerName)
		cfg, err := c.tlsConfig(c.secure.vhost)
		if err == nil && slices.Contains(hello.SupportedProtos, alpn) {
			cfg.NextProtos = []string{alpn}
		}
		return cfg, err
	}}
	c.secure.conn = tls.Server(c.raw, base)
	c.raw.SetDeadline(time.Now().Add(handshakeTimeout))
	err := c.secure.conn.Handshake()
	c.raw.SetDeadline(time.Time{})
	if errors.Is(err, io.EOF) {
		return errProbe
	}
	if err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.secure.certificate = clientCertificate(c.secure.conn)
	return nil
}

// clientCertificate returns what the client has shown. A chain that is too long
// for a message is none.
func clientCertificate(conn *tls.Conn) (list certificate) {
	size := 0
	for _, cert := range conn.ConnectionState().PeerCertificates {
		if size += len(cert.Raw); size > maxCertificate {
			return nil
		}
		list = append(list, cert.Raw)
	}
	return list
}

// vhostFor selects by server name as ocserv does: the whole name in any case,
// and the default vhost for everything else.
func (c *client) vhostFor(name string) *ipc.Vhost {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	for _, v := range c.cfg.Vhosts[1:] {
		if v.Name == name {
			return v
		}
	}
	return c.cfg.Vhosts[0]
}

// tlsConfig is that of one vhost.
func (c *client) tlsConfig(v *ipc.Vhost) (*tls.Config, error) {
	certs := make([]*tls.Certificate, 0, len(v.Chains))
	for _, chain := range v.Chains {
		cert, err := c.chain(v.Name, chain)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate")
	}
	cfg := &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert := certs[0]
			for _, other := range certs {
				if hello.SupportsCertificate(other) == nil {
					cert = other
					break
				}
			}
			c.secure.certSHA1 = sha1.Sum(cert.Certificate[0])
			return cert, nil
		},
		MinVersion: tls.VersionTLS12,
		MaxVersion: tls.VersionTLS13,
		// One packet is one record: crypto/tls would cut the first ones to
		// the size of a TCP segment.
		DynamicRecordSizingDisabled: true,
	}
	c.resumption(cfg, v)
	c.askCertificate(cfg, v)
	if t := v.Tls; t != nil {
		cfg.MinVersion = max(uint16(t.MinVersion), tls.VersionTLS12)
		if t.MaxVersion != 0 {
			cfg.MaxVersion = uint16(t.MaxVersion)
		}
		for _, s := range t.Suites {
			cfg.CipherSuites = append(cfg.CipherSuites, uint16(s))
		}
		for _, g := range t.Curves {
			cfg.CurvePreferences = append(cfg.CurvePreferences, tls.CurveID(g))
		}
	}
	return cfg, nil
}

// askCertificate asks for a client certificate where one is of use. It is
// demanded in the handshake only if no login is possible without it; AnyConnect
// of some versions shows one only when asked a second time, in XML (ocserv,
// cisco-client-compat).
func (c *client) askCertificate(cfg *tls.Config, v *ipc.Vhost) {
	if !v.Auth.GetCertificate() {
		return
	}
	cfg.ClientAuth = tls.RequestClientCert
	if v.Auth.CertificateRequired && !v.CiscoClientCompat {
		cfg.ClientAuth = tls.RequireAnyClientCert
	}
	if len(v.ClientCas) > 0 {
		cfg.ClientCAs = x509.NewCertPool()
		for _, der := range v.ClientCas {
			if ca, err := x509.ParseCertificate(der); err == nil {
				cfg.ClientCAs.AddCert(ca)
			}
		}
	}
}

// chain is a certificate chain whose key sec-mod holds.
func (c *client) chain(vhost string, chain *ipc.Chain) (*tls.Certificate, error) {
	if len(chain.Der) == 0 {
		return nil, errors.New("empty certificate chain")
	}
	leaf, err := x509.ParseCertificate(chain.Der[0])
	if err != nil {
		return nil, err
	}
	staple := chain.OcspResponse
	if until := chain.OcspUntilUnixS; until != 0 && time.Now().Unix() >= until {
		staple = nil // clients refuse one that is too old, and do without one
	}
	return &tls.Certificate{
		Certificate: chain.Der,
		OCSPStaple:  staple,
		Leaf:        leaf,
		PrivateKey:  c.sec.Signer(vhost, chain.KeyIndex, leaf.PublicKey),
	}, nil
}

// exportPSK is the key of the DTLS channel that goes with this connection. For
// TLS 1.2 without extended master secret, which is what openconnect built on
// GnuTLS speaks, it needs the setting tlsunsafeekm (go.mod; doc/protocol.md
// says why that is safe here).
func (s *secured) exportPSK() ([]byte, error) {
	cs := s.conn.ConnectionState()
	return cs.ExportKeyingMaterial(exporterLabel, nil, 32)
}
