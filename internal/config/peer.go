package config

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// Peer is whom to expect at the other end of a TLS connection, and what to look
// like to it.
type Peer struct {
	Pins        []string // base64 of SHA-256 of a public key
	CA          string   // file; empty: the system's
	ServerName  string   // of the certificate; empty: the host
	Fingerprint string   // empty: tls-fingerprint
}

// fingerprints are what a ClientHello to a proxy or resolver can look like.
var fingerprints = []string{"go", "chrome", "firefox", "safari", "ios", "randomized"}

// set reads one KEY=VALUE. Its errors name no value.
func (p *Peer) set(key, value string) (known bool, err error) {
	switch key {
	case "pin-sha256":
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil || len(b) != 32 {
			return true, fmt.Errorf("pin-sha256 is the base64 of 32 bytes")
		}
		p.Pins = append(p.Pins, value)
	case "ca":
		p.CA = value
	case "name":
		if p.ServerName, err = CanonicalName(value); err != nil {
			return true, fmt.Errorf("name is not a host name")
		}
	case "tls-fingerprint":
		if !slices.Contains(fingerprints, value) {
			return true, fmt.Errorf("tls-fingerprint is one of %s", strings.Join(fingerprints, ", "))
		}
		p.Fingerprint = value
	default:
		return false, nil
	}
	return true, nil
}

// isSet says whether anything is said.
func (p *Peer) isSet() bool {
	return len(p.Pins) > 0 || p.CA != "" || p.ServerName != "" || p.Fingerprint != ""
}

// words are the settings as one would write them, each with a blank before it.
func (p *Peer) words() (s string) {
	for _, pin := range p.Pins {
		s += " pin-sha256=" + pin
	}
	for _, kv := range [][2]string{{"ca", p.CA}, {"name", p.ServerName}, {"tls-fingerprint", p.Fingerprint}} {
		if kv[1] != "" {
			s += " " + kv[0] + "=" + kv[1]
		}
	}
	return s
}
