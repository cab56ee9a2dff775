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
func wayOfChain(t *testing.T, m *ipc.SessionConfig, name string) (w *ipc.WayOut, leaf *x509.Certificate) {
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

// A worker has signatures for the certificates of its user's ways, whichever key
// and version; for no others', of no other text, and of digests only where a
// browser's fingerprint is asked for.
func TestWaySign(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "*", "secret"), hashOf(t, "berta", "*", "secret"))
	var err error
	if ownPair, err = tls.LoadX509KeyPair(st.path("p256.crt"), st.path("p256.key")); err != nil {
		t.Fatal(err)
	}
	kinds := []string{"rsa", "p256", "p384", "p521", "ed25519"}
	var names []string
	for _, kind := range kinds {
		conf := st.conf
		st.key("", "way-"+kind, newPrivate(t, kind))
		st.conf = append(conf, "egress = "+kind+" https://192.0.2.1 ca="+st.path("p256.crt")+" client-cert="+st.path("way-"+kind+".crt")+" client-key="+st.path("way-"+kind+".key"))
		names = append(names, kind)
	}
	st.add("egress = browser https://192.0.2.1 tls-fingerprint=chrome ca="+st.path("p256.crt")+" client-cert="+st.path("way-rsa.crt")+" client-key="+st.path("way-rsa.key"),
		"egress-via = "+strings.Join(names, ",")+",browser for user:anna")
	r := newRig(t)
	conf := r.configure(1, st.text())
	if conf.Error != "" {
		t.Fatal(conf.Error)
	}
	open := func(user string) (*ipc.Conn, uint64, *ipc.SecmSessionReply, *ipc.SessionConfig) {
		c, id := r.handshaken(home)
		rep, m := r.openSession(r.login(c, user, "secret"), id)
		return c, id, rep, m
	}
	c, id, rep, m := open("anna")
	client := secclient.New(c)
	works := func(client *secclient.Client) {
		t.Helper()
		for _, kind := range kinds {
			w, leaf := wayOfChain(t, m, kind)
			pool := x509.NewCertPool()
			pool.AddCert(leaf)
			for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				if err := showing(v, tls.Certificate{Certificate: w.ClientChain, PrivateKey: client.WaySigner(kind, leaf)}, pool); err != nil {
					t.Errorf("%s, %s: %v", kind, tls.VersionName(v), err)
				}
			}
		}
	}
	works(client)
	_, leaf := wayOfChain(t, m, "browser")
	sum := sha256.Sum256(leaf.Raw)
	text := []byte(strings.Repeat(" ", 64) + "TLS 1.3, client CertificateVerify\x00" + strings.Repeat("h", 32))
	digest := make([]byte, 32)
	ask := func(c *ipc.Conn, q *ipc.WaySignReq) (*ipc.SignRep, error) {
		rep := new(ipc.SignRep)
		return rep, c.Call(ipc.WaySignT, q, ipc.WaySignRepT, rep)
	}
	if rep, err := ask(c, &ipc.WaySignReq{Way: "browser", LeafSha256: sum[:], Scheme: 0x0804, Message: digest, Digest: true}); err != nil || len(rep.Signature) == 0 {
		t.Errorf("a digest for a browser's fingerprint: %v, %v", rep, err)
	}
	stranger, _, _, told := open("berta")
	if len(told.Egress.Ways) != 0 {
		t.Errorf("berta is told of %v", told.Egress.Ways)
	}
	if rep, err := ask(stranger, &ipc.WaySignReq{Way: "browser", LeafSha256: sum[:], Scheme: 0x0804, Message: text}); err != nil || rep.Error == "" || rep.Signature != nil {
		t.Errorf("for who may not take the way: %v, %v", rep, err)
	}
	for name, q := range map[string]*ipc.WaySignReq{
		"a digest for the fingerprint go": {Way: "rsa", LeafSha256: sum[:], Scheme: 0x0804, Message: digest, Digest: true},
		"a server's text":                 {Way: "rsa", LeafSha256: sum[:], Scheme: 0x0804, Message: []byte(strings.Replace(string(text), "client", "server", 1))},
		"a scheme of another key":         {Way: "rsa", LeafSha256: sum[:], Scheme: 0x0403, Message: text},
		"a digest of another length":      {Way: "browser", LeafSha256: sum[:], Scheme: 0x0805, Message: digest, Digest: true},
		"a scheme beyond 16 bits":         {Way: "rsa", LeafSha256: sum[:], Scheme: 0x10804, Message: text},
	} {
		worker, _, _, _ := open("anna")
		if rep, err := ask(worker, q); err == nil {
			t.Errorf("%s: %v", name, rep)
		}
	}
	early, _ := r.handshaken(home)
	if rep, err := ask(early, &ipc.WaySignReq{Way: "rsa", LeafSha256: sum[:], Scheme: 0x0804, Message: text}); err == nil {
		t.Errorf("before the tunnel: %v", rep)
	}
	if n := r.s.counts.violations.Load(); n != 6 || r.s.counts.panics.Load() != 0 {
		t.Errorf("%d violations, %d panics: %s", n, r.s.counts.panics.Load(), r.log)
	}
	// Another sec-mod goes on, with the files as they are now.
	if err := os.WriteFile(st.path("way-rsa.crt"), mustRead(t, st.path("p256.crt")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(st.path("way-rsa.key"), mustRead(t, st.path("p256.key")), 0o600); err != nil {
		t.Fatal(err)
	}
	works(client) // this one has the session's
	next, _ := r.successor(st, conf, map[string][]uint64{rep.SafeId: {id}})
	near, far, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	who := &ipc.Identity{ConnId: id, Peer: ipc.PutAddrPort(addrPort(home))}
	if err := next.main.Send(ipc.SecmWorkerT, 0, &ipc.SecmWorker{Identity: who, Rejoined: true, SafeId: rep.SafeId}, far); err != nil {
		t.Fatal(err)
	}
	unix.Close(far)
	client.Replace(near)
	if rep, err := ask(near, &ipc.WaySignReq{Way: "rsa", LeafSha256: sum[:], Scheme: 0x0804, Message: text}); err != nil || !strings.Contains(rep.Error, "replaced") {
		t.Errorf("for a certificate that is no more: %v, %v", rep, err)
	}
	kinds = kinds[1:]
	works(client)
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
