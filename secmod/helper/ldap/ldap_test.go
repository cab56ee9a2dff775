package ldap

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"rocserv/secmod/helper"
	"rocserv/test/slapd"
)

// directory is a slapd on loopback.
type directory struct {
	dir        string
	clear, tls string // ports
	ca         string // file
	cmd        *exec.Cmd
	log        *bytes.Buffer
}

// newDirectory starts a slapd; the test is skipped where there is none.
func newDirectory(t *testing.T) *directory {
	t.Helper()
	if _, err := os.Stat(slapd.Program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	d := &directory{dir: t.TempDir(), clear: freePort(t), tls: freePort(t), log: new(bytes.Buffer)}
	d.ca = d.certificate(t)
	argv, err := slapd.Make(d.dir, slapd.TLS{Cert: d.ca, Key: filepath.Join(d.dir, "key.pem"), CA: d.ca},
		"ldap://127.0.0.1:"+d.clear, "ldaps://127.0.0.1:"+d.tls)
	if err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.Command(argv[0], argv[1:]...)
	d.cmd.Stderr = d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.cmd.Process.Kill()
		d.cmd.Wait()
		if t.Failed() {
			t.Logf("%s", d.log)
		}
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+d.tls)
		if err == nil {
			c.Close()
			return d
		}
		if time.Now().After(end) {
			t.Fatalf("slapd: %v", err)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// certificate makes one for 127.0.0.1 that is its own authority.
func (d *directory) certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "directory"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	p8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(d.dir, "cert.pem")
	for file, b := range map[string]*pem.Block{name: {Type: "CERTIFICATE", Bytes: der}, filepath.Join(d.dir, "key.pem"): {Type: "PRIVATE KEY", Bytes: p8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// The ways to find a user.
const (
	bySearch   = "filter = (&(objectClass=inetOrgPerson)(uid=%u))\nbase = " + slapd.People + "\nbind-dn = " + slapd.Service + "\nbind-password = " + slapd.ServicePassword
	byTemplate = "bind-template = uid=%u," + slapd.People
	groups     = "group-attribute =\ngroup-base = " + slapd.Groups + "\ngroup-filter = (member=%d)"
)

// make makes the method of a file with these lines.
func (d *directory) make(t *testing.T, lines ...string) *method {
	t.Helper()
	lines = append(lines, "ca-file = "+d.ca)
	name := filepath.Join(t.TempDir(), "ldap.conf")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := Make(map[string]string{"config": name}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return made.Method.(*method)
}

// answer logs in with one answer.
func answer(m *method, user, password string) helper.Verdict {
	d, v := m.Begin(context.Background(), helper.Applicant{User: user})
	if v.Outcome != helper.Ask {
		return v
	}
	defer d.End()
	return d.Answer(context.Background(), []byte(password))
}

// TestUsers: what each kind of user meets, by each way to find him and over each
// kind of encryption.
func TestUsers(t *testing.T) {
	d := newDirectory(t)
	for _, way := range []struct {
		name  string
		lines []string
	}{
		{"search, StartTLS", []string{"uri = ldap://127.0.0.1:" + d.clear, bySearch}},
		{"search, ldaps, groups by search", []string{"uri = ldaps://127.0.0.1:" + d.tls, bySearch, groups}},
		{"template, ldaps", []string{"uri = ldaps://127.0.0.1:" + d.tls, byTemplate}},
		{"template, StartTLS, groups by search", []string{"uri = ldap://127.0.0.1:" + d.clear, byTemplate, groups}},
		{"search, in the clear", []string{"uri = ldap://127.0.0.1:" + d.clear, "start-tls = false", bySearch}},
	} {
		m := d.make(t, way.lines...)
		for _, tt := range []struct{ name, user, password, want string }{
			{"right", "alice", slapd.Password, "alice [ops staff]"},
			{"one group", "bob", slapd.Password, "bob [staff]"},
			{"another spelling", "ALICE", slapd.Password, "alice [ops staff]"},
			{"a name of signs", slapd.Odd, slapd.Password, slapd.Odd + " []"},
			{"wrong", "alice", "guess", "wrong user name or password"},
			{"unknown", "nobody", slapd.Password, "wrong user name or password"},
			{"empty", "alice", "", "empty password, or one with a NUL"},
			{"NUL", "alice", "\x00", "empty password, or one with a NUL"},
			{"locked", "locked", slapd.Password, "account locked,wrong user name or password"},
			{"expired", "expired", slapd.Password, "password expired"},
			{"to be changed", "reset", slapd.Password, "password must be changed first"},
			{"no password", "bare", slapd.Password, "wrong user name or password,no password in the directory"},
			{"everybody", "*", slapd.Password, "wrong user name or password"},
			{"a filter", "alice)(uid=*", slapd.Password, "wrong user name or password"},
			{"more of a DN", "alice," + slapd.People, slapd.Password, "wrong user name or password"},
			{"another part of the DN", "x+uid=alice", slapd.Password, "wrong user name or password"},
			{"two entries", "twice", slapd.Password, "more than one entry in the directory,wrong user name or password"},
		} {
			t.Run(way.name+"/"+tt.name, func(t *testing.T) {
				v := answer(m, tt.user, tt.password)
				got := v.Why
				if v.Outcome == helper.Admit {
					got = fmt.Sprint(v.User, " ", v.Groups)
				} else if v.Outcome != helper.Ask || !v.Wrong || v.Prompt != askPasswordAgain {
					t.Errorf("%+v", v)
				}
				if v.Outcome == helper.Admit != strings.Contains(tt.want, "[") || !slices.Contains(strings.Split(tt.want, ","), got) && got != tt.want {
					t.Errorf("%s, want %s", got, tt.want)
				}
			})
		}
	}
}

// TestTooManyGroups: those that the server gives before its limit are the user's,
// and the server is not blamed.
func TestTooManyGroups(t *testing.T) {
	d := newDirectory(t)
	m := d.make(t, "uri = ldaps://127.0.0.1:"+d.tls, byTemplate, groups)
	v := answer(m, "limited", slapd.Password)
	if v.Outcome != helper.Admit || len(v.Groups) != 1 || len(m.pool.down) != 0 {
		t.Errorf("%+v, %d servers are down", v, len(m.pool.down))
	}
}

// TestThreeTries: then it is over.
func TestThreeTries(t *testing.T) {
	d := newDirectory(t)
	m := d.make(t, "uri = ldaps://127.0.0.1:"+d.tls, bySearch)
	l, _ := m.Begin(context.Background(), helper.Applicant{User: "alice"})
	for i, want := range []helper.Outcome{helper.Ask, helper.Ask, helper.Refused} {
		if v := l.Answer(context.Background(), []byte("guess")); v.Outcome != want || !v.Wrong {
			t.Errorf("answer %d: %+v", i, v)
		}
	}
}

// TestServersThatDoNotAnswer: what is wrong with a server is nobody's wrong
// answer, takes no longer than it may, and the next one is asked.
func TestServersThatDoNotAnswer(t *testing.T) {
	d := newDirectory(t)
	good := "ldaps://127.0.0.1:" + d.tls
	other := &directory{dir: t.TempDir()}
	stranger := other.certificate(t)
	for _, tt := range []struct {
		name, uri, lines string
		with             func(net.Conn) // what a server of the test does
		why              string
	}{
		{name: "nobody there", uri: "ldaps://127.0.0.1:" + freePort(t), lines: bySearch, why: "refused"},
		{name: "silent", uri: "ldaps://", lines: bySearch, with: silent, why: "timeout,deadline"},
		{name: "silent in the clear", uri: "ldap://", lines: bySearch, with: silent, why: "timeout,deadline"},
		{name: "cut off", uri: "ldap://", lines: bySearch, with: func(c net.Conn) { c.Read(make([]byte, 10)) }, why: "EOF,reset,closed"},
		{name: "garbage", uri: "ldap://", lines: bySearch, with: func(c net.Conn) { c.Write(bytes.Repeat([]byte("\x30\x84garbage"), 1000)) }, why: "greater than maximum,EOF,reset,closed,StartTLS"},
		{name: "deep", uri: "ldap://", lines: bySearch, with: func(c net.Conn) {
			c.Write(append([]byte{0x30, 0x83, 7, 0, 0}, bytes.Repeat([]byte{0x30, 0x80}, 200000)...))
		}, why: "StartTLS"},
		{name: "HTTP", uri: "ldaps://", lines: bySearch, with: func(c net.Conn) { fmt.Fprint(c, "HTTP/1.0 400 Bad Request\r\n\r\n") }, why: "TLS"},
		{name: "no StartTLS", uri: "ldap://", lines: bySearch, with: refuseStartTLS, why: "Protocol Error"},
		{name: "another's certificate", uri: good, lines: bySearch + "\nca-file = " + stranger, why: "certificate"},
		{name: "another name", uri: strings.Replace(good, "127.0.0.1", "localhost", 1), lines: bySearch, why: "certificate"},
		{name: "wrong password of bind-dn", uri: good, lines: strings.Replace(bySearch, slapd.ServicePassword, "guess", 1), why: "as bind-dn"},
		{name: "bind-dn may not search", uri: good, lines: strings.Replace(strings.Replace(bySearch, slapd.Service, "uid=bob,"+slapd.People, 1), slapd.ServicePassword, slapd.Password, 1),
			why: "wrong user name,No Such Object"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			uri := tt.uri
			if tt.with != nil {
				uri += serve(t, tt.with)
			}
			lines := []string{"uri = " + uri, "timeout = 1", tt.lines}
			if strings.Contains(tt.lines, "ca-file") {
				m, _, err := parse(strings.Join(lines, "\n"))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := m.resolve(net.DefaultResolver.LookupNetIP); err != nil {
					t.Fatal(err)
				}
				check(t, &method{m, newPool(m)}, tt.why)
				return
			}
			check(t, d.make(t, lines...), tt.why)
			lines[0] += " " + good
			lines[1] = "timeout = 5"
			if v := answer(d.make(t, lines...), "alice", slapd.Password); (v.Outcome == helper.Admit) != (tt.with != nil || strings.Contains(tt.name, "nobody") || strings.Contains(tt.name, "another name")) {
				t.Errorf("with a good server behind it: %+v", v)
			}
		})
	}
}

// check: the right password is no wrong answer, and no login.
func check(t *testing.T, m *method, why string) {
	t.Helper()
	v := answer(m, "alice", slapd.Password)
	found := slices.ContainsFunc(strings.Split(why, ","), func(w string) bool { return strings.Contains(v.Why, w) })
	if v.Outcome == helper.Admit || !found || v.Wrong != strings.HasPrefix(v.Why, "wrong user name") {
		t.Errorf("%+v, want %q", v, why)
	}
}

// serve runs a server of the test's and returns its address.
func serve(t *testing.T, with func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); with(c) }()
		}
	}()
	return l.Addr().String()
}

// silent takes what it gets and says nothing.
func silent(c net.Conn) { io.Copy(io.Discard, c) }

// refuseStartTLS answers that the operation is not known (protocolError).
func refuseStartTLS(c net.Conn) {
	c.Read(make([]byte, 100))
	c.Write([]byte{0x30, 12, 2, 1, 1, 0x78, 7, 10, 1, 2, 4, 0, 4, 0})
	c.Read(make([]byte, 100))
}

// TestAddresses: a server without an address is warned of and found later, one whose
// first address is silent is reached by the next, and one that moved is found again.
func TestAddresses(t *testing.T) {
	_, port, _ := net.SplitHostPort(serve(t, silent))
	c, _, err := parse("uri = ldaps://none.example ldaps://two.example:" + port + "\n" + byTemplate)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string][]netip.Addr{"two.example": {netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}}
	lookup := func(_ context.Context, _, name string) ([]netip.Addr, error) {
		if names[name] == nil {
			return nil, &net.DNSError{Err: "no such host", Name: name}
		}
		return names[name], nil
	}
	warnings, err := c.resolve(lookup)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "none.example") {
		t.Fatalf("%v %q", err, warnings)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	reach := func(server int) error {
		conn, err := c.names.Dial(ctx, "tcp", c.servers[server].host+":"+port)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := reach(1); err != nil {
		t.Fatal(err)
	}
	if err := reach(0); err == nil {
		t.Error("a server without an address is reached")
	}
	names["none.example"] = []netip.Addr{netip.MustParseAddr("127.0.0.3")}
	if err := reach(0); err == nil {
		t.Error("a server that is not there is reached")
	}
	names["none.example"] = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	if err := reach(0); err != nil {
		t.Errorf("a server that moved: %v", err)
	}
	delete(names, "two.example")
	delete(names, "none.example")
	if _, err := c.resolve(lookup); err == nil {
		t.Error("no server is left, and that is no error")
	}
}

// TestFailover: a server that failed is asked after the others for a while.
func TestFailover(t *testing.T) {
	c, _, err := parse("uri = ldaps://a ldaps://b ldaps://c\n" + strings.Replace(bySearch, "uri", "", 1))
	if err != nil {
		t.Fatal(err)
	}
	p := newPool(c)
	now := time.Unix(1_800_000_000, 0)
	p.now = func() time.Time { return now }
	order := func() (names string) {
		for _, s := range p.order() {
			names += s.host
		}
		return names
	}
	for _, tt := range []struct {
		do   func()
		want string
	}{
		{func() {}, "abc"},
		{func() { p.mark(c.servers[0], true) }, "bca"},
		{func() { now = now.Add(rest / 2); p.mark(c.servers[1], true) }, "cab"},
		{func() { now = now.Add(rest / 2) }, "acb"},
		{func() { p.mark(c.servers[1], false) }, "abc"},
	} {
		tt.do()
		if got := order(); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

// TestNobodyWaits: a login that is given up ends what is under way, and the
// server is not blamed.
func TestNobodyWaits(t *testing.T) {
	addr := serve(t, silent)
	c, _, err := parse("uri = ldaps://" + addr + "\n" + bySearch)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.resolve(net.DefaultResolver.LookupNetIP); err != nil {
		t.Fatal(err)
	}
	m := &method{c, newPool(c)}
	d, _ := m.Begin(context.Background(), helper.Applicant{User: "alice"})
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if v := d.Answer(ctx, []byte("x")); v.Outcome != helper.Unavailable || len(m.pool.down) != 0 {
		t.Errorf("%+v, %d servers are down", v, len(m.pool.down))
	}
}

// TestReasons: results of a bind that are somebody's, and those that are the server's.
func TestReasons(t *testing.T) {
	ad := func(code string) string {
		return "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data " + code + ", v2580"
	}
	for _, tt := range []struct {
		code uint16
		text string
		want string // empty: not about the user
	}{
		{49, "", "wrong user name or password"},
		{49, ad("52e"), "wrong user name or password"},
		{49, ad("532"), "password expired"},
		{49, ad("533"), "account disabled"},
		{49, ad("775"), "account locked"},
		{49, ad("fff"), "wrong user name or password"},
		{19, "Exceed password retry limit. Please try later.", "the directory refuses: locked, perhaps"},
		{53, "Account inactivated. Contact system administrator.", "the directory refuses: locked, perhaps"},
		{51, "busy", ""}, {52, "unavailable", ""}, {1, "", ""}, {3, "", ""}, {8, "", ""}, {13, "confidentiality required", ""}, {10, "", ""}, {80, "", ""},
		{goldap.ErrorNetwork, "", ""},
	} {
		err := wrongness(goldap.NewError(tt.code, fmt.Errorf("%s", tt.text)))
		r, is := err.(refusal)
		if is != (tt.want != "") || string(r) != tt.want {
			t.Errorf("%d %s: %v", tt.code, tt.text, err)
		}
	}
}

func TestNames(t *testing.T) {
	for dn, want := range map[string]string{
		"cn=staff,ou=groups,dc=x": "staff", `cn=a\,b,dc=x`: "a,b", "CN=Domain Users,CN=Users,DC=corp": "Domain Users",
		"": "", "nonsense": "", "cn=a+ou=b,dc=x": "",
	} {
		if got := firstValue(dn); got != want {
			t.Errorf("%q: %q, want %q", dn, got, want)
		}
	}
	for name, want := range map[string]bool{"anna": true, "": false, "a\nb": false, strings.Repeat("x", 64): false, "\xff": false, "Änne": true} {
		if possible(name) != want {
			t.Errorf("%q", name)
		}
	}
	c := &config{user: "uid"}
	for _, tt := range []struct {
		values []string
		typed  string
		want   string
	}{
		{[]string{"anna"}, "ANNA", "anna"}, {[]string{"anna"}, "a.lind", "anna"}, {[]string{"bert", "anna"}, "Anna", "anna"},
		{[]string{"bert", "anna"}, "a.lind", ""}, {nil, "anna", ""}, {[]string{"a\nb"}, "x", ""},
	} {
		e := goldap.NewEntry("cn=x", map[string][]string{"UID": tt.values})
		if got, err := c.nameOf(e, tt.typed); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%v, typed %s: %q, %v", tt.values, tt.typed, got, err)
		}
	}
}
