//go:build e2e

package e2e

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"rocserv/test/e2e/lab"
)

// ocspResponse makes one about the server's certificate, which has signed itself.
func (r *rig) ocspResponse(status int) []byte {
	r.Helper()
	der := func(name string) []byte {
		b, err := os.ReadFile(r.state.Path(name))
		r.must(err)
		block, _ := pem.Decode(b)
		return block.Bytes
	}
	cert, err := x509.ParseCertificate(der("cert.pem"))
	r.must(err)
	key, err := x509.ParsePKCS8PrivateKey(der("key.pem"))
	r.must(err)
	now := time.Now()
	b, err := ocsp.CreateResponse(cert, cert, ocsp.Response{
		Status: status, SerialNumber: cert.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour), RevokedAt: now.Add(-time.Minute),
	}, key.(crypto.Signer))
	r.must(err)
	return b
}

// OpenSSL and GnuTLS get the response of ocsp-response with the handshake, the
// newest one without a reload by hand.
func TestOCSPStaple(t *testing.T) {
	rocservOnly(t, "it watches no files")
	r := newLab(t, 1)
	file := r.state.Path("tls", "ocsp.der")
	good := r.ocspResponse(ocsp.Good)
	r.mount(1, map[string][]byte{"ocsp.der": good})
	r.must(r.state.Configure("ocsp-response = " + file))
	r.start()
	host, port, _ := strings.Cut(lab.ServerAt(lab.Srv4), ":")
	status := func(version string) string {
		out, err := r.Cli[0].RunFor(answerLimit, "", "sh", "-c", `openssl s_client -connect "$1" -status "$2" </dev/null`, "sh", host+":"+port, version)
		if err != nil {
			t.Errorf("openssl: %v", err)
		}
		return out
	}
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		if out := status(version); !strings.Contains(out, "OCSP Response Status: successful") || !strings.Contains(out, "Cert Status: good") {
			t.Errorf("%s: %s", version, out)
		}
	}
	saved := r.state.Path("saved")
	out, err := r.Cli[0].RunFor(answerLimit, "", "sh", "-c", `gnutls-cli --no-ca-verification --save-ocsp="$1" -p "$2" "$3" </dev/null`, "sh", saved, port, host)
	if err != nil {
		t.Errorf("gnutls-cli: %v\n%s", err, out)
	}
	got, err := os.ReadFile(saved)
	if err != nil || !bytes.Equal(got, good) {
		t.Errorf("GnuTLS got %d bytes of %d, %v\n%s", len(got), len(good), err, out)
	}
	mark := r.srv.Mark()
	r.mount(2, map[string][]byte{"ocsp.der": r.ocspResponse(ocsp.Revoked)})
	for _, line := range []string{"tells clients that the certificate is not good", "configuration reloaded"} {
		if _, err := r.srv.ExpectAfter(mark, line, 30*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if out := status("-tls1_3"); !strings.Contains(out, "Cert Status: revoked") {
		t.Errorf("after the swap: %s", out)
	}
	mark = r.srv.Mark()
	r.mount(3, map[string][]byte{"ocsp.der": []byte("none")})
	if _, err := r.srv.ExpectAfter(mark, "configuration not reloaded", 30*time.Second); err != nil {
		t.Fatal(err)
	}
	c := r.connect(lab.Dial{})
	r.must(hello4.run(r, c))
}
