package secmod

import (
	"rocserv/internal/ipc"
	"rocserv/internal/session"
)

// way is a way to log in of a virtual host: what must succeed together.
type way struct {
	certificate bool           // the client has a good certificate, and it names the user
	method      method         // and this says yes; nil: the certificate is enough
	ticket      ipc.AuthMethod // which is asked for no password: a ticket came with the request (gssapi, oidc), or the browser gets one; zero: none
}

// way returns the first way that is for a request of that kind: one with names
// and passwords, with a ticket, or with nothing but the certificate.
func (v *vhost) way(m ipc.AuthMethod, hasCert bool) (way, bool) {
	for _, w := range v.ways {
		if w.certificate && !hasCert {
			continue
		}
		if m == w.kind() {
			return w, true
		}
	}
	return way{}, false
}

// kind is the kind of request a way is for.
func (w way) kind() ipc.AuthMethod {
	switch {
	case w.method == nil:
		return ipc.AuthMethod_AUTH_CERTIFICATE
	case w.ticket != 0:
		return w.ticket
	}
	return ipc.AuthMethod_AUTH_PASSWORD
}

// beginning is the outcome of a first step, with the dialogue that follows.
type beginning struct {
	verdict
	dialogue dialogue // with ask
}

// begin begins a login. cert is the client's, nil if it has no good one.
func (w way) begin(a applicant, cert *certificate) beginning {
	if w.method == nil {
		return beginning{verdict: cert.admit(a)}
	}
	if w.certificate && a.user != "" && !cert.isOf(a.user) {
		return beginning{verdict: another(a.user)} // nobody tries others' passwords with his own certificate
	}
	d, v := w.method.begin(a)
	if w.certificate {
		return beginning{cert.confirm(v), certified{d, cert}}
	}
	return beginning{v, d}
}

// certified is a dialogue of a way that needs a certificate too: what the
// method says must be about the user the certificate names.
type certified struct {
	dialogue
	cert *certificate
}

func (d certified) answer(password []byte) verdict {
	return d.cert.confirm(d.dialogue.answer(password))
}

// admit is the login of somebody who has nothing but a certificate.
func (c *certificate) admit(a applicant) verdict {
	switch {
	case a.user != "" && !c.isOf(a.user):
		return another(a.user)
	case a.group == "" && len(c.groups) > 1:
		return verdict{outcome: choose, prompt: "Please select your group.", choices: c.groups}
	}
	group, member := pick(c.groups, a.group)
	if !member {
		return verdict{user: c.user, wrong: true, why: "the certificate does not name the group asked for"}
	}
	return verdict{outcome: admit, user: c.user, group: group}
}

// confirm holds a method's word against the certificate. It is the one place
// that lets in, for every method and wherever the certificate has its name
// (ocserv had a second one, which forgot: #694); begin only refuses earlier.
func (c *certificate) confirm(v verdict) verdict {
	if v.outcome == admit && !c.isOf(v.user) {
		return another(v.user)
	}
	return v
}

// another refuses a user whom the certificate does not name.
func another(user string) verdict {
	return verdict{user: user, wrong: true, why: "the certificate names another user"}
}

// isOf reports whether the certificate is that user's.
func (c *certificate) isOf(user string) bool { return c.user == user }

// hash is the certificate's fingerprint, zero for none.
func (c *certificate) hash() session.Fingerprint {
	if c == nil {
		return session.Fingerprint{}
	}
	return c.fingerprint
}
