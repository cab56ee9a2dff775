package secmod

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
	"rocserv/secmod/secclient"
)

// tlsServer is a worker's TLS configuration, with all keys in sec-mod.
func tlsServer(t testing.TB, c *secclient.Client, vhost string, chains []*ipc.Chain) *tls.Config {
	t.Helper()
	conf := &tls.Config{
		WrapSession: func(_ tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
			b, err := ss.Bytes()
			if err != nil {
				return nil, err
			}
			return c.ResumeSeal(vhost, b)
		},
		UnwrapSession: func(id []byte, _ tls.ConnectionState) (*tls.SessionState, error) {
			b, err := c.ResumeOpen(vhost, id)
			if err != nil || b == nil {
				return nil, err
			}
			return tls.ParseSessionState(b)
		},
	}
	for _, ch := range chains {
		leaf, err := x509.ParseCertificate(ch.Der[0])
		if err != nil {
			t.Fatal(err)
		}
		conf.Certificates = append(conf.Certificates, tls.Certificate{
			Certificate: ch.Der, PrivateKey: c.Signer(vhost, ch.KeyIndex, leaf.PublicKey), Leaf: leaf,
		})
	}
	return conf
}

// connect makes a handshake and passes a byte each way.
func connect(server, client *tls.Config) (resumed bool, err error) {
	a, b, err := stream()
	if err != nil {
		return false, err
	}
	defer a.Close()
	defer b.Close()
	serr := make(chan error, 1)
	go func() {
		s := tls.Server(a, server)
		_, err := io.CopyN(s, s, 1)
		serr <- err
		if err != nil {
			a.Close()
		}
	}()
	c := tls.Client(b, client)
	one := []byte{1}
	if _, err = c.Write(one); err == nil {
		_, err = io.ReadFull(c, one)
	}
	if err != nil {
		b.Close()
	}
	return c.ConnectionState().DidResume, errors.Join(err, <-serr)
}

// stream is a pair of connections with a buffer between them.
func stream() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "stream")
		conns[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			return nil, nil, err
		}
	}
	return conns[0], conns[1], nil
}

func (r *rig) client(peer string) *secclient.Client {
	conn, _ := r.worker(peer)
	return secclient.New(conn)
}

// TestTLS makes handshakes of every version with every kind of key, against
// crypto/tls's own client, through secclient.
func TestTLS(t *testing.T) {
	for _, kind := range []string{"rsa", "p256", "p384", "p521", "ed25519"} {
		st := newSite(t)
		st.conf = st.conf[:len(st.conf)-2] // without the site's own key
		priv := newPrivate(t, kind)
		st.key("", kind, priv)
		r := newRig(t)
		rep := r.configure(1, st.text())
		if rep.Error != "" {
			t.Fatal(rep.Error)
		}
		leaf, err := x509.ParseCertificate(rep.Vhosts[0].Chains[0].Der[0])
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(leaf)
		base := &tls.Config{RootCAs: roots, ServerName: "vpn.example"}
		for _, tt := range []struct {
			name string
			set  func(client, server *tls.Config)
		}{
			{"TLS 1.3", func(c, s *tls.Config) { c.MinVersion = tls.VersionTLS13 }},
			{"TLS 1.3, hello retry", func(c, s *tls.Config) {
				c.MinVersion = tls.VersionTLS13
				c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384}
				s.CurvePreferences = []tls.CurveID{tls.CurveP384}
			}},
			{"TLS 1.2", func(c, s *tls.Config) { c.MaxVersion = tls.VersionTLS12 }},
			{"TLS 1.2, P-256", func(c, s *tls.Config) {
				c.MaxVersion = tls.VersionTLS12
				c.CurvePreferences = []tls.CurveID{tls.CurveP256}
			}},
			{"TLS 1.2, P-521", func(c, s *tls.Config) {
				c.MaxVersion = tls.VersionTLS12
				c.CurvePreferences = []tls.CurveID{tls.CurveP521}
			}},
		} {
			t.Run(kind+" "+tt.name, func(t *testing.T) {
				c := r.client(home)
				client, server := base.Clone(), tlsServer(t, c, "", rep.Vhosts[0].Chains)
				tt.set(client, server)
				before := r.s.counts.signatures.Load()
				if _, err := connect(server, client); err != nil {
					t.Fatalf("%v\n%s", err, r.log)
				}
				if n := r.s.counts.signatures.Load() - before; n != 1 {
					t.Errorf("%d signatures for a handshake", n)
				}
				if _, err := c.AuthInit(&ipc.AuthInit{User: "anna"}); err != nil {
					t.Errorf("after the handshake: %v", err)
				}
				if _, err := connect(server, client); err == nil {
					t.Error("a second handshake of the same connection succeeded")
				}
				if _, err := c.AuthInit(&ipc.AuthInit{User: "anna"}); !errors.Is(err, secclient.ErrGone) {
					t.Errorf("after a violation: %v", err)
				}
			})
		}
	}
}

// TestTLSTwoKeys: a client that knows no ECDSA gets the RSA chain.
func TestTLSTwoKeys(t *testing.T) {
	st := newSite(t)
	st.key("", "rsa", newPrivate(t, "rsa"))
	r := newRig(t)
	rep := r.configure(1, st.text())
	if rep.Error != "" || len(rep.Vhosts[0].Chains) != 2 {
		t.Fatalf("%v", rep)
	}
	if k := rep.Vhosts[0].Chains; k[0].Kind != ipc.KeyKind_KEY_ECDSA_P256 || k[1].Kind != ipc.KeyKind_KEY_RSA || k[0].KeyIndex == k[1].KeyIndex {
		t.Fatalf("chains %v", k)
	}
	for suite, want := range map[uint16]x509.PublicKeyAlgorithm{
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: x509.RSA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: x509.ECDSA,
	} {
		client := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}}
		var got x509.PublicKeyAlgorithm
		client.VerifyConnection = func(cs tls.ConnectionState) error { got = cs.PeerCertificates[0].PublicKeyAlgorithm; return nil }
		if _, err := connect(tlsServer(t, r.client(home), "", rep.Vhosts[0].Chains), client); err != nil || got != want {
			t.Errorf("%s: %v, %v", tls.CipherSuiteName(suite), got, err)
		}
	}
}

// TestResumption: a ticket of one worker is good at another, for the same
// virtual host and the same client address only.
func TestResumption(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			st := newSite(t)
			st.add("[vhost:b.example]")
			st.key("b.example", "b", newPrivate(t, "p256"))
			r := newRig(t)
			rep := r.configure(1, st.text())
			if rep.Error != "" || len(rep.Vhosts) != 2 {
				t.Fatalf("%v", rep)
			}
			cache := tls.NewLRUClientSessionCache(1)
			client := &tls.Config{InsecureSkipVerify: true, ServerName: "x", ClientSessionCache: cache, MinVersion: version, MaxVersion: version}
			try := func(vhost int, peer string) bool {
				t.Helper()
				c := r.client(peer)
				v := rep.Vhosts[vhost]
				resumed, err := connect(tlsServer(t, c, v.Name, v.Chains), client)
				if err != nil {
					t.Fatalf("%v\n%s", err, r.log)
				}
				if _, err := c.AuthInit(&ipc.AuthInit{Vhost: v.Name, User: "anna"}); err != nil {
					t.Fatalf("login after the handshake (resumed: %t): %v", resumed, err)
				}
				return resumed
			}
			if try(0, home) {
				t.Fatal("resumed out of nothing")
			}
			if !try(0, home) {
				t.Error("not resumed at another worker")
			}
			if try(1, home) {
				t.Error("resumed at another virtual host")
			}
			if !try(1, home) {
				t.Error("not resumed at that virtual host")
			}
			if try(1, "192.0.2.2") {
				t.Error("resumed from another address")
			}
			r.clock.forward(299e9)
			if !try(1, "192.0.2.2") {
				t.Error("not resumed before the ticket's end")
			}
			r.clock.forward(301e9)
			if try(1, "192.0.2.2") {
				t.Error("resumed after the ticket's end")
			}
			if n := r.s.counts.violations.Load(); n != 0 {
				t.Errorf("%d violations: %s", n, r.log)
			}
		})
	}
}

// TestMessageSigner holds crypto/tls to what package keys relies on: the
// signer gets the text, never a digest.
func TestMessageSigner(t *testing.T) {
	st := newSite(t)
	r := newRig(t)
	rep := r.configure(1, st.text())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server := tlsServer(t, r.client(home), "", rep.Vhosts[0].Chains)
		spy := &spy{MessageSigner: server.Certificates[0].PrivateKey.(crypto.MessageSigner)}
		server.Certificates[0].PrivateKey = spy
		if _, err := connect(server, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}); err != nil {
			t.Fatal(err)
		}
		want := map[uint16]int{tls.VersionTLS12: 32 + 32 + 4 + 32, tls.VersionTLS13: 64 + 34 + 32}[version]
		if fmt.Sprint(spy.texts) != fmt.Sprint([]int{want}) || spy.digests != 0 {
			t.Errorf("%s: texts of %v bytes and %d digests, want one of %d", tls.VersionName(version), spy.texts, spy.digests, want)
		}
		if _, err := spy.MessageSigner.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, secclient.ErrDigest) {
			t.Errorf("Sign of a digest: %v", err)
		}
	}
}

type spy struct {
	crypto.MessageSigner
	texts   []int
	digests int
}

func (s *spy) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.digests++
	return s.MessageSigner.Sign(r, digest, opts)
}

func (s *spy) SignMessage(r io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.texts = append(s.texts, len(msg))
	return s.MessageSigner.SignMessage(r, msg, opts)
}
