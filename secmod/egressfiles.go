package secmod

import (
	"errors"
	"fmt"
	"os"

	"rocserv/internal/blocklist"
	"rocserv/internal/config"
	"rocserv/secmod/keys"
)

// egressFiles is what the files say that a user's way out has need of. A worker
// opens no files, so it is given their content.
type egressFiles struct {
	system []byte            // the system's certificates, as PEM; nil: not needed
	cas    map[string][]byte // others', by the name in the configuration
	block  blocklist.Set     // names that the resolver does not answer

	clients  map[config.KeyPair]*keys.Key // to show to proxies; the worker is given the certificate
	warnings []string                     // about these
}

const maxCABundle = 2 << 20

// systemCAs is where systems keep their bundle; the first that is there.
var systemCAs = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Alpine, Arch
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
	"/etc/pki/tls/certs/ca-bundle.crt",                  // older ones
	"/etc/ssl/ca-bundle.pem",                            // openSUSE
	"/etc/ssl/cert.pem",                                 // others
}

// egressFiles reads what the ways and the resolver of a user need.
func (s *server) egressFiles(u *config.User) (*egressFiles, error) {
	f := &egressFiles{cas: map[string][]byte{}, clients: map[config.KeyPair]*keys.Key{}}
	for _, w := range u.Ways {
		if w.Kind != "https" {
			continue
		}
		if err := f.ca(w.CA); err != nil {
			return nil, err
		}
		if pair := w.Client; pair.Cert != "" && f.clients[pair] == nil {
			k, warnings, err := keys.Load(pair.Cert, pair.Key, nil, s.Now())
			if err != nil {
				return nil, fmt.Errorf("way %s: %w", w.Name, err)
			}
			f.clients[pair] = k
			for _, said := range warnings {
				f.warnings = append(f.warnings, fmt.Sprintf("way %s: %s", w.Name, said))
			}
		}
	}
	for _, d := range u.Resolver.Servers {
		if d.Kind != "udp" {
			if err := f.ca(d.CA); err != nil {
				return nil, err
			}
		}
	}
	var err error
	f.block, err = s.blocked.set(u.Resolver.Block)
	return f, err
}

// ca reads a file of certificates; empty: the system's.
func (f *egressFiles) ca(name string) (err error) {
	switch {
	case name == "" && f.system == nil:
		f.system, err = readSystemCAs()
	case name != "" && f.cas[name] == nil:
		f.cas[name], err = readBounded(name, maxCABundle)
	}
	return err
}

func readSystemCAs() ([]byte, error) {
	name := systemCA()
	if name == "" {
		return nil, errors.New("the system has no file of CA certificates where they usually are; name one by ca=FILE, or by the variable SSL_CERT_FILE")
	}
	return readBounded(name, maxCABundle)
}

// systemCA is the file of the system's CA certificates; empty: there is none.
func systemCA() string {
	if n := os.Getenv("SSL_CERT_FILE"); n != "" {
		return n
	}
	for _, n := range systemCAs {
		if _, err := os.Stat(n); err == nil {
			return n
		}
	}
	return ""
}
