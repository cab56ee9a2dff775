//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"rocserv/test/e2e/lab"
)

// totpSecret is the one of the RFCs' test vectors, in hexadecimal and as
// openconnect takes it.
const (
	totpSecret = "3132333435363738393031323334353637383930"
	totpBase32 = "base32:GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
)

// A password and a code that openconnect makes by itself, by time and by
// counter. A code lets nobody in twice.
func TestOneTimePassword(t *testing.T) {
	rocservOnly(t, "1.1.6 asks for the user name alone first")
	r := newLab(t, 1)
	otp := r.state.Path("otp")
	r.must(os.WriteFile(otp, fmt.Appendf(nil, "HOTP/T30 %s - %s\nHOTP %s - %s\n", lab.User, totpSecret, lab.Other, totpSecret), 0o600))
	r.must(r.state.Configure(fmt.Sprintf("auth = plain[passwd=%s,otp=%s]", r.state.Path("users"), otp)))
	r.start()
	for _, l := range []login{
		{name: "by time", dial: as(lab.User, right, "--token-mode=totp", "--token-secret="+totpBase32),
			lines: []string{`Please enter your OTP password`, lineDTLS}, checks: []check{hello4}},
		{name: "by counter", dial: as(lab.Other, right, "--token-mode=hotp", "--token-secret="+totpBase32+",0"),
			lines: []string{`Please enter your OTP password`, lineDTLS}, checks: []check{hello4}},
		// openconnect goes on with the code after it.
		{name: "a code that was used", dial: as(lab.Other, right, "--token-mode=hotp", "--token-secret="+totpBase32+",0"),
			lines: []string{lineFailed, lineDTLS}},
		{name: "no code", dial: as(lab.User, right), status: 1, lines: []string{`OTP`}, never: []string{`CONNECT response`}},
		{name: "wrong password", dial: as(lab.User, []string{wrong}, "--token-mode=totp", "--token-secret="+totpBase32), status: 1,
			never: []string{`CONNECT response`, `OTP`}},
	} {
		t.Run(l.name, func(t *testing.T) { r.in(t).try(l) })
	}
}

// authority is a folder with a CA, made by openssl.
type authority struct{ *rig }

func (a authority) openssl(args ...string) {
	a.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = a.state.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		a.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
}

func (a authority) path(name string) string { return a.state.Path(name) }

// make makes the CA.
func (a authority) make(name string) {
	a.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN="+name, "-keyout", name+".key", "-out", name+".pem")
}

// client makes a client's key and certificate, and returns the arguments that
// make openconnect use them.
func (a authority) client(ca, file, subject string) []string {
	a.must(os.WriteFile(a.path("ext"), []byte("extendedKeyUsage=clientAuth\n"), 0o644))
	a.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject, "-keyout", file+".key", "-out", file+".csr")
	a.openssl("x509", "-req", "-in", file+".csr", "-CA", ca+".pem", "-CAkey", ca+".key", "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", file+".pem")
	return []string{"--certificate", a.path(file + ".pem"), "--sslkey", a.path(file + ".key")}
}

// Client certificates: alone, with a password, or instead of one.
func TestClientCertificate(t *testing.T) {
	r := newLab(t, 1)
	ca := authority{r}
	ca.make("ca")
	ca.make("stranger")
	alice := ca.client("ca", "alice", "/UID="+lab.User+"/OU=staff")
	bob := ca.client("ca", "bob", "/UID="+lab.Other)
	strange := ca.client("stranger", "strange", "/UID="+lab.User)
	plain := "auth = plain[passwd=" + r.state.Path("users") + "]"
	settings := []string{"ca-cert = " + ca.path("ca.pem"), "cert-user-oid = 0.9.2342.19200300.100.1.1", "cert-group-oid = 2.5.4.11"}
	none := func(args []string) lab.Dial { return lab.Dial{Input: []string{""}, Args: append(args, "--non-inter")} }
	never := []string{`CONNECT response`}
	for _, set := range []struct {
		name   string
		auth   []string
		logins []login
	}{
		{"alone", []string{"auth = certificate"}, []login{
			{name: "good", dial: none(alice), lines: []string{lineTLS13, lineDTLS}, checks: both},
			{name: "TLS 1.2", dial: none(append(alice, "--gnutls-priority", "NORMAL:-VERS-TLS1.3")), lines: []string{lineTLS12, lineDTLS}},
			{name: "without XML", dial: none(append(alice, "--no-xmlpost")), lines: []string{lineDTLS}},
			{name: "another authority's", dial: none(strange), status: 1, never: never},
			{name: "none", dial: none(nil), status: 1, never: never},
		}},
		{"with a password", []string{plain, "auth = certificate"}, []login{
			{name: "good", dial: as(lab.User, right, alice...), lines: []string{lineDTLS}, checks: both},
			{name: "another user's", dial: as(lab.User, right, bob...), status: 1, never: never},
			{name: "wrong password", dial: as(lab.User, []string{wrong}, alice...), status: 1, never: never},
			{name: "none", dial: as(lab.User, right), status: 1, never: never},
		}},
		{"instead of a password", []string{plain, "enable-auth = certificate"}, []login{
			{name: "certificate", dial: none(bob), lines: []string{lineDTLS}, checks: both},
			{name: "password", dial: as(lab.User, right), lines: []string{lineDTLS}},
			{name: "password, and another authority's", dial: as(lab.User, right, strange...), lines: []string{lineDTLS}},
			{name: "wrong password", dial: as(lab.User, []string{wrong}), status: 1, never: never},
		}},
	} {
		t.Run(set.name, func(t *testing.T) {
			r := r.in(t)
			r.must(r.state.Configure(append(set.auth, settings...)...))
			r.start()
			for _, l := range set.logins {
				t.Run(l.name, func(t *testing.T) { r.in(t).try(l) })
			}
			r.must(r.srv.Stop())
		})
	}
	r.start() // the lab's end looks for one that runs
}
