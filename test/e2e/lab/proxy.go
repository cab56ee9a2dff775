package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Addresses of tgt that the server has no route to: who reaches them does so
// through a proxy in tgt.
const (
	Behind4, Behind6 = "203.0.113.1", "fd77:113::1"
	NameBehind       = "behind.test." // A and AAAA
	NameProxy        = "proxy.test."  // Tgt4 and Tgt6
)

// ProxyUser and ProxyPassword are what proxies with a login ask for.
const (
	ProxyUser     = "gateway"
	ProxyPassword = "s3cret.proxy"
)

// Proxies that run in tgt, from Debian's packages, and where they listen.
const (
	PortDante      = 1080 // dante-server: SOCKS5 with UDP
	PortMicrosocks = 1081 // microsocks: SOCKS5 with a login
	PortSquid      = 3128 // squid: HTTP
	PortSquidAuth  = 3129 // squid: HTTP with a login
	PortTinyproxy  = 8888 // tinyproxy: HTTP with a login
	PortNghttpx    = 8443 // nghttpx before squid: HTTPS, HTTP/1.1 and HTTP/2
	PortNghttpxOwn = 8444 // the same, for who shows a certificate of ClientCertificate's
	PortUnbound    = 8530 // unbound before tgt's DNS: DNS over TLS
	PortUnboundWeb = 8531 // the same unbound: DNS over HTTPS
)

// AddBehind gives tgt the addresses that only a proxy reaches.
func (l *Lab) AddBehind() error {
	return errors.Join(l.Tgt.SetResolvers("127.0.0.1"), // proxies resolve names
		l.Tgt.IP("addr add "+Behind4+"/32 dev lo", "addr add "+Behind6+"/128 dev lo"))
}

// proxy is how a proxy is run.
type proxy struct {
	file string // its configuration
	text string
	argv []string // %s: the file
}

// StartProxy starts a proxy that listens on a port of the list and waits until
// it accepts connections.
func (l *Lab) StartProxy(port int) (*Process, error) {
	p, err := l.proxy(port)
	if err != nil {
		return nil, err
	}
	if _, err := exec.LookPath(p.argv[0]); err != nil {
		return nil, err
	}
	dir := l.Path(fmt.Sprintf("proxy-%d", port))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o777); err != nil { // they run as users of their own
		return nil, err
	}
	file := filepath.Join(dir, p.file)
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(p.text, "DIR", dir)), 0o644); err != nil {
		return nil, err
	}
	for i := range p.argv {
		p.argv[i] = strings.NewReplacer("FILE", file, "DIR", dir).Replace(p.argv[i])
	}
	proc, err := l.Tgt.Start(p.argv[0], nil, nil, p.argv...)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := l.Tgt.Run("nc", "-n", "-z", "-w", "1", Tgt4, strconv.Itoa(port)); err == nil {
			return proc, nil
		}
		if time.Now().After(deadline) || !proc.Running() {
			return nil, fmt.Errorf("%s does not listen:\n%s", p.argv[0], proc.Story())
		}
	}
}

func (l *Lab) proxy(port int) (*proxy, error) {
	switch port {
	case PortDante:
		return &proxy{file: "danted.conf", argv: []string{"danted", "-f", "FILE", "-N", "1"}, text: fmt.Sprintf(`
logoutput: stderr
internal: %s port = %d
internal: %s port = %d
%sexternal: eth0
external: lo
external.rotation: route
socksmethod: none
clientmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 0/0 to: 0/0 }
socks block { from: 0/0 to: 0/0 port = 7777 }
socks pass { from: 0/0 to: 0/0 log: connect error }
`, Tgt4, port, Tgt6, port, l.beyond(port))}, nil
	case PortMicrosocks:
		return &proxy{file: "none", argv: []string{"microsocks", "-i", "::", "-p", strconv.Itoa(port), "-u", ProxyUser, "-P", ProxyPassword}}, nil
	case PortSquid:
		return &proxy{file: "squid.conf", argv: []string{"squid", "-N", "-f", "FILE"}, text: squidConfig(port, "")}, nil
	case PortSquidAuth:
		hash, err := exec.Command("openssl", "passwd", "-apr1", ProxyPassword).Output()
		if err != nil {
			return nil, err
		}
		dir := l.Path("squid-users")
		if err := os.WriteFile(dir, []byte(ProxyUser+":"+string(hash)), 0o644); err != nil {
			return nil, err
		}
		return &proxy{file: "squid.conf", argv: []string{"squid", "-N", "-f", "FILE"}, text: squidConfig(port,
			"auth_param basic program /usr/lib/squid/basic_ncsa_auth "+dir+"\nauth_param basic children 1\nacl known proxy_auth REQUIRED\nhttp_access deny !known\n")}, nil
	case PortTinyproxy:
		return &proxy{file: "tinyproxy.conf", argv: []string{"tinyproxy", "-d", "-c", "FILE"}, text: fmt.Sprintf(`
Port %d
Timeout 60
MaxClients 50
BasicAuth %s %s
LogLevel Connect
`, port, ProxyUser, ProxyPassword)}, nil
	case PortNghttpx, PortNghttpxOwn:
		if err := l.makeProxyCertificate(); err != nil {
			return nil, err
		}
		argv := []string{"nghttpx", "--conf=/dev/null", "--http2-proxy", "-f*," + strconv.Itoa(port), "-b" + Tgt4 + "," + strconv.Itoa(PortSquid),
			"--workers=1", "--accesslog-write-early", "--accesslog-file=DIR/access.log", "--accesslog-format=$alpn $tls_protocol $request $status", "--errorlog-file=/dev/stderr"}
		if port == PortNghttpxOwn {
			argv = append(argv, "--verify-client", "--verify-client-cacert="+l.ProxyCA())
		}
		return &proxy{file: "none", argv: append(argv, l.Path("proxy-key.pem"), l.Path("proxy-cert.pem"))}, nil
	case PortUnbound:
		if err := l.makeProxyCertificate(); err != nil {
			return nil, err
		}
		return &proxy{file: "unbound.conf", argv: []string{"unbound", "-d", "-p", "-c", "FILE"}, text: l.unboundConfig()}, nil
	}
	return nil, fmt.Errorf("no proxy for port %d", port)
}

func (l *Lab) unboundConfig() string {
	return fmt.Sprintf(`
server:
  interface: 0.0.0.0@%d
  interface: 0.0.0.0@%d
  tls-port: %d
  https-port: %d
  tls-service-key: "%s"
  tls-service-pem: "%s"
  access-control: 0.0.0.0/0 allow
  module-config: "iterator"
  local-zone: "test." nodefault
  do-not-query-localhost: no
  num-threads: 1
  username: ""
  chroot: ""
  directory: "DIR"
  use-syslog: no
  log-queries: yes
  edns-tcp-keepalive: yes
forward-zone:
  name: "."
  forward-addr: %s
`, PortUnbound, PortUnboundWeb, PortUnbound, PortUnboundWeb, l.Path("proxy-key.pem"), l.Path("proxy-cert.pem"), Tgt4)
}

func squidConfig(port int, auth string) string {
	return fmt.Sprintf(`
http_port %d
%sacl everything port 1-65535
http_access allow everything
cache deny all
cache_mem 1 MB
pid_filename none
access_log stdio:DIR/access.log
cache_log DIR/cache.log
cache_store_log none
shutdown_lifetime 0 seconds
coredump_dir none
netdb_filename none
max_filedescriptors 1024
half_closed_clients on
via off
visible_hostname proxy.test
connect_timeout 5 seconds
`, port, auth)
}

// AccessLog is what the nghttpx of a port has served: protocol, TLS version,
// request, status.
func (l *Lab) AccessLog(port int) (string, error) {
	b, err := os.ReadFile(l.Path(fmt.Sprintf("proxy-%d", port), "access.log"))
	return string(b), err
}

// ProxyCA is the certificate by which that of nghttpx can be verified.
func (l *Lab) ProxyCA() string { return l.Path("proxy-cert.pem") }

func (l *Lab) makeProxyCertificate() error {
	if _, err := os.Stat(l.ProxyCA()); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "proxy.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"proxy.test"}, IPAddresses: []net.IP{net.ParseIP(Tgt4), net.ParseIP(Tgt6)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return err
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	client := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "rocserv"}, NotBefore: tmpl.NotBefore, NotAfter: tmpl.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	clientDER, err := x509.CreateCertificate(rand.Reader, client, tmpl, own.Public(), key)
	if err != nil {
		return err
	}
	cert, file := l.ClientCertificate()
	return errors.Join(writePair(l.ProxyCA(), l.Path("proxy-key.pem"), der, key, 0o600),
		writePair(cert, file, clientDER, own, 0o644)) // the server is an ordinary user's
}

// ClientCertificate is a certificate for the nghttpx of PortNghttpxOwn, and its key.
func (l *Lab) ClientCertificate() (cert, key string) {
	return l.Path("proxy-client-cert.pem"), l.Path("proxy-client-key.pem")
}

func writePair(cert, file string, der []byte, key *ecdsa.PrivateKey, mode os.FileMode) error {
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), mode))
}

// Watch counts, in tgt, what comes from the server by the wire and is not what
// the rules say ("tcp dport 1080").
func (l *Lab) Watch(expected ...string) error {
	from := "input iifname eth0 "
	var rules []string
	for _, e := range expected {
		rules = append(rules, from+e+" accept")
	}
	return l.Tgt.Nft("watch", append(rules,
		from+"icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-report, mld2-listener-report } accept",
		from+"counter comment \"past\"")...)
}

// Past is how many packets Watch has counted.
func (l *Lab) Past() (int, error) {
	out, err := l.Tgt.Run("nft", "list", "table", "inet", "watch")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(out) {
		if _, rest, ok := strings.Cut(line, "counter packets "); ok && strings.Contains(line, "past") {
			digits, _, _ := strings.Cut(rest, " ")
			return strconv.Atoi(digits)
		}
	}
	return 0, fmt.Errorf("no counter in\n%s", out)
}
