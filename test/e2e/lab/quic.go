package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// PortQUIC is where tgt speaks HTTP/3, with a certificate that nobody knows.
const PortQUIC = 443

// startQUIC serves what HTTP serves, by QUIC.
func startQUIC(serve func(func() error), handler http.Handler) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), DNSNames: []string{NameTgt}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return err
	}
	pc, err := net.ListenPacket("udp", addrOf(PortQUIC))
	if err != nil {
		return err
	}
	s := &http3.Server{Handler: handler, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	})}
	serve(func() error { return s.Serve(pc) })
	return nil
}

// quicClient is a client of startQUIC.
func quicClient() *http.Client {
	return &http.Client{Transport: &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: true}}
}
