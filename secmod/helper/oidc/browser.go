package oidc

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"rocserv/internal/ipc"
	"rocserv/internal/secret"
	"rocserv/secmod/helper"
)

const (
	maxTrips  = 8                // that a browser begins in one login
	tripLife  = 10 * time.Minute // of one
	tokenLife = 2 * time.Minute  // the client has it at once
	maxURL    = 8 << 10

	// listener is where a client waits for its browser (openconnect, hpke.c).
	listener = "http://localhost:29786/api/sso/"
)

// browserLogin is a login in the user's browser. It is decided once, by what the
// provider says to a browser that began a trip here, and the client is told with the
// token that this browser gets.
type browserLogin struct {
	m      *method
	ticket string
	query  string          // of URLs here
	key    *ecdh.PublicKey // the client's; nil: its browser is inside of it

	mu      sync.Mutex
	trips   int
	trip    *trip // the last one begun; nil: it has come to its end, or there was none
	decided bool
	proof   [sha256.Size]byte // of the token, with decided, as is all below
	until   time.Time
	verdict helper.Verdict
}

// trip is a browser's way to the provider and back.
type trip struct {
	state    secret.Text // behind the ticket
	cookie   secret.Text // of the browser
	nonce    string      // which the ID token repeats
	verifier secret.Text // RFC 7636
	until    time.Time
}

// browsed begins a login in the browser.
func (m *method) browsed(a helper.Applicant) (helper.Dialogue, helper.Verdict) {
	l := &browserLogin{m: m, ticket: a.Ticket, query: a.Browser.GetSecretQuery()}
	if a.Browser.GetExternal() {
		var err error
		if l.key, err = parseKey(a.Browser.GetKey()); err != nil {
			return nil, helper.Verdict{Wrong: true, Why: "OIDC: the client's key: " + err.Error()}
		}
	}
	return l, helper.Verdict{Outcome: helper.Ask, LoginURL: l.url(ipc.SSOLoginPath + a.Ticket), FinalURL: l.url(ipc.SSODonePath)}
}

// url is an address of this server's, as the browser of this login knows it.
func (l *browserLogin) url(path string) string {
	base := strings.TrimSuffix(l.m.conf.Redirect, ipc.SSOCallbackPath)
	if l.query != "" {
		path += "?" + l.query
	}
	return base + path
}

// End implements helper.Dialogue.
func (l *browserLogin) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decided, l.trip, l.verdict, l.until = true, nil, helper.Verdict{}, time.Time{}
}

// Answer takes the token that the client's browser got.
func (l *browserLogin) Answer(_ context.Context, token []byte) helper.Verdict {
	sum := sha256.Sum256(token)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.decided:
		return helper.Verdict{Wrong: true, Why: "OIDC: an answer before the browser has one"}
	case subtle.ConstantTimeCompare(sum[:], l.proof[:]) != 1:
		return helper.Verdict{Wrong: true, Why: "OIDC: not the token that the browser got"}
	case !l.m.now().Before(l.until):
		return helper.Verdict{Why: "OIDC: the token that the browser got has expired"}
	}
	return l.verdict
}

// Browse implements helper.Browsing.
func (l *browserLogin) Browse(ctx context.Context, q *ipc.Browse) *ipc.Browsed {
	if q.State == "" {
		return l.start(ctx)
	}
	t := l.take(q.State, q.Cookie)
	if t == nil {
		return new(ipc.Browsed)
	}
	return l.decide(l.outcome(ctx, t, q))
}

// start sends a browser to the provider.
func (l *browserLogin) start(ctx context.Context) *ipc.Browsed {
	about, _, err := l.m.known(ctx, false)
	if err != nil {
		return &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_UNAVAILABLE}
	}
	t := &trip{
		state: secret.NewText(random()), cookie: secret.NewText(random()), nonce: random(),
		verifier: secret.NewText(oauth2.GenerateVerifier()), until: l.m.now().Add(tripLife),
	}
	to := l.m.oauth(about).AuthCodeURL(l.ticket+t.state.Reveal(), oidc.Nonce(t.nonce), oauth2.S256ChallengeOption(t.verifier.Reveal()))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.decided || l.trips == maxTrips || len(to) > maxURL {
		return new(ipc.Browsed)
	}
	l.trips++
	l.trip = t // another one is at its end
	return &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_GO, Location: to, Cookie: t.cookie.Reveal()}
}

// take ends a trip with the state and the cookie that it began with: nobody ends it
// again. nil: it is none of this login's.
func (l *browserLogin) take(state, cookie string) *trip {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.trip
	if t == nil || l.decided || !same(state, t.state.Reveal()) || !same(cookie, t.cookie.Reveal()) {
		return nil
	}
	l.trip = nil
	if !l.m.now().Before(t.until) {
		return nil
	}
	return t
}

// outcome is what the provider's answer comes to.
func (l *browserLogin) outcome(ctx context.Context, t *trip, q *ipc.Browse) helper.Verdict {
	if q.Error != "" || q.Code == "" {
		return helper.Verdict{Why: "OIDC: the provider has refused, or the user has"} // not a guess
	}
	user, groups, err := l.m.exchange(ctx, t, q.Code)
	switch {
	case errors.Is(err, errProvider):
		return helper.Verdict{Outcome: helper.Unavailable, Why: "OIDC: " + err.Error()}
	case err != nil:
		return helper.Verdict{Wrong: true, Why: "OIDC: " + err.Error()}
	}
	return helper.Verdict{Outcome: helper.Admit, User: user, Groups: groups}
}

// decide keeps the verdict for the client and sends the browser there. A client hears
// of a refusal in the same way: it would wait for its browser else.
func (l *browserLogin) decide(v helper.Verdict) *ipc.Browsed {
	rep := &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_REFUSED, Wrong: v.Wrong}
	switch v.Outcome {
	case helper.Admit:
		rep.Result = ipc.BrowseResult_BROWSE_DONE
	case helper.Unavailable:
		rep.Result = ipc.BrowseResult_BROWSE_UNAVAILABLE
	}
	v.Wrong = false // it has been counted
	raw := make([]byte, 32)
	rand.Read(raw)
	token := hex.EncodeToString(raw) // clients take letters and digits only
	rep.Location = l.url(ipc.SSODonePath)
	switch {
	case l.key == nil && v.Outcome == helper.Admit:
		rep.Token = token
	case l.key != nil:
		sealed, err := seal(l.key, token)
		if err != nil {
			return &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_UNAVAILABLE}
		}
		rep.Location = listener + url.QueryEscape(sealed) + "?return=" + url.QueryEscape(rep.Location)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.decided {
		return new(ipc.Browsed)
	}
	l.decided, l.trip, l.proof, l.until, l.verdict = true, nil, sha256.Sum256([]byte(token)), l.m.now().Add(tokenLife), v
	return rep
}

// random is 256 bits that nobody knows.
func random() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
