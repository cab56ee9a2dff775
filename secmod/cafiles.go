package secmod

import (
	"errors"
	"os"

	"rocserv/internal/config"
)

// caFiles are certificates, as PEM, that a user's ways to proxies are verified
// by. A worker opens no files, so it is given their content.
type caFiles struct {
	system []byte            // nil: not needed
	files  map[string][]byte // by the name in the configuration
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

// readCAs reads what the ways of a user need.
func readCAs(u *config.User) (*caFiles, error) {
	c := &caFiles{files: map[string][]byte{}}
	for _, w := range u.Ways {
		var err error
		switch {
		case w.Kind != "https" || c.files[w.CA] != nil:
		case w.CA == "" && c.system == nil:
			c.system, err = readSystemCAs()
		case w.CA != "":
			c.files[w.CA], err = readBounded(w.CA, maxCABundle)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
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
