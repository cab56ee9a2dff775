package secmod

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ocsp"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
)

// maxStaple bounds a file with an OCSP response, in bytes.
const maxStaple = 16 << 10

// staple gives the OCSP response of a virtual host to the certificate that it is
// about. One that helps no client is left out with a warning: that is how it is
// for a while after a certificate was replaced.
func (l *loader) staple(c *config.Vhost, chains []*ipc.Chain) {
	if c.OCSPResponse == "" {
		return
	}
	b, err := readStaple(c.OCSPResponse)
	if err != nil {
		l.fail(c, "ocsp-response", 0, fmt.Errorf("ocsp-response: %w", err))
		return
	}
	for _, chain := range chains {
		var r *ocsp.Response
		if r, err = responseAbout(b, chain.Der); err != nil {
			continue
		}
		if !r.NextUpdate.IsZero() {
			if !r.NextUpdate.After(l.server.Now()) {
				err = errors.New("it was good until " + r.NextUpdate.UTC().Format(time.RFC3339))
				break
			}
			chain.OcspUntilUnixS = r.NextUpdate.Unix()
		}
		chain.OcspResponse = b
		if r.Status != ocsp.Good {
			l.warn(c, "ocsp-response", 0, fmt.Sprintf("ocsp-response: %s tells clients that the certificate is not good", c.OCSPResponse))
		}
		return
	}
	if err != nil {
		l.warn(c, "ocsp-response", 0, fmt.Sprintf("ocsp-response: %s is not sent to clients: %v", c.OCSPResponse, err))
	}
}

func readStaple(name string) ([]byte, error) {
	b, err := readBounded(name, maxStaple)
	if err != nil {
		return nil, err
	}
	var outer asn1.RawValue // OCSPResponse is a SEQUENCE (RFC 6960, section 4.2.1)
	if rest, err := asn1.Unmarshal(b, &outer); err != nil || len(rest) > 0 || outer.Tag != asn1.TagSequence {
		return nil, fmt.Errorf("%s: no OCSP response in DER", name)
	}
	return b, nil
}

// responseAbout returns what a response says of the first certificate of a chain;
// an error: nothing that counts.
func responseAbout(b []byte, chain [][]byte) (*ocsp.Response, error) {
	var certs []*x509.Certificate
	for _, der := range chain[:min(2, len(chain))] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		certs = append(certs, cert)
	}
	if len(certs) == 1 { // without the issuer's certificate the signature is the client's affair
		certs = append(certs, nil)
	}
	return ocsp.ParseResponseForCert(b, certs[0], certs[1])
}
