//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
	"rocserv/test/slapd"
)

// server makes a server's key and certificate for an address.
func (a authority) server(ca, file, address string) {
	a.must(os.WriteFile(a.path("ext"), []byte("subjectAltName=IP:"+address+"\nextendedKeyUsage=serverAuth\n"), 0o644))
	a.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN="+file, "-keyout", file+".key", "-out", file+".csr")
	a.openssl("x509", "-req", "-in", file+".csr", "-CA", ca+".pem", "-CAkey", ca+".key", "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", file+".pem")
}

// startDirectory starts Debian's slapd in tgt.
func (r *rig) startDirectory(ca authority) *lab.Process {
	r.Helper()
	if _, err := os.Stat(slapd.Program); errors.Is(err, os.ErrNotExist) && os.Getenv("CI") != "true" {
		r.Skip(err)
	}
	ca.make("ca")
	ca.server("ca", "directory", lab.Tgt4)
	dir := r.Path("directory")
	r.must(os.Mkdir(dir, 0o700))
	argv, err := slapd.Make(dir, slapd.TLS{Cert: ca.path("directory.pem"), Key: ca.path("directory.key"), CA: ca.path("ca.pem")},
		"ldap://"+lab.Tgt4, "ldaps://"+lab.Tgt4)
	r.must(err)
	p, err := r.Tgt.Start("slapd", nil, nil, argv...)
	r.must(err)
	r.Cleanup(func() {
		p.End(syscall.SIGKILL, 5*time.Second)
		if r.Failed() {
			r.Log(tail(p.Story()))
		}
	})
	r.expect(p, `slapd starting`, 20*time.Second)
	return p
}

// ldapBy writes the file of ldap[config=FILE] and returns the line that names it.
func (r *rig) ldapBy(lines ...string) string {
	r.Helper()
	file := r.state.Path("ldap.conf")
	lines = append(lines, "ca-file = "+r.state.Path("ca.pem"), "timeout = 3")
	r.must(os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return "auth = ldap[config=" + file + "]"
}

const (
	ldapSearch = "filter = (&(objectClass=inetOrgPerson)(uid=%u))\nbase = " + slapd.People +
		"\nbind-dn = " + slapd.Service + "\nbind-password = " + slapd.ServicePassword
	ldapTemplate = "bind-template = uid=%u," + slapd.People + "\ngroup-attribute =\ngroup-base = " + slapd.Groups + "\ngroup-filter = (member=%d)"
)

// A real directory and real clients: who gets in and who does not, by both ways
// to find a user; then a directory that is slow, dead, or something else.
func TestLDAP(t *testing.T) {
	rocservOnly(t, "it has no LDAP of its own")
	r := newLab(t, 1)
	r.secrets[slapd.Password], r.secrets[slapd.ServicePassword] = true, true
	directory := r.startDirectory(authority{r})
	correct := []string{slapd.Password}
	never := []string{`CONNECT response`}
	people := []login{
		{name: "right", dial: as("alice", correct), lines: []string{lineDTLS}, checks: both},
		{name: "another spelling", dial: as("Alice", correct), lines: []string{lineDTLS}},
		{name: "wrong, then right", dial: as("bob", []string{wrong, slapd.Password}), lines: []string{lineFailed, lineDTLS}},
		{name: "three times wrong", dial: as("alice", []string{wrong, wrong, wrong, wrong}), status: 1, lines: []string{lineFailed, `HTTP/1.1 401`}, never: never},
		{name: "empty", dial: as("alice", []string{""}), status: 1, never: never},
		{name: "unknown", dial: as("mallory", correct), status: 1, lines: []string{lineFailed}, never: never},
		{name: "locked", dial: as("locked", correct), status: 1, lines: []string{lineFailed}, never: never},
		{name: "expired", dial: as("expired", correct), status: 1, lines: []string{lineFailed}, never: never},
		{name: "a filter for a name", dial: as("a*", correct), status: 1, lines: []string{lineFailed}, never: never},
	}
	control := []string{"use-occtl = true", "occtl-socket-file = " + r.socket(), "attempts-source = 0"}
	for _, way := range []struct{ name, uri, lines string }{
		{"search, ldaps", "ldaps://" + lab.Tgt4, ldapSearch},
		{"template, StartTLS", "ldap://" + lab.Tgt4, ldapTemplate},
	} {
		t.Run(way.name, func(t *testing.T) {
			r := r.in(t)
			r.must(r.state.Configure(append(control, r.ldapBy("uri = "+way.uri, way.lines))...))
			r.start()
			for _, l := range people {
				t.Run(l.name, func(t *testing.T) { r.in(t).try(l) })
			}
			c := r.connect(lab.Dial{User: "alice", Input: correct})
			r.wants("show user alice", "Username: alice", "Groupname: ops")
			if _, err := c.Quit(); err != nil {
				t.Error(err)
			}
			r.must(r.srv.Stop())
		})
	}
	unreachable := login{dial: as("alice", correct), status: 1, lines: []string{`HTTP/1.1 503`}, never: append(never, lineFailed)}
	for i, other := range []struct {
		name string
		argv []string // what listens in the directory's place
	}{
		{"nobody", nil},
		{"silent", []string{"socat", "TCP-LISTEN:PORT,fork,reuseaddr", "EXEC:sleep 60"}},
		{"cut off", []string{"socat", "TCP-LISTEN:PORT,fork,reuseaddr", "EXEC:true"}},
		{"garbage", []string{"socat", "-u", "OPEN:/dev/urandom", "TCP-LISTEN:PORT,fork,reuseaddr"}},
	} {
		t.Run(other.name, func(t *testing.T) {
			r := r.in(t)
			port := fmt.Sprint(7001 + i)
			if len(other.argv) > 0 {
				argv := strings.Split(strings.ReplaceAll(strings.Join(other.argv, "\n"), "PORT", port), "\n")
				p, err := r.Tgt.Start("other", nil, nil, argv...)
				r.must(err)
				t.Cleanup(func() { p.End(syscall.SIGKILL, 5*time.Second) })
			}
			bad := "ldap://" + lab.Tgt4 + ":" + port
			r.must(r.state.Configure(append(control, r.ldapBy("uri = "+bad, ldapSearch))...))
			r.start()
			t.Run("alone", func(t *testing.T) { r.in(t).try(unreachable) })
			r.must(r.srv.Stop())
			r.must(r.state.Configure(append(control, r.ldapBy("uri = "+bad+" ldaps://"+lab.Tgt4, ldapSearch))...))
			r.start()
			t.Run("with another behind it", func(t *testing.T) {
				r.in(t).try(login{dial: as("alice", correct), lines: []string{lineDTLS}, checks: []check{hello4}})
			})
			r.must(r.srv.Stop())
		})
	}
	t.Run("stopped in the middle", func(t *testing.T) {
		r := r.in(t)
		r.must(r.state.Configure(append(control, r.ldapBy("uri = ldaps://"+lab.Tgt4, ldapSearch))...))
		r.start()
		in := login{dial: as("alice", correct), lines: []string{lineDTLS}}
		r.try(in)
		r.must(directory.Signal(syscall.SIGSTOP))
		r.try(unreachable)
		r.must(directory.Signal(syscall.SIGCONT))
		r.try(in)
	})
}
