package oidc

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"rocserv/secmod/helper"
)

const (
	fetchTime = 10 * time.Second
	maxFetch  = 1 << 20
)

var (
	errProvider = errors.New("the provider cannot be asked")
	errKey      = errors.New("no key of the provider's has signed it")
)

// provider is who signs tokens: his name and his public keys. It implements
// oidc.KeySet.
type provider struct {
	conf   *conf
	client *http.Client
	log    helper.Logger
	now    func() time.Time

	mu      sync.Mutex // held while something is fetched: who comes then waits
	about   about
	keys    []jose.JSONWebKey
	fetched time.Time // or tried
}

// about is what the provider says of itself (OpenID Connect Discovery 1.0, section 3).
type about struct {
	Issuer    string   `json:"issuer"`
	Keys      string   `json:"jwks_uri"`
	Authorize string   `json:"authorization_endpoint"`
	Redeem    string   `json:"token_endpoint"`
	UserInfo  string   `json:"userinfo_endpoint"`
	Methods   []string `json:"token_endpoint_auth_methods_supported"`
}

// check holds every URL against safe.
func (a *about) check(sso bool) error {
	need := map[string]string{"jwks_uri": a.Keys}
	if sso {
		need["authorization_endpoint"], need["token_endpoint"] = a.Authorize, a.Redeem
		if a.UserInfo != "" {
			need["userinfo_endpoint"] = a.UserInfo
		}
	}
	for name, text := range need {
		if u, err := url.Parse(text); err != nil || u.Host == "" || !safe(u) {
			return fmt.Errorf("no %s that can be asked", name)
		}
	}
	if a.Issuer == "" {
		return errors.New("no issuer")
	}
	return nil
}

func newProvider(c *conf, names *helper.Names, log helper.Logger) *provider {
	t := &http.Transport{
		DialContext: names.Dial, TLSClientConfig: &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS12},
		MaxIdleConns: 2, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
	}
	redirect := func(q *http.Request, via []*http.Request) error {
		if !safe(q.URL) || len(via) > 5 {
			return errors.New("led elsewhere")
		}
		return nil
	}
	return &provider{conf: c, client: &http.Client{Transport: t, CheckRedirect: redirect, Timeout: fetchTime}, log: log, now: time.Now}
}

// known returns what the provider says of itself, and its keys. With again, they are fetched once more
// if that was not done a moment ago.
func (p *provider) known(ctx context.Context, again bool) (a about, keys []jose.JSONWebKey, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const pause = 5 * time.Second // between two tries while nothing is known
	wait := p.conf.refresh
	if p.keys == nil {
		again, wait = true, min(pause, wait)
	}
	if again && p.now().Sub(p.fetched) >= wait {
		err = p.fetch(context.WithoutCancel(ctx)) // who leaves meanwhile must not keep others from new keys
		p.fetched = p.now()
		if err != nil {
			p.log.Warn("OpenID provider does not answer", "url", p.conf.URL, "err", err)
		}
	}
	if p.keys == nil {
		return about{}, nil, errProvider
	}
	return p.about, p.keys, nil
}

// fetch asks for the provider's configuration, and for the keys that it names.
func (p *provider) fetch(ctx context.Context) error {
	var a about
	if err := p.get(ctx, p.conf.URL, "", &a); err != nil {
		return err
	}
	if err := a.check(p.conf.Client != ""); err != nil {
		return fmt.Errorf("%s: %w", p.conf.URL, err)
	}
	var set jose.JSONWebKeySet
	if err := p.get(ctx, a.Keys, "", &set); err != nil {
		return err
	}
	var keys []jose.JSONWebKey
	for _, k := range set.Keys {
		if k.IsPublic() && (k.Use == "" || k.Use == "sig") {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return fmt.Errorf("%s: no public key", a.Keys)
	}
	p.about, p.keys = a, keys
	return nil
}

// get fetches JSON, with a bearer's token unless that is empty.
func (p *provider) get(ctx context.Context, from, bearer string, to any) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	if bearer != "" {
		q.Header.Set("Authorization", "Bearer "+bearer)
	}
	rep, err := p.client.Do(q)
	if err != nil {
		return err
	}
	defer rep.Body.Close()
	if rep.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", from, rep.Status)
	}
	b, err := io.ReadAll(io.LimitReader(rep.Body, maxFetch))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, to); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return nil
}

// VerifySignature implements oidc.KeySet: a key that is not known is looked for once
// more.
func (p *provider) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	for _, again := range []bool{false, true} {
		_, keys, err := p.known(ctx, again)
		if err != nil {
			return nil, err
		}
		set := new(oidc.StaticKeySet)
		for _, k := range named(keys, token) {
			set.PublicKeys = append(set.PublicKeys, k.Key)
		}
		if len(set.PublicKeys) == 0 {
			continue
		}
		if payload, err := set.VerifySignature(ctx, token); err == nil {
			return payload, nil
		}
	}
	return nil, errKey
}

// named are the keys that a token may be signed with: the one it names, or all.
func named(keys []jose.JSONWebKey, token string) (list []jose.JSONWebKey) {
	t, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(t.Signatures) != 1 {
		return nil
	}
	h := t.Signatures[0].Header
	for _, k := range keys {
		if (h.KeyID == "" || k.KeyID == h.KeyID) && (k.Algorithm == "" || k.Algorithm == h.Algorithm) {
			list = append(list, k)
		}
	}
	return list
}
