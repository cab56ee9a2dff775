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

// kerberos is a realm with MIT's KDC.
type kerberos struct {
	*rig
	from lab.Netns // where its clients are
	dir  string
}

const (
	kerberosRealm = "EXAMPLE.TEST"
	kerberosHost  = "vpn.test" // of the server, as tickets name it
)

// startKerberos makes the realm with alice, bob and the server's service, and
// starts its KDC where the clients are: the server has a keytab and asks nobody. Then
// alice has a ticket.
func (r *rig) startKerberos(from lab.Netns) *kerberos {
	r.Helper()
	k := r.startKDC(from, from, "127.0.0.1:88")
	k.reach("", "127.0.0.1:88")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := k.kinit("", lab.User, lab.Password); err == nil {
			return k
		} else if time.Now().After(deadline) {
			r.Fatalf("no ticket: %v", err)
		}
	}
}

// startKDC makes the realm with alice, bob and the server's service, and starts its
// KDC in at, where it listens on those addresses.
func (r *rig) startKDC(from, at lab.Netns, listen ...string) *kerberos {
	r.Helper()
	if _, err := exec.LookPath("krb5kdc"); errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
		r.Skip(err)
	}
	k := &kerberos{r, from, r.Path("kerberos")}
	r.must(os.Mkdir(k.dir, 0o755))
	k.reach("", listen[0])
	k.write("kdc.conf", `[kdcdefaults]
kdc_listen = `+strings.Join(listen, " ")+`
kdc_tcp_listen = `+strings.Join(listen, " ")+`
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
	kdc, err := at.Start("krb5kdc", nil, k.env(""), "krb5kdc", "-n", "-r", kerberosRealm)
	r.must(err)
	r.Cleanup(func() {
		kdc.End(syscall.SIGKILL, 5*time.Second)
		if r.Failed() {
			r.Log(tail(kdc.Story()))
		}
	})
	return k
}

func (k *kerberos) write(name, text string) {
	k.must(os.WriteFile(k.dir+"/"+name, []byte(text), 0o644))
}

// reach makes the configuration of clients that find the KDC there; several are told
// apart by a name.
func (k *kerberos) reach(name, kdc string) {
	k.write("krb5.conf"+name, `[libdefaults]
default_realm = `+kerberosRealm+`
dns_lookup_kdc = false
dns_canonicalize_hostname = false
rdns = false
[realms]
`+kerberosRealm+` = {
 kdc = `+kdc+`
 http_anchors = FILE:`+k.state.Path("cert.pem")+`
}
[domain_realm]
.test = `+kerberosRealm+`
`)
}

// kinit gets a ticket for user as a client of that configuration, into the cache of
// that user.
func (k *kerberos) kinit(name, user, password string) (out string, err error) {
	env := append([]string{"env"}, k.env(user)...)
	env = append(env, "KRB5_CONFIG="+k.dir+"/krb5.conf"+name)
	return k.from.RunFor(60*time.Second, password+"\n", append(env, "kinit", user)...)
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

// legs logs in with a client that has the server prove itself: in one request, and,
// where it likes another mechanism better than Kerberos, in three.
func (k *kerberos) legs(t *testing.T) {
	t.Helper()
	for _, name := range []string{"/usr/lib/python3/dist-packages/gssapi", "/usr/lib/x86_64-linux-gnu/gssntlmssp/gssntlmssp.so"} {
		if _, err := os.Stat(name); err != nil && os.Getenv("CI") != "true" {
			t.Log("not tried: ", err)
			return
		}
	}
	k.write("ntlm", "DOMAIN:"+lab.User+":"+wrong+"\n") // what a client with that mechanism has, and the server does not
	for _, c := range []struct {
		mechs []string
		want  string
	}{
		{[]string{"krb5"}, "200 1 complete mutual\n"},
		{[]string{"ntlm", "krb5"}, "200 3 complete mutual\n"},
	} {
		argv := append([]string{"env", "NTLM_USER_FILE=" + k.dir + "/ntlm"}, k.env(lab.User)...)
		argv = append(argv, "/usr/bin/python3", "testdata/negotiate.py", kerberosHost, lab.Srv4, strconv.Itoa(lab.Port))
		if out, err := k.from.RunFor(60*time.Second, "", append(argv, c.mechs...)...); out != c.want {
			t.Errorf("%v: %q, %v, want %q", c.mechs, out, err, c.want)
		}
	}
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
			if set.ticket == "200 in" {
				k.legs(t)
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

// Clients that reach nobody but the server get their tickets from a real KDC by
// kkdcp, of every kind, and log in with them; with what is no KDC behind it they do
// not.
func TestKDCProxy(t *testing.T) {
	rocservOnly(t, "Debian's is built without")
	r := newLab(t, 1)
	if _, err := os.Stat("/usr/lib/x86_64-linux-gnu/krb5/plugins/tls/k5tls.so"); err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	at4, at6 := lab.Tgt4+":88", "["+lab.Tgt6+"]:88"
	k := r.startKDC(r.Cli[0], r.Tgt, at4, at6)
	for port, argv := range map[string][]string{
		"7001": {"socat", "-u", "OPEN:/dev/urandom", "TCP-LISTEN:7001,fork,reuseaddr"},
		"7002": {"socat", "TCP-LISTEN:7002,fork,reuseaddr", "EXEC:true"},
	} {
		p, err := r.Tgt.Start("kdc"+port, nil, nil, argv...)
		r.must(err)
		r.Cleanup(func() { p.End(syscall.SIGKILL, 5*time.Second) })
	}
	settings := []string{"auth = gssapi[keytab=" + r.state.Path("keytab") + "]", "use-occtl = true", "occtl-socket-file = " + r.socket()}
	ways := []struct{ path, realm, kdcs, want string }{ // want: of kinit's words; empty: a ticket
		{"/tcp4", kerberosRealm, "tcp@" + at4, ""},
		{"/udp4", kerberosRealm, "udp@" + at4, ""},
		{"/tcp6", kerberosRealm, "tcp@" + at6, ""},
		{"/udp6", kerberosRealm, "udp@" + at6, ""},
		{"/second", kerberosRealm, "tcp@" + lab.Tgt4 + ":7003 tcp@" + lab.Tgt4 + ":7001 tcp@" + lab.Tgt4 + ":7002 udp@" + at4, ""},
		{"/dead", kerberosRealm, "tcp@" + lab.Tgt4 + ":7003", "Cannot contact any KDC"},
		{"/garbage", kerberosRealm, "tcp@" + lab.Tgt4 + ":7001", "Cannot contact any KDC"},
		{"/cut", kerberosRealm, "tcp@" + lab.Tgt4 + ":7002", "Cannot contact any KDC"},
		{"/realm", "OTHER.TEST", "tcp@" + at4, "Cannot contact any KDC"},
	}
	for _, w := range ways {
		for kdc := range strings.FieldsSeq(w.kdcs) {
			settings = append(settings, fmt.Sprintf("kkdcp = %s %s %s", w.path, w.realm, kdc))
		}
		k.reach(w.path[1:], fmt.Sprintf("https://%s%s", net.JoinHostPort(lab.Srv4, strconv.Itoa(lab.Port)), w.path))
	}
	k.reach("none", fmt.Sprintf("https://%s/none", net.JoinHostPort(lab.Srv4, strconv.Itoa(lab.Port))))
	r.must(r.state.Configure(settings...))
	r.start()
	if out, err := k.kinit("", lab.User, lab.Password); err == nil {
		t.Fatalf("the client reaches the KDC itself: %s", out)
	}
	for _, w := range append(ways, ways[0]) { // with a ticket in the cache
		out, err := k.kinit(w.path[1:], lab.User, lab.Password)
		if (err == nil) != (w.want == "") || !strings.Contains(out, w.want) {
			t.Errorf("%s: %v: %s", w.path, err, out)
		}
	}
	if out, err := k.kinit("tcp4", lab.Other, wrong); err == nil || !strings.Contains(out, "Password incorrect") {
		t.Errorf("a wrong password: %v: %s", err, out)
	}
	if out, err := k.kinit("none", lab.Other, lab.Password); err == nil {
		t.Errorf("a path that nobody has: %s", out)
	}
	k.reach("", fmt.Sprintf("https://%s/udp4", net.JoinHostPort(lab.Srv4, strconv.Itoa(lab.Port)))) // the ticket for the server too
	if got := k.curl(lab.User); got != "200 in" {
		t.Errorf("curl: %s", got)
	}
	c := r.connect(k.openconnect(lab.User, lab.Dial{}))
	r.wants("show user "+lab.User, "Username: "+lab.User)
	if _, err := c.Quit(); err != nil {
		t.Error(err)
	}
}
