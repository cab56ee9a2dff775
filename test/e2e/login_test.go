//go:build e2e

package e2e

import (
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// login is a client that wants in, and what comes of it.
type login struct {
	name   string
	dial   lab.Dial
	status int      // of a client that ends by itself; 0: it gets in
	lines  []string // of the client's log
	never  []string // nor these
	checks []check  // with the tunnel
	only   string   // why not for ocserv
}

// as is a login of a user with passwords, in the order they are asked for.
func as(user string, passwords []string, args ...string) lab.Dial {
	return lab.Dial{User: user, Input: passwords, Args: args}
}

var (
	right = []string{lab.Password}
	both  = []check{hello4, hello6}
	wrong = "not the password"
)

const (
	lineDTLS   = `^Established DTLS connection .*-\(PSK\)-`
	lineTLS12  = `^Connected to HTTPS .*\(TLS1\.2\)`
	lineTLS13  = `^Connected to HTTPS .*\(TLS1\.3\)`
	lineFailed = `Login failed`
)

var logins = []login{
	{name: "right", dial: as(lab.User, right),
		lines: []string{lineTLS13, lineDTLS, `XML POST enabled`, `No change in MTU after detection`}, checks: both},
	{name: "over IPv6", dial: lab.Dial{User: lab.User, Input: right, To: lab.ServerAt(lab.Srv6)},
		lines: []string{lineTLS13, lineDTLS}, checks: both},
	{name: "wrong, then right", dial: as(lab.User, []string{wrong, lab.Password}),
		lines: []string{lineFailed, lineDTLS}, checks: both, only: "1.1.6 refuses a right password after a wrong one"},
	{name: "three times wrong", dial: as(lab.User, []string{wrong, wrong, wrong, wrong}), status: 1,
		lines: []string{lineFailed, `HTTP/1.1 401`}, never: []string{`CONNECT response`}},
	{name: "unknown user", dial: as("mallory", right), status: 1,
		lines: []string{lineFailed}, never: []string{`CONNECT response`, `(?i)unknown|no such user`}},
	{name: "empty password", dial: as(lab.User, []string{""}), status: 1, never: []string{`CONNECT response`}},
	{name: "without XML", dial: as(lab.User, right, "--no-xmlpost"),
		lines: []string{`^GET https`, lineDTLS}, never: []string{`XML POST enabled`}, checks: both},
	{name: "a connection for each request", dial: as(lab.User, right, "--no-http-keepalive"),
		lines: []string{lineDTLS}, checks: both},
	{name: "TLS 1.2", dial: as(lab.User, right, "--gnutls-priority", "NORMAL:-VERS-TLS1.3"),
		lines: []string{lineTLS12, lineDTLS}, checks: both},
	{name: "AnyConnect's DTLS", dial: as(lab.User, right, "--dtls12-ciphers=ECDHE-RSA-AES256-GCM-SHA384", "--dtls-ciphers=AES128-SHA"),
		lines: []string{`^Established DTLS connection .*-\(ECDHE-RSA\)-\(AES-256-GCM\)`, `No change in MTU after detection`}, checks: both},
	{name: "without DTLS", dial: as(lab.User, right, "--no-dtls"),
		never: []string{`Established DTLS`}, checks: both},
	{name: "a smaller path", dial: as(lab.User, right, "--base-mtu", "1400"),
		lines: []string{lineDTLS, `X-CSTP-Base-MTU: 1400`}, checks: both},
	{name: "IPv4 only", dial: as(lab.User, right, "--disable-ipv6"),
		lines: []string{lineDTLS}, never: []string{`X-CSTP-Address-IP6`}, checks: []check{hello4}},
	{name: "as a phone", dial: as(lab.User, right, "--os", "android"), lines: []string{lineDTLS}, checks: both},
	{name: "bogus cookie", dial: lab.Dial{Input: []string{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}, Args: []string{"--cookie-on-stdin"}},
		status: 2, lines: []string{`HTTP/1.1 401`}, only: "1.1.6 answers 503"},
}

func TestLogin(t *testing.T) {
	r := newRig(t, 1)
	for _, l := range logins {
		t.Run(l.name, func(t *testing.T) {
			if l.only != "" {
				rocservOnly(t, l.only)
			}
			r.in(t).try(l)
		})
	}
}

func (r *rig) try(l login) {
	c := r.dial(l.dial)
	if l.status != 0 {
		status, err := c.Wait(30 * time.Second)
		r.must(err)
		if status != l.status {
			r.Errorf("openconnect ended with status %d, not %d", status, l.status)
		}
	} else {
		r.must(c.WaitUp())
	}
	for _, line := range l.lines {
		if _, err := c.Expect(line, 10*time.Second); err != nil {
			r.Error(err)
		}
	}
	for _, k := range l.checks {
		if err := k.run(r, c); err != nil {
			r.Errorf("%s: %v", k.name, err)
		}
	}
	for _, line := range l.never {
		if c.Has(line) {
			r.Errorf("openconnect says %q", line)
		}
	}
	if l.status == 0 {
		status, err := c.Quit()
		r.must(err)
		if status != 0 {
			r.Errorf("openconnect ended with status %d", status)
		}
	}
}
