//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// kerberos is a realm with MIT's KDC, which runs where the clients are: the
// server has a keytab and asks nobody.
type kerberos struct {
	*rig
	from lab.Netns
	dir  string
}

const (
	kerberosRealm = "EXAMPLE.TEST"
	kerberosHost  = "vpn.test" // of the server, as tickets name it
)

// startKerberos makes the realm with alice, bob and the server's service, and
// starts its KDC.
func (r *rig) startKerberos(from lab.Netns) *kerberos {
	r.Helper()
	if _, err := exec.LookPath("krb5kdc"); errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
		r.Skip(err)
	}
	k := &kerberos{r, from, r.Path("kerberos")}
	r.must(os.Mkdir(k.dir, 0o755))
	write := func(name, text string) { r.must(os.WriteFile(k.dir+"/"+name, []byte(text), 0o644)) }
	write("krb5.conf", `[libdefaults]
default_realm = `+kerberosRealm+`
dns_lookup_kdc = false
dns_canonicalize_hostname = false
rdns = false
[realms]
`+kerberosRealm+` = {
 kdc = 127.0.0.1:88
}
[domain_realm]
.test = `+kerberosRealm+`
`)
	write("kdc.conf", `[kdcdefaults]
kdc_listen = 127.0.0.1:88
kdc_tcp_listen = 127.0.0.1:88
[realms]
`+kerberosRealm+` = {
 database_name = `+k.dir+`/principal
 key_stash_file = `+k.dir+`/stash
 acl_file = `+k.dir+`/acl
}
`)
	k.run("", "kdb5_util", "create", "-s", "-P", "master", "-r", kerberosRealm)
	for _, line := range []string{
		"addprinc -pw " + quoted(lab.Password) + " " + lab.User, "addprinc -pw " + quoted(lab.Password) + " " + lab.Other,
		"addprinc -randkey HTTP/" + kerberosHost, "ktadd -k " + r.state.Path("keytab") + " HTTP/" + kerberosHost,
		"addprinc -randkey HTTP/other.test", "ktadd -k " + r.state.Path("other") + " HTTP/other.test",
	} {
		k.run("", "kadmin.local", "-q", line)
	}
	kdc, err := from.Start("krb5kdc", nil, k.env(""), "krb5kdc", "-n", "-r", kerberosRealm)
	r.must(err)
	r.Cleanup(func() {
		kdc.End(syscall.SIGKILL, 5*time.Second)
		if r.Failed() {
			r.Log(tail(kdc.Story()))
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := from.RunFor(10*time.Second, lab.Password+"\n", append([]string{"env"}, append(k.env(lab.User), "kinit", lab.User)...)...); err == nil {
			break
		} else if time.Now().After(deadline) {
			r.Fatalf("no ticket: %v", err)
		}
	}
	return k
}

func quoted(s string) string { return `"` + s + `"` }

// env is the environment of somebody with a cache of tickets.
func (k *kerberos) env(user string) []string {
	return []string{"KRB5_CONFIG=" + k.dir + "/krb5.conf", "KRB5_KDC_PROFILE=" + k.dir + "/kdc.conf", "KRB5CCNAME=FILE:" + k.dir + "/cache-" + user}
}

func (k *kerberos) run(input string, argv ...string) {
	k.Helper()
	if out, err := k.from.RunFor(20*time.Second, input, append(append([]string{"env"}, k.env("")...), argv...)...); err != nil {
		k.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

// curl shows a ticket of user's, or none, and returns the status and whether it
// is logged in.
func (k *kerberos) curl(user string, args ...string) string {
	k.Helper()
	at := net.JoinHostPort(kerberosHost, strconv.Itoa(lab.Port))
	argv := append([]string{"env"}, k.env(user)...)
	argv = append(argv, "curl", "-s", "-k", "-m", "15", "-w", "\n%{http_code}", "--resolve", at+":"+lab.Srv4, "--negotiate", "-u", ":")
	out, err := k.from.RunFor(20*time.Second, "", append(append(argv, args...), "https://"+at+"/")...)
	if err != nil {
		k.Fatalf("curl: %v\n%s", err, out)
	}
	body, status := out[:strings.LastIndexByte(out, '\n')], out[strings.LastIndexByte(out, '\n')+1:]
	switch {
	case strings.Contains(body, `id="success"`):
		return status + " in"
	case strings.Contains(body, "<form"):
		return status + " form"
	}
	return status
}

// openconnect is a client with the tickets of user.
func (k *kerberos) openconnect(user string, d lab.Dial) lab.Dial {
	d.From, d.To, d.Env = k.from, net.JoinHostPort(kerberosHost, strconv.Itoa(lab.Port)), k.env(user)
	d.Args = append(d.Args, "--resolve", kerberosHost+":"+lab.Srv4)
	if d.User == "" {
		d.Input, d.Args = []string{""}, append(d.Args, "--non-inter")
	}
	return d
}

// Tickets of a real KDC, by curl and openconnect: alone, or with a password for
// those who have none.
func TestKerberos(t *testing.T) {
	rocservOnly(t, "Debian's needs a KDC of the host's")
	r := newLab(t, 1)
	k := r.startKerberos(r.Cli[0])
	control := []string{"use-occtl = true", "occtl-socket-file = " + r.socket()}
	plain := fmt.Sprintf("plain[passwd=%s]", r.state.Path("users"))
	keytab := func(name, more string) string {
		return fmt.Sprintf("auth = gssapi[keytab=%s%s]", r.state.Path(name), more)
	}
	never := []string{`CONNECT response`}
	form := as(lab.User, right)
	for _, set := range []struct {
		name          string
		auth          []string
		ticket, none  string // what curl sees
		with, without login
		user          string // what the session's user is called
	}{
		{name: "alone", auth: []string{keytab("keytab", "")}, ticket: "200 in", none: "401",
			with:    login{dial: k.openconnect(lab.User, lab.Dial{}), lines: []string{lineDTLS}, checks: both},
			without: login{dial: k.openconnect("nobody", lab.Dial{}), status: 1, never: never}, user: lab.User},
		{name: "or a password", auth: []string{keytab("keytab", ",require-local-user-map=false"), "enable-auth = " + plain}, ticket: "200 in", none: "401",
			with:    login{dial: k.openconnect(lab.User, lab.Dial{}), lines: []string{lineDTLS}, never: []string{`Please enter your`}},
			without: login{dial: k.openconnect("nobody", form), lines: []string{`Please enter your username and password`, lineDTLS}}, user: lab.User + "@" + kerberosRealm},
		{name: "of another service", auth: []string{keytab("other", "")}, ticket: "401", none: "401",
			with:    login{dial: k.openconnect(lab.User, lab.Dial{}), status: 1, never: never},
			without: login{dial: k.openconnect("nobody", lab.Dial{}), status: 1, never: never}},
		{name: "too old", auth: []string{keytab("keytab", ",tgt-freshness-time=1")}, ticket: "401", none: "401",
			with:    login{dial: k.openconnect(lab.User, lab.Dial{}), status: 1, never: never},
			without: login{dial: k.openconnect("nobody", lab.Dial{}), status: 1, never: never}},
	} {
		t.Run(set.name, func(t *testing.T) {
			r := r.in(t)
			k := &kerberos{r, k.from, k.dir}
			r.must(r.state.Configure(append(set.auth, control...)...))
			r.start()
			if got := k.curl(lab.User); got != set.ticket {
				t.Errorf("curl with a ticket: %s, want %s", got, set.ticket)
			}
			if got := k.curl("nobody"); got != set.none {
				t.Errorf("curl without one: %s, want %s", got, set.none)
			}
			for _, garbage := range []string{"", "YIIg", "TlRMTVNTUAABAAAA", strings.Repeat("A", 8000)} {
				if got := k.curl("nobody", "--no-negotiate", "-H", "Authorization: Negotiate "+garbage); strings.HasSuffix(got, " in") {
					t.Errorf("curl with garbage %.10q: %s", garbage, got)
				}
			}
			t.Run("with a ticket", func(t *testing.T) { r.in(t).try(set.with) })
			t.Run("without a ticket", func(t *testing.T) { r.in(t).try(set.without) })
			if set.user != "" {
				c := r.connect(k.openconnect(lab.User, lab.Dial{}))
				r.wants("show user "+set.user, "Username: "+set.user)
				if _, err := c.Quit(); err != nil {
					t.Error(err)
				}
			}
			r.must(r.srv.Stop())
		})
	}
	r.start() // the lab's end looks for one that runs
}
