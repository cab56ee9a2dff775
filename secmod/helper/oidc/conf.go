package oidc

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/secret"
	"rocserv/secmod/helper"
)

const (
	maxConf        = 64 << 10
	maxSecret      = 4 << 10
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

	// Ours, for logins in the browser.
	Client     string   `json:"client_id"`
	SecretFile string   `json:"client_secret_file"` // empty: a public client
	Redirect   string   `json:"redirect_uri"`       // a URL of this server's, by which browsers reach it
	Scopes     []string `json:"scopes"`             // beside openid

	secret  secret.Text
	host    string
	roots   *x509.CertPool
	refresh time.Duration
}

// readConf reads the file, for logins in the browser or by tokens.
func readConf(name string, sso bool) (c *conf, warnings []string, err error) {
	b, err := helper.ReadFile(name, maxConf)
	if err != nil {
		return nil, nil, err
	}
	c = &conf{User: defaultUser, refresh: defaultRefresh, Scopes: []string{"profile"}}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	err = c.check(sso)
	if err == nil && sso {
		err = c.checkSSO()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if _, has := c.Required["aud"]; !has && !sso {
		warnings = append(warnings, name+": no aud in required_claims: whatever token the provider made for any program lets in")
	}
	return c, warnings, nil
}

func (c *conf) check(sso bool) error {
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
	case len(c.Required) == 0 && !sso:
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

// checkSSO looks at what a login in the browser needs.
func (c *conf) checkSSO() error {
	u, err := url.Parse(c.Redirect)
	switch {
	case c.Client == "":
		return errors.New("no client_id, which sso = true needs")
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != ipc.SSOCallbackPath || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("redirect_uri: not https://HOST%s, where this server is reached", ipc.SSOCallbackPath)
	}
	for _, s := range c.Scopes {
		if s == "" || strings.ContainsAny(s, " \t\r\n") {
			return errors.New("scopes: a list of words")
		}
	}
	if c.SecretFile == "" {
		return nil
	}
	b, err := helper.ReadFile(c.SecretFile, maxSecret)
	if err != nil {
		return err
	}
	defer clear(b)
	if c.secret = secret.NewText(strings.TrimRight(string(b), "\r\n")); c.secret.IsZero() {
		return fmt.Errorf("client_secret_file: nothing in %s", c.SecretFile)
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
