package tlsclient

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"

	utls "github.com/refraction-networking/utls"
)

// site is a TLS server with a certificate of its own.
type site struct {
	addr  string
	roots *x509.CertPool
	pin   Pin
	first chan []byte // the first record of each connection
}

// tap keeps the first bytes that are read.
type tap struct {
	net.Conn
	got []byte
}

func (t *tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.got = append(t.got, b[:n]...)
	return n, err
}

func newSite(t *testing.T, protocols ...string) *site {
	t.Helper()
	return newSiteOf(t, &tls.Config{NextProtos: protocols})
}

func newSiteOf(t *testing.T, cfg *tls.Config) *site {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"proxy.test"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	s := &site{roots: x509.NewCertPool(), pin: sha256.Sum256(cert.RawSubjectPublicKeyInfo), first: make(chan []byte, 16)}
	s.roots.AddCert(cert)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	s.addr = ln.Addr().String()
	cfg.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				raw := &tap{Conn: c}
				srv := tls.Server(raw, cfg)
				err := srv.HandshakeContext(context.Background())
				s.first <- raw.got
				if err == nil {
					io.Copy(srv, srv)
					srv.CloseWrite()
				}
			}()
		}
	}()
	return s
}

func (s *site) connect(t *testing.T, cfg Config) (Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.ServerName == "" {
		cfg.ServerName = "proxy.test"
	}
	if cfg.Roots == nil {
		cfg.Roots = s.roots
	}
	return Client(ctx, c, &cfg)
}

var fingerprints = []string{"go", "chrome", "firefox", "safari", "ios", "randomized"}

// With each fingerprint the handshake succeeds, what is offered is agreed, and
// bytes go both ways to a clean end.
func TestEveryFingerprint(t *testing.T) {
	s := newSite(t, "h2", "http/1.1")
	for _, f := range fingerprints {
		c, err := s.connect(t, Config{Fingerprint: f, Protocols: []string{"h2", "http/1.1"}, Pins: []Pin{s.pin}})
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		<-s.first
		if p := c.Protocol(); p != "h2" {
			t.Errorf("%s: %q was agreed", f, p)
		}
		go func() {
			c.Write([]byte("hello"))
			c.CloseWrite()
		}()
		if b, err := io.ReadAll(c); string(b) != "hello" || err != nil {
			t.Errorf("%s: %q, %v", f, b, err)
		}
		c.Close()
	}
}

// The bytes on the wire are those of the browser: versions, suites, groups and
// extensions are what utls' preset says, in its order but for what Chrome
// shuffles, and differ from Go's.
func TestHelloOnTheWire(t *testing.T) {
	s := newSite(t, "h2")
	ours := map[string]*utls.ClientHelloSpec{}
	for _, f := range fingerprints[:5] {
		c, err := s.connect(t, Config{Fingerprint: f, Protocols: []string{"h2"}})
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		c.Close()
		ours[f] = parseHello(t, f, <-s.first)
	}
	for f, id := range hellos {
		if f == "randomized" {
			continue
		}
		want, err := utls.UTLSIdToSpec(*id)
		if err != nil {
			t.Fatal(err)
		}
		got := ours[f]
		if a, b := suites(got), suites(&want); !slices.Equal(a, b) {
			t.Errorf("%s: suites %x, want %x", f, a, b)
		}
		if a, b := extensions(got), extensions(&want); !slices.Equal(a, b) {
			t.Errorf("%s: extensions %v, want %v", f, a, b)
		}
		if slices.Equal(suites(got), suites(ours["go"])) && slices.Equal(extensions(got), extensions(ours["go"])) {
			t.Errorf("%s looks like go", f)
		}
	}
}

func parseHello(t *testing.T, name string, record []byte) *utls.ClientHelloSpec {
	t.Helper()
	spec, err := (&utls.Fingerprinter{AllowBluntMimicry: true}).FingerprintClientHello(record)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return spec
}

// grease is how all GREASE values are compared. RFC 8701.
const grease = 0x0a0a

func suites(s *utls.ClientHelloSpec) (list []uint16) {
	for _, c := range s.CipherSuites {
		if c&0x0f0f == grease {
			c = grease
		}
		list = append(list, c)
	}
	return list
}

// extensions are their names, sorted: Chrome shuffles them. Padding is there or
// not, by the length of the name.
func extensions(s *utls.ClientHelloSpec) (list []string) {
	for _, e := range s.Extensions {
		name := typeOf(e)
		if name != "*tls.UtlsPaddingExtension" {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// textOnly is a key that must see what it signs.
type textOnly struct{ crypto.Signer }

func (k textOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("a digest")
}

func (k textOnly) SignMessage(r io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	return crypto.SignMessage(k.Signer, r, msg, opts)
}

// With each fingerprint a server that asks for a certificate is shown ours,
// whatever it names as good, and one that does not ask is not.
func TestClientCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fingerprints {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if f == "randomized" && version == tls.VersionTLS12 {
				continue // may have no suite that such a server takes
			}
			for _, ask := range []tls.ClientAuthType{tls.NoClientCert, tls.RequireAnyClientCert} {
				shown := make(chan int, 1)
				s := newSiteOf(t, &tls.Config{ClientAuth: ask, MaxVersion: version, VerifyConnection: func(c tls.ConnectionState) error {
					shown <- len(c.PeerCertificates)
					return nil
				}})
				cfg := Config{Fingerprint: f, Certificate: &Certificate{Chain: [][]byte{der}, Key: key}}
				if f == "go" {
					cfg.Certificate.Key = textOnly{key}
				}
				c, err := s.connect(t, cfg)
				if err != nil {
					t.Errorf("%s, %s: %v", f, tls.VersionName(version), err)
					continue
				}
				go func() {
					c.Write([]byte("hello"))
					c.CloseWrite()
				}()
				if b, err := io.ReadAll(c); string(b) != "hello" || err != nil {
					t.Errorf("%s, %s: %q, %v", f, tls.VersionName(version), b, err)
				}
				c.Close()
				<-s.first
				if n, want := <-shown, map[tls.ClientAuthType]int{tls.RequireAnyClientCert: 1}[ask]; n != want {
					t.Errorf("%s, %s: %d certificates shown, want %d", f, tls.VersionName(version), n, want)
				}
			}
		}
	}
}

func TestRandomizedDiffers(t *testing.T) {
	s := newSite(t, "h2", "http/1.1")
	seen := map[string]bool{}
	for range 100 { // the coins fall as they may
		c, err := s.connect(t, Config{Fingerprint: "randomized", Protocols: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		spec := parseHello(t, "randomized", <-s.first)
		seen[typeOf(suites(spec))] = true
	}
	if len(seen) < 2 {
		t.Error("a hundred random hellos are the same")
	}
}

// Whatever the fingerprint, a certificate that is not good is refused.
func TestVerification(t *testing.T) {
	s := newSite(t)
	for _, f := range fingerprints {
		for name, tt := range map[string]struct {
			cfg  Config
			want func(error) bool
		}{
			"unknown root": {Config{Roots: x509.NewCertPool()}, isA[x509.UnknownAuthorityError]},
			"another name": {Config{ServerName: "other.test"}, isA[x509.HostnameError]},
			"another pin":  {Config{Pins: []Pin{{1}}}, func(err error) bool { return errors.Is(err, ErrPin) }},
		} {
			tt.cfg.Fingerprint = f
			c, err := s.connect(t, tt.cfg)
			if err == nil {
				t.Errorf("%s, %s: accepted", f, name)
				c.Close()
			} else if !tt.want(err) {
				t.Errorf("%s, %s: %v", f, name, err)
			}
			<-s.first
		}
	}
	if _, err := s.connect(t, Config{Fingerprint: "netscape"}); err == nil {
		t.Error("a fingerprint that there is not")
	}
}

func isA[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func typeOf(v any) string {
	if l, ok := v.([]uint16); ok {
		return fmt.Sprint(l)
	}
	return fmt.Sprintf("%T", v)
}
