package worker

import (
	"crypto/sha1"
	"slices"
	"strings"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/secret"
	"rocserv/internal/wire"
)

// busyText asks the user to try again: it costs no attempt.
const busyText = "The server is busy, please try again."

// restartText says that there is no sec-mod at the moment: another one is
// being started, and the login is to begin anew.
const restartText = "The security module is restarting, please log in again"

// dialogue is the login as one connection sees it. Clients may use a new
// connection for every step (AnyConnect does), so what counts is in sec-mod
// under the SID, which comes back as a cookie; what is here only saves a
// connection that stays from beginning anew.
type dialogue struct {
	c     *client
	agent wire.Agent
	user  string // of the login sid stands for, as far as this connection knows
	sid   secret.Bytes

	// ticket is the login by Negotiate that waits for the client's next leg.
	ticket secret.Bytes

	greeted bool // pre-login-banner has been shown on this connection
	done    bool // somebody has logged in on it: sec-mod takes no second login
}

func newDialogue(c *client) *dialogue { return &dialogue{c: c} }

// answer gives the reply to one request that does not open the tunnel.
func (d *dialogue) answer(req *wire.Request) *wire.Response {
	d.agent = wire.ParseAgent(req.Header.Get("User-Agent"))
	if static, ok := wire.FindStatic(req.Path); ok && req.Method == "GET" {
		if d.c.secure.hiding.cookieOnly && !d.known(req) {
			return wire.NotFound()
		}
		return static.Response()
	}
	if rep, ok := d.browser(req); ok {
		return rep
	}
	group, ok := d.loginPath(req.Path)
	switch {
	case req.Method == "POST" && slices.Contains(d.c.secure.vhost.KdcPaths, req.Path):
		return d.kdc(req)
	case req.IsProfile():
		return d.profile(req)
	case req.IsPhone() && d.c.secure.vhost.Phones:
		return d.phone(req)
	case !ok:
		return wire.NotFound()
	case req.Method == "GET" && d.done:
		return again()
	case req.Method == "GET":
		return d.start(req, &wire.AuthRequest{GroupSelect: group})
	case req.Method != "POST":
		return wire.NotAllowed()
	}
	m, err := wire.ParseAuth(req.Body)
	if err != nil {
		d.c.Log.Info("login request refused", "err", err)
		return &wire.Response{Status: 400, Close: true}
	}
	defer m.Clear()
	if d.done && m.Kind != wire.AuthLogout {
		return again()
	}
	if m.GroupSelect == "" {
		m.GroupSelect = group
	}
	if d.takesTickets() && req.Header.Has("Authorization") && m.Kind != wire.AuthLogout {
		return d.start(req, m)
	}
	switch m.Kind {
	case wire.AuthLogout:
		return wire.LoggedOut()
	case wire.AuthReply:
		return d.step(req, m)
	default:
		return d.start(req, m)
	}
}

// again has who wants to log in once more come by another connection.
func again() *wire.Response { return &wire.Response{Status: 400, Close: true} }

// start answers who wants to log in: with a certificate there may be nothing to
// ask. A client that has shown none, but may have one, is asked for it in XML.
func (d *dialogue) start(req *wire.Request, m *wire.AuthRequest) *wire.Response {
	offer, hasCert := d.c.secure.vhost.Auth, len(d.c.secure.certificate) > 0
	if offer.GetCertificateAlone() && hasCert {
		if len(d.options()) > 0 && m.GroupSelect == "" {
			return d.ask(wire.Form{Message: wire.PromptSelectGroup, Groups: d.options()}, nil)
		}
		rep, err := d.begin(req, m, ipc.AuthMethod_AUTH_CERTIFICATE)
		if err != nil || rep.Status != ipc.AuthStatus_AUTH_FAILED || !offer.GetPassword() {
			return d.result(rep, err)
		}
	}
	if offer.GetCertificateRequired() && !hasCert {
		if m.XML && !m.ClientCertFail {
			return wire.ClientCertRequest()
		}
		return wire.Unauthorized("No certificate")
	}
	if d.takesTickets() {
		if rep := d.negotiate(req, m); rep != nil {
			return rep
		}
	}
	if b, ok := d.offersBrowser(req, m); ok {
		return d.browse(req, m, b)
	}
	if offer.GetSso() && !offer.GetPassword() {
		rep := d.ask(wire.Form{Error: noBrowser}, nil)
		rep.Close = true
		return rep
	}
	if d.takesTickets() && !offer.GetPassword() {
		return wire.Unauthorized("No ticket")
	}
	return d.askBoth(m.GroupSelect)
}

// askBoth gives the form for name and password.
func (d *dialogue) askBoth(group string) *wire.Response {
	return d.ask(wire.Form{Message: wire.PromptBoth, Username: true, Password: true, Groups: d.options(), Group: group}, nil)
}

// loginPath says whether a login may happen at path, and which group the path
// selects (ocserv's select-group-by-url).
func (d *dialogue) loginPath(path string) (group string, ok bool) {
	switch path {
	case "/", "/auth", "/VPN", "/+webvpn+/index.html":
		return "", true
	}
	v := d.c.secure.vhost
	if !v.SelectGroupByUrl && !v.CiscoClientCompat {
		return "", false
	}
	name := strings.Trim(path, "/")
	for _, g := range v.Groups {
		if strings.EqualFold(g.Name, name) {
			return g.Name, true
		}
	}
	return "", false
}

// step takes the answers to a form.
func (d *dialogue) step(req *wire.Request, m *wire.AuthRequest) *wire.Response {
	if user := m.Username(); user != "" && (d.sid.IsZero() || user != d.user) {
		rep, err := d.begin(req, m, ipc.AuthMethod_AUTH_PASSWORD)
		if err != nil || rep.Status != ipc.AuthStatus_AUTH_MSG || m.Password() == nil {
			return d.result(rep, err)
		}
		d.user, d.sid = user, secret.NewBytes(rep.Sid)
		return d.result(d.c.sec.AuthCont(d.sid.Reveal(), m.Password()))
	}
	sid := d.sid.Reveal()
	if sid == nil && m.GroupSelect != "" && m.Answer() == nil && d.c.secure.vhost.Auth.GetCertificateAlone() {
		return d.start(req, m) // a group was chosen, there is nothing else to say
	}
	if sid == nil {
		text, err := req.Cookie(wire.CookieContext)
		if err != nil {
			return wire.Unauthorized("Authentication failed")
		}
		if text == "" {
			return d.askBoth(m.GroupSelect)
		}
		if sid, err = wire.ParseSID(text); err != nil {
			return wire.Unauthorized("Authentication failed")
		}
	}
	if m.Answer() == nil {
		return wire.Unauthorized("No password")
	}
	return d.result(d.c.sec.AuthCont(sid, m.Answer()))
}

// begin starts a login in sec-mod.
func (d *dialogue) begin(req *wire.Request, m *wire.AuthRequest, method ipc.AuthMethod) (*ipc.AuthReply, error) {
	return d.c.sec.AuthInit(d.request(req, m, method))
}

func (d *dialogue) request(req *wire.Request, m *wire.AuthRequest, method ipc.AuthMethod) *ipc.AuthInit {
	return &ipc.AuthInit{
		Vhost:          d.c.secure.vhost.Name,
		Method:         method,
		ClientChain:    d.c.secure.certificate,
		User:           m.Username(),
		Group:          d.groupName(m.GroupSelect),
		UserAgent:      req.UserAgent(),
		DeviceType:     m.Device.Type,
		DevicePlatform: m.Device.ID,
		Hostname:       m.Device.ComputerName,
	}
}

// groupName turns what the client chose, value or label, into the group's name;
// the entry "my default group" into none.
func (d *dialogue) groupName(chosen string) string {
	if i := wire.FindOption(d.options(), chosen); i >= 0 {
		chosen = d.options()[i].Value
	}
	if chosen == d.c.secure.vhost.DefaultSelectGroup {
		return ""
	}
	return chosen
}

// result turns sec-mod's word into a reply.
func (d *dialogue) result(rep *ipc.AuthReply, err error) *wire.Response {
	if err != nil {
		d.c.Log.Error("login failed: no answer of sec-mod", "err", err)
		return &wire.Response{Status: 503, Reason: restartText, Close: true}
	}
	switch rep.Status {
	case ipc.AuthStatus_AUTH_OK:
		return d.success(rep)
	case ipc.AuthStatus_AUTH_MSG:
		if len(rep.Groups) > 0 { // which of the certificate's
			var list []wire.Option
			for _, g := range rep.Groups {
				list = append(list, wire.Option{Value: g.Name, Label: g.Label})
			}
			return d.ask(wire.Form{Message: rep.Message, Groups: list}, nil)
		}
		d.sid = secret.NewBytes(rep.Sid)
		f := wire.Form{Message: rep.Message, Password: true, Counter: int(rep.PasswordCounter)}
		if f.Message == "" {
			f.Message = wire.PromptPassword
		}
		return d.ask(f, rep.Sid)
	case ipc.AuthStatus_AUTH_BUSY:
		if offer := d.c.secure.vhost.Auth; offer.GetSso() && !offer.GetPassword() { // there is no form to try again with
			return &wire.Response{Status: 503, Reason: busyText, Close: true}
		}
		f := wire.Form{Message: busyText, Error: busyText, Password: true}
		if d.sid.IsZero() {
			f.Username, f.Groups = true, d.options()
		}
		return d.ask(f, d.sid.Reveal())
	case ipc.AuthStatus_AUTH_UNAVAILABLE:
		d.sid = secret.Bytes{}
		return &wire.Response{Status: 503, Reason: rep.Message, Close: true}
	}
	d.sid = secret.Bytes{}
	return wire.Unauthorized("Authentication failed")
}

func (d *dialogue) success(rep *ipc.AuthReply) *wire.Response {
	defer clear(rep.Sid)
	s := wire.Success{SID: wire.FormatSID(rep.Sid), Banner: d.c.secure.vhost.Banner, CertSHA1: d.c.secure.certSHA1}
	if rep.ProfileName != "" && len(rep.ProfileSha1) == sha1.Size {
		s.Profile = &wire.Profile{Name: rep.ProfileName, SHA1: [sha1.Size]byte(rep.ProfileSha1)}
	}
	d.sid, d.user, d.done = secret.Bytes{}, "", true
	return s.Response(d.agent)
}

// profile gives a client its profile. Without a good cookie there is none.
func (d *dialogue) profile(req *wire.Request) *wire.Response {
	content, err := d.profileOf(req)
	if err != nil {
		return d.result(nil, err)
	}
	if len(content) == 0 {
		return wire.NotFound()
	}
	return wire.ProfileResponse(content)
}

// profileOf returns the profile of the session whose cookie a request has, empty if
// it has none; nil without an error: there is no such session.
func (d *dialogue) profileOf(req *wire.Request) ([]byte, error) {
	text, err := req.Cookie(wire.CookieSession)
	if err != nil {
		return nil, nil
	}
	sid, err := wire.ParseSID(text)
	if err != nil {
		return nil, nil
	}
	defer sid.Clear()
	return d.c.sec.Profile(sid, d.c.secure.certificate.hash())
}

// known says whether the cookie of a request is a session's.
func (d *dialogue) known(req *wire.Request) bool {
	content, err := d.profileOf(req)
	return err == nil && content != nil
}

// phone is the login of Cisco's IP phones: one form that they know by heart, and
// one answer to it.
func (d *dialogue) phone(req *wire.Request) *wire.Response {
	switch req.Method {
	case "GET":
		return wire.PhoneLogin()
	case "POST":
	default:
		return wire.NotAllowed()
	}
	if d.done {
		return again()
	}
	m, err := wire.ParseAuth(req.Body)
	if err != nil {
		d.c.Log.Info("login request refused", "err", err)
		return &wire.Response{Status: 400, Close: true}
	}
	defer m.Clear()
	rep, err := d.begin(req, m, ipc.AuthMethod_AUTH_PASSWORD)
	if err == nil && rep.Status == ipc.AuthStatus_AUTH_MSG && m.Password() != nil {
		rep, err = d.c.sec.AuthCont(rep.Sid, m.Password())
	}
	if err != nil {
		return d.result(nil, err)
	}
	if rep.Status != ipc.AuthStatus_AUTH_OK {
		return wire.Unauthorized("Authentication failed")
	}
	defer clear(rep.Sid)
	d.done = true
	return wire.PhoneSuccess(wire.FormatSID(rep.Sid))
}

// ask gives a form, with the cookie of the login if one is under way. The banner
// stands in the first one only: clients show it each time, and some want it
// confirmed.
func (d *dialogue) ask(f wire.Form, sid []byte) *wire.Response {
	if sid == nil && !d.greeted {
		f.Banner, d.greeted = d.c.secure.vhost.PreLoginBanner, true
	}
	f.Query = d.c.secure.hiding.query.Reveal()
	life := time.Duration(d.c.secure.vhost.CookieTimeoutS) * time.Second
	text := ""
	if sid != nil {
		text = wire.FormatSID(sid)
	}
	return wire.AuthResponse(f.Document(d.agent), wire.ContextCookie(text, life))
}

// options are the groups offered.
func (d *dialogue) options() []wire.Option {
	var list []wire.Option
	v := d.c.secure.vhost
	if v.DefaultSelectGroup != "" {
		list = append(list, wire.Option{Value: v.DefaultSelectGroup})
	}
	for _, g := range v.Groups {
		list = append(list, wire.Option{Value: g.Name, Label: g.Label})
	}
	return list
}
