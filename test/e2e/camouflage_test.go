//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"rocserv/test/e2e/lab"
)

// A server that hides is one for whoever knows its secret, also with a new
// connection for every request, and a web server to everybody else.
func TestCamouflage(t *testing.T) {
	t.Parallel()
	rocservOnly(t, "1.1.6 has no camouflage")
	r := newRig(t, 1, "camouflage = true", "camouflage_secret = let-me-in", "camouflage_realm = Staff only")
	url := "https://" + lab.ServerAt(lab.Srv4)
	for path, want := range map[string]string{
		"/": "HTTP/1.1 401 ", "/auth": "HTTP/1.1 401 ", "/1/Linux": "HTTP/1.1 401 ", "/?let-me-out": "HTTP/1.1 401 ", "/?let-me-in": "HTTP/1.1 200 ",
	} {
		out, err := r.Cli[0].RunFor(answerLimit, "", "curl", "-s", "-k", "-i", url+path)
		r.must(err)
		if !strings.HasPrefix(out, want) || strings.HasPrefix(want, "HTTP/1.1 401") != strings.Contains(out, `WWW-Authenticate: Basic realm="Staff only"`) {
			t.Errorf("%s: %s", path, out)
		}
	}
	for _, made := range []string{"webvpn", "webvpncontext"} { // by somebody who knows how ours look
		for _, path := range []string{"/", "/auth", "/1/Linux", "/profiles/x.xml"} {
			cookie := made + "=" + strings.Repeat("A", 43)
			out, err := r.Cli[0].RunFor(answerLimit, "", "curl", "-s", "-k", "-i", "-b", cookie, url+path)
			r.must(err)
			if !strings.HasPrefix(out, "HTTP/1.1 401 ") || !strings.Contains(out, `WWW-Authenticate: Basic realm="Staff only"`) {
				t.Errorf("%s with %s: %s", path, cookie, out)
			}
		}
	}
	// After the login AnyConnect's downloader comes with the cookie and no secret.
	cookie, err := lab.Authenticate(lab.Dial{From: r.Cli[0], To: lab.ServerAt(lab.Srv4), Query: "let-me-in", Pin: r.state.Pin, User: lab.User, Input: right})
	r.must(err)
	for path, want := range map[string]string{"/1/binaries/update.txt": "200", "/1/VPNManifest.xml": "200", "/": "401", "/profiles/x.xml": "401"} {
		out, err := r.Cli[0].RunFor(answerLimit, "", "curl", "-s", "-k", "-i", "-b", cookie, url+path)
		r.must(err)
		if !strings.HasPrefix(out, "HTTP/1.1 "+want) {
			t.Errorf("%s with a good cookie: %s", path, out)
		}
	}
	for _, args := range [][]string{nil, {"--no-http-keepalive"}, {"--no-xmlpost"}} {
		c := r.connect(lab.Dial{Query: "let-me-in", Args: args})
		r.must(hello4.run(r, c))
		if status, err := c.Quit(); err != nil || status != 0 {
			t.Errorf("%q: openconnect ends with %d, %v", args, status, err)
		}
	}
	c := r.dial(lab.Dial{})
	if status, err := c.Wait(answerLimit); err != nil || status == 0 {
		t.Errorf("without the secret openconnect ends with %d, %v", status, err)
	}
}
