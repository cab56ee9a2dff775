package secmod

import (
	"errors"
	"maps"
	"sync"

	"rocserv/internal/ipc"
)

// remote is a method that a login helper plays, as one line of the configuration
// says it.
type remote struct {
	h      *helperLink
	method uint32 // its number in HELPER_CONFIG
}

// is says whether both are of a line that says the same, perhaps in another generation.
func (m *remote) is(other *remote) bool {
	return m.h.name == other.h.name && maps.Equal(m.h.conf.Methods[m.method].Options, other.h.conf.Methods[other.method].Options)
}

// groups are not known to anybody before a login.
func (m *remote) groups() []string { return nil }

// begin waits for the helper's word, on the goroutine of the login's worker: nobody
// else waits for it.
func (m *remote) begin(a applicant) (dialogue, verdict) {
	d := &remoteLogin{h: m.h, who: a, number: m.h.logins.Add(1)}
	m.h.busy.Add(1)
	if a.browser != nil {
		d.ticket = m.h.s.browsers.add(d)
	}
	v := d.step(ipc.HelperBeginT, &ipc.HelperBegin{
		Login: d.number, Method: m.method, User: a.user, Group: a.group, Vhost: a.vhost, Agent: a.agent,
		Peer: ipc.PutAddr(a.peer), Local: ipc.PutAddr(a.local), Browser: a.browser, Ticket: d.ticket,
	})
	if v.outcome == busy { // it was not begun
		d.close(true)
	}
	return d, v
}

// remoteLogin is a login under way at a helper.
type remoteLogin struct {
	h      *helperLink
	who    applicant
	number uint64
	ticket string // by which its browser finds it; empty: it has none
	prompt string // asked last; owned by who takes a step

	once sync.Once // ends it
}

func (d *remoteLogin) answer(password []byte) verdict {
	return d.step(ipc.HelperAnswerT, &ipc.HelperAnswer{Login: d.number, Answer: password})
}

// step asks the helper. Where that has nothing to say there is no verdict on the
// user either.
func (d *remoteLogin) step(t ipc.Type, q ipc.Message) verdict {
	m := new(ipc.HelperVerdict)
	err := d.h.step(t, q, ipc.HelperVerdictT, m)
	switch {
	case errors.Is(err, errHelperBusy):
		return verdict{outcome: busy, prompt: d.prompt}
	case err != nil:
		d.end()
		return verdict{outcome: unavailable, user: d.who.user, why: err.Error()}
	}
	if m.Outcome == ipc.HelperOutcome_HELPER_ASK {
		d.prompt = m.Prompt
		return verdict{
			outcome: ask, prompt: m.Prompt, counter: m.Counter, user: d.who.user, wrong: m.Wrong, why: m.Why, leg: m.Leg,
			loginURL: m.LoginUrl, finalURL: m.FinalUrl,
		}
	}
	d.close(true)
	return d.verdict(m)
}

// verdict is the helper's last word.
func (d *remoteLogin) verdict(m *ipc.HelperVerdict) verdict {
	v := verdict{outcome: unavailable, user: d.who.user, wrong: m.Wrong, why: m.Why, leg: m.Leg}
	switch m.Outcome {
	case ipc.HelperOutcome_HELPER_REFUSED:
		v.outcome = refuse
	case ipc.HelperOutcome_HELPER_ADMIT:
		if !validName(m.User) {
			v.why = "the login helper names no possible user"
			return v
		}
		group, member := pick(m.Groups, d.who.group)
		if !member || group != "" && !validName(group) {
			return verdict{outcome: refuse, user: m.User, wrong: true, why: reason(true, false, nil)}
		}
		v.outcome, v.user, v.group, v.grant = admit, m.User, group, grantOf(m.Grant)
	}
	return v
}

// end ends a login that is not over: the helper hears that nobody will answer. It
// may be called from anywhere, and waits for nothing.
func (d *remoteLogin) end() { d.close(false) }

// close ends the login, which is over if the helper has said so.
func (d *remoteLogin) close(over bool) {
	d.once.Do(func() {
		d.h.busy.Add(-1)
		if d.ticket != "" {
			d.h.s.browsers.remove(d.ticket)
		}
		if !over {
			go d.h.tell(ipc.HelperCancelT, &ipc.HelperCancel{Login: d.number})
		}
	})
}
