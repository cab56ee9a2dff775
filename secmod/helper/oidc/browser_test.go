package oidc

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rocserv/internal/ipc"
	"rocserv/secmod/helper"
	"rocserv/test/openid"
)

const (
	testRedirect = "https://vpn.example.com/sso/callback"
	testTicket   = "0123456789abcdef0123456789abcdef"
)

// browsing makes a method for logins in the browser.
func browsing(t *testing.T, configuration string, more map[string]any) *method {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(openid.Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := map[string]any{
		"required_claims": nil, "client_id": "vpn", "client_secret_file": secret, "redirect_uri": testRedirect, "groups_claim": "groups",
	}
	maps.Copy(conf, more)
	m, err := Make(map[string]string{"config": written(t, configuration, conf), "sso": "true"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return m.Method.(*method)
}

// journey is a login in the browser, as client and browser see it.
type journey struct {
	*testing.T
	m   *method
	p   *openid.Provider
	key *ecdh.PrivateKey // the client's; nil: its browser is inside of it
	d   helper.Browsing
}

func (j *journey) begin() {
	j.Helper()
	b := &ipc.Browser{SecretQuery: "s3cret"}
	if j.key != nil {
		der, err := x509.MarshalPKIXPublicKey(j.key.PublicKey())
		if err != nil {
			j.Fatal(err)
		}
		b.External, b.Key = true, der
	}
	d, v := j.m.Begin(j.Context(), helper.Applicant{Browser: b, Ticket: testTicket})
	if v.Outcome != helper.Ask || v.LoginURL != "https://vpn.example.com/sso/login/"+testTicket+"?s3cret" || v.FinalURL != "https://vpn.example.com/sso/done?s3cret" {
		j.Fatalf("%+v", v)
	}
	j.d = d.(helper.Browsing)
	j.Cleanup(d.End)
}

// start has the browser begin, and returns where it is sent and its cookie.
func (j *journey) start() (to, cookie string) {
	j.Helper()
	rep := j.d.Browse(j.Context(), &ipc.Browse{Ticket: testTicket})
	if rep.Result != ipc.BrowseResult_BROWSE_GO {
		j.Fatalf("%+v", rep)
	}
	return rep.Location, rep.Cookie
}

// back is what the browser brings from the provider once a user is logged in there.
func (j *journey) back(user string) *ipc.Browse {
	j.Helper()
	to, cookie := j.start()
	at, err := j.p.Login(to, user)
	if err != nil {
		j.Fatal(err)
	}
	q := at.Query()
	if !strings.HasPrefix(at.String(), testRedirect+"?") || !strings.HasPrefix(q.Get("state"), testTicket) {
		j.Fatal(at)
	}
	return &ipc.Browse{Ticket: testTicket, State: strings.TrimPrefix(q.Get("state"), testTicket), Code: q.Get("code"), Cookie: cookie}
}

func (j *journey) browse(q *ipc.Browse) *ipc.Browsed { return j.d.Browse(j.Context(), q) }

// token is what the client gets of an answer to its browser.
func (j *journey) token(rep *ipc.Browsed) string {
	j.Helper()
	if j.key == nil {
		return rep.Token
	}
	at, err := url.Parse(rep.Location)
	if err != nil || at.Host != "localhost:29786" || at.Query().Get("return") != "https://vpn.example.com/sso/done?s3cret" || rep.Token != "" {
		j.Fatalf("%+v", rep)
	}
	token := opened(j.T, j.key, strings.TrimPrefix(at.Path, "/api/sso/"))
	if !regexp.MustCompile(`^[0-9A-Za-z]+$`).MatchString(token) {
		j.Fatalf("token %q", token)
	}
	return token
}

// opened does what openconnect does with a sealed token (hpke.c).
func opened(t *testing.T, key *ecdh.PrivateKey, text string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || binary.BigEndian.Uint16(b) != 1 {
		t.Fatalf("%q: %v", text, err)
	}
	fields := map[uint16][]byte{}
	for b = b[2:]; len(b) > 0; {
		tag, n := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		fields[tag], b = b[4:4+n], b[4+n:]
	}
	public, err := x509.ParsePKIXPublicKey(fields[1])
	if err != nil || len(fields) != 4 || len(fields[2]) != 12 || len(fields[4]) != 12 {
		t.Fatalf("%v: %v", fields, err)
	}
	theirs, err := public.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	shared, err := key.ECDH(theirs)
	if err != nil {
		t.Fatal(err)
	}
	derived, err := hkdf.Key(sha256.New, shared, nil, "AC_ECIES", 32)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := aes.NewCipher(derived)
	aead, _ := cipher.NewGCMWithTagSize(block, 12)
	token, err := aead.Open(nil, fields[4], slices.Concat(fields[3], fields[2]), nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// verdict is what the client's answer comes to.
func (j *journey) verdict(token string) string {
	switch v := j.d.Answer(j.Context(), []byte(token)); v.Outcome {
	case helper.Admit:
		return "admit " + v.User + " " + strings.Join(v.Groups, ",")
	case helper.Unavailable:
		return "unavailable"
	case helper.Refused:
		return fmt.Sprintf("refused wrong=%v %s", v.Wrong, v.Why)
	default:
		return fmt.Sprintf("%+v", v)
	}
}

// aProvider is one of test/openid's, for this file's logins.
func aProvider(t *testing.T) *openid.Provider {
	t.Helper()
	p, err := openid.Start("127.0.0.1:0", testRedirect)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// TestBrowser: a login in the browser by a provider's own pages, with the secret, without
// one and with the clients' two ways to get the token.
func TestBrowser(t *testing.T) {
	p := aProvider(t)
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		conf map[string]any
		key  *ecdh.PrivateKey
		user string
		want string
	}{
		{"inside", nil, nil, openid.User, "admit " + openid.User + " staff,ops"},
		{"outside", nil, key, openid.User, "admit " + openid.User + " staff,ops"},
		{"another user", nil, key, openid.Other, "admit " + openid.Other + " guests"},
		{"public client", map[string]any{"client_id": "public", "client_secret_file": ""}, key, openid.User, "admit " + openid.User + " staff,ops"},
		{"by subject", map[string]any{"user_name_claim": "sub", "groups_claim": ""}, key, openid.User, "admit id1 "},
		{"of a group", map[string]any{"required_claims": map[string]any{"groups": "staff"}}, key, openid.User, "admit " + openid.User + " staff,ops"},
		{"not of a group", map[string]any{"required_claims": map[string]any{"groups": "staff"}}, key, openid.Other, "refused wrong=false OIDC: the token has not the groups"},
		{"no such name", map[string]any{"user_name_claim": "upn"}, key, openid.User, "refused wrong=false OIDC: the token has no upn"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := &journey{T: t, m: browsing(t, p.Configuration(), tt.conf), p: p, key: tt.key}
			j.begin()
			rep := j.browse(j.back(tt.user))
			want := ipc.BrowseResult_BROWSE_DONE
			if strings.HasPrefix(tt.want, "refused") {
				want = ipc.BrowseResult_BROWSE_REFUSED
			}
			if rep.Result != want || rep.Wrong != (want == ipc.BrowseResult_BROWSE_REFUSED) {
				t.Errorf("the browser is told %+v", rep)
			}
			if got := j.verdict(j.token(rep)); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// TestBrowserOnce: what a browser brings is good for the login it began, once and in
// time; whatever else it may be leaves the login as it is.
func TestBrowserOnce(t *testing.T) {
	p := aProvider(t)
	m := browsing(t, p.Configuration(), nil)
	now := time.Now()
	m.now = func() time.Time { return now }
	j, other := &journey{T: t, m: m, p: p}, &journey{T: t, m: m, p: p}
	j.begin()
	other.begin()
	unknown := func(what string, q *ipc.Browse) {
		t.Helper()
		if rep := j.browse(q); rep.Result != ipc.BrowseResult_BROWSE_UNKNOWN || rep.Location+rep.Token+rep.Cookie != "" {
			t.Errorf("%s: %+v", what, rep)
		}
	}
	unknown("before the browser has begun", &ipc.Browse{State: "x", Code: "y"})
	good, theirs := j.back(openid.User), other.back(openid.Other)
	unknown("another's trip", theirs)
	unknown("another's state", &ipc.Browse{State: theirs.State, Code: good.Code, Cookie: good.Cookie})
	unknown("another's cookie", &ipc.Browse{State: good.State, Code: good.Code, Cookie: theirs.Cookie})
	unknown("no cookie", &ipc.Browse{State: good.State, Code: good.Code})
	unknown("part of the state", &ipc.Browse{State: good.State[:20], Code: good.Code, Cookie: good.Cookie})
	now = now.Add(tripLife)
	unknown("too late", good)
	before := j.back(openid.User)
	good = j.back(openid.User)
	unknown("another trip was begun since", before)
	rep := j.browse(good)
	if rep.Result != ipc.BrowseResult_BROWSE_DONE || rep.Token == "" {
		t.Fatalf("%+v", rep)
	}
	unknown("once more", good)
	unknown("and from the beginning", &ipc.Browse{})
	for what, token := range map[string]string{"another's token": other.browse(other.back(openid.Other)).Token, "none": "", "a guess": strings.Repeat("0", 64)} {
		if got := j.verdict(token); !strings.HasPrefix(got, "refused wrong=true") {
			t.Errorf("%s: %s", what, got)
		}
	}
	if got := j.verdict(rep.Token); got != "admit "+openid.User+" staff,ops" {
		t.Error(got)
	}
	now = now.Add(tokenLife)
	if got := j.verdict(rep.Token); !strings.HasPrefix(got, "refused") {
		t.Errorf("with an old token: %s", got)
	}

	// A code of somebody's that is brought by a browser which began itself.
	thief := &journey{T: t, m: m, p: p}
	thief.begin()
	stolen, mine := j2(t, m, p).back(openid.User), thief.back(openid.Other)
	mine.Code = stolen.Code
	if rep := thief.browse(mine); rep.Result != ipc.BrowseResult_BROWSE_REFUSED || !rep.Wrong || rep.Token != "" {
		t.Errorf("with another's code: %+v", rep)
	}

	early := j2(t, m, p)
	if got := early.verdict("x"); !strings.HasPrefix(got, "refused wrong=true") {
		t.Errorf("the client before its browser: %s", got)
	}
	early.start()
	for range maxTrips - 1 {
		early.start()
	}
	if rep := early.browse(&ipc.Browse{}); rep.Result != ipc.BrowseResult_BROWSE_UNKNOWN {
		t.Errorf("after %d trips: %+v", maxTrips, rep)
	}
	ended := j2(t, m, p)
	late := ended.back(openid.User)
	ended.d.End()
	if rep := ended.browse(late); rep.Result != ipc.BrowseResult_BROWSE_UNKNOWN {
		t.Errorf("after the end: %+v", rep)
	}
}

// j2 is one more login that was begun.
func j2(t *testing.T, m *method, p *openid.Provider) *journey {
	t.Helper()
	j := &journey{T: t, m: m, p: p}
	j.begin()
	return j
}

// TestBrowserCancelled: the client hears of it, and it costs the user nothing.
func TestBrowserCancelled(t *testing.T) {
	p := aProvider(t)
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*ipc.Browse){
		"refused": func(q *ipc.Browse) { q.Code, q.Error = "", "access_denied" },
		"empty":   func(q *ipc.Browse) { q.Code = "" },
		"both":    func(q *ipc.Browse) { q.Error = "server_error" },
	} {
		j := &journey{T: t, m: browsing(t, p.Configuration(), nil), p: p, key: key}
		j.begin()
		q := j.back(openid.User)
		spoil(q)
		rep := j.browse(q)
		if rep.Result != ipc.BrowseResult_BROWSE_REFUSED || rep.Wrong {
			t.Errorf("%s: %+v", name, rep)
		}
		if got := j.verdict(j.token(rep)); !strings.HasPrefix(got, "refused wrong=false") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// spoiled stands before a provider and says other things of some of its addresses.
func spoiled(t *testing.T, p *openid.Provider, pages map[string]http.HandlerFunc) (configuration string) {
	t.Helper()
	rep, err := http.Get(p.Configuration())
	if err != nil {
		t.Fatal(err)
	}
	defer rep.Body.Close()
	about := map[string]any{}
	if err := json.NewDecoder(rep.Body).Decode(&about); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	for name, page := range pages {
		about[name] = front.URL + "/" + name
		mux.HandleFunc("/"+name, page)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(about) })
	return front.URL
}

func says(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	}
}

// TestProviderFails: whatever a provider says instead of a token lets nobody in, and is
// not held against the user unless the code was his own invention.
func TestProviderFails(t *testing.T) {
	p := aProvider(t)
	foreign := tokenOf(t, p, "web")
	silent := func(_ http.ResponseWriter, q *http.Request) {
		q.ParseForm() // the server notices who leaves once it has read what he sent
		<-q.Context().Done()
	}
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, `{"access_token":"x","id_tok`)
	}
	elsewhere := func(w http.ResponseWriter, q *http.Request) {
		http.Redirect(w, q, "http://localhost:9/", http.StatusTemporaryRedirect)
	}
	for name, tt := range map[string]struct {
		at   string
		page http.HandlerFunc
		want string
	}{
		"garbage":              {"token_endpoint", says(200, "<html>"), "unavailable"},
		"nothing":              {"token_endpoint", says(200, `{}`), "unavailable"},
		"no ID token":          {"token_endpoint", says(200, `{"access_token":"x","token_type":"Bearer"}`), "unavailable"},
		"ID token of no form":  {"token_endpoint", says(200, `{"access_token":"x","id_token":"a.b.c"}`), "refused wrong=false OIDC: the token is not good"},
		"another's ID token":   {"token_endpoint", says(200, `{"access_token":"x","id_token":"`+foreign+`"}`), "refused wrong=false OIDC: the token is not good"},
		"broken":               {"token_endpoint", says(500, "oops"), "unavailable"},
		"our secret is wrong":  {"token_endpoint", says(401, `{"error":"invalid_client"}`), "unavailable"},
		"not our code":         {"token_endpoint", says(400, `{"error":"invalid_grant"}`), "refused wrong=false OIDC: the provider does not know the code"},
		"silent":               {"token_endpoint", silent, "unavailable"},
		"cut off":              {"token_endpoint", cut, "unavailable"},
		"elsewhere":            {"token_endpoint", elsewhere, "unavailable"},
		"user: garbage":        {"userinfo_endpoint", says(200, "<html>"), "unavailable"},
		"user: another":        {"userinfo_endpoint", says(200, `{"sub":"id2","preferred_username":"root"}`), "refused wrong=false OIDC: the provider tells of another user"},
		"user: nobody":         {"userinfo_endpoint", says(200, `{"preferred_username":"root"}`), "refused wrong=false OIDC: the provider tells of another user"},
		"user: no name":        {"userinfo_endpoint", says(200, `{"sub":"id1"}`), "refused wrong=false OIDC: the token has no preferred_username"},
		"user: no text":        {"userinfo_endpoint", says(200, `{"sub":"id1","preferred_username":["root"]}`), "refused wrong=false OIDC: the token has no preferred_username"},
		"user: broken":         {"userinfo_endpoint", says(503, ""), "unavailable"},
		"user: much":           {"userinfo_endpoint", says(200, `{"sub":"id1","x":"`+strings.Repeat("x", maxFetch)+`"}`), "unavailable"},
		"user: cannot rewrite": {"userinfo_endpoint", says(200, `{"sub":"id1","aud":"x","iss":"x","preferred_username":"n"}`), "admit n "},
	} {
		t.Run(name, func(t *testing.T) {
			m := browsing(t, spoiled(t, p, map[string]http.HandlerFunc{tt.at: tt.page}), map[string]any{"groups_claim": ""})
			m.client.Timeout = 5 * time.Second
			if name == "silent" {
				m.client.Timeout = 300 * time.Millisecond
			}
			j := &journey{T: t, m: m, p: p}
			key, err := ecdh.P256().GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			j.key = key
			j.begin()
			if got := j.verdict(j.token(j.browse(j.back(openid.User)))); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// TestProviderMisbehaves: what a provider says at the wrong time, or somebody in its name,
// lets nobody in either.
func TestProviderMisbehaves(t *testing.T) {
	p := aProvider(t)
	t.Run("replayed at another login", func(t *testing.T) { // the ID token of a login before
		var first string
		page := func(w http.ResponseWriter, q *http.Request) {
			q.ParseForm()
			again, _ := http.NewRequest("POST", p.Issuer+"oauth/token", strings.NewReader(q.PostForm.Encode()))
			again.Header = q.Header
			rep, err := http.DefaultClient.Do(again)
			if err != nil {
				t.Error(err)
				return
			}
			defer rep.Body.Close()
			var got map[string]any
			json.NewDecoder(rep.Body).Decode(&got)
			if first == "" {
				first, _ = got["id_token"].(string)
			}
			got["id_token"] = first
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(got)
		}
		m := browsing(t, spoiled(t, p, map[string]http.HandlerFunc{"token_endpoint": page}), nil)
		for i, want := range []string{"admit " + openid.User, "refused"} {
			j := j2(t, m, p)
			rep := j.browse(j.back(openid.User))
			if got := j.verdict(rep.Token); i == 0 && !strings.HasPrefix(got, want) || i == 1 && (rep.Result != ipc.BrowseResult_BROWSE_REFUSED || rep.Token != "") {
				t.Errorf("login %d: %+v, %s", i, rep, got)
			}
		}
	})
	t.Run("nobody waits any more", func(t *testing.T) {
		asked := make(chan struct{})
		m := browsing(t, spoiled(t, p, map[string]http.HandlerFunc{"token_endpoint": func(_ http.ResponseWriter, q *http.Request) {
			q.ParseForm()
			close(asked)
			<-q.Context().Done()
		}}), nil)
		j := j2(t, m, p)
		q := j.back(openid.User)
		ctx, leave := context.WithCancel(t.Context())
		go func() { <-asked; leave() }()
		if rep := j.d.Browse(ctx, q); rep.Result != ipc.BrowseResult_BROWSE_UNAVAILABLE || rep.Token != "" {
			t.Errorf("%+v", rep)
		}
	})
	t.Run("down from the beginning", func(t *testing.T) {
		j := j2(t, browsing(t, "http://127.0.0.1:9/", nil), p)
		if rep := j.browse(&ipc.Browse{}); rep.Result != ipc.BrowseResult_BROWSE_UNAVAILABLE {
			t.Errorf("%+v", rep)
		}
	})
	t.Run("unsafe addresses", func(t *testing.T) {
		for _, at := range []string{"token_endpoint", "authorization_endpoint", "userinfo_endpoint"} {
			a := about{Issuer: "i", Keys: "https://h/k", Authorize: "https://h/a", Redeem: "https://h/t", UserInfo: "https://h/u"}
			if err := a.check(true); err != nil {
				t.Fatal(err)
			}
			switch at {
			case "token_endpoint":
				a.Redeem = "http://h/t"
			case "authorization_endpoint":
				a.Authorize = ""
			case "userinfo_endpoint":
				a.UserInfo = "ftp://h/"
			}
			if err := a.check(true); err == nil || !strings.Contains(err.Error(), at) {
				t.Errorf("%s: %v", at, err)
			}
		}
	})
}

// TestClientKeys: a client's key is a point of P-256, or there is no login.
func TestClientKeys(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := x509.MarshalPKIXPublicKey(p384.Public())
	if err != nil {
		t.Fatal(err)
	}
	m := browsing(t, "https://login.example/", nil)
	for name, der := range map[string][]byte{"none": nil, "garbage": {0x30, 0x59, 0x30}, "of P-384": other} {
		if d, v := m.Begin(t.Context(), helper.Applicant{Browser: &ipc.Browser{External: true, Key: der}}); d != nil || v.Outcome != helper.Refused || !v.Wrong {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// TestBrowserConf: what is wrong with a file for logins in the browser is said.
func TestBrowserConf(t *testing.T) {
	good := map[string]any{"required_claims": nil, "client_id": "vpn", "redirect_uri": testRedirect}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		key   string
		value any
		want  string
	}{
		{"", nil, ""},
		{"client_id", nil, "no client_id"},
		{"redirect_uri", nil, "redirect_uri"},
		{"redirect_uri", "http://vpn.example.com/sso/callback", "redirect_uri"},
		{"redirect_uri", "https://vpn.example.com/", "redirect_uri"},
		{"redirect_uri", testRedirect + "?x", "redirect_uri"},
		{"redirect_uri", "https://u@vpn.example.com/sso/callback", "redirect_uri"},
		{"redirect_uri", "https://vpn.example.com:8443/sso/callback", ""},
		{"client_secret_file", "/nonexistent/secret", "no such file"},
		{"client_secret_file", empty, "nothing in"},
		{"scopes", []string{"profile email"}, "scopes"},
	} {
		conf := maps.Clone(good)
		if tt.key != "" {
			conf[tt.key] = tt.value
		}
		name := written(t, "https://login.example/", conf)
		warnings, err := Check(map[string]string{"config": name, "sso": "true"})
		if tt.want == "" && (err != nil || len(warnings) > 0) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s = %v: %v, %v, want %q", tt.key, tt.value, warnings, err, tt.want)
		}
	}
}
