package openid

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

// The user of the provider, and where its clients would get their tokens.
const (
	User     = "test-user@localhost"
	Password = "verysecure"
	callback = "http://localhost:9999/auth/callback"
)

var register = sync.OnceFunc(func() {
	storage.RegisterClients(storage.WebClient("web", "secret", callback), storage.WebClient("other", "secret", callback))
})

// Provider is a provider that is running.
type Provider struct {
	Issuer string
	server *http.Server
}

// Start starts one at an address, with keys of its own.
func Start(address string) (*Provider, error) {
	register()
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &Provider{Issuer: fmt.Sprintf("http://localhost:%d/", l.Addr().(*net.TCPAddr).Port)}
	router := exampleop.SetupServer(p.Issuer, storage.NewStorage(storage.NewUserStore(p.Issuer)), slog.New(slog.DiscardHandler), false)
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
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	q := url.Values{
		"response_type": {"id_token"}, "client_id": {client}, "redirect_uri": {callback}, "scope": {"openid profile"}, "nonce": {"n"}, "state": {"s"},
	}
	page, err := follow(c.Get(p.Issuer + "auth?" + q.Encode()))
	if err != nil {
		return "", err
	}
	form := url.Values{"username": {User}, "password": {Password}, "id": {page.Query().Get("authRequestID")}}
	back, err := follow(c.PostForm(p.Issuer+"login/username", form))
	if err != nil {
		return "", err
	}
	done, err := follow(c.Get(back.String()))
	if err != nil {
		return "", err
	}
	answer, err := url.ParseQuery(done.Fragment)
	if err != nil || !strings.HasPrefix(done.String(), callback) || answer.Get("id_token") == "" {
		return "", fmt.Errorf("no token: %v, %w", done, err)
	}
	return answer.Get("id_token"), nil
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
