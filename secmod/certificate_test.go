package secmod

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"rocserv/internal/ipc"
)

// authority signs client certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t testing.TB, name string, parent *authority) *authority {
	t.Helper()
	a := &authority{t: t, key: newPrivate(t, "p256")}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	signer, by := tmpl, a.key
	if parent != nil {
		signer, by = parent.cert, parent.key
	}
	a.cert = a.sign(tmpl, signer, by, a.key)
	return a
}

func (a *authority) sign(tmpl, parent *x509.Certificate, by, key crypto.Signer) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), by)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

var (
	oidUID = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
	oidOU  = asn1.ObjectIdentifier{2, 5, 4, 11}
)

// client makes a certificate of that user with these groups.
func (a *authority) client(user string, change func(*x509.Certificate), groups ...string) *x509.Certificate {
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: oidUID, Value: user}}},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		EmailAddresses: []string{user},
	}
	for _, g := range groups {
		tmpl.Subject.ExtraNames = append(tmpl.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: oidOU, Value: g})
	}
	if change != nil {
		change(tmpl)
	}
	return a.sign(tmpl, a.cert, a.key, newPrivate(a.t, "p256"))
}

// crl makes a list of revoked certificates.
func (a *authority) crl(until time.Time, certs ...*x509.Certificate) string {
	tmpl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: until}
	for _, c := range certs {
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, tmpl, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

func ders(certs ...*x509.Certificate) (der [][]byte) {
	for _, c := range certs {
		der = append(der, c.Raw)
	}
	return der
}

// certSite is a site that takes certificates of ca, besides the auth lines given.
func certSite(t testing.TB, ca *authority, auth ...string) *site {
	st := newSite(t, hashOf(t, "anna", "staff,ops", "secret"), hashOf(t, "bert", "*", "secret"))
	plain := `"plain[passwd=` + st.path("users") + `]"`
	st.conf = st.conf[1:] // its own auth line
	for _, line := range auth {
		st.add(strings.Replace(line, "PLAIN", plain, 1))
	}
	st.add("ca-cert = "+st.write("ca.pem", ca.pem()), "cert-user-oid = 0.9.2342.19200300.100.1.1", "cert-group-oid = 2.5.4.11")
	return st
}

// TestCertificates: what makes a certificate good or not.
func TestCertificates(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	between := newAuthority(t, "between", ca)
	st := certSite(t, ca, "auth = certificate")
	gone := ca.client("gone", nil)
	st.add("crl = " + st.write("crl.pem", ca.crl(time.Now().Add(time.Hour), gone)))
	r := boot(t, st)
	with := func(change func(*x509.Certificate)) [][]byte { return ders(ca.client("anna", change)) }
	for _, tt := range []struct {
		name  string
		chain [][]byte
		why   string // in the log; empty: good
	}{
		{"good", with(nil), ""},
		{"by another authority in between", ders(between.client("anna", nil), between.cert), ""},
		{"without the one in between", ders(between.client("anna", nil)), "unknown authority"},
		{"expired", with(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "expired"},
		{"not yet good", with(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), "not yet valid"},
		{"a server's", with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "incompatible key usage"},
		{"for any use", with(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), ""},
		{"revoked", ders(gone), "revoked"},
		{"of nobody", with(func(c *x509.Certificate) { c.Subject.ExtraNames = nil }), "names no user"},
		{"of two", with(func(c *x509.Certificate) {
			c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: oidUID, Value: "bert"})
		}), "names no user"},
		{"of an impossible name", ders(ca.client("a\r\nb", nil)), "names no user"},
		{"garbage", [][]byte{{1, 2, 3}}, "malformed"},
		{"a long chain", ders(make9(ca.client("anna", nil))...), "too long"},
		{"an authority's", ders(ca.cert), "incompatible key usage,names no user"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.clock.forward(2 * time.Second) // so that its line is not left out of the log
			c, _ := r.handshaken(home)
			rep := authInit(t, c, &ipc.AuthInit{Method: ipc.AuthMethod_AUTH_CERTIFICATE, ClientChain: tt.chain})
			if (rep.Status == ipc.AuthStatus_AUTH_OK) != (tt.why == "") {
				t.Fatalf("%v\n%s", rep, r.log)
			}
			lines := strings.Split(strings.TrimSpace(r.log.String()), "\n")
			found := tt.why == ""
			for why := range strings.SplitSeq(tt.why, ",") {
				found = found || strings.Contains(lines[len(lines)-1], why)
			}
			if !found {
				t.Errorf("the log says %s", lines[len(lines)-1])
			}
		})
	}
}

func make9(c *x509.Certificate) []*x509.Certificate {
	return []*x509.Certificate{c, c, c, c, c, c, c, c, c}
}

// TestRevocationListChanges: it is read when it changes, and counts as long as
// it says.
func TestRevocationListChanges(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	st := certSite(t, ca, "auth = certificate")
	anna := ca.client("anna", nil)
	st.add("crl = " + st.write("crl.pem", ca.crl(time.Now().Add(time.Hour))))
	r := boot(t, st)
	login := func() string {
		c, _ := r.handshaken(home)
		return status(authInit(t, c, &ipc.AuthInit{Method: ipc.AuthMethod_AUTH_CERTIFICATE, ClientChain: ders(anna)}))
	}
	for _, step := range []struct{ name, content, want string }{
		{"at first", "", "OK"},
		{"revoked", ca.crl(time.Now().Add(time.Hour), anna), "FAILED"},
		{"another authority's of the same name", newAuthority(t, "CA", nil).crl(time.Now().Add(time.Hour), anna), "OK"},
		{"out of date", ca.crl(time.Now().Add(-time.Second)), "FAILED"},
		{"garbage", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "FAILED"},
		{"good again", ca.crl(time.Now().Add(time.Hour)), "OK"},
	} {
		if step.content != "" {
			st.write("crl.new", step.content)
			if err := os.Rename(st.path("crl.new"), st.path("crl.pem")); err != nil {
				t.Fatal(err)
			}
		}
		if got := login(); got != step.want {
			t.Errorf("%s: %s, want %s\n%s", step.name, got, step.want, r.log)
		}
	}
}

// TestCertificateNames: where user and group are, and which group it is.
func TestCertificateNames(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	for _, tt := range []struct {
		name, oid string
		cert      *x509.Certificate
		group     string
		want      string
	}{
		{"one group", "", ca.client("anna", nil, "staff"), "", "OK anna staff"},
		{"none", "", ca.client("anna", nil), "", "OK anna"},
		{"one of two", "", ca.client("anna", nil, "staff", "ops"), "ops", "OK anna ops"},
		{"two, none asked for", "", ca.client("anna", nil, "staff", "ops"), "", "MSG [staff ops]"},
		{"a third", "", ca.client("anna", nil, "staff", "ops"), "board", "FAILED"},
		{"e-mail", "SAN(rfc822name)", ca.client("anna@example.org", nil), "", "OK anna@example.org"},
		{"no e-mail", "SAN(rfc822name)", ca.client("anna", func(c *x509.Certificate) { c.EmailAddresses = nil }), "", "FAILED"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := certSite(t, ca, "auth = certificate")
			if tt.oid != "" {
				st.add("cert-user-oid = " + tt.oid)
			}
			r := boot(t, st)
			c, _ := r.handshaken(home)
			rep := authInit(t, c, &ipc.AuthInit{Method: ipc.AuthMethod_AUTH_CERTIFICATE, ClientChain: ders(tt.cert), Group: tt.group})
			got := strings.TrimSpace(strings.Join([]string{status(rep), rep.User, rep.Group}, " "))
			if len(rep.Groups) > 0 {
				var names []string
				for _, g := range rep.Groups {
					names = append(names, g.Name)
				}
				got += " [" + strings.Join(names, " ") + "]"
			}
			if got != tt.want {
				t.Errorf("%s, want %s\n%s", got, tt.want, r.log)
			}
		})
	}
}

// TestCertificateBindsTheSession: the cookie of a login that took a certificate
// is good with it only; where the password was enough it does not matter.
func TestCertificateBindsTheSession(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	anna, other := ca.client("anna", nil), ca.client("anna", nil)
	r := boot(t, certSite(t, ca, "auth = PLAIN", "enable-auth = certificate"))
	open := func(cookie, hash []byte) bool {
		_, id := r.handshaken(home)
		rep := new(ipc.SecmSessionReply)
		rec, err := r.ask(ipc.SecmSessionOpenT, &ipc.SecmSessionOpen{Sid: bytes.Clone(cookie), ConnId: id, CertificateSha256: hash}, rep)
		if err != nil {
			t.Fatal(err)
		}
		rec.Close()
		return rep.Ok
	}
	hash := func(c *x509.Certificate) []byte { f := fingerprintOf(c); return f[:] }

	c, _ := r.handshaken(home)
	cookie := authInit(t, c, &ipc.AuthInit{Method: ipc.AuthMethod_AUTH_CERTIFICATE, ClientChain: ders(anna)}).Sid
	for _, tt := range []struct {
		name string
		hash []byte
		want bool
	}{{"none", nil, false}, {"another", hash(other), false}, {"a prefix", hash(anna)[:8], false}, {"the same", hash(anna), true}} {
		if got := open(cookie, tt.hash); got != tt.want {
			t.Errorf("with %s certificate: %t", tt.name, got)
		}
	}
	c2, _ := r.handshaken(home)
	rep := authInit(t, c2, &ipc.AuthInit{User: "bert", ClientChain: ders(anna)})
	if cookie := authCont(t, c2, rep.Sid, "secret").Sid; !open(cookie, nil) {
		t.Error("a login by password is bound to a certificate that was not needed")
	}
}
