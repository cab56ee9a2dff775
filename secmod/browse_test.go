package secmod

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"rocserv/internal/ipc"
	"rocserv/secmod/helper"
)

// browserMethod is a helper's method whose codes are names.
type browserMethod struct{}

func (browserMethod) Begin(_ context.Context, a helper.Applicant) (helper.Dialogue, helper.Verdict) {
	return &browserDialogue{make(chan string, 1)}, helper.Verdict{Outcome: helper.Ask, LoginURL: "https://vpn.example/" + a.Ticket, FinalURL: "https://vpn.example/" + a.Browser.GetSecretQuery()}
}

// browserDialogue waits for a browser. Browse and Answer do not meet in these tests.
type browserDialogue struct{ user chan string }

func (d *browserDialogue) End() {}

func (d *browserDialogue) Browse(_ context.Context, q *ipc.Browse) *ipc.Browsed {
	switch user, known := strings.CutPrefix(q.Code, "code of "); {
	case q.State == "":
		return &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_GO, Location: "https://login.example/", Cookie: "c"}
	case known && q.Cookie == "c":
		d.user <- user
		return &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_DONE, Token: "token"}
	case q.Code == "panic":
		panic(q.Code)
	}
	return &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_REFUSED, Wrong: true}
}

func (d *browserDialogue) Answer(_ context.Context, token []byte) helper.Verdict {
	select {
	case user := <-d.user:
		if string(token) == "token" {
			return helper.Verdict{Outcome: helper.Admit, User: user}
		}
	default:
	}
	return helper.Verdict{Wrong: true, Why: "not the token"}
}

// startBrowsed is how main starts the helper that plays it.
func startBrowsed(*ipc.SecmHelperReq) (int, error) {
	near, far, err := ipc.Pair()
	if err == nil {
		go helper.Run(helper.Options{SecMod: near, Log: slog.New(slog.DiscardHandler), Kind: helper.Kind{Make: func(map[string]string, helper.Logger) (helper.Made, error) {
			return helper.Made{Method: browserMethod{}}, nil
		}}})
	}
	return far, err
}

// browsed starts a sec-mod with single sign-on beside other lines.
func browsed(t *testing.T, lines ...string) (*rig, *site) {
	t.Helper()
	st := certSite(t, newAuthority(t, "CA", nil), lines...)
	r := newRig(t)
	r.helper = startBrowsed
	if rep := r.configure(1, st.text()); rep.Error != "" {
		t.Fatal(rep.Error)
	}
	return r, st
}

const ssoLine = "auth = oidc[config=x,sso=true]"

func browse(t *testing.T, c *ipc.Conn, q *ipc.Browse) *ipc.Browsed {
	t.Helper()
	return call[ipc.Browsed](t, c, ipc.BrowseT, q, ipc.BrowsedT)
}

// begun is a login in the browser that a client has begun: its SID and its ticket.
func begun(t *testing.T, c *ipc.Conn) (sid []byte, ticket string) {
	t.Helper()
	rep := authInit(t, c, &ipc.AuthInit{Method: ipc.AuthMethod_AUTH_SSO, User: "root", Browser: &ipc.Browser{SecretQuery: "q"}})
	ticket = strings.TrimPrefix(rep.LoginUrl, "https://vpn.example/")
	if status(rep) != "MSG" || !ipc.IsBrowseTicket(ticket) || rep.FinalUrl != "https://vpn.example/q" {
		t.Fatalf("%v", rep)
	}
	return rep.Sid, ticket
}

// TestBrowse: client and browser come by workers of their own; what the browser gets
// lets in nobody but who has the login's SID, and him once.
func TestBrowse(t *testing.T) {
	r, st := browsed(t, ssoLine)
	client, _ := r.handshaken(home)
	other, _ := r.handshaken(away)
	browser, _ := r.handshaken(home)
	sid, ticket := begun(t, client)
	if rep := browse(t, browser, &ipc.Browse{Ticket: strings.Repeat("0", ipc.BrowseTicketLen)}); rep.Result != ipc.BrowseResult_BROWSE_UNKNOWN {
		t.Errorf("a guess: %v", rep)
	}
	rep := browse(t, browser, &ipc.Browse{Ticket: ticket})
	if rep.Result != ipc.BrowseResult_BROWSE_GO || rep.Location == "" || rep.Cookie != "c" {
		t.Fatalf("%v", rep)
	}
	r.configure(2, st.text()) // the login stays with its helper
	if rep = browse(t, browser, &ipc.Browse{Ticket: ticket, State: "s", Code: "code of anna", Cookie: "c"}); rep.Result != ipc.BrowseResult_BROWSE_DONE {
		t.Fatalf("%v", rep)
	}
	theirs, _ := begun(t, other)
	if got := authCont(t, other, theirs, rep.Token); status(got) != "FAILED" {
		t.Errorf("at another login: %v", got)
	}
	got := authCont(t, client, sid, rep.Token)
	if status(got) != "OK" || got.User != "anna" {
		t.Fatalf("%v", got)
	}
	if again := browse(t, browser, &ipc.Browse{Ticket: ticket}); again.Result != ipc.BrowseResult_BROWSE_UNKNOWN {
		t.Errorf("after the login: %v", again)
	}
	late, _ := r.handshaken(home)
	if got := authCont(t, late, sid, rep.Token); status(got) != "FAILED" {
		t.Errorf("once more: %v", got)
	}
	r.s.browsers.mu.Lock()
	defer r.s.browsers.mu.Unlock()
	if n := len(r.s.browsers.logins); n != 0 {
		t.Errorf("%d logins are kept for browsers", n)
	}
}

// TestBrowseOf: a ticket is good at the virtual host of its login.
func TestBrowseOf(t *testing.T) {
	var b browsers
	ticket := b.add(&remoteLogin{who: applicant{vhost: "a.example"}})
	if b.find(ticket, "a.example") == nil || b.find(ticket, "b.example") != nil || b.find(ticket, "") != nil {
		t.Error("the virtual host does not count")
	}
	b.remove(ticket)
	if b.find(ticket, "a.example") != nil {
		t.Error("it stays")
	}
}

// TestBrowseKinds: a login in the browser is none by tokens, and the other way round.
func TestBrowseKinds(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		kind  ipc.AuthMethod
		want  string
	}{
		{[]string{ssoLine}, ipc.AuthMethod_AUTH_BEARER, "FAILED"},
		{[]string{ssoLine}, ipc.AuthMethod_AUTH_PASSWORD, "FAILED"},
		{[]string{"auth = oidc[config=x]"}, ipc.AuthMethod_AUTH_SSO, "FAILED"},
		{[]string{"auth = oidc[config=x,sso=false]"}, ipc.AuthMethod_AUTH_SSO, "FAILED"},
		{[]string{ssoLine, "enable-auth = PLAIN"}, ipc.AuthMethod_AUTH_PASSWORD, "MSG"},
		{[]string{ssoLine, "enable-auth = PLAIN"}, ipc.AuthMethod_AUTH_SSO, "MSG"},
		{[]string{ssoLine, "auth = certificate"}, ipc.AuthMethod_AUTH_SSO, "FAILED"},
	} {
		r, _ := browsed(t, tt.lines...)
		c, _ := r.handshaken(home)
		if got := status(authInit(t, c, &ipc.AuthInit{Method: tt.kind, User: "anna"})); got != tt.want {
			t.Errorf("%v, %v: %s, want %s", tt.lines, tt.kind, got, tt.want)
		}
	}
}

// TestBrowseWithACertificate: both must be about the same user.
func TestBrowseWithACertificate(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	st := certSite(t, ca, ssoLine, "auth = certificate")
	r := newRig(t)
	r.helper = startBrowsed
	if rep := r.configure(1, st.text()); rep.Error != "" {
		t.Fatal(rep.Error)
	}
	for user, want := range map[string]string{"anna": "OK", "bert": "FAILED"} {
		client, _ := r.handshaken(home)
		browser, _ := r.handshaken(home)
		rep := authInit(t, client, &ipc.AuthInit{Method: ipc.AuthMethod_AUTH_SSO, ClientChain: ders(ca.client("anna", nil))})
		ticket := strings.TrimPrefix(rep.LoginUrl, "https://vpn.example/")
		browse(t, browser, &ipc.Browse{Ticket: ticket})
		browse(t, browser, &ipc.Browse{Ticket: ticket, State: "s", Code: "code of " + user, Cookie: "c"})
		if got := status(authCont(t, client, rep.Sid, "token")); got != want {
			t.Errorf("%s with anna's certificate: %s", user, got)
		}
	}
}

// TestBrowseWrong: what a browser guesses counts against its address, and no further
// than that.
func TestBrowseWrong(t *testing.T) {
	r, _ := browsed(t, ssoLine, "attempts-pair = 0", "attempts-source = 2", "attempts-user = 0")
	client, _ := r.handshaken(home)
	_, ticket := begun(t, client)
	guesser, _ := r.handshaken(away)
	browse(t, guesser, &ipc.Browse{Ticket: ticket})
	for range 2 {
		if rep := browse(t, guesser, &ipc.Browse{Ticket: ticket, State: "s", Code: "guess"}); rep.Result != ipc.BrowseResult_BROWSE_REFUSED || rep.Wrong {
			t.Fatalf("%v", rep)
		}
	}
	if rep := browse(t, guesser, &ipc.Browse{Ticket: ticket, State: "s", Code: "code of anna", Cookie: "c"}); rep.Result != ipc.BrowseResult_BROWSE_UNKNOWN {
		t.Errorf("after two guesses: %v", rep)
	}
	if bans := r.bans(); bans[away] == 0 || bans[home] != 0 {
		t.Errorf("points: %v", bans)
	}
	browser, _ := r.handshaken(home)
	if rep := browse(t, browser, &ipc.Browse{Ticket: ticket, State: "s", Code: "code of anna", Cookie: "c"}); rep.Result != ipc.BrowseResult_BROWSE_DONE {
		t.Errorf("the user's own browser: %v", rep)
	}
}

// TestBrowseFails: a helper's panic costs the browser its answer; tickets that cannot be
// some cost the worker its channel, and so do too many.
func TestBrowseFails(t *testing.T) {
	r, _ := browsed(t, ssoLine)
	client, _ := r.handshaken(home)
	sid, ticket := begun(t, client)
	browser, _ := r.handshaken(home)
	if rep := browse(t, browser, &ipc.Browse{Ticket: ticket, State: "s", Code: "panic"}); rep.Result != ipc.BrowseResult_BROWSE_UNAVAILABLE {
		t.Errorf("%v", rep)
	}
	if got := authCont(t, client, sid, "token of nobody"); status(got) != "FAILED" {
		t.Errorf("%v", got)
	}
	for _, bad := range []string{"", ticket[1:], ticket + "0", strings.ToUpper(strings.Repeat("a", ipc.BrowseTicketLen))} {
		c, _ := r.handshaken(home)
		c.Send(ipc.BrowseT, 0, &ipc.Browse{Ticket: bad})
		if !gone(c) {
			t.Errorf("ticket %q is no violation", bad)
		}
	}
	for i := range 17 {
		if browser.Send(ipc.BrowseT, 0, &ipc.Browse{Ticket: ticket}) != nil {
			t.Fatal("refused too early")
		}
		if _, err := browser.Recv(); err != nil {
			if i < 14 {
				t.Errorf("refused after %d", i)
			}
			return
		}
	}
	t.Error("no bound")
}
