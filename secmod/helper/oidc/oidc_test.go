package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rocserv/secmod/helper"
	"rocserv/test/openid"
)

// provided starts a provider.
func provided(t *testing.T, address string) *openid.Provider {
	t.Helper()
	p, err := openid.Start(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func tokenOf(t *testing.T, p *openid.Provider, client string) string {
	t.Helper()
	token, err := p.Token(client)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// written makes a file of the method's.
func written(t *testing.T, url string, more map[string]any) string {
	t.Helper()
	c := map[string]any{"openid_configuration_url": url, "required_claims": map[string]any{"aud": "web"}}
	for k, v := range more {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "oidc.json")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func made(t *testing.T, url string, more map[string]any) *method {
	t.Helper()
	m, err := Make(map[string]string{"config": written(t, url, more)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return m.Method.(*method)
}

// said is what a login with a token comes to.
func said(t *testing.T, m *method, token string) string {
	t.Helper()
	d, v := m.Begin(t.Context(), helper.Applicant{})
	if v.Outcome != helper.Ask {
		t.Fatalf("%+v", v)
	}
	defer d.End()
	switch v := d.Answer(t.Context(), []byte(token)); {
	case v.Outcome == helper.Admit:
		return strings.TrimSpace("admit " + v.User + " " + strings.Join(v.Groups, ","))
	case v.Outcome == helper.Unavailable:
		return "unavailable"
	case v.Outcome == helper.Refused && v.Wrong:
		return "wrong: " + v.Why
	default:
		return fmt.Sprintf("%+v", v)
	}
}

// TestTokens: whose token is good, and for what.
func TestTokens(t *testing.T) {
	p := provided(t, "127.0.0.1:0")
	good := tokenOf(t, p, "web")
	parts := strings.Split(good, ".")
	forge := func(header string, change func(map[string]any)) string {
		b, err := base64.RawURLEncoding.DecodeString(parts[1])
		claims := map[string]any{}
		if err != nil || json.Unmarshal(b, &claims) != nil {
			t.Fatal(err)
		}
		change(claims)
		b, _ = json.Marshal(claims)
		h := parts[0]
		if header != "" {
			h = base64.RawURLEncoding.EncodeToString([]byte(header))
		}
		return h + "." + base64.RawURLEncoding.EncodeToString(b) + "." + parts[2]
	}
	nothing := func(map[string]any) {}
	for _, tt := range []struct {
		name  string
		conf  map[string]any
		token string
		later time.Duration
		want  string
	}{
		{"good", nil, good, 0, "admit " + openid.User},
		{"another name", map[string]any{"user_name_claim": "sub"}, good, 0, "admit id1"},
		{"groups", map[string]any{"groups_claim": "aud"}, good, 0, "admit " + openid.User + " web"},
		{"the issuer too", map[string]any{"required_claims": map[string]any{"aud": "web", "iss": p.Issuer}}, good, 0, "admit " + openid.User},
		{"another issuer", map[string]any{"required_claims": map[string]any{"iss": "https://elsewhere/"}}, good, 0, "wrong: OIDC: the token has not the iss"},
		{"another program's", nil, tokenOf(t, p, "other"), 0, "wrong: OIDC: the token has not the aud"},
		{"no such name", map[string]any{"user_name_claim": "upn"}, good, 0, "wrong: OIDC: the token has no upn"},
		{"expired", nil, good, 3 * time.Hour, "wrong: OIDC: the token is not good"},
		{"not yet", nil, good, -3 * time.Hour, "wrong: OIDC: the token is"},
		{"changed", nil, forge("", func(c map[string]any) { c["preferred_username"] = "root" }), 0, "wrong: OIDC: the token is not good"},
		{"not signed", nil, forge(`{"alg":"none"}`, nothing), 0, "wrong: OIDC: the token is not good"},
		{"signed by a password", nil, forge(`{"alg":"HS256"}`, nothing), 0, "wrong: OIDC: the token is not good"},
		{"of another's key", nil, tokenOf(t, provided(t, "127.0.0.1:0"), "web"), 0, "wrong: OIDC: the token is not good"},
		{"nothing", nil, "", 0, "wrong: OIDC: no token"},
		{"garbage", nil, "a.b.c", 0, "wrong: OIDC: the token is not good"},
		{"much", nil, strings.Repeat("x", maxToken+1), 0, "wrong: OIDC: a token that is too long"},
	} {
		m := made(t, p.Configuration(), tt.conf)
		m.now = func() time.Time { return time.Now().Add(tt.later) }
		if got := said(t, m, tt.token); got != tt.want && !(strings.HasPrefix(tt.want, "wrong") && strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestKeys: new keys of the provider's are found, not more often than may be; while
// it is away what is known serves.
func TestKeys(t *testing.T) {
	p := provided(t, "127.0.0.1:0")
	m := made(t, p.Configuration(), map[string]any{"minimum_jwk_refresh_time": 60})
	now := time.Now()
	m.now = func() time.Time { return now }
	old := tokenOf(t, p, "web")
	if got := said(t, m, old); !strings.HasPrefix(got, "admit") {
		t.Fatal(got)
	}
	p.Close()
	if got := said(t, m, old); !strings.HasPrefix(got, "admit") {
		t.Errorf("while the provider is away: %s", got)
	}
	address := strings.TrimSuffix(strings.TrimPrefix(p.Issuer, "http://"), "/")
	p = provided(t, strings.Replace(address, "localhost", "127.0.0.1", 1)) // with other keys
	fresh := tokenOf(t, p, "web")
	if got := said(t, m, fresh); !strings.HasPrefix(got, "wrong") {
		t.Errorf("asked again too soon: %s", got)
	}
	now = now.Add(61 * time.Second)
	gone, leave := context.WithCancel(t.Context())
	leave() // who is gone before the keys are there keeps nobody from them
	d, _ := m.Begin(gone, helper.Applicant{})
	d.Answer(gone, []byte(fresh))
	if got := said(t, m, fresh); !strings.HasPrefix(got, "admit") {
		t.Errorf("with new keys: %s", got)
	}
	if got := said(t, m, old); !strings.HasPrefix(got, "wrong") {
		t.Errorf("with a key that is no more: %s", got)
	}
}

// TestNoProvider: where it does not answer, or not sensibly, nothing is said of the user.
func TestNoProvider(t *testing.T) {
	p := provided(t, "127.0.0.1:0")
	token := tokenOf(t, p, "web")
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, url := range map[string]string{
		"nobody there":  "http://127.0.0.1:9/",
		"nothing there": p.Issuer + "nothing",
		"another page":  p.Issuer + "logged-out",
		"silent":        "http://" + silent.Addr().String() + "/",
	} {
		m := made(t, url, nil)
		m.client.Timeout = 200 * time.Millisecond
		if got := said(t, m, token); got != "unavailable" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestConf: what is wrong with a file is said.
func TestConf(t *testing.T) {
	const url = "https://login.example/.well-known/openid-configuration"
	for want, more := range map[string]map[string]any{
		"no openid_configuration_url":     {"openid_configuration_url": nil},
		"not an https:// address":         {"openid_configuration_url": "http://login.example/"},
		"no required_claims":              {"required_claims": nil},
		"required_claims: aud is no text": {"required_claims": map[string]any{"aud": 1}},
		"user_name_claim: empty":          {"user_name_claim": ""},
		"minimum_jwk_refresh_time: -1":    {"minimum_jwk_refresh_time": -1},
		`unknown field "user_claim"`:      {"user_claim": "x"},
		"no such file":                    {"ca": "/nonexistent/ca.pem"},
	} {
		if _, err := Check(map[string]string{"config": written(t, url, more)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", more, err, want)
		}
	}
	warnings, err := Check(map[string]string{"config": written(t, url, map[string]any{"required_claims": map[string]any{"iss": "x"}})})
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "no aud in required_claims") {
		t.Errorf("without an aud: %v, %v", warnings, err)
	}
}

// TestNames: a name is looked up again when nobody answers where it was.
func TestNames(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	answers := []string{"", "127.0.0.2", "127.0.0.1", ""}
	asked := 0
	names, warnings := helper.Resolve(func(context.Context, string, string) ([]netip.Addr, error) {
		a := answers[asked]
		asked++
		if a == "" {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	}, "login.example")
	if len(warnings) != 1 || !strings.Contains(warnings[0], "login.example") {
		t.Errorf("warnings: %v", warnings)
	}
	for _, want := range []struct {
		ok    bool
		asked int
	}{{false, 2}, {true, 3}, {true, 3}} {
		c, err := names.Dial(t.Context(), "tcp", "login.example:"+port)
		if (err == nil) != want.ok || asked != want.asked {
			t.Errorf("%v after %d look-ups, want %+v", err, asked, want)
		}
		if err == nil {
			c.Close()
		}
	}
}
