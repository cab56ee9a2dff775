package worker

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"

	"rocserv/internal/ipc"
	"rocserv/internal/wire"
)

func salted(secret string) []byte {
	salt := bytes.Repeat([]byte{7}, saltLen)
	sum := sha256.Sum256(append(bytes.Clone(salt), secret...))
	return append(salt, sum[:]...)
}

// What a connection sees of a hidden server, request after request; the last one
// ends it unless that is a 200.
func TestCamouflage(t *testing.T) {
	good, unknown := wire.FormatSID(bytes.Repeat([]byte{0x5a}, 32)), wire.FormatSID(make([]byte, 32))
	const profile = "/profiles/our.xml"
	type step struct{ method, target, header, status string }
	tests := []struct {
		name, realm string
		steps       []step
	}{
		{"nothing said", "", []step{{"GET", "/", "", "404 Not found"}}},
		{"realm", `a "b"`, []step{{"GET", "/", "", "401 Unauthorized"}}},
		{"constants", "r", []step{{"GET", "/1/Linux", "", "401"}}},
		{"another method", "r", []step{{"PUT", "/", "", "401"}}},
		{"wrong secret", "", []step{{"GET", "/?wrong", "", "404"}}},
		{"beginning of the secret", "", []step{{"GET", "/?s3cre", "", "404"}}},
		{"secret", "", []step{{"GET", "/?s3cret", "", "200"}, {"GET", "/", "", "200"}, {"GET", "/1/Linux", "", "200"}}},
		{"secret with another path", "", []step{{"POST", "/auth?s3cret", "", "200"}}},
		{"cookie of a login", "", []step{{"GET", "/", "webvpncontext=" + unknown, "404 Not found"}}},
		{"cookie of a session", "r", []step{{"GET", "/", "webvpn=" + unknown, "401 Unauthorized"}}},
		{"good cookie", "r", []step{{"GET", "/", "webvpn=" + good, "401 Unauthorized"}}},
		{"constants with a wrong cookie", "r", []step{{"GET", "/1/Linux", "webvpn=" + unknown, "401 Unauthorized"}}},
		{"constants with the cookie of a login", "r", []step{{"GET", "/1/Linux", "webvpncontext=" + good, "401 Unauthorized"}}},
		{"constants with a cookie, another method", "r", []step{{"POST", "/1/Linux", "webvpn=" + good, "401 Unauthorized"}}},
		{"downloader", "r", []step{{"GET", "/1/binaries/update.txt", "webvpn=" + good, "200"}, {"GET", "/1/VPNManifest.xml", "webvpn=" + good, "200"},
			{"GET", "/+CSCOT+/oem-customization", "webvpn=" + good, "200"}, {"GET", "/1/Linux", "webvpn=" + unknown, "401 Unauthorized"}}},
		{"answer to a form with a cookie", "", []step{{"POST", "/auth", "webvpncontext=" + unknown, "404 Not found"}}},
		{"profile", "r", []step{{"GET", profile, "", "401 Unauthorized"}}},
		{"profile with a wrong cookie", "r", []step{{"GET", profile, "webvpn=" + unknown, "401 Unauthorized"}}},
		{"profile with a good cookie", "r", []step{{"GET", profile, "webvpn=" + good, "200"}, {"GET", "/", "webvpn=" + good, "401 Unauthorized"}}},
		{"CONNECT with the cookie of a login", "r", []step{{"CONNECT", "/CSCOSSLC/tunnel", "webvpncontext=" + good, "401 Unauthorized"}}},
		{"cookie in another form", "", []step{{"GET", "/", "webvpncontext=x", "404"}}},
		{"phone with a cookie", "r", []step{{"GET", "/svc", "webvpn=" + good, "401"}}},
		{"CONNECT", "r", []step{{"CONNECT", "/CSCOSSLC/tunnel", "", "401 Unauthorized"}}},
		{"CONNECT with a cookie that is none", "r", []step{{"CONNECT", "/CSCOSSLC/tunnel", "webvpn=x", "401 Unauthorized"}}},
		{"CONNECT with a wrong cookie", "r", []step{{"CONNECT", "/CSCOSSLC/tunnel", "webvpn=" + unknown, "405"}}},
		{"CONNECT with a wrong cookie after the secret", "r", []step{
			{"GET", "/?s3cret", "", "200"}, {"CONNECT", "/CSCOSSLC/tunnel", "webvpn=" + unknown, "401 Cookie is not acceptable"}}},
		{"CONNECT with a good cookie", "r", []step{{"CONNECT", "/CSCOSSLC/tunnel", "webvpn=" + good, "200 CONNECTED"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil, func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) {
				wc.Vhosts[0].Camouflage, wc.Vhosts[0].CamouflageRealm = salted("s3cret"), tt.realm
			})
			w.profile.Store("<AnyConnectProfile/>\n")
			c := w.dial()
			for _, s := range tt.steps {
				var header []string
				if s.header != "" {
					header = []string{"Cookie: " + s.header}
				}
				status, head, body := c.request(s.method, s.target, "", header...)
				if !strings.HasPrefix(status, "HTTP/1.1 "+s.status) {
					t.Errorf("%s %s %s: %s", s.method, s.target, s.header, status)
				}
				if s.status == "401 Unauthorized" && tt.realm != "r" && !strings.Contains(head, `WWW-Authenticate: Basic realm="a \"b\""`) {
					t.Errorf("head %s", head)
				}
				if strings.Contains(body, "<form") && strings.Contains(s.target, "?") != strings.Contains(body, `action="/auth?s3cret"`) && s.target != "/" {
					t.Errorf("%s: the form goes elsewhere: %s", s.target, body)
				}
				if strings.HasPrefix(s.status, "4") && s.status != "405" && !strings.Contains(s.status, "acceptable") &&
					strings.Contains(strings.ToLower(head+body), "vpn") {
					t.Errorf("%s %s: the reply tells what this is: %s%s", s.method, s.target, head, body)
				}
			}
		})
	}
}
