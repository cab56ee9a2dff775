package secmod

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"rocserv/internal/config"
	"rocserv/internal/session"
)

const (
	maxCAFile  = 8 << 20
	maxCRLFile = 64 << 20
	maxChain   = 8       // certificates a client may bring along
	maxHints   = 8 << 10 // bytes of authorities that are named in the handshake
)

// sanEmail is the value of cert-user-oid that means the e-mail address among
// the alternative names (ocserv).
const sanEmail = "SAN(rfc822name)"

// certificate is what a good client certificate says.
type certificate struct {
	user        string
	groups      []string
	fingerprint session.Fingerprint
}

// clients says which client certificates are good at a virtual host: who
// signed them (ca-cert), which of them are revoked (crl), and where they have
// names. That the client has the key is the word of its worker, who did the
// handshake (doc/security.md).
type clients struct {
	roots    *x509.CertPool
	cas      []*x509.Certificate
	userOID  asn1.ObjectIdentifier // nil: the e-mail address
	groupOID asn1.ObjectIdentifier // nil: no groups
	revoked  *revoked              // nil: no list
}

// newClients reads the files of a virtual host; option is what an error is about.
func newClients(s *server, c *config.Vhost) (cl *clients, option string, err error) {
	if c.CACert == "" {
		return nil, "auth", errors.New("client certificates are asked for, and no ca-cert says whose they may be")
	}
	b, err := readBounded(c.CACert, maxCAFile)
	if err != nil {
		return nil, "ca-cert", fmt.Errorf("ca-cert: %w", err)
	}
	cl = &clients{roots: x509.NewCertPool()}
	for block := range blocks(b, "CERTIFICATE") {
		ca, err := x509.ParseCertificate(block)
		if err != nil {
			return nil, "ca-cert", fmt.Errorf("ca-cert: %s: %w", c.CACert, err)
		}
		cl.roots.AddCert(ca)
		cl.cas = append(cl.cas, ca)
	}
	if len(cl.cas) == 0 {
		return nil, "ca-cert", fmt.Errorf("ca-cert: %s: no certificate in it", c.CACert)
	}
	if !strings.EqualFold(c.CertUserOID, sanEmail) {
		cl.userOID = parseOID(c.CertUserOID)
	}
	cl.groupOID = parseOID(c.CertGroupOID)
	if c.CRL != "" {
		cl.revoked = &revoked{s: s, name: c.CRL}
		if err := cl.revoked.load(); err != nil {
			return nil, "crl", fmt.Errorf("crl: %w", err)
		}
	}
	return cl, "", nil
}

// announced are the authorities that clients are told of, so that a person with
// many certificates is asked about the right one. Too many are left out: no
// list means any.
func (c *clients) announced() (der [][]byte) {
	size := 0
	for _, ca := range c.cas {
		if size += len(ca.Raw); size > maxHints {
			return nil
		}
		der = append(der, ca.Raw)
	}
	return der
}

// parseOID reads numbers with dots; config has checked them.
func parseOID(s string) (oid asn1.ObjectIdentifier) {
	if s == "" {
		return nil
	}
	for n := range strings.SplitSeq(s, ".") {
		i, err := strconv.Atoi(n)
		if err != nil {
			return nil
		}
		oid = append(oid, i)
	}
	return oid
}

// blocks iterates over the DER of a file, which is PEM with blocks of that
// type, or DER itself.
func blocks(b []byte, kind string) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		if !bytes.Contains(b, []byte("-----BEGIN ")) {
			if len(b) > 0 {
				yield(b)
			}
			return
		}
		for rest := b; ; {
			var p *pem.Block
			if p, rest = pem.Decode(rest); p == nil {
				return
			}
			if p.Type == kind && !yield(p.Bytes) {
				return
			}
		}
	}
}

// check looks at what a client has brought along. Nil with a reason: nothing
// good. It may be called on a nil clients.
func (c *clients) check(der [][]byte, now time.Time) (cert *certificate, why string) {
	switch {
	case c == nil || len(der) == 0:
		return nil, ""
	case len(der) > maxChain:
		return nil, "certificate: too long a chain"
	}
	chain := make([]*x509.Certificate, len(der))
	for i, d := range der {
		var err error
		if chain[i], err = x509.ParseCertificate(d); err != nil {
			return nil, "certificate: " + err.Error()
		}
	}
	leaf := chain[0]
	between := x509.NewCertPool()
	for _, ca := range chain[1:] {
		between.AddCert(ca)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, "certificate: " + err.Error()
	}
	if c.revoked != nil {
		if err := c.revoked.check(chains, now); err != nil {
			return nil, "certificate: " + err.Error()
		}
	}
	cert = &certificate{user: c.userOf(leaf), groups: c.groupsOf(leaf), fingerprint: fingerprintOf(leaf)}
	if !validName(cert.user) {
		return nil, "certificate: it names no user, or an impossible one"
	}
	return cert, ""
}

func fingerprintOf(c *x509.Certificate) session.Fingerprint { return sha256.Sum256(c.Raw) }

// userOf finds the user's name, or nothing if there is none or more than one.
func (c *clients) userOf(leaf *x509.Certificate) string {
	names := leaf.EmailAddresses
	if c.userOID != nil {
		names = subject(leaf, c.userOID)
	}
	if len(names) != 1 {
		return ""
	}
	return names[0]
}

// groupsOf finds the names of the user's groups.
func (c *clients) groupsOf(leaf *x509.Certificate) (groups []string) {
	if c.groupOID == nil {
		return nil
	}
	for _, g := range subject(leaf, c.groupOID) {
		if validName(g) {
			groups = append(groups, g)
		}
	}
	return groups
}

// subject returns the values an attribute has in the subject's name.
func subject(leaf *x509.Certificate, oid asn1.ObjectIdentifier) (values []string) {
	for _, a := range leaf.Subject.Names {
		if s, ok := a.Value.(string); ok && a.Type.Equal(oid) {
			values = append(values, s)
		}
	}
	return values
}

// revoked is the file of `crl`, read again when it changes. While it cannot be
// read, and when a list in it is out of date, nobody with a certificate of its
// issuer gets in.
type revoked struct {
	s    *server
	name string

	mu     sync.Mutex
	lists  []revocations
	loaded stamp
}

// revocations is one list, with its serial numbers (as bytes) to look up in.
type revocations struct {
	*x509.RevocationList
	serials map[string]bool
}

// load reads the file if it has changed. mu is held, or nobody else knows it.
func (r *revoked) load() error {
	st, err := os.Stat(r.name)
	if err != nil {
		return err
	}
	now := stampOf(st)
	if now == r.loaded {
		return nil
	}
	r.loaded, r.lists = stamp{}, nil
	b, err := readBounded(r.name, maxCRLFile)
	if err != nil {
		return err
	}
	var lists []revocations
	for der := range blocks(b, "X509 CRL") {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		list := revocations{l, make(map[string]bool, len(l.RevokedCertificateEntries))}
		for _, e := range l.RevokedCertificateEntries {
			list.serials[string(e.SerialNumber.Bytes())] = true
		}
		l.RevokedCertificateEntries = nil // the map has what is needed
		lists = append(lists, list)
	}
	r.lists, r.loaded = lists, now
	return nil
}

// check says why no chain is good: a certificate in it is revoked, or a list of
// its issuer does not count.
func (r *revoked) check(chains [][]*x509.Certificate, now time.Time) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.load(); err != nil {
		return err
	}
	for _, chain := range chains {
		if err = r.checkChain(chain, now); err == nil {
			return nil
		}
	}
	return err
}

func (r *revoked) checkChain(chain []*x509.Certificate, now time.Time) error {
	for i, cert := range chain[:len(chain)-1] {
		issuer := chain[i+1]
		for _, l := range r.lists {
			if !bytes.Equal(l.RawIssuer, issuer.RawSubject) {
				continue
			}
			if err := l.CheckSignatureFrom(issuer); err != nil {
				continue // of another authority with the same name
			}
			if !l.NextUpdate.IsZero() && now.After(l.NextUpdate) {
				return errors.New("the list of revoked certificates is out of date")
			}
			if l.serials[string(cert.SerialNumber.Bytes())] {
				return errors.New("revoked")
			}
		}
	}
	return nil
}
