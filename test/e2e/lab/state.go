package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rocserv/internal/ocpasswd"
)

// Port is where the server listens, TCP and UDP.
const Port = 4443

// Users that may log in, all with Password.
const (
	User     = "alice"
	Other    = "bob"
	Password = "correct horse"
)

// State is a folder with all that a server needs, owned by its uid.
type State struct {
	Dir    string
	Config string // the configuration file
	Pin    string // of the certificate, as openconnect --servercert has it
}

// MakeState makes a folder below the lab's. settings are as of Configure.
func (l *Lab) MakeState(name string, settings ...string) (*State, error) {
	s := &State{Dir: l.Path(name)}
	s.Config = s.Path("ocserv.conf")
	for _, dir := range []string{s.Dir, s.Path("run")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if err := s.makeCertificate(); err != nil {
		return nil, err
	}
	hash, err := ocpasswd.Hash(ocpasswd.SHA256, []byte(Password))
	if err != nil {
		return nil, err
	}
	users := fmt.Sprintf("%s:*:%s\n%s:*:%s\n", User, hash, Other, hash)
	if err := os.WriteFile(s.Path("users"), []byte(users), 0o600); err != nil {
		return nil, err
	}
	return s, s.Configure(settings...)
}

// Path is a file in the folder.
func (s *State) Path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// Configure writes the configuration: that of the lab with settings, lines
// "key = value". A key that is among them replaces the lab's own.
func (s *State) Configure(settings ...string) error {
	given := map[string]bool{}
	for _, line := range settings {
		given[key(line)] = true
	}
	var b strings.Builder
	for _, line := range s.defaults() {
		if !given[key(line)] {
			fmt.Fprintln(&b, line)
		}
	}
	for _, line := range settings {
		fmt.Fprintln(&b, line)
	}
	if err := os.WriteFile(s.Config, []byte(b.String()), 0o644); err != nil {
		return err
	}
	return s.own()
}

func key(line string) string {
	name, _, _ := strings.Cut(line, "=")
	return strings.TrimSpace(name)
}

func (s *State) defaults() []string {
	return []string{
		fmt.Sprintf("auth = plain[passwd=%s]", s.Path("users")),
		fmt.Sprintf("tcp-port = %d", Port),
		fmt.Sprintf("udp-port = %d", Port),
		"socket-file = " + s.Path("run", "sock"),
		"server-cert = " + s.Path("cert.pem"),
		"server-key = " + s.Path("key.pem"),
		"device = vpns",
		"max-clients = 0",
		"max-same-clients = 0",
		"max-ban-score = 0",
		"auth-timeout = 40",
		"cookie-timeout = 60",
		"keepalive = 300",
		"dpd = 60",
		"rekey-time = 172800",
		"rekey-method = new-tunnel",
		"try-mtu-discovery = false",
		"tls-priorities = NORMAL:%SERVER_PRECEDENCE",
		"ipv4-network = " + Pool4,
		"ipv6-network = " + Pool6,
		"dns = " + Tgt4,
		"use-utmp = false",
		"sec-mod-scale = 1", // several of ocserv 1.1.6 lose a login that takes several connections
		"use-occtl = false",
	}
}

// own gives everything in the folder to the server.
func (s *State) own() error {
	return filepath.WalkDir(s.Dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, ServerID, ServerID)
	})
}

func (s *State) makeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "vpn.test"},
		DNSNames:     []string{"vpn.test"},
		IPAddresses:  []net.IP{net.ParseIP(Srv4), net.ParseIP(Srv6)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(spki)
	s.Pin = "pin-sha256:" + base64.StdEncoding.EncodeToString(sum[:])
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(s.Path("cert.pem"), "CERTIFICATE", cert); err != nil {
		return err
	}
	return writePEM(s.Path("key.pem"), "PRIVATE KEY", pkcs8)
}

func writePEM(name, kind string, der []byte) error {
	return os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
