//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
	"rocserv/test/openid"
)

const openidAt = "127.0.0.1:9998"

// startOpenID starts a provider beside the server, and returns tokens by their client.
func (r *rig) startOpenID() map[string]string {
	r.Helper()
	program := filepath.Join(r.Dir, "openid")
	if out, err := exec.Command("go", "build", "-o", program, "rocserv/test/openid/provider").CombinedOutput(); err != nil {
		r.Fatalf("%v\n%s", err, out)
	}
	p, err := r.Srv.Start("openid", nil, nil, program, openidAt, "https://"+lab.ServerAt(lab.Srv4)+"/sso/callback")
	r.must(err)
	r.Cleanup(func() {
		p.End(syscall.SIGKILL, 5*time.Second)
		if r.Failed() {
			r.Log(tail(p.Story()))
		}
	})
	tokens := map[string]string{}
	for _, client := range []string{"web", "other"} {
		m := r.expect(p, `^`+client+` (\S+)$`, 20*time.Second)
		tokens[client] = m[1]
	}
	return tokens
}

// Logins by what an OpenID provider has signed.
func TestOIDC(t *testing.T) {
	rocservOnly(t, "Debian's ocserv has no OpenID Connect")
	r := newLab(t, 1)
	tokens := r.startOpenID()
	conf := r.state.Path("oidc.json")
	r.must(os.WriteFile(conf, []byte(`{"openid_configuration_url": "http://localhost:9998/.well-known/openid-configuration", "required_claims": {"aud": "web"}, "groups_claim": "groups"}`), 0o644))
	r.must(r.state.Configure("auth = oidc[config=" + conf + "]"))
	r.start()
	bearer := func(token string) lab.Dial {
		return lab.Dial{Input: []string{""}, Args: []string{"--token-mode=oidc", "--token-secret=" + token}}
	}
	forged := strings.Split(tokens["web"], ".")
	forged[2] = strings.Split(tokens["other"], ".")[2]
	never := []string{`CONNECT response`}
	for _, l := range []login{
		{name: "good", dial: bearer(tokens["web"]), lines: []string{lineDTLS}, checks: both},
		{name: "another program's", dial: bearer(tokens["other"]), status: 1, lines: []string{`HTTP/1.1 401`}, never: never},
		{name: "forged", dial: bearer(strings.Join(forged, ".")), status: 1, lines: []string{`HTTP/1.1 401`}, never: never},
		{name: "garbage", dial: bearer("garbage"), status: 1, lines: []string{`HTTP/1.1 401`}, never: never},
	} {
		t.Run(l.name, func(t *testing.T) { r.in(t).try(l) })
	}
	if !r.srv.Has(`new user session.*` + openid.User) {
		t.Errorf("the session is not %s's", openid.User)
	}
	if !r.srv.Has(`logged in user=` + openid.User + ` group=staff`) {
		t.Error("nothing of the groups that the token claims")
	}
}
