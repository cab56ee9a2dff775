package oidc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"rocserv/secmod/helper"
)

const (
	maxToken  = 12 << 10
	maxGroups = 32              // of a user (ocserv, MAX_GROUPS)
	skew      = 5 * time.Minute // that the provider's clock may be ahead
)

// algorithms are those of public keys (RFC 7518): none and HMAC are not among them.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
}

// method is a line `auth = "oidc[config=FILE]"`.
type method struct {
	*provider
	sso bool // in the user's browser
}

// Make makes the method. It implements helper.Make.
func Make(line map[string]string, log helper.Logger) (helper.Made, error) {
	sso := line["sso"] == "true"
	c, warnings, err := readConf(line["config"], sso)
	if err != nil {
		return helper.Made{}, err
	}
	names, said := helper.Resolve(net.DefaultResolver.LookupNetIP, c.host)
	made := helper.Made{Method: &method{newProvider(c, names, log), sso}, Warnings: append(warnings, said...)}
	made.Files.Exact = helper.ResolverFiles()
	return made, nil
}

// Check reads the file. It implements helper.Check.
func Check(line map[string]string) (warnings []string, err error) {
	_, warnings, err = readConf(line["config"], line["sso"] == "true")
	return warnings, err
}

// Begin waits for the token, whoever it is.
func (m *method) Begin(_ context.Context, a helper.Applicant) (helper.Dialogue, helper.Verdict) {
	if m.sso {
		return m.browsed(a)
	}
	return login{m}, helper.Verdict{Outcome: helper.Ask}
}

// login is a login under way.
type login struct{ m *method }

// End implements helper.Dialogue: there is nothing to end.
func (login) End() {}

// Answer takes the token.
func (d login) Answer(ctx context.Context, token []byte) helper.Verdict {
	if len(token) > maxToken {
		return helper.Verdict{Wrong: true, Why: "OIDC: a token that is too long"}
	}
	user, groups, err := d.m.check(ctx, string(token))
	switch {
	case errors.Is(err, errProvider):
		return helper.Verdict{Outcome: helper.Unavailable, Why: "OIDC: " + err.Error()}
	case err != nil:
		return helper.Verdict{Wrong: true, Why: "OIDC: " + err.Error()}
	}
	return helper.Verdict{Outcome: helper.Admit, User: user, Groups: groups}
}

// check says whose token it is.
func (m *method) check(ctx context.Context, token string) (user string, groups []string, err error) {
	if len(token) == 0 {
		return "", nil, errors.New("no token")
	}
	claims, err := m.verify(ctx, token, "")
	if err != nil {
		return "", nil, err
	}
	return m.who(claims)
}

// verify returns what a token says that the provider has signed, for a client of its or
// for any (empty), and that is good now.
func (m *method) verify(ctx context.Context, token, client string) (claims map[string]any, err error) {
	about, _, err := m.known(ctx, false)
	if err != nil {
		return nil, err
	}
	_, named := m.conf.Required["iss"] // then the file says who (a provider of many has no one name)
	var algs []string
	for _, a := range algorithms {
		algs = append(algs, string(a))
	}
	t, err := oidc.NewVerifier(about.Issuer, m.provider, &oidc.Config{
		SupportedSigningAlgs: algs, ClientID: client, SkipClientIDCheck: client == "", SkipIssuerCheck: named, Now: m.now,
	}).Verify(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("the token is not good: %w", err)
	}
	if t.IssuedAt.After(m.now().Add(skew)) {
		return nil, errors.New("the token is of a time to come")
	}
	return claims, t.Claims(&claims)
}

// who is the user that claims are about, if they have what is required.
func (m *method) who(claims map[string]any) (user string, groups []string, err error) {
	for name, want := range m.conf.Required {
		if !holds(claims[name], want) {
			return "", nil, fmt.Errorf("the token has not the %s that is required", name)
		}
	}
	user, _ = claims[m.conf.User].(string)
	if user == "" {
		return "", nil, fmt.Errorf("the token has no %s", m.conf.User)
	}
	return user, texts(claims[m.conf.Groups]), nil
}

// holds says whether a claim is a text, or a list with it.
func holds(claim, want any) bool {
	list, ok := claim.([]any)
	if !ok {
		list = []any{claim}
	}
	for _, v := range list {
		if s, ok := v.(string); ok && s == want {
			return true
		}
	}
	return false
}

// texts are those of a claim, which is one or a list.
func texts(claim any) (all []string) {
	list, ok := claim.([]any)
	if !ok {
		list = []any{claim}
	}
	for _, v := range list {
		if s, ok := v.(string); ok && s != "" && len(all) < maxGroups {
			all = append(all, s)
		}
	}
	return all
}
