package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/oauth2"
)

// exchangeTime is how long the provider may take for all that follows a code.
const exchangeTime = 20 * time.Second

// oauth is this server as a client of the provider.
func (m *method) oauth(a about) *oauth2.Config {
	c := &oauth2.Config{
		ClientID: m.conf.Client, ClientSecret: m.conf.secret.Reveal(), RedirectURL: m.conf.Redirect, Scopes: []string{"openid"},
		Endpoint: oauth2.Endpoint{AuthURL: a.Authorize, TokenURL: a.Redeem, AuthStyle: oauth2.AuthStyleInHeader},
	}
	for _, s := range m.conf.Scopes {
		if !slices.Contains(c.Scopes, s) {
			c.Scopes = append(c.Scopes, s)
		}
	}
	// What is not said is client_secret_basic; a client without a secret says only who it is.
	if m.conf.secret.IsZero() || len(a.Methods) > 0 && !slices.Contains(a.Methods, "client_secret_basic") {
		c.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return c
}

// exchange gives the provider the code that a trip ended with, and returns whose it is
// (OpenID Connect Core 1.0, section 3.1.3).
func (m *method) exchange(ctx context.Context, t *trip, code string) (user string, groups []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	about, _, err := m.known(ctx, false)
	if err != nil {
		return "", nil, err
	}
	client := *m.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return errors.New("led elsewhere") } // with the secret
	tokens, err := m.oauth(about).Exchange(context.WithValue(ctx, oauth2.HTTPClient, &client), code, oauth2.VerifierOption(t.verifier.Reveal()))
	if refused := new(oauth2.RetrieveError); errors.As(err, &refused) && refused.ErrorCode == "invalid_grant" { // RFC 6749, section 5.2
		return "", nil, errors.New("the provider does not know the code, or has seen it before")
	}
	if err != nil {
		return "", nil, m.failed("token_endpoint", err)
	}
	signed, _ := tokens.Extra("id_token").(string)
	if signed == "" {
		return "", nil, m.failed("token_endpoint", errors.New("no id_token"))
	}
	claims, err := m.verify(ctx, signed, m.conf.Client)
	if err != nil {
		return "", nil, err
	}
	if nonce, _ := claims["nonce"].(string); !same(nonce, t.nonce) {
		return "", nil, errors.New("the token is of another login")
	}
	if by, ok := claims["azp"]; ok && by != m.conf.Client { // section 3.1.3.7, 5
		return "", nil, errors.New("the token is for another client")
	}
	if err := m.complete(ctx, about, tokens.AccessToken, claims); err != nil {
		return "", nil, err
	}
	return m.who(claims)
}

// complete asks for claims that are wanted and not in the ID token (section 5.4).
func (m *method) complete(ctx context.Context, a about, access string, claims map[string]any) error {
	wanted := []string{m.conf.User}
	if m.conf.Groups != "" {
		wanted = append(wanted, m.conf.Groups)
	}
	for name := range m.conf.Required {
		wanted = append(wanted, name)
	}
	lacks := func(name string) bool { _, has := claims[name]; return !has }
	if a.UserInfo == "" || access == "" || !slices.ContainsFunc(wanted, lacks) {
		return nil
	}
	more := map[string]any{}
	if err := m.get(ctx, a.UserInfo, access, &more); err != nil {
		return m.failed("userinfo_endpoint", err)
	}
	if sub, ok := more["sub"].(string); !ok || sub != claims["sub"] { // section 5.3.2
		return errors.New("the provider tells of another user")
	}
	for name, v := range more {
		if lacks(name) {
			claims[name] = v
		}
	}
	return nil
}

// failed says that the provider cannot be asked, and logs why.
func (m *method) failed(what string, err error) error {
	if refused := new(oauth2.RetrieveError); errors.As(err, &refused) {
		err = fmt.Errorf("status %d, %q", refused.Response.StatusCode, shortened(refused.ErrorCode)) // the body may have anything
	}
	m.log.Warn("OpenID provider does not answer as it should", "asked", what, "err", err)
	return errProvider
}

func shortened(s string) string { return s[:min(len(s), 64)] }
