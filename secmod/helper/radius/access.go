package radius

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc3162"

	"rocserv/secmod/helper"
)

// The questions of ocserv's radius method (auth/radius.c); clients and scripts
// know them.
const (
	askPassword      = "Please enter your password."
	askPasswordAgain = "Login failed.\nPlease enter your password."
)

const (
	tries     = 3  // of a password, in one login (ocserv, MAX_PASSWORD_TRIES)
	maxRounds = 16 // of Access-Challenge, in one login (ocserv, MAX_CHALLENGES)

	maxPassword = 128 // bytes that a request can carry (RFC 2865, section 5.2)
)

// method is a line `auth = "radius[...]"`, or one of acct.
type method struct {
	*pool
	options options
}

// Begin asks for the password; no server needs to know before.
func (m *method) Begin(_ context.Context, a helper.Applicant) (helper.Dialogue, helper.Verdict) {
	return &login{m: m, who: a}, helper.Verdict{Outcome: helper.Ask, Prompt: askPassword}
}

// login is the dialogue: a password, then as many rounds as the server wants.
type login struct {
	m   *method
	who helper.Applicant

	failed int
	rounds int    // of Access-Challenge
	at     server // that challenges
	state  []byte // RFC 2865 section 5.24: goes back as it came; nil: none
}

// End does nothing: a RADIUS server forgets by itself.
func (*login) End() {}

func (d *login) Answer(ctx context.Context, answer []byte) helper.Verdict {
	if len(answer) > maxPassword { // nobody's: no server need be asked
		return d.wrong(fmt.Sprintf("RADIUS: a password of more than %d bytes", maxPassword))
	}
	rep, from, err := d.ask(ctx, answer)
	if err != nil {
		return helper.Verdict{Outcome: helper.Unavailable, Why: "RADIUS: " + err.Error()}
	}
	switch rep.Code {
	case radius.CodeAccessAccept:
		return d.accepted(rep)
	case radius.CodeAccessReject:
		return d.rejected(rep)
	case radius.CodeAccessChallenge:
		return d.challenged(rep, from)
	}
	return helper.Verdict{Outcome: helper.Unavailable, Why: fmt.Sprintf("RADIUS: %s answers with a packet of code %d", from.name, rep.Code)}
}

// ask asks a server; the answer to a challenge goes to the one that asked: no other
// knows what that was.
func (d *login) ask(ctx context.Context, answer []byte) (rep *radius.Packet, from server, err error) {
	if d.rounds == 0 {
		return d.m.ask(ctx, func(s server) (*radius.Packet, error) { return d.request(s, answer) })
	}
	q, err := d.request(d.at, answer)
	if err != nil {
		return nil, d.at, err
	}
	rep, err = d.m.askOne(ctx, d.at, q)
	return rep, d.at, err
}

func (d *login) accepted(rep *radius.Packet) helper.Verdict {
	if t, err := rfc2865.ServiceType_Lookup(rep); err == nil && t != rfc2865.ServiceType_Value_FramedUser {
		return helper.Verdict{Wrong: true, Why: fmt.Sprintf("RADIUS: accepted for service type %v only", t)}
	}
	v := helper.Verdict{Outcome: helper.Admit, User: d.who.User, Groups: groups(rep, d.m.options.separator)}
	if d.m.options.groupConfig {
		v.Grant = grant(rep)
	}
	return v
}

func (d *login) rejected(rep *radius.Packet) helper.Verdict {
	why := "RADIUS: rejected"
	if text := replyMessage(rep); text != "" {
		why += ": " + text
	}
	return d.wrong(why)
}

// wrong asks once more for the password, but not for an answer to a challenge.
func (d *login) wrong(why string) helper.Verdict {
	v := helper.Verdict{Wrong: true, Why: why}
	if d.failed++; d.failed < tries && d.rounds == 0 {
		v.Outcome, v.Prompt = helper.Ask, askPasswordAgain
	}
	return v
}

func (d *login) challenged(rep *radius.Packet, from server) helper.Verdict {
	if d.rounds++; d.rounds > maxRounds {
		return helper.Verdict{Outcome: helper.Unavailable, Why: fmt.Sprintf("RADIUS: more than %d challenges", maxRounds)}
	}
	d.at, d.state = from, rfc2865.State_Get(rep)
	v := helper.Verdict{Outcome: helper.Ask, Prompt: replyMessage(rep), Counter: uint32(d.rounds)}
	if v.Prompt == "" {
		v.Prompt = askPassword
	}
	return v
}

// replyMessage is what a server says for people, in one or several attributes.
func replyMessage(p *radius.Packet) string {
	const most = 1024
	texts, _ := rfc2865.ReplyMessage_GetStrings(p)
	s := strings.TrimSpace(strings.ToValidUTF8(strings.Join(texts, "\n"), "?"))
	for i := range s {
		if i > most {
			return s[:i]
		}
	}
	return s
}

// request makes the Access-Request with an answer: PAP (RFC 2865 section 5.2).
func (d *login) request(s server, answer []byte) (*radius.Packet, error) {
	p := radius.New(radius.CodeAccessRequest, []byte(s.secret.Reveal()))
	reserve(p)
	err := errors.Join(
		rfc2865.UserName_SetString(p, d.who.User),
		rfc2865.UserPassword_Set(p, answer),
		rfc2865.ServiceType_Set(p, rfc2865.ServiceType_Value_AuthenticateOnly),
		rfc2865.NASPortType_Set(p, rfc2865.NASPortType_Value_Async),
		d.m.describe(p, d.who.Peer, d.who.Local, d.who.Agent),
	)
	if d.state != nil {
		err = errors.Join(err, rfc2865.State_Set(p, d.state))
	}
	if err != nil {
		return nil, err
	}
	return p, sign(p)
}

// describe adds what requests of every kind say of the client and of this server.
func (m *method) describe(p *radius.Packet, peer, local netip.Addr, agent string) (err error) {
	errs := []error{rfc2865.CallingStationID_SetString(p, peer.String())}
	if agent != "" {
		errs = append(errs, rfc2869.ConnectInfo_SetString(p, short(agent)))
	}
	if name := m.options.nasIdentifier; name != "" {
		errs = append(errs, rfc2865.NASIdentifier_SetString(p, name))
	}
	nas := m.conf.nasIP
	if !nas.IsValid() {
		nas = local
	}
	switch nas = nas.Unmap(); {
	case nas.Is4():
		errs = append(errs, rfc2865.NASIPAddress_Set(p, net.IP(nas.AsSlice())))
	case nas.Is6():
		errs = append(errs, rfc3162.NASIPv6Address_Set(p, net.IP(nas.AsSlice())))
	}
	return errors.Join(errs...)
}

// short is as much of a text as an attribute holds.
func short(s string) string {
	const most = 253
	if len(s) > most {
		s = s[:most]
	}
	return s
}
