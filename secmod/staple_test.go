package secmod

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// certificate reads one that the site has.
func (st *site) certificate(name string) *x509.Certificate {
	st.t.Helper()
	b, err := os.ReadFile(st.path(name + ".crt"))
	if err != nil {
		st.t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		st.t.Fatal(err)
	}
	return cert
}

// An OCSP response goes with the certificate that it is about, as long as it is
// good; one that helps nobody is left out, and it is said why.
func TestOCSPResponse(t *testing.T) {
	st, ca := newSite(t), newAuthority(t, "OCSP", nil)
	st.key("", "p384", newPrivate(t, "p384"))
	st.add("ocsp-response = " + st.path("ocsp"))
	second := st.certificate("p384")
	response := func(r ocsp.Response) string {
		r.ThisUpdate = time.Now().Add(-2 * time.Hour)
		b, err := ocsp.CreateResponse(ca.cert, ca.cert, r, ca.key)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	day := time.Now().Add(24 * time.Hour)
	good := response(ocsp.Response{SerialNumber: second.SerialNumber, NextUpdate: day})
	for _, tt := range []struct {
		name, file  string
		until       int64 // -1: not stapled
		warns, errs string
	}{
		{"good", good, day.Unix(), "", ""},
		{"good without an end", response(ocsp.Response{SerialNumber: second.SerialNumber}), 0, "", ""},
		{"revoked", response(ocsp.Response{SerialNumber: second.SerialNumber, Status: ocsp.Revoked, RevokedAt: time.Now(), NextUpdate: day}), day.Unix(), "is not good", ""},
		{"too old", response(ocsp.Response{SerialNumber: second.SerialNumber, NextUpdate: time.Now().Add(-time.Hour)}), -1, "it was good until", ""},
		{"of another", response(ocsp.Response{SerialNumber: ca.cert.SerialNumber, NextUpdate: day}), -1, "is not sent to clients: ", ""},
		{"try later", "\x30\x03\x0a\x01\x03", -1, "try later", ""},
		{"a sequence", "\x30\x03abc", -1, "is not sent to clients: ", ""},
		{"PEM", "-----BEGIN OCSP RESPONSE-----\n", 0, "", "no OCSP response in DER"},
		{"empty", "", 0, "", "no OCSP response in DER"},
		{"cut", good[:len(good)-1], 0, "", "no OCSP response in DER"},
		{"long", good + strings.Repeat("x", maxStaple), 0, "", "ocsp-response: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st.write("ocsp", tt.file)
			rep := newRig(t).configure(1, st.text())
			if tt.errs != "" {
				if !strings.Contains(rep.Error, tt.errs) || !strings.Contains(rep.Error, "ocserv.conf:11: ") {
					t.Errorf("error %q", rep.Error)
				}
				return
			}
			if rep.Error != "" {
				t.Fatal(rep.Error)
			}
			if w := strings.Join(rep.Warnings, "\n"); (w != "") != (tt.warns != "") || !strings.Contains(w, tt.warns) {
				t.Errorf("warnings %q", w)
			}
			chains := rep.Vhosts[0].Chains
			if len(chains[0].OcspResponse) > 0 {
				t.Error("stapled to another certificate")
			}
			if tt.until < 0 {
				if len(chains[1].OcspResponse) > 0 {
					t.Error("stapled")
				}
			} else if !bytes.Equal(chains[1].OcspResponse, []byte(tt.file)) || chains[1].OcspUntilUnixS != tt.until {
				t.Errorf("%d bytes stapled, until %d", len(chains[1].OcspResponse), chains[1].OcspUntilUnixS)
			}
		})
	}
}

// Where the issuer's certificate is in the chain, it has to be the issuer's word.
func TestOCSPSignature(t *testing.T) {
	ca, other := newAuthority(t, "real", nil), newAuthority(t, "other", nil)
	leaf := newAuthority(t, "leaf", ca)
	chain := [][]byte{leaf.cert.Raw, ca.cert.Raw}
	for who, good := range map[*authority]bool{ca: true, other: false} {
		b, err := ocsp.CreateResponse(who.cert, who.cert, ocsp.Response{SerialNumber: leaf.cert.SerialNumber, ThisUpdate: time.Now()}, who.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := responseAbout(b, chain); (err == nil) != good {
			t.Errorf("signed by %s: %v", who.cert.Subject.CommonName, err)
		}
	}
}
