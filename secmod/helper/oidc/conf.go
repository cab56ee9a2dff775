package oidc

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"rocserv/secmod/helper"
)

const (
	maxConf        = 64 << 10
	defaultUser    = "preferred_username"
	defaultRefresh = 900 * time.Second
)

// conf is FILE of a line `oidc[config=FILE]`.
type conf struct {
	URL      string         `json:"openid_configuration_url"`
	User     string         `json:"user_name_claim"`
	Required map[string]any `json:"required_claims"`
	Refresh  *int           `json:"minimum_jwk_refresh_time"` // seconds
	Groups   string         `json:"groups_claim"`             // ours; empty: none
	CA       string         `json:"ca"`                       // ours: a file of authorities; empty: the host's

	host    string
	roots   *x509.CertPool
	refresh time.Duration
}

func readConf(name string) (c *conf, warnings []string, err error) {
	b, err := helper.ReadFile(name, maxConf)
	if err != nil {
		return nil, nil, err
	}
	c = &conf{User: defaultUser, refresh: defaultRefresh}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := c.check(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if _, has := c.Required["aud"]; !has {
		warnings = append(warnings, name+": no aud in required_claims: whatever token the provider made for any program lets in")
	}
	return c, warnings, nil
}

func (c *conf) check() error {
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		return errors.New("no openid_configuration_url")
	case err != nil:
		return fmt.Errorf("openid_configuration_url: %w", err)
	case u.Host == "" || !safe(u):
		return errors.New("openid_configuration_url: not an https:// address")
	case c.User == "":
		return errors.New("user_name_claim: empty")
	case len(c.Required) == 0:
		return errors.New("no required_claims")
	}
	c.host = u.Hostname()
	for name, want := range c.Required {
		if _, ok := want.(string); !ok {
			return fmt.Errorf("required_claims: %s is no text", name)
		}
	}
	if c.Refresh != nil {
		if *c.Refresh < 0 || *c.Refresh > 1<<20 {
			return fmt.Errorf("minimum_jwk_refresh_time: %d seconds", *c.Refresh)
		}
		c.refresh = time.Duration(*c.Refresh) * time.Second
	}
	if c.CA == "" {
		c.roots, err = x509.SystemCertPool() // now: no file can be opened later
		return err
	}
	pem, err := helper.ReadFile(c.CA, 1<<20)
	if err != nil {
		return err
	}
	c.roots = x509.NewCertPool()
	if !c.roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("ca: no certificate in %s", c.CA)
	}
	return nil
}

// safe says whether nobody is on the way to an address: HTTPS, or the loopback.
func safe(u *url.URL) bool {
	if u.Scheme == "https" {
		return true
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || err == nil && a.IsLoopback())
}
