//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
	"rocserv/test/openid"
)

// visit is a browser that knows the provider's pages by heart. SSO_DO says what its user
// does.
const visit = `#!/bin/sh
jar=$(mktemp)
server=https://` + "%s" + `
to() { tr -d '\r' | sed -n 's/^[Ll]ocation: //p'; }
ours() { curl -sk -m 20 -b "$jar" -c "$jar" -o /dev/null -D - "$1" | to; }
theirs() { curl -s -m 20 -o /dev/null -D - "$@" | to; }
provider=$(ours "$1")
state=${provider##*state=}
case "$SSO_DO" in
cancel) back="$server/sso/callback?error=access_denied&state=$state" ;;
guess) back="$server/sso/callback?code=guess&state=$state" ;;
*)
	id=$(theirs "$provider")
	back=$(theirs -d "username=$SSO_USER&password=` + openid.Password + `&id=${id##*=}" http://localhost:9998/login/username)
	back=$(theirs "$back")
	;;
esac
if [ "$SSO_DO" = stolen ]; then
	echo "another browser is sent to '$(curl -sk -m 20 -o /dev/null -D - "$back" | to)'"
fi
end=$(ours "$back")
if [ "$SSO_DO" = replay ]; then
	echo "the same once more leads to '$(ours "$back")'"
fi
curl -sk -m 20 -L "$end"
rm -f "$jar"
`

// startSSO starts a provider that the server and the clients' browsers reach at the same
// address, and a server whose users log in there.
func (r *rig) startSSO(more string, lines ...string) {
	r.Helper()
	r.startOpenID()
	host, port, err := net.SplitHostPort(openidAt)
	r.must(err)
	to := fmt.Sprintf("EXEC:ip netns exec %s nc %s %s", r.Srv.Name, host, port)
	p, err := r.Cli[0].Start("socat", nil, nil, "socat", "TCP-LISTEN:"+port+",bind=127.0.0.1,reuseaddr,fork", to)
	r.must(err)
	r.Cleanup(func() { p.End(syscall.SIGKILL, 5*time.Second) })
	secret, conf := r.state.Path("oidc.secret"), r.state.Path("sso.json")
	r.must(os.WriteFile(secret, []byte(openid.Secret+"\n"), 0o644))
	r.must(os.WriteFile(conf, []byte(fmt.Sprintf(`{"openid_configuration_url": "http://localhost:9998/.well-known/openid-configuration", "client_id": "vpn",
		"client_secret_file": %q, "redirect_uri": "https://%s/sso/callback", "groups_claim": "groups"%s}`, secret, lab.ServerAt(lab.Srv4), more)), 0o644))
	r.must(r.state.Configure(append([]string{"auth = oidc[config=" + conf + ",sso=true]"}, lines...)...))
	r.start()
}

// by is an openconnect whose browser is a program, with these words in its environment.
func by(program string, env ...string) lab.Dial {
	return lab.Dial{Input: []string{""}, Args: []string{"--external-browser=" + program}, Env: env}
}

// Single sign-on: openconnect's browser visits a provider maintained by others.
func TestSSO(t *testing.T) {
	rocservOnly(t, "ocserv has no single sign-on for openconnect")
	r := newLab(t, 1)
	r.startSSO(`, "required_claims": {"groups": "staff"}`, "enable-auth = plain[passwd="+r.state.Path("users")+"]")
	browser := r.Path("visit")
	r.must(os.WriteFile(browser, []byte(fmt.Sprintf(visit, lab.ServerAt(lab.Srv4))), 0o755))
	user := func(name, does string) lab.Dial { return by(browser, "SSO_USER="+name, "SSO_DO="+does) }
	never := []string{`CONNECT response`, `Please enter your`}
	refused := []string{`Got encrypted SSO token`, `HTTP/1.1 401`}
	for _, l := range []login{
		{name: "right", dial: user(openid.User, "login"), lines: []string{`Please log in with your browser`, `Got encrypted SSO token`, lineDTLS, `You may close this window`}, never: []string{`Please enter your`}, checks: both},
		{name: "not of the group", dial: user(openid.Other, "login"), status: 1, lines: refused, never: never},
		{name: "cancelled", dial: user(openid.User, "cancel"), status: 1, lines: refused, never: never},
		{name: "a code made up", dial: user(openid.User, "guess"), status: 1, lines: refused, never: never},
		{name: "brought by another browser first", dial: user(openid.User, "stolen"), lines: []string{`^another browser is sent to ''`, lineDTLS}},
		{name: "brought twice", dial: user(openid.User, "replay"), lines: []string{`^the same once more leads to ''`, lineDTLS}},
		{name: "without a browser", dial: as(lab.User, right, "--no-xmlpost"), lines: []string{lineDTLS}, never: []string{`with your browser`}},
	} {
		t.Run(l.name, func(t *testing.T) { r.in(t).try(l) })
	}
	if !r.srv.Has(`logged in user=` + openid.User + ` group=staff`) {
		t.Error("nothing of the groups that the provider tells")
	}
	if r.srv.Has(openid.Other + ` group`) {
		t.Error("who is not of the group was let in")
	}
}

// webdriver is a Chromium in a namespace, by the W3C's WebDriver.
type webdriver struct {
	*rig
	from lab.Netns
	at   string
}

func (r *rig) startChromium(from lab.Netns) *webdriver {
	r.Helper()
	if _, err := exec.LookPath("chromedriver"); errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
		r.Skip(err)
	}
	home := r.Path("chromium")
	r.must(os.MkdirAll(home, 0o755))
	p, err := from.Start("chromedriver", nil, []string{"HOME=" + home, "TMPDIR=" + home}, "chromedriver", "--port=9515")
	r.must(err)
	w := &webdriver{r, from, "http://127.0.0.1:9515/session"}
	r.Cleanup(func() {
		if w.at != "http://127.0.0.1:9515/session" {
			from.RunFor(20*time.Second, "", "curl", "-s", "-X", "DELETE", w.at)
		}
		p.End(syscall.SIGTERM, 10*time.Second)
		if r.Failed() {
			r.Log(tail(p.Story()))
		}
	})
	r.expect(p, `started successfully`, 60*time.Second)
	var made struct{ SessionID string }
	w.ask("POST", "", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"acceptInsecureCerts": true, "goog:chromeOptions": map[string]any{"args": []string{
			"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		}},
	}}}, &made)
	w.at += "/" + made.SessionID
	return w
}

// ask is a command of WebDriver's.
func (w *webdriver) ask(method, path string, q, rep any) {
	w.Helper()
	body, err := json.Marshal(q)
	w.must(err)
	out, err := w.from.RunFor(100*time.Second, string(body), "curl", "-s", "-m", "90", "-X", method, "-H", "Content-Type: application/json", "--data-binary", "@-", w.at+path)
	w.must(err)
	answer := struct{ Value json.RawMessage }{}
	w.must(json.Unmarshal([]byte(out), &answer))
	if strings.Contains(string(answer.Value), `"stacktrace"`) {
		w.Fatalf("%s %s: %.500s", method, path, answer.Value)
	}
	if rep != nil {
		w.must(json.Unmarshal(answer.Value, rep))
	}
}

// element is the path of the first one that a CSS selector finds.
func (w *webdriver) element(selector string) string {
	w.Helper()
	var found map[string]string
	w.ask("POST", "/element", map[string]string{"using": "css selector", "value": selector}, &found)
	for _, id := range found {
		return "/element/" + id
	}
	w.Fatalf("no %s", selector)
	return ""
}

// Single sign-on by Chromium, at the provider's own login page.
func TestSSOChromium(t *testing.T) {
	rocservOnly(t, "ocserv has no single sign-on for openconnect")
	r := newLab(t, 1)
	w := r.startChromium(r.Cli[0])
	r.startSSO("", "auth-timeout = 240", "cookie-timeout = 240")
	told := r.Path("url")
	opener := r.Path("opener")
	r.must(os.WriteFile(opener, []byte("#!/bin/sh\nprintf %s \"$1\" >"+told+".new && mv "+told+".new "+told+"\n"), 0o755))
	c := r.dial(by(opener))
	var url []byte
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var err error
		if url, err = os.ReadFile(told); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("openconnect opens no browser")
		}
	}
	w.ask("POST", "/url", map[string]string{"url": string(url)}, nil)
	for field, text := range map[string]string{"#username": openid.User, "#password": "wrong"} {
		w.ask("POST", w.element(field)+"/value", map[string]string{"text": text}, nil)
	}
	w.ask("POST", w.element("button")+"/click", struct{}{}, nil)
	for field, text := range map[string]string{"#username": openid.User, "#password": openid.Password} {
		w.ask("POST", w.element(field)+"/value", map[string]string{"text": text}, nil)
	}
	w.ask("POST", w.element("button")+"/click", struct{}{}, nil)
	r.must(c.WaitUp())
	var page string
	w.ask("GET", w.element("body")+"/text", struct{}{}, &page)
	if !strings.Contains(page, "You may close this window") {
		t.Errorf("in the end the browser shows %q", page)
	}
	if !r.srv.Has(`logged in user=` + openid.User + ` group=staff`) {
		t.Error("the session is not the user's, or without his group")
	}
	if _, err := c.Quit(); err != nil {
		t.Error(err)
	}
}
