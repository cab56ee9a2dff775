package secmod

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
	"rocserv/secmod/secclient"
)

// wayOfChain is what a worker was told of the way, with its certificate.
func wayOfChain(t testing.TB, m *ipc.SessionConfig, name string) (w *ipc.WayOut, leaf *x509.Certificate) {
	t.Helper()
	for _, w := range m.Egress.Ways {
		if w.Name == name && len(w.ClientChain) == 1 {
			leaf, err := x509.ParseCertificate(w.ClientChain[0])
			if err != nil {
				t.Fatal(err)
			}
			return w, leaf
		}
	}
	t.Fatalf("no certificate for %s in %v", name, m.Egress.Ways)
	return nil, nil
}

// showing is a handshake of a client that shows a certificate to who wants one.
func showing(version uint16, cert tls.Certificate, seen *x509.CertPool) error {
	a, b, err := stream()
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	server := &tls.Config{Certificates: []tls.Certificate{ownPair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: seen, MaxVersion: version}
	serr := make(chan error, 1)
	go func() {
		serr <- tls.Server(a, server).Handshake()
	}()
	c := tls.Client(b, &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }})
	if err := c.Handshake(); err != nil {
		b.Close()
		return errors.Join(err, <-serr)
	}
	return <-serr
}

var ownPair tls.Certificate // of the server that showing plays

// wayKinds are ways by the kind of their key; each has a pair of files of its own.
var wayKinds = []string{"rsa", "p256", "p384", "p521", "ed25519"}

// ways is a sec-mod whose user anna has the ways of wayKinds, and browser with the
// key of rsa and a browser's fingerprint; berta has none.
type ways struct {
	*rig
	site *site
	conf *ipc.SecmConfigRep
}

func newWays(t *testing.T) *ways {
	t.Helper()
	st := newSite(t, hashOf(t, "anna", "*", "secret"), hashOf(t, "berta", "*", "secret"))
	var err error
	if ownPair, err = tls.LoadX509KeyPair(st.path("p256.crt"), st.path("p256.key")); err != nil {
		t.Fatal(err)
	}
	for _, kind := range wayKinds {
		conf := st.conf
		st.key("", "way-"+kind, newPrivate(t, kind))
		st.conf = append(conf, "egress = "+kind+" https://192.0.2.1 ca="+st.path("p256.crt")+" client-cert="+st.path("way-"+kind+".crt")+" client-key="+st.path("way-"+kind+".key"))
	}
	st.add("egress = browser https://192.0.2.1 tls-fingerprint=chrome ca="+st.path("p256.crt")+" client-cert="+st.path("way-rsa.crt")+" client-key="+st.path("way-rsa.key"),
		"egress-via = "+strings.Join(wayKinds, ",")+",browser for user:anna")
	w := &ways{rig: newRig(t), site: st}
	if w.conf = w.configure(1, st.text()); w.conf.Error != "" {
		t.Fatal(w.conf.Error)
	}
	return w
}

// wayUser is a worker with a session.
type wayUser struct {
	t      testing.TB
	conn   *ipc.Conn
	id     uint64
	safeID string
	config *ipc.SessionConfig
}

func (w *ways) open(user string) *wayUser {
	c, id := w.handshaken(home)
	rep, m := w.openSession(w.login(c, user, "secret"), id)
	return &wayUser{w.t, c, id, rep.SafeId, m}
}

// proves makes sure that proxies take the certificates of these ways.
func (u *wayUser) proves(client *secclient.Client, kinds ...string) {
	u.t.Helper()
	for _, kind := range kinds {
		way, leaf := wayOfChain(u.t, u.config, kind)
		pool := x509.NewCertPool()
		pool.AddCert(leaf)
		for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if err := showing(v, tls.Certificate{Certificate: way.ClientChain, PrivateKey: client.WaySigner(kind, leaf)}, pool); err != nil {
				u.t.Errorf("%s, %s: %v", kind, tls.VersionName(v), err)
			}
		}
	}
}

// wayRequests make requests of signatures with the key of rsa.
type wayRequests struct{ sum, text, digest []byte }

func (u *wayUser) requests() wayRequests {
	_, leaf := wayOfChain(u.t, u.config, "browser")
	sum := sha256.Sum256(leaf.Raw)
	text := []byte(strings.Repeat(" ", 64) + "TLS 1.3, client CertificateVerify\x00" + strings.Repeat("h", 32))
	return wayRequests{sum[:], text, make([]byte, 32)}
}

func (q wayRequests) ofText(way string, scheme uint32, text []byte) *ipc.WaySignReq {
	return &ipc.WaySignReq{Way: way, LeafSha256: q.sum, Scheme: scheme, Message: text}
}

func (q wayRequests) ofDigest(way string, scheme uint32) *ipc.WaySignReq {
	return &ipc.WaySignReq{Way: way, LeafSha256: q.sum, Scheme: scheme, Message: q.digest, Digest: true}
}

func askWay(c *ipc.Conn, q *ipc.WaySignReq) (*ipc.SignRep, error) {
	rep := new(ipc.SignRep)
	return rep, c.Call(ipc.WaySignT, q, ipc.WaySignRepT, rep)
}

// TLS's numbers for signatures (RFC 8446, section 4.2.3).
const (
	pssSHA256  = 0x0804
	pssSHA384  = 0x0805
	p256SHA256 = 0x0403
)

// A worker has signatures for the certificates of its user's ways, whichever key
// and version; for no others', of no other text, and of digests only where a
// browser's fingerprint is asked for.
func TestWaySign(t *testing.T) {
	w := newWays(t)
	anna := w.open("anna")
	anna.proves(secclient.New(anna.conn), wayKinds...)
	q := anna.requests()
	if rep, err := askWay(anna.conn, q.ofDigest("browser", pssSHA256)); err != nil || len(rep.Signature) == 0 {
		t.Errorf("a digest for a browser's fingerprint: %v, %v", rep, err)
	}
	berta := w.open("berta")
	if len(berta.config.Egress.Ways) != 0 {
		t.Errorf("berta is told of %v", berta.config.Egress.Ways)
	}
	if rep, err := askWay(berta.conn, q.ofText("browser", pssSHA256, q.text)); err != nil || rep.Error == "" || rep.Signature != nil {
		t.Errorf("for who may not take the way: %v, %v", rep, err)
	}
	for name, bad := range map[string]*ipc.WaySignReq{
		"a digest for the fingerprint go": q.ofDigest("rsa", pssSHA256),
		"a server's text":                 q.ofText("rsa", pssSHA256, []byte(strings.Replace(string(q.text), "client", "server", 1))),
		"a scheme of another key":         q.ofText("rsa", p256SHA256, q.text),
		"a digest of another length":      q.ofDigest("browser", pssSHA384),
		"a scheme beyond 16 bits":         q.ofText("rsa", 1<<16|pssSHA256, q.text),
	} {
		if rep, err := askWay(w.open("anna").conn, bad); err == nil {
			t.Errorf("%s: %v", name, rep)
		}
	}
	early, _ := w.handshaken(home)
	if rep, err := askWay(early, q.ofText("rsa", pssSHA256, q.text)); err == nil {
		t.Errorf("before the tunnel: %v", rep)
	}
	if n := w.s.counts.violations.Load(); n != 6 || w.s.counts.panics.Load() != 0 {
		t.Errorf("%d violations, %d panics: %s", n, w.s.counts.panics.Load(), w.log)
	}
}

// A session keeps the keys that it was opened with; with another sec-mod it goes on
// with the files as they are now.
func TestWaySignByTheNextSecMod(t *testing.T) {
	w := newWays(t)
	anna := w.open("anna")
	client := secclient.New(anna.conn)
	q := anna.requests()
	for _, ext := range []string{".crt", ".key"} {
		if err := os.WriteFile(w.site.path("way-rsa"+ext), mustRead(t, w.site.path("p256"+ext)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	anna.proves(client, wayKinds...) // this one has the session's
	next, _ := w.successor(w.site, w.conf, map[string][]uint64{anna.safeID: {anna.id}})
	near, far, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	who := &ipc.Identity{ConnId: anna.id, Peer: ipc.PutAddrPort(addrPort(home))}
	if err := next.main.Send(ipc.SecmWorkerT, 0, &ipc.SecmWorker{Identity: who, Rejoined: true, SafeId: anna.safeID}, far); err != nil {
		t.Fatal(err)
	}
	unix.Close(far)
	client.Replace(near)
	if rep, err := askWay(near, q.ofText("rsa", pssSHA256, q.text)); err != nil || !strings.Contains(rep.Error, "replaced") {
		t.Errorf("for a certificate that is no more: %v, %v", rep, err)
	}
	anna.proves(client, wayKinds[1:]...)
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
