package worker

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"rocserv/internal/ipc"
	"rocserv/internal/wire"
)

const aTicket = "0123456789abcdef0123456789abcdef"

// browsedFor is how these tests' sec-mod answers a browser.
func browsedFor(q *ipc.Browse) *ipc.Browsed {
	switch {
	case q.Ticket != aTicket:
		return new(ipc.Browsed)
	case q.State == "":
		return &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_GO, Location: "https://login.example/?a=b", Cookie: "crumb"}
	case q.State != "state" || q.Cookie != "crumb":
		return new(ipc.Browsed)
	case q.Code == "down":
		return &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_UNAVAILABLE}
	case q.Code == "inside":
		return &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_DONE, Location: "https://vpn/done", Token: "t0ken"}
	case q.Code == "a b&c":
		return &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_DONE, Location: "http://localhost:29786/api/sso/x"}
	}
	return &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_REFUSED, Location: "https://vpn/done"}
}

func initOf(capabilities ...string) string {
	body := `<config-auth client="vpn" type="init" aggregate-auth-version="2"><capabilities>`
	for _, c := range capabilities {
		body += "<auth-method>" + c + "</auth-method>"
	}
	return body + "</capabilities></config-auth>"
}

// TestSSOForm: who can open a browser is sent there, by the way he can; who cannot gets
// the form for passwords, or is told.
func TestSSOForm(t *testing.T) {
	key := "X-AnyConnect-STRAP-DH-Pubkey: " + base64.StdEncoding.EncodeToString([]byte("KEY"))
	const inside, outside = "single-sign-on-v2", "single-sign-on-external-browser"
	ticket := "X-Support-HTTP-Auth: true"
	for _, tt := range []struct {
		name   string
		offer  *ipc.AuthOffer
		body   string
		header []string
		want   string // in status and body
		never  string
	}{
		{"outside", &ipc.AuthOffer{Sso: true}, initOf(inside, outside), []string{key}, "<sso-v2-login>https://vpn/login?true&amp;KEY&amp;</sso-v2-login>", "username"},
		{"outside, the mode", &ipc.AuthOffer{Sso: true}, initOf(inside, outside), []string{key}, "<sso-v2-browser-mode>external</sso-v2-browser-mode>", "password"},
		{"inside", &ipc.AuthOffer{Sso: true}, initOf(inside), []string{key}, "<sso-v2-login>https://vpn/login?false&amp;&amp;</sso-v2-login>", "browser-mode"},
		{"inside, its end", &ipc.AuthOffer{Sso: true}, initOf(inside), nil, "<sso-v2-login-final>https://vpn/done</sso-v2-login-final><sso-v2-token-cookie-name>acSamlv2Token</sso-v2-token-cookie-name>", "browser-mode"},
		{"outside without a key", &ipc.AuthOffer{Sso: true}, initOf(inside, outside), nil, "login?false&amp;", "browser-mode"},
		{"a key of no form", &ipc.AuthOffer{Sso: true}, initOf(outside), []string{"X-AnyConnect-STRAP-DH-Pubkey: ***"}, noBrowser, "sso"},
		{"neither", &ipc.AuthOffer{Sso: true}, initOf(), []string{key}, noBrowser, "sso"},
		{"neither, with passwords", &ipc.AuthOffer{Sso: true, Password: true}, initOf(), []string{key}, wire.PromptBoth, "sso"},
		{"no document", &ipc.AuthOffer{Sso: true}, "", []string{key}, noBrowser, "sso"},
		{"before passwords", &ipc.AuthOffer{Sso: true, Password: true}, initOf(outside), []string{key}, `<input type="sso" name="sso-token" />`, "username"},
		{"after a token", &ipc.AuthOffer{Sso: true, Bearer: true}, initOf(outside), []string{key, ticket}, "401", "sso"},
		{"without a token", &ipc.AuthOffer{Sso: true, Bearer: true}, initOf(outside), []string{key}, `<input type="sso"`, "username"},
		{"old", &ipc.AuthOffer{Sso: true}, initOf(outside), []string{key, "User-Agent: Open AnyConnect VPN Agent v3.20"}, noBrowser, "sso"},
		{"not offered", &ipc.AuthOffer{Password: true}, initOf(inside, outside), []string{key}, wire.PromptBoth, "sso"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil, func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) { wc.Vhosts[0].Auth = tt.offer })
			status, _, body := w.dial().request("POST", "/", tt.body, tt.header...)
			if got := status + "\n" + body; !strings.Contains(got, tt.want) || strings.Contains(got, tt.never) {
				t.Errorf("%s\nwants %q, never %q", got, tt.want, tt.never)
			}
		})
	}
}

// TestSSOToken: the browser's token is the answer, on this connection or another.
func TestSSOToken(t *testing.T) {
	for name, cookie := range map[string]string{"here": "", "elsewhere": "Cookie: webvpncontext=" + wire.FormatSID(bytes.Repeat([]byte{0x5a}, 32))} {
		w := newWorld(t, nil, func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) { wc.Vhosts[0].Auth = &ipc.AuthOffer{Sso: true} })
		c := w.dial()
		var header []string
		if cookie == "" {
			c.request("POST", "/", initOf("single-sign-on-v2"))
		} else {
			header = []string{cookie}
		}
		if _, _, body := c.request("POST", "/auth", authReply(`<sso-token>right</sso-token>`), header...); !strings.Contains(body, `<auth id="success">`) {
			t.Errorf("%s: %s", name, body)
		}
	}
}

// TestBrowser: what the user's browser is answered, and what of it is nobody's.
func TestBrowser(t *testing.T) {
	const crumb = "Cookie: rocserv-sso=crumb"
	callback := "/sso/callback?state=" + aTicket + "state&code="
	for _, tt := range []struct {
		name, method, path string
		cookie             string
		status             string
		want               string // in the head
	}{
		{"begins", "GET", "/sso/login/" + aTicket, "", "302", "Location: https://login.example/?a=b\n"},
		{"gets a cookie", "GET", "/sso/login/" + aTicket + "?secret", "", "302", "Set-Cookie: rocserv-sso=crumb; Max-Age=600; Path=/sso/; Secure; HttpOnly; SameSite=Lax\n"},
		{"begins nothing", "GET", "/sso/login/" + strings.Repeat("0", 32), "", "400", ""},
		{"no ticket", "GET", "/sso/login/", "", "400", ""},
		{"long", "GET", "/sso/login/" + aTicket + "/x", "", "400", ""},
		{"comes back", "GET", callback + "a+b%26c", crumb, "302", "Location: http://localhost:29786/api/sso/x\n"},
		{"inside of the client", "GET", callback + "inside", crumb, "302", "Set-Cookie: acSamlv2Token=t0ken; Path=/; Secure\n"},
		{"refused", "GET", callback + "x", crumb, "302", "Set-Cookie: acSamlv2Error="},
		{"its cookie is used up", "GET", callback + "inside", crumb, "302", "Set-Cookie: rocserv-sso=; Max-Age=0;"},
		{"another browser", "GET", callback + "inside", "", "400", ""},
		{"another state", "GET", "/sso/callback?code=inside&state=" + aTicket + "x", crumb, "400", ""},
		{"two states", "GET", callback + "inside&state=x", crumb, "400", ""},
		{"no state", "GET", "/sso/callback?code=inside", crumb, "400", ""},
		{"a short state", "GET", "/sso/callback?code=inside&state=" + aTicket, crumb, "400", ""},
		{"a state of no form", "GET", "/sso/callback?code=inside&state=%zz" + aTicket, crumb, "400", ""},
		{"provider down", "GET", callback + "down", crumb, "503", ""},
		{"posts", "POST", callback + "inside", crumb, "405", ""},
		{"done", "GET", "/sso/done", "", "200", "Content-Security-Policy: default-src 'none'"},
		{"elsewhere", "GET", "/sso/", "", "404", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil, func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) { wc.Vhosts[0].Auth = &ipc.AuthOffer{Sso: true} })
			header := []string{"User-Agent: Mozilla/5.0"}
			if tt.cookie != "" {
				header = append(header, tt.cookie)
			}
			status, head, _ := w.dial().request(tt.method, tt.path, "", header...)
			if !strings.Contains(status, tt.status) || !strings.Contains(head, tt.want) {
				t.Errorf("%s\n%s", status, head)
			}
		})
	}
	w := newWorld(t, nil, nil)
	if status, _, _ := w.dial().request("GET", "/sso/login/"+aTicket, ""); !strings.Contains(status, "404") {
		t.Errorf("where there is no single sign-on: %s", status)
	}
}
