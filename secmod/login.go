package secmod

import (
	"cmp"
	"errors"
	"net/netip"
	"unicode"
	"unicode/utf8"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
	"rocserv/internal/session"
	"rocserv/secmod/attempts"
)

// cannotSay is what the client is told when who would know cannot be asked.
const cannotSay = "Login is not possible at the moment"

// maxName is the longest user or group name in bytes (ocserv, MAX_USERNAME_SIZE).
const maxName = 63

// method is a way to log in.
type method interface {
	// begin hears who wants to log in. With outcome ask the login goes on
	// with the dialogue; otherwise there is none.
	begin(applicant) (dialogue, verdict)
	// groups returns the names of groups it knows, for auto-select-group.
	groups() []string
}

// dialogue is a login under way. One answer is given at a time.
type dialogue interface {
	// answer takes the client's answer, which is cleared when it returns.
	answer(password []byte) verdict
	// end is called when nobody will answer any more, perhaps several times, and
	// perhaps while answer is under way. It waits for nothing.
	end()
}

// login is what is kept of a login under way.
type login struct {
	dialogue
	user        string              // as he named himself, if his way asks for that; what is wrong is counted against that name
	certificate session.Fingerprint // of the client's certificate; zero: it was not needed
}

// drop ends what is left of a login that is over.
func (l login) drop() {
	if l.dialogue != nil {
		l.end()
	}
}

// applicant is who wants to log in, by his own word.
type applicant struct {
	user  string
	group string // as asked for; empty: none
	agent string // what its program calls itself
	vhost string
	peer  netip.Addr // of the client, by main's word
	local netip.Addr // that it reached

	browser *ipc.Browser // nil: none is wanted
}

// outcome is what a method made of a step.
type outcome uint8

const (
	refuse outcome = iota // for good
	ask                   // once more
	busy                  // nothing was looked at; the client may try again
	choose                // a group must be named first
	admit
	unavailable // who would know cannot be asked: no verdict, and the end of the login
)

// verdict is a method's answer to a step.
type verdict struct {
	outcome     outcome
	prompt      string   // with ask and busy
	counter     uint32   // with ask: which of several passwords is asked for, from 0
	user, group string   // with admit
	choices     []string // with choose: groups
	grant       *grant   // with admit: what the method says of the session; nil: nothing
	leg         []byte   // for the client's program (Negotiate); with ask it answers

	loginURL, finalURL string // with ask: for the user's browser; empty: there is nothing to do for it

	wrong bool   // a wrong answer: points against the client's address
	why   string // for the log; never holds what the client sent
}

// newMethod is the table of methods that are played here.
func newMethod(s *server, m config.Method) (made method, warnings []string, err error) {
	switch m.Name {
	case "plain":
		return newPlain(s, m.Options["passwd"], m.Options["otp"])
	}
	return nil, nil, errors.New("not in sec-mod yet")
}

// groups returns the groups that the methods of the virtual host know.
func (v *vhost) groups() (list []*ipc.Group) {
	seen := map[string]bool{}
	for _, w := range v.ways {
		if w.method == nil {
			continue
		}
		for _, g := range w.method.groups() {
			if !seen[g] {
				seen[g] = true
				list = append(list, &ipc.Group{Name: g})
			}
		}
	}
	return list
}

// policy is what the virtual host says of its sessions, before anything of the
// user's own.
func (v *vhost) policy(u *config.User) session.Policy {
	return session.Policy{
		CookieTimeout: v.CookieTimeout, Persistent: v.PersistentCookies,
		SessionTimeout: u.SessionTimeout, DenyRoaming: u.DenyRoaming,
	}
}

// failed is the answer to every login that ends without a session.
func failed() *ipc.AuthReply {
	return &ipc.AuthReply{Status: ipc.AuthStatus_AUTH_FAILED, Message: "Authentication failed"}
}

// authInit answers SEC_AUTH_INIT: it finds a way to log in that what the client
// has brought along fits, and begins it.
func (w *worker) authInit(q *ipc.AuthInit) (*ipc.AuthReply, error) {
	if err := w.pin(q.Vhost); err != nil {
		return nil, err
	}
	w.move(inAuth)
	v := w.s.gens.Load().current.vhosts[q.Vhost]
	if v == nil {
		w.refused(applicant{}, "the virtual host is no more")
		return failed(), nil
	}
	a := applicant{user: q.User, group: q.Group, agent: agentName(q.UserAgent), vhost: v.Name, peer: w.peer, local: w.local}
	if a.group == v.DefaultSelectGroup { // the entry that asks for no group (ocserv, default-select-group)
		a.group = ""
	}
	if a.group != "" && !validName(a.group) || q.Method == ipc.AuthMethod_AUTH_PASSWORD && !validName(a.user) {
		w.refused(applicant{}, "impossible name")
		return failed(), nil
	}
	cert, why := v.clients.check(q.ClientChain, w.s.Now())
	way, ok := v.way(q.Method, cert != nil)
	if !ok {
		w.refused(a, cmp.Or(why, "no such way to log in"))
		return failed(), nil
	}
	if !way.certificate {
		cert = nil // it is not what lets the client in, and binds nothing
	}
	if way.ticket != 0 {
		a.user = "" // the ticket says who it is: a name beside it is nobody's word
	}
	if way.ticket == ipc.AuthMethod_AUTH_SSO {
		a.browser = q.GetBrowser()
		if a.browser == nil {
			a.browser = new(ipc.Browser)
		}
	}
	if way.method != nil {
		if l := w.s.attempts.Limited(a.user, w.peer, w.s.Now()); l != attempts.None {
			return w.limited(a, l), nil
		}
	}
	return w.began(v, a, cert, way.begin(a, cert)), nil
}

// began makes the answer of a login's first step.
func (w *worker) began(v *vhost, a applicant, cert *certificate, b beginning) *ipc.AuthReply {
	switch b.outcome {
	case ask:
		w.s.sessions.Abandon(w.begun) // a connection is good for one login under way
		w.begun = w.s.sessions.Begin(v.Name, v.policy(&v.User), login{b.dialogue, a.user, cert.hash()})
		w.s.sessions.Describe(w.begun, session.Account{User: a.user, Group: a.group, Vhost: v.Name, Peer: w.peer, Agent: a.agent})
		return question(w.begun, b.verdict)
	case choose:
		return choice(b.verdict)
	case busy:
		return w.busy(nil, b.prompt)
	case admit:
		account, err := w.account(b.verdict, cert.hash())
		if err != nil {
			w.refused(a, err.Error())
			return failed()
		}
		account.Agent = a.agent
		sid, s := w.s.sessions.Admit(account, v.policy(&v.User))
		return w.admitted(a.user, sid, s)
	}
	if b.wrong {
		w.points()
		w.s.attempts.Wrong("", w.peer, w.s.Now()) // nobody's password was looked at
	}
	w.refused(a, b.why)
	return closing(b.verdict)
}

// closing is the answer to a login that is over without a session.
func closing(v verdict) *ipc.AuthReply {
	if v.outcome == unavailable {
		return &ipc.AuthReply{Status: ipc.AuthStatus_AUTH_UNAVAILABLE, Message: cannotSay}
	}
	return failed()
}

// authCont answers SEC_AUTH_CONT, for a login that was begun here or at
// another worker: clients may take a new TLS connection for every step.
func (w *worker) authCont(q *ipc.AuthCont) (*ipc.AuthReply, error) {
	defer clear(q.Password)
	sid, ok := session.ParseSID(q.Sid)
	clear(q.Sid)
	if !ok {
		return nil, violation("SID of %d bytes", len(q.Sid))
	}
	if w.where() == rejoined { // the login was begun at a sec-mod that is no more
		w.refused(applicant{}, "login begun before the security module was replaced")
		return failed(), nil
	}
	w.move(inAuth)
	d, err := w.s.sessions.Take(sid, w.pinned())
	if errors.Is(err, session.ErrBusy) {
		return w.busy(sid[:], ""), nil
	}
	if err != nil {
		w.refused(applicant{}, err.Error())
		return failed(), nil
	}
	if l := w.s.attempts.Limited(d.user, w.peer, w.s.Now()); l != attempts.None {
		w.s.sessions.Fail(sid)
		return w.limited(applicant{user: d.user}, l), nil
	}
	return w.conclude(sid, d, w.answer(sid, d, q.Password)), nil
}

// answer gives the dialogue its answer. A login that panics has failed.
func (w *worker) answer(sid session.SID, d login, password []byte) (v verdict) {
	returned := false
	defer func() {
		if !returned {
			w.s.sessions.Fail(sid)
		}
	}()
	v = d.answer(password)
	returned = true
	return v
}

// conclude makes the answer of a verdict on a login that was taken.
func (w *worker) conclude(sid session.SID, d login, v verdict) *ipc.AuthReply {
	if v.wrong {
		w.points()
		w.s.attempts.Wrong(d.user, w.peer, w.s.Now())
		w.refused(applicant{user: v.user}, v.why)
	}
	switch v.outcome {
	case ask:
		w.s.sessions.Ask(sid)
		return question(sid, v)
	case busy:
		w.s.sessions.Release(sid)
		return w.busy(sid[:], v.prompt)
	case admit:
		account, err := w.account(v, d.certificate)
		if err == nil {
			var cookie session.SID
			var s session.Session
			if cookie, s, err = w.s.sessions.Complete(sid, account); err == nil {
				rep := w.admitted(d.user, cookie, s)
				rep.Leg = v.leg
				return rep
			}
		}
		v.why = err.Error()
	}
	w.s.sessions.Fail(sid)
	if !v.wrong {
		w.refused(applicant{user: v.user}, v.why)
	}
	return closing(v)
}

func question(sid session.SID, v verdict) *ipc.AuthReply {
	return &ipc.AuthReply{
		Status: ipc.AuthStatus_AUTH_MSG, Sid: sid[:], Message: v.prompt, PasswordCounter: v.counter, Leg: v.leg,
		LoginUrl: v.loginURL, FinalUrl: v.finalURL,
	}
}

// choice asks which group it is to be. Nothing is kept of it: the client shows
// what it has brought along again.
func choice(v verdict) *ipc.AuthReply {
	rep := &ipc.AuthReply{Status: ipc.AuthStatus_AUTH_MSG, Message: v.prompt}
	for _, g := range v.choices {
		rep.Groups = append(rep.Groups, &ipc.Group{Name: g})
	}
	return rep
}

func (w *worker) account(v verdict, cert session.Fingerprint) (session.Account, error) {
	text, err := v.grant.text()
	return session.Account{User: v.user, Group: v.group, Vhost: w.pinned(), Peer: w.peer, Certificate: cert, Granted: text}, err
}

// admitted is the answer to a login that succeeded. The SID is the cookie.
func (w *worker) admitted(named string, sid session.SID, s session.Session) *ipc.AuthReply {
	w.move(authenticated)
	w.s.attempts.Know(cmp.Or(named, s.User), w.peer, w.s.Now())
	w.s.record(s.SafeID) // before the client has the cookie
	w.s.counts.logins.Add(1)
	w.s.times.add(s.Took)
	w.s.Log.Info("logged in", "user", s.User, "group", s.Group, "vhost", s.Vhost, "peer", w.peer, "session", session.ShortID(s.SafeID))
	rep := &ipc.AuthReply{Status: ipc.AuthStatus_AUTH_OK, Sid: sid[:], User: s.User, Group: s.Group}
	w.s.tellProfile(rep, s)
	return rep
}

// busy is the answer to a step that nobody had the time for. It costs no try. A
// login that could not even begin has no sid.
func (w *worker) busy(sid []byte, prompt string) *ipc.AuthReply {
	w.s.counts.busy.Add(1)
	return &ipc.AuthReply{Status: ipc.AuthStatus_AUTH_BUSY, Sid: sid, Message: prompt}
}

// limited is the answer to a step that nobody looks at, after too many wrong
// ones. Who makes them goes on to earn points, until main bans him; a user
// whose name strangers guess does not.
func (w *worker) limited(a applicant, l attempts.Limit) *ipc.AuthReply {
	w.s.counts.limited.Add(1)
	if l != attempts.User {
		w.points()
	}
	w.refused(a, l.String())
	return failed()
}

// refused counts and logs a step that failed.
func (w *worker) refused(a applicant, why string) {
	w.s.counts.refused.Add(1)
	if skipped, ok := w.s.quiet.logins.allow(w.s.Now()); ok {
		w.s.Log.Warn("login refused", "user", a.user, "group", a.group, "peer", w.peer, "why", why, "skipped", skipped)
	}
}

// points tells main of a wrong answer from the worker's client.
func (w *worker) points() {
	w.charge(w.s.gens.Load().current.config.Global.BanPointsPassword, "wrong password")
}

// charge tells main of points against the worker's client.
func (w *worker) charge(score int, cause string) {
	if score > 0 {
		w.s.reply(ipc.SecmBanIPT, 0, &ipc.SecmBanIP{Peer: ipc.PutAddr(w.peer), Score: uint32(score), Cause: cause})
	}
}

// validName reports whether a name can be a user's or a group's: it ends up in
// file names, headers and the environment of scripts.
func validName(s string) bool {
	if s == "" || len(s) > maxName || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}
