package worker

import "rocserv/internal/wire"

// kdc has a KDC asked for a client that cannot reach one itself (MS-KKDCP). What is
// in the message a login helper reads.
func (d *dialogue) kdc(req *wire.Request) *wire.Response {
	message, refused := req.KDCMessage()
	if refused != nil {
		return refused
	}
	answer, err := d.c.sec.AskKDC(d.c.secure.vhost.Name, req.Path, message)
	if err != nil {
		return d.result(nil, err)
	}
	return wire.KDCAnswer(answer)
}
