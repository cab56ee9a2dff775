package worker

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"rocserv/internal/ipc"
	"rocserv/internal/wire"
)

func TestLoginDialogue(t *testing.T) {
	tests := []struct {
		name   string
		body   string
		header string
		status string
		want   string // in the body
	}{
		{"wrong password asks again", authReply(`<username>alice</username><password>wrong</password>`), "", "200", "Login failed."},
		{"last try", authReply(`<username>alice</username><password>last</password>`), "", "401", ""},
		{"busy costs nothing", authReply(`<username>alice</username><password>busy</password>`), "", "200", busyText},
		{"name alone asks the password", authReply(`<username>alice</username>`), "", "200", wire.PromptPassword},
		{"form encoding", "username=alice&password=right", "", "200", `<auth id="success">`},
		{"password on another connection, by cookie", authReply(`<password>right</password>`), "Cookie: webvpncontext=" + wire.FormatSID(bytes.Repeat([]byte{0x5a}, 32)), "200", `<auth id="success">`},
		{"password without a login asks both", authReply(`<password>right</password>`), "", "200", wire.PromptBoth},
		{"cookie that is none", authReply(`<password>right</password>`), "Cookie: webvpncontext=" + strings.Repeat("A", 5000), "401", ""},
		{"an agent that is no UTF-8", "username=alice&password=right", "User-Agent: caf\xe9", "200", `<auth id="success">`},
		{"no XML", "<config-auth", "", "400", ""},
		{"logout", `<config-auth client="vpn" type="logout"></config-auth>`, "", "200", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			c := w.dial()
			var headers []string
			if tt.header != "" {
				headers = append(headers, tt.header)
			}
			status, _, body := c.request("POST", "/auth", tt.body, headers...)
			if !strings.Contains(status, tt.status) || !strings.Contains(body, tt.want) {
				t.Errorf("got %q\n%s", status, body)
			}
		})
	}
}

func TestWrongThenRightPasswordOnOneConnection(t *testing.T) {
	w := newWorld(t, nil, nil)
	c := w.dial()
	c.request("POST", "/auth", authReply(`<username>alice</username><password>wrong</password>`))
	if _, _, body := c.request("POST", "/auth", authReply(`<password>right</password>`)); !strings.Contains(body, `<auth id="success">`) {
		t.Errorf("got %s", body)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.logins) != 1 {
		t.Errorf("%d logins were begun for one user", len(w.logins))
	}
}

// Who has logged in logs in again by another connection: sec-mod takes one login of
// each, and would end the worker.
func TestSecondLogin(t *testing.T) {
	for _, again := range []struct{ method, path, body string }{
		{"GET", "/", ""},
		{"POST", "/auth", authReply(rightAnswers)},
		{"POST", "/auth", authReply(`<password>right</password>`)},
		{"POST", "/svc", "username=alice&password=right"},
	} {
		for _, path := range []string{"/auth", "/svc"} {
			w := newWorld(t, nil, func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) { wc.Vhosts[0].Phones = true })
			c := w.dial()
			if status, _, _ := c.request("POST", path, "username=alice&password=right"); status != "HTTP/1.1 200 OK" {
				t.Fatal(status)
			}
			if status, _, _ := c.request("POST", "/auth", `<config-auth client="vpn" type="logout"></config-auth>`); status != "HTTP/1.1 200 OK" {
				t.Errorf("the end of a session: %s", status)
			}
			if status, _, _ := c.request(again.method, again.path, again.body); status != "HTTP/1.1 400 Bad Request" {
				t.Errorf("%+v after %s: %s", again, path, status)
			}
		}
	}
}

// The banner before the login is in the first form and in no other; the one
// after it in the last document.
func TestBanners(t *testing.T) {
	w := newWorld(t, nil, func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) {
		wc.Vhosts[0].PreLoginBanner, wc.Vhosts[0].Banner = "Keep <out>", "Come in"
	})
	c := w.dial()
	for _, step := range []struct{ method, body, want string }{
		{"GET", "", "Keep &lt;out&gt;"},
		{"GET", "", ""},
		{"POST", authReply(`<username>alice</username>`), ""},
		{"POST", authReply(`<password>wrong</password>`), ""},
		{"POST", authReply(`<password>right</password>`), "Come in"},
	} {
		_, _, body := c.request(step.method, "/auth", step.body)
		_, banner, _ := strings.Cut(body, "<banner>")
		if banner, _, _ = strings.Cut(banner, "</banner>"); banner != step.want {
			t.Errorf("%s %q: banner %q, want %q", step.method, step.body, banner, step.want)
		}
	}
}

func TestProfile(t *testing.T) {
	const content = "<AnyConnectProfile/>\n"
	w := newWorld(t, nil, nil)
	w.profile.Store(content)
	c := w.dial()
	_, head, body := c.request("POST", "/auth", authReply(rightAnswers))
	sum := fmt.Sprintf("%X", sha1.Sum([]byte(content)))
	if !strings.Contains(body, `<uri>/profiles/our%20profile.xml</uri><hash type="sha1">`+sum+`</hash>`) ||
		!strings.Contains(head, "&fu:profiles%2Four%20profile.xml&fh:"+sum+";") {
		t.Errorf("login gave\n%s\n%s", head, body)
	}
	cookie := "Cookie: webvpn=" + wire.FormatSID(w.sid)
	status, head, body := c.request("GET", "/profiles/our%20profile.xml", "", cookie)
	if status != "HTTP/1.1 200 OK" || body != content || !strings.Contains(head, "Content-Type: text/xml\n") {
		t.Errorf("got %s%s", head, body)
	}
	for _, header := range []string{"", "Cookie: webvpn=x", "Cookie: webvpn=" + wire.FormatSID(make([]byte, 32))} {
		w := newWorld(t, nil, nil)
		w.profile.Store(content)
		if status, _, _ := w.dial().request("GET", "/profiles/our%20profile.xml", "", header); !strings.Contains(status, "404") {
			t.Errorf("%q: %s", header, status)
		}
	}
}

// Cisco's telephones.
func TestPhone(t *testing.T) {
	phones := func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) { wc.Vhosts[0].Phones = true }
	w := newWorld(t, nil, phones)
	c := w.dial()
	if status, head, _ := c.request("GET", "/svc", ""); status != "HTTP/1.1 200 OK" || !strings.Contains(head, "webvpnlogin=1") {
		t.Errorf("GET: %s", head)
	}
	_, head, _ := c.request("POST", "/svc", "username=alice&password=right")
	cookie := wire.FormatSID(w.sid)
	if !strings.Contains(head, "Set-Cookie: webvpn="+cookie+"; secure") {
		t.Errorf("POST: %s", head)
	}
	status, _, _ := c.request("CONNECT", "/svc", "", "Cookie: webvpn="+cookie)
	if status != "HTTP/1.1 200 CONNECTED" {
		t.Errorf("CONNECT: %s", status)
	}
	for _, tt := range []struct{ method, body, status string }{
		{"POST", "username=alice&password=wrong", "401"}, {"POST", "username=alice", "401"}, {"POST", "%zz", "400"}, {"PUT", "", "405"},
	} {
		if status, _, _ := newWorld(t, nil, phones).dial().request(tt.method, "/svc", tt.body); !strings.Contains(status, tt.status) {
			t.Errorf("%s %s: %s", tt.method, tt.body, status)
		}
	}
	for _, method := range []string{"GET", "POST", "CONNECT"} { // without cisco-svc-client-compat
		if status, _, _ := newWorld(t, nil, nil).dial().request(method, "/svc", ""); strings.Contains(status, "200") {
			t.Errorf("%s /svc: %s", method, status)
		}
	}
}

// TestLegs: a login by Negotiate takes as many requests of a connection as it needs,
// and the server's last word comes with the success.
func TestLegs(t *testing.T) {
	w := newWorld(t, nil, func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) { wc.Vhosts[0].Auth = &ipc.AuthOffer{Gssapi: true} })
	c := w.dial()
	for _, leg := range []struct{ says, status, answer string }{
		{"first leg", "401 Unauthorized", "and you"},
		{"second leg", "200 OK", "welcome"},
	} {
		status, head, body := c.request("GET", "/", "", "X-Support-HTTP-Auth: true", "Authorization: Negotiate "+base64.StdEncoding.EncodeToString([]byte(leg.says)))
		if status != "HTTP/1.1 "+leg.status || !strings.Contains(head, "WWW-Authenticate: Negotiate "+base64.StdEncoding.EncodeToString([]byte(leg.answer))+"\n") {
			t.Errorf("%s: %s", leg.says, head)
		}
		if strings.Contains(head, "Connection: close") || strings.Contains(body, `id="success"`) != (leg.answer == "welcome") {
			t.Errorf("%s: %s%s", leg.says, head, body)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.logins) != 1 {
		t.Errorf("%d logins were begun", len(w.logins))
	}
}

// TestKDC: what is posted to a path of kkdcp goes to a KDC, and nothing else does.
func TestKDC(t *testing.T) {
	const kerberos = "Content-Type: application/kerberos"
	for _, tt := range []struct{ method, path, kind, body, status, reply string }{
		{"POST", "/KdcProxy", kerberos, "question", "200 OK", "answer on /KdcProxy to question"},
		{"POST", "/KdcProxy", "content-type: Application/Kerberos; charset=x", "question", "200 OK", "answer on /KdcProxy to question"},
		{"POST", "/KdcProxy?x", kerberos, "question", "200 OK", "answer on /KdcProxy to question"},
		{"POST", "/KdcProxy", kerberos, "dead", "502 No answer of a KDC", ""},
		{"POST", "/KdcProxy", "Content-Type: text/plain", "question", "415 Unsupported Media Type", ""},
		{"POST", "/KdcProxy", "X-Y: z", "question", "415 Unsupported Media Type", ""},
		{"POST", "/KdcProxy", kerberos, "", "400 Bad Request", ""},
		{"POST", "/KdcProxy", kerberos, strings.Repeat("x", wire.MaxKDCMessage+1), "413 Content Too Large", ""},
		{"GET", "/KdcProxy", kerberos, "", "404 Not found", ""},
		{"POST", "/kdcproxy", kerberos, "question", "404 Not found", ""},
		{"POST", "/KdcProxy/", kerberos, "question", "404 Not found", ""},
	} {
		w := newWorld(t, nil, func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) { wc.Vhosts[0].KdcPaths = []string{"/KdcProxy"} })
		status, head, reply := w.dial().request(tt.method, tt.path, tt.body, tt.kind)
		if status != "HTTP/1.1 "+tt.status || tt.reply != "" && (reply != tt.reply || !strings.Contains(head, "Content-Type: application/kerberos\n")) {
			t.Errorf("%s %s %q: %s %q", tt.method, tt.path, tt.kind, head, reply)
		}
	}
	w := newWorld(t, nil, func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) { wc.Vhosts[0].KdcPaths = []string{"/KdcProxy"} })
	c := w.dial()
	for range 3 { // on one connection, and then a login
		if status, _, _ := c.request("POST", "/KdcProxy", "question", kerberos); status != "HTTP/1.1 200 OK" {
			t.Errorf("again: %s", status)
		}
	}
	if _, _, body := c.request("POST", "/auth", authReply(rightAnswers)); !strings.Contains(body, `id="success"`) {
		t.Errorf("a login afterwards: %s", body)
	}
}

func TestPaths(t *testing.T) {
	w := newWorld(t, nil, nil)
	c := w.dial()
	for _, tt := range []struct{ method, path, status string }{
		{"GET", "/", "200"}, {"GET", "/VPN", "200"}, {"GET", "/nothing-here", "404"}, {"PUT", "/", "405"},
	} {
		if tt.status != "200" {
			w = newWorld(t, nil, nil)
			c = w.dial()
		}
		if status, _, _ := c.request(tt.method, tt.path, ""); !strings.Contains(status, tt.status) {
			t.Errorf("%s %s: %s", tt.method, tt.path, status)
		}
	}
}

func TestBadCookieIsRefused(t *testing.T) {
	for name, cookie := range map[string]string{"unknown": wire.FormatSID(make([]byte, 32)), "no SID": "x", "none": ""} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, nil)
			c := w.dial()
			status, _, _ := c.request("CONNECT", "/CSCOSSLC/tunnel", "", "Cookie: webvpn="+cookie)
			if status != "HTTP/1.1 401 Cookie is not acceptable" {
				t.Errorf("got %q", status)
			}
			if err := w.wait(); err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}
