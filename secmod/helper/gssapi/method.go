package gssapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/spnego"
	"github.com/jcmturner/gokrb5/v8/types"

	"rocserv/secmod/helper"
)

const (
	skew = 5 * time.Minute // that clocks may be off (RFC 4120, section 5.5.1)
	// remembered is how long a request is: one of a clock that is ahead is good for so
	// long.
	remembered = 2 * skew
	maxUsed    = 64 << 10 // requests that are remembered
	maxKeytab  = 1 << 20
	byDefault  = "/etc/krb5.keytab"
)

// method takes tickets for the services of a keytab.
type method struct {
	keys      *keytab.Keytab
	localUser bool          // require-local-user-map
	freshness time.Duration // tgt-freshness-time; 0: any
	gidMin    int           // gid-min; -1: users have no groups
	now       func() time.Time

	mu   sync.Mutex
	used map[[sha256.Size]byte]time.Time // requests, until when they are remembered
}

// Make makes the method of `gssapi[...]`. It implements helper.Make.
func Make(options map[string]string, _ helper.Logger) (helper.Made, error) {
	m := &method{localUser: true, gidMin: -1, now: time.Now, used: map[[sha256.Size]byte]time.Time{}}
	switch v := strings.ToLower(options["require-local-user-map"]); v {
	case "", "true", "yes":
	case "false", "no":
		m.localUser = false
	default:
		return helper.Made{}, fmt.Errorf("require-local-user-map is true or false, not '%.32s'", v)
	}
	if v := options["tgt-freshness-time"]; v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return helper.Made{}, fmt.Errorf("tgt-freshness-time is a number of seconds, not '%.32s'", v)
		}
		m.freshness = time.Duration(n) * time.Second
	}
	if v := options["gid-min"]; v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return helper.Made{}, fmt.Errorf("gid-min is a number, not '%.32s'", v)
		}
		m.gidMin = int(n)
	}
	name := strings.TrimPrefix(options["keytab"], "FILE:")
	if name == "" {
		name = byDefault
	}
	if err := m.load(name); err != nil {
		return helper.Made{}, fmt.Errorf("keytab: %w", err)
	}
	made := helper.Made{Method: m}
	if m.gidMin >= 0 {
		made.Files.Exact = helper.GroupFiles()
	}
	return made, nil
}

// groups are the host's groups of a user, who is one of its own.
func (m *method) groups(user string) []string {
	if m.gidMin < 0 || !m.localUser {
		return nil
	}
	return helper.HostGroups(user, m.gidMin)
}

// Check reads the keytab. It implements helper.Check.
func Check(options map[string]string) (warnings []string, err error) {
	made, err := Make(options, nil)
	return made.Warnings, err
}

func (m *method) load(name string) (err error) {
	b, err := helper.ReadFile(name, maxKeytab)
	if err != nil {
		return err
	}
	defer clear(b)
	defer func() {
		if recover() != nil { // the library's reader does not check every length
			err = fmt.Errorf("%s: not a keytab", name)
		}
	}()
	m.keys = keytab.New()
	if err := m.keys.Unmarshal(b); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(m.keys.Entries) == 0 {
		return fmt.Errorf("%s: no key in it", name)
	}
	return nil
}

// Begin waits for the ticket, whoever it is.
func (m *method) Begin(context.Context, helper.Applicant) (helper.Dialogue, helper.Verdict) {
	return &login{m: m}, helper.Verdict{Outcome: helper.Ask}
}

// login is a login under way: at most three tokens of the client's.
type login struct {
	m     *method
	offer *offer    // with SPNEGO: the client's first token; nil: it is yet to come
	list  []byte    // of mechanisms, that both must sign; nil: Kerberos was the first
	done  *accepted // the ticket was good; what is missing is the client's signature
}

// Answer takes a token. The library may panic over what a stranger encoded.
func (d *login) Answer(_ context.Context, token []byte) (v helper.Verdict) {
	defer func() {
		if recover() != nil {
			v = refusal(errToken)
		}
	}()
	v, err := d.step(token)
	if err != nil {
		return refusal(err)
	}
	return v
}

func refusal(err error) helper.Verdict {
	if errors.Is(err, errFull) {
		return helper.Verdict{Outcome: helper.Unavailable, Why: err.Error()}
	}
	return helper.Verdict{Wrong: true, Why: err.Error()}
}

// step takes a token of the client's and says what is next.
func (d *login) step(token []byte) (v helper.Verdict, err error) {
	var l leg
	switch {
	case d.offer == nil:
		if l.inner, err = d.begin(token); err == nil && len(l.inner) == 0 && !d.offer.bare {
			return d.ask()
		}
	default:
		l, err = parseLeg(token)
	}
	if err != nil {
		return v, err
	}
	if d.done != nil {
		return d.complete(l.mic, leg{})
	}
	if d.done, err = d.m.check(l.inner); err != nil {
		return v, err
	}
	switch {
	case d.offer.bare:
		return d.admit(d.done.reply)
	case d.list == nil:
		mech, _ := d.offer.choice()
		text, err := reply(spnego.NegStateAcceptCompleted, mech, leg{inner: d.done.reply})
		if err != nil {
			return v, err
		}
		return d.admit(text)
	}
	ours := leg{inner: d.done.reply}
	if ours.mic, err = d.done.sign(d.list); err != nil {
		return v, err
	}
	if len(l.mic) > 0 {
		return d.complete(l.mic, ours)
	}
	text, err := reply(spnego.NegStateAcceptIncomplete, nil, ours)
	return helper.Verdict{Outcome: helper.Ask, Leg: text}, err
}

// begin reads the client's first token, and returns what of it is Kerberos' own.
func (d *login) begin(token []byte) (ticket []byte, err error) {
	o, err := parseOffer(token)
	if err != nil {
		return nil, err
	}
	d.offer = &o
	if o.bare {
		return o.inner, nil
	}
	mech, first := o.choice()
	switch {
	case mech == nil:
		return nil, errMech
	case first:
		return o.inner, nil
	}
	d.list, err = o.list()
	return nil, err // its token is another mechanism's
}

// ask names Kerberos to a client that began with something else, or with nothing (RFC
// 4178, section 4.2.2).
func (d *login) ask() (helper.Verdict, error) {
	mech, _ := d.offer.choice()
	state := spnego.NegStateAcceptIncomplete
	if d.list != nil {
		state = spnego.NegStateRequestMIC
	}
	text, err := reply(state, mech, leg{})
	return helper.Verdict{Outcome: helper.Ask, Leg: text}, err
}

// complete lets in a client that has signed its list of mechanisms.
func (d *login) complete(mic []byte, ours leg) (helper.Verdict, error) {
	if !d.done.signed(mic, d.list) {
		return helper.Verdict{}, errList
	}
	text, err := reply(spnego.NegStateAcceptCompleted, nil, ours)
	if err != nil {
		return helper.Verdict{}, err
	}
	return d.admit(text)
}

func (d *login) admit(text []byte) (helper.Verdict, error) {
	return helper.Verdict{Outcome: helper.Admit, User: d.done.user, Groups: d.m.groups(d.done.user), Leg: text}, nil
}

// End implements helper.Dialogue: there is nothing to end.
func (*login) End() {}

var (
	errToken  = errors.New("not a Kerberos ticket")
	errMech   = errors.New("a client without Kerberos")
	errList   = errors.New("the list of mechanisms is not signed by the client")
	errTicket = errors.New("the ticket is not good")
	errUsed   = errors.New("the ticket's request was used before")
	errFull   = fmt.Errorf("too many requests within %v", remembered)
)

// check makes the context of a token with a ticket.
func (m *method) check(token []byte) (*accepted, error) {
	req, err := request(token)
	if err != nil {
		return nil, err
	}
	if ok, err := req.Verify(m.keys, skew, types.HostAddress{}, nil); err != nil || !ok {
		return nil, fmt.Errorf("%w: %w", errTicket, cause(err))
	}
	if err := m.remember(req.EncryptedAuthenticator.Cipher); err != nil {
		return nil, err
	}
	part := req.Ticket.DecryptedEncPart
	if age := m.now().Sub(part.AuthTime); m.freshness > 0 && age > m.freshness {
		return nil, errors.New("the ticket comes of a log-in too long ago")
	}
	user, err := m.name(part.CName, part.CRealm, req.Ticket.Realm)
	if err != nil {
		return nil, err
	}
	a, err := accept(req)
	if err != nil {
		return nil, err
	}
	a.user = user
	return a, nil
}

// cause bounds what the library says.
func cause(err error) error {
	const most = 200
	if err == nil {
		return errors.New("expired")
	}
	text := err.Error()
	return errors.New(strings.ToValidUTF8(text[:min(most, len(text))], ""))
}

// request takes the AP-REQ out of a token of the mechanism.
func request(token []byte) (*messages.APReq, error) {
	var krb spnego.KRB5Token
	if err := krb.Unmarshal(token); err != nil || !krb.IsAPReq() {
		return nil, errToken
	}
	return &krb.APReq, nil
}

// remember enters a request that is used now; each is good once.
func (m *method) remember(authenticator []byte) error {
	key, now := sha256.Sum256(authenticator), m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used[key].After(now) {
		return errUsed
	}
	if len(m.used) >= maxUsed {
		for k, until := range m.used {
			if !until.After(now) {
				delete(m.used, k)
			}
		}
	}
	if len(m.used) >= maxUsed {
		return errFull
	}
	m.used[key] = now.Add(remembered)
	return nil
}

// name is what a user is called.
func (m *method) name(who types.PrincipalName, realm, service string) (string, error) {
	name := strings.Join(who.NameString, "/")
	switch {
	case name == "" || realm == "":
		return "", errTicket
	case !m.localUser:
		return name + "@" + realm, nil
	case realm != service:
		return "", errors.New("a user of another realm (require-local-user-map)")
	case len(who.NameString) != 1:
		return "", errors.New("a name of several parts (require-local-user-map)")
	}
	return name, nil
}
