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
	now       func() time.Time

	mu   sync.Mutex
	used map[[sha256.Size]byte]time.Time // requests, until when they are remembered
}

// Make makes the method of `gssapi[...]`. It implements helper.Make.
func Make(options map[string]string, _ helper.Logger) (helper.Made, error) {
	m := &method{localUser: true, now: time.Now, used: map[[sha256.Size]byte]time.Time{}}
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
	name := strings.TrimPrefix(options["keytab"], "FILE:")
	if name == "" {
		name = byDefault
	}
	if err := m.load(name); err != nil {
		return helper.Made{}, fmt.Errorf("keytab: %w", err)
	}
	return helper.Made{Method: m}, nil
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
	return login{m}, helper.Verdict{Outcome: helper.Ask}
}

// login is a login under way.
type login struct{ m *method }

// Answer takes the token.
func (d login) Answer(_ context.Context, token []byte) helper.Verdict {
	user, err := d.m.check(token)
	if errors.Is(err, errFull) {
		return helper.Verdict{Outcome: helper.Unavailable, Why: err.Error()}
	}
	if err != nil {
		return helper.Verdict{Wrong: true, Why: err.Error()}
	}
	return helper.Verdict{Outcome: helper.Admit, User: user}
}

// End implements helper.Dialogue: there is nothing to end.
func (login) End() {}

var (
	errToken  = errors.New("not a Kerberos ticket")
	errTicket = errors.New("the ticket is not good")
	errUsed   = errors.New("the ticket's request was used before")
	errFull   = fmt.Errorf("too many requests within %v", remembered)
)

// check says whose ticket it is. The library may panic over what a stranger encoded.
func (m *method) check(token []byte) (user string, err error) {
	defer func() {
		if recover() != nil {
			user, err = "", errToken
		}
	}()
	req, err := request(token)
	if err != nil {
		return "", err
	}
	if ok, err := req.Verify(m.keys, skew, types.HostAddress{}, nil); err != nil || !ok {
		return "", fmt.Errorf("%w: %w", errTicket, cause(err))
	}
	if err := m.remember(req.EncryptedAuthenticator.Cipher); err != nil {
		return "", err
	}
	part := req.Ticket.DecryptedEncPart
	if age := m.now().Sub(part.AuthTime); m.freshness > 0 && age > m.freshness {
		return "", errors.New("the ticket comes of a log-in too long ago")
	}
	return m.name(part.CName, part.CRealm, req.Ticket.Realm)
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

// request takes the AP-REQ out of a token.
func request(token []byte) (*messages.APReq, error) {
	var outer spnego.SPNEGOToken
	inner := token // without SPNEGO, as some clients send it
	if err := outer.Unmarshal(token); err == nil {
		if inner = outer.NegTokenInit.MechTokenBytes; outer.Resp {
			inner = outer.NegTokenResp.ResponseToken
		}
	}
	var krb spnego.KRB5Token
	if err := krb.Unmarshal(inner); err != nil || !krb.IsAPReq() {
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
