package worker

import (
	"strings"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/secret"
	"rocserv/internal/wire"
)

// Single sign-on has two connections: the client's, where the login is, and that of the
// user's browser, which visits the provider and brings back its word. What belongs
// together sec-mod knows; a worker only passes on.

const (
	browserLife = 10 * time.Minute // of a browser's cookie; sec-mod has its own time

	pageDone        = "You may close this window: the VPN client goes on."
	pageUnknown     = "There is no such login: it is over, has taken too long, or was begun in another browser. Please begin again in the VPN client."
	pageUnavailable = "Login is not possible at the moment."
	noBrowser       = "This server lets in by a browser, which this client cannot open."
)

// offersBrowser says whether the client can log in by its browser.
func (d *dialogue) offersBrowser(req *wire.Request, m *wire.AuthRequest) (b wire.Browser, ok bool) {
	if !d.c.secure.vhost.Auth.GetSso() || d.agent.BareForms() {
		return b, false
	}
	return wire.BrowserOf(req.Header, m)
}

// browse begins a login in the browser.
func (d *dialogue) browse(req *wire.Request, m *wire.AuthRequest, b wire.Browser) *wire.Response {
	q := d.request(req, m, ipc.AuthMethod_AUTH_SSO)
	q.Browser = &ipc.Browser{External: b.External, Key: b.Key, SecretQuery: d.c.secure.hiding.query.Reveal()}
	rep, err := d.c.sec.AuthInit(q)
	if err != nil || rep.Status != ipc.AuthStatus_AUTH_MSG || rep.LoginUrl == "" {
		return d.result(rep, err)
	}
	d.user, d.sid = "", secret.NewBytes(rep.Sid)
	return d.ask(wire.Form{
		Message: wire.PromptBrowser, Groups: d.options(), Group: m.GroupSelect,
		SSO: &wire.SSO{Login: rep.LoginUrl, Final: rep.FinalUrl, External: b.External},
	}, rep.Sid)
}

// isBrowser says whether a request is that of a browser on its way, and so none of a
// stranger's, if that is true.
func isBrowser(v *ipc.Vhost, req *wire.Request) bool {
	state, _ := req.Param("state")
	cookie, err := req.Cookie(ipc.SSOCookie)
	return v.Auth.GetSso() && req.Path == ipc.SSOCallbackPath && len(state) > ipc.BrowseTicketLen && err == nil && cookie != ""
}

// browser answers the user's browser. ok is false if the request is none of one's.
func (d *dialogue) browser(req *wire.Request) (rep *wire.Response, ok bool) {
	q := &ipc.Browse{Vhost: d.c.secure.vhost.Name}
	ticket, begins := strings.CutPrefix(req.Path, ipc.SSOLoginPath)
	switch {
	case !d.c.secure.vhost.Auth.GetSso():
		return nil, false
	case req.Path == ipc.SSODonePath:
		return wire.Page(200, pageDone), true
	case begins:
		q.Ticket = ticket
	case req.Path == ipc.SSOCallbackPath:
		state, _ := req.Param("state")
		if len(state) <= ipc.BrowseTicketLen {
			return unknownLogin(), true
		}
		q.Ticket, q.State = state[:ipc.BrowseTicketLen], state[ipc.BrowseTicketLen:]
		q.Code, _ = req.Param("code")
		q.Error, _ = req.Param("error")
		q.Cookie, _ = req.Cookie(ipc.SSOCookie)
	default:
		return nil, false
	}
	if req.Method != "GET" {
		return wire.NotAllowed(), true
	}
	if !ipc.IsBrowseTicket(q.Ticket) || d.done {
		return unknownLogin(), true
	}
	got, err := d.c.sec.Browse(q)
	if err != nil {
		return d.result(nil, err), true
	}
	return browsed(got), true
}

func unknownLogin() *wire.Response {
	rep := wire.Page(400, pageUnknown)
	rep.Close = true
	return rep
}

// browsed is what a browser sees of sec-mod's word.
func browsed(b *ipc.Browsed) *wire.Response {
	forget := wire.BrowserCookie(ipc.SSOCookie, "", ipc.SSOPath, 0)
	switch {
	case b.Result == ipc.BrowseResult_BROWSE_GO:
		return wire.Redirect(b.Location, wire.BrowserCookie(ipc.SSOCookie, b.Cookie, ipc.SSOPath, browserLife))
	case b.Result == ipc.BrowseResult_BROWSE_UNAVAILABLE && b.Location == "":
		return wire.Page(503, pageUnavailable)
	case b.Location == "":
		return unknownLogin()
	case b.Token != "":
		return wire.Redirect(b.Location, forget, wire.TokenCookie(b.Token))
	case b.Result != ipc.BrowseResult_BROWSE_DONE:
		return wire.Redirect(b.Location, forget, wire.ErrorCookie())
	}
	return wire.Redirect(b.Location, forget)
}
