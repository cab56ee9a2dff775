package secmod

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"rocserv/internal/ipc"
	"rocserv/secmod/helper"
)

// ticketMethod is a helper's method whose tickets are names.
type ticketMethod struct{}

func (ticketMethod) Begin(context.Context, helper.Applicant) (helper.Dialogue, helper.Verdict) {
	return ticketMethod{}, helper.Verdict{Outcome: helper.Ask}
}

func (ticketMethod) Answer(_ context.Context, ticket []byte) helper.Verdict {
	if user, ok := strings.CutPrefix(string(ticket), "ticket of "); ok {
		return helper.Verdict{Outcome: helper.Admit, User: user}
	}
	return helper.Verdict{Wrong: true, Why: "not a ticket"}
}

func (ticketMethod) End() {}

// startTickets is how main starts the helper that plays it.
func startTickets(*ipc.SecmHelperReq) (int, error) {
	near, far, err := ipc.Pair()
	if err == nil {
		go helper.Run(helper.Options{SecMod: near, Log: slog.New(slog.DiscardHandler), Kind: helper.Kind{Make: func(map[string]string, helper.Logger) (helper.Made, error) {
			return helper.Made{Method: ticketMethod{}}, nil
		}}})
	}
	return far, err
}

// TestTicketsAndOthers: a ticket is for gssapi only, alone, with a certificate or instead
// of a password, and for the user it names.
func TestTicketsAndOthers(t *testing.T) {
	ca := newAuthority(t, "CA", nil)
	anna, bert := ders(ca.client("anna", nil)), ders(ca.client("bert", nil))
	const (
		alone    = "auth = gssapi"
		together = "auth = gssapi, auth = certificate"
		either   = "auth = gssapi, enable-auth = PLAIN"
		other    = "auth = PLAIN, enable-auth = gssapi"
		none     = "auth = PLAIN"
		bearer   = "auth = oidc[config=x]"
		both     = "auth = oidc[config=x], enable-auth = gssapi"
	)
	for _, tt := range []struct {
		auth   string
		kind   ipc.AuthMethod
		chain  [][]byte
		answer string
		want   string
	}{
		{alone, ipc.AuthMethod_AUTH_GSSAPI, nil, "ticket of anna", "OK anna"},
		{alone, ipc.AuthMethod_AUTH_GSSAPI, nil, "garbage", "FAILED"},
		{alone, ipc.AuthMethod_AUTH_GSSAPI, nil, "", "FAILED"},
		{alone, ipc.AuthMethod_AUTH_GSSAPI, nil, "ticket of a\nb", "UNAVAILABLE"},
		{alone, ipc.AuthMethod_AUTH_PASSWORD, nil, "ticket of anna", "FAILED"},
		{alone, ipc.AuthMethod_AUTH_CERTIFICATE, anna, "", "FAILED"},
		{together, ipc.AuthMethod_AUTH_GSSAPI, anna, "ticket of anna", "OK anna"},
		{together, ipc.AuthMethod_AUTH_GSSAPI, bert, "ticket of anna", "FAILED"},
		{together, ipc.AuthMethod_AUTH_GSSAPI, nil, "ticket of anna", "FAILED"},
		{together, ipc.AuthMethod_AUTH_CERTIFICATE, anna, "", "FAILED"},
		{either, ipc.AuthMethod_AUTH_GSSAPI, nil, "ticket of bert", "OK bert"},
		{either, ipc.AuthMethod_AUTH_GSSAPI, nil, "secret", "FAILED"},
		{either, ipc.AuthMethod_AUTH_PASSWORD, nil, "secret", "OK anna"},
		{either, ipc.AuthMethod_AUTH_PASSWORD, nil, "ticket of anna", "FAILED"},
		{other, ipc.AuthMethod_AUTH_GSSAPI, nil, "ticket of bert", "OK bert"},
		{other, ipc.AuthMethod_AUTH_PASSWORD, nil, "secret", "OK anna"},
		{none, ipc.AuthMethod_AUTH_GSSAPI, nil, "ticket of anna", "FAILED"},
		{bearer, ipc.AuthMethod_AUTH_BEARER, nil, "ticket of anna", "OK anna"},
		{bearer, ipc.AuthMethod_AUTH_BEARER, nil, "garbage", "FAILED"},
		{bearer, ipc.AuthMethod_AUTH_GSSAPI, nil, "ticket of anna", "FAILED"},
		{bearer, ipc.AuthMethod_AUTH_PASSWORD, nil, "ticket of anna", "FAILED"},
		{alone, ipc.AuthMethod_AUTH_BEARER, nil, "ticket of anna", "FAILED"},
		{both, ipc.AuthMethod_AUTH_BEARER, nil, "ticket of anna", "OK anna"},
		{both, ipc.AuthMethod_AUTH_GSSAPI, nil, "ticket of bert", "OK bert"},
	} {
		t.Run(strings.Join([]string{tt.auth, tt.kind.String(), tt.answer}, "/"), func(t *testing.T) {
			st := certSite(t, ca, strings.Split(tt.auth, ", ")...)
			r := newRig(t)
			r.helper = startTickets
			if rep := r.configure(1, st.text()); rep.Error != "" {
				t.Fatal(rep.Error)
			}
			c, _ := r.handshaken(home)
			q := &ipc.AuthInit{Method: tt.kind, ClientChain: tt.chain}
			if tt.kind == ipc.AuthMethod_AUTH_PASSWORD {
				q.User = "anna"
			}
			rep := authInit(t, c, q)
			for rep.Status == ipc.AuthStatus_AUTH_MSG {
				rep = authCont(t, c, rep.Sid, tt.answer)
			}
			if got := strings.TrimSpace(status(rep) + " " + rep.User); got != tt.want {
				t.Errorf("%s, want %s\n%s", got, tt.want, r.log)
			}
		})
	}
}

// TestNameBesideATicket: it is nobody's word. A ticket neither makes somebody else
// known nor forgives what was guessed of him, and a bad one is not held against him.
func TestNameBesideATicket(t *testing.T) {
	st := certSite(t, newAuthority(t, "CA", nil), "auth = gssapi", "enable-auth = PLAIN")
	st.add("attempts-pair = 2", "attempts-source = 0", "attempts-user = 0")
	r := newRig(t)
	r.helper = startTickets
	if rep := r.configure(1, st.text()); rep.Error != "" {
		t.Fatal(rep.Error)
	}
	for i, tt := range []struct {
		peer   string
		kind   ipc.AuthMethod
		answer string
		want   string
	}{
		{home, ipc.AuthMethod_AUTH_PASSWORD, "guess", "MSG"},
		{home, ipc.AuthMethod_AUTH_GSSAPI, "ticket of bert", "OK bert"},
		{home, ipc.AuthMethod_AUTH_PASSWORD, "guess", "MSG"},
		{home, ipc.AuthMethod_AUTH_PASSWORD, "secret", "FAILED"}, // both guesses count
		{home, ipc.AuthMethod_AUTH_GSSAPI, "ticket of bert", "OK bert"},
		{away, ipc.AuthMethod_AUTH_GSSAPI, "garbage", "FAILED"},
		{away, ipc.AuthMethod_AUTH_GSSAPI, "garbage", "FAILED"},
		{away, ipc.AuthMethod_AUTH_PASSWORD, "secret", "OK anna"},
	} {
		c, _ := r.handshaken(tt.peer)
		rep := authInit(t, c, &ipc.AuthInit{Method: tt.kind, User: "anna"})
		if status(rep) == "MSG" {
			rep = authCont(t, c, rep.Sid, tt.answer)
		}
		if got := strings.TrimSpace(status(rep) + " " + rep.User); got != tt.want {
			t.Errorf("%d: %s, want %s", i, got, tt.want)
		}
	}
}
