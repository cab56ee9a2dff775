package openid

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The users of the provider, and where its clients would get their tokens.
const (
	User     = "test-user@localhost" // of the groups staff and ops
	Other    = "test-user2"          // of guests
	Password = "verysecure"
	Secret   = "secret" // of the clients
	callback = "http://localhost:9999/auth/callback"
)

// groups are what the claim of that name says of users.
var groups = map[string][]string{"id1": {"staff", "ops"}, "id2": {"guests"}}

// directory is the example's storage, with groups.
type directory struct{ *storage.Storage }

// SetUserinfoFromRequest is for ID tokens: with the profile, which they have where
// there is no access token to ask for it with.
func (d directory) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, q op.IDTokenRequest, scopes []string) error {
	if slices.Contains(scopes, oidc.ScopeProfile) {
		info.AppendClaims("groups", groups[q.GetSubject()])
	}
	return d.Storage.SetUserinfoFromRequest(ctx, info, q, scopes)
}

// SetUserinfoFromToken is for the userinfo endpoint.
func (d directory) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, token, subject, origin string) error {
	info.AppendClaims("groups", groups[subject])
	return d.Storage.SetUserinfoFromToken(ctx, info, token, subject, origin)
}

// Provider is a provider that is running.
type Provider struct {
	Issuer string
	server *http.Server
}

// Start starts one at an address, with keys of its own. Its clients vpn and public (which
// has no secret) may have codes sent to redirects.
func Start(address string, redirects ...string) (*Provider, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &Provider{Issuer: fmt.Sprintf("http://localhost:%d/", l.Addr().(*net.TCPAddr).Port)}
	store := storage.NewStorageWithClients(storage.NewUserStore(p.Issuer), map[string]*storage.Client{
		"web": storage.WebClient("web", Secret, callback), "other": storage.WebClient("other", Secret, callback),
		"vpn": storage.WebClient("vpn", Secret, redirects...), "public": storage.NativeClient("public", redirects...),
	})
	router := exampleop.SetupServer(p.Issuer, directory{store}, slog.New(slog.DiscardHandler), false)
	p.server = &http.Server{Handler: router}
	go p.server.Serve(l)
	return p, nil
}

// Configuration is the address of what it says of itself.
func (p *Provider) Configuration() string { return p.Issuer + ".well-known/openid-configuration" }

// Close ends it.
func (p *Provider) Close() { p.server.Close() }

// Token logs the user in for a client and returns the token.
func (p *Provider) Token(client string) (string, error) {
	q := url.Values{
		"response_type": {"id_token"}, "client_id": {client}, "redirect_uri": {callback}, "scope": {"openid profile"}, "nonce": {"n"}, "state": {"s"},
	}
	done, err := p.Login(p.Issuer+"auth?"+q.Encode(), User)
	if err != nil {
		return "", err
	}
	answer, err := url.ParseQuery(done.Fragment)
	if err != nil || !strings.HasPrefix(done.String(), callback) || answer.Get("id_token") == "" {
		return "", fmt.Errorf("no token: %v, %w", done, err)
	}
	return answer.Get("id_token"), nil
}

// Login does what a user does who was sent to authorize, and returns where he is sent back.
func (p *Provider) Login(authorize, user string) (*url.URL, error) {
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	page, err := follow(c.Get(authorize))
	if err != nil {
		return nil, err
	}
	form := url.Values{"username": {user}, "password": {Password}, "id": {page.Query().Get("authRequestID")}}
	back, err := follow(c.PostForm(p.Issuer+"login/username", form))
	if err != nil {
		return nil, err
	}
	return follow(c.Get(back.String()))
}

// follow is where an answer leads to.
func follow(rep *http.Response, err error) (*url.URL, error) {
	if err != nil {
		return nil, err
	}
	defer rep.Body.Close()
	to, err := rep.Location()
	if err != nil {
		b, _ := io.ReadAll(io.LimitReader(rep.Body, 4<<10))
		return nil, fmt.Errorf("%s: %s", rep.Status, b)
	}
	return to, nil
}
