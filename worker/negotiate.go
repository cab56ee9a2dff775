package worker

import (
	"rocserv/internal/ipc"
	"rocserv/internal/secret"
	"rocserv/internal/wire"
)

// negotiate takes the client's ticket or bearer's token, or asks for it; nil: there is none to be
// had, or it was no good and there is a form or a browser. Who has no ticket comes again
// without saying that it could have one (openconnect, X-HTTP-Auth-Support).
func (d *dialogue) negotiate(req *wire.Request, m *wire.AuthRequest) *wire.Response {
	offer := d.c.secure.vhost.Auth
	method := ipc.AuthMethod_AUTH_GSSAPI
	token, ok := wire.NegotiateToken(req.Header)
	if offer.GetBearer() && !ok {
		method = ipc.AuthMethod_AUTH_BEARER
		token, ok = wire.BearerToken(req.Header)
	}
	if !ok {
		if !wire.SupportsHTTPAuth(req.Header, d.agent) {
			return nil
		}
		return wire.AskTicket(offer.GetGssapi(), offer.GetBearer(), offer.GetPassword() || offer.GetSso())
	}
	defer clear(token)
	rep, err := d.leg(req, m, method, token)
	if err == nil && rep.Status == ipc.AuthStatus_AUTH_FAILED && (offer.GetPassword() || offer.GetSso()) {
		return nil
	}
	if err == nil && rep.Status == ipc.AuthStatus_AUTH_MSG && len(rep.Leg) > 0 {
		d.ticket = secret.NewBytes(rep.Sid)
		return wire.Challenge(wire.NegotiateLeg(rep.Leg))
	}
	reply := d.result(rep, err)
	if err == nil && rep.Status == ipc.AuthStatus_AUTH_OK && len(rep.Leg) > 0 {
		reply.Header = append(reply.Header, wire.NegotiateLeg(rep.Leg))
	}
	return reply
}

// leg takes what the client brings to sec-mod: to the login that waits for it on this
// connection, else to a new one.
func (d *dialogue) leg(req *wire.Request, m *wire.AuthRequest, method ipc.AuthMethod, token []byte) (*ipc.AuthReply, error) {
	if sid := d.ticket.Reveal(); sid != nil {
		d.ticket = secret.Bytes{}
		return d.c.sec.AuthCont(sid, token)
	}
	rep, err := d.begin(req, m, method)
	if err == nil && rep.Status == ipc.AuthStatus_AUTH_MSG {
		rep, err = d.c.sec.AuthCont(rep.Sid, token)
	}
	return rep, err
}

// takesTickets says whether a client may log in by what it brings in a header.
func (d *dialogue) takesTickets() bool {
	offer := d.c.secure.vhost.Auth
	return offer.GetGssapi() || offer.GetBearer()
}
