package secmod

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"

	"rocserv/internal/ipc"
	"rocserv/secmod/attempts"
)

// browsers are the logins under way that a browser has a part in. There are no more
// than logins.
type browsers struct {
	mu     sync.Mutex
	logins map[string]*remoteLogin // by ticket
}

// add gives a login the name that its browser knows it by.
func (b *browsers) add(d *remoteLogin) (ticket string) {
	raw := make([]byte, ipc.BrowseTicketLen/2)
	rand.Read(raw)
	ticket = hex.EncodeToString(raw)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.logins == nil {
		b.logins = map[string]*remoteLogin{}
	}
	b.logins[ticket] = d
	return ticket
}

func (b *browsers) remove(ticket string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.logins, ticket)
}

// find returns the login of a ticket that was begun at a virtual host; nil: none.
func (b *browsers) find(ticket, vhost string) *remoteLogin {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.logins[ticket]
	if d == nil || d.who.vhost != vhost {
		return nil
	}
	return d
}

// browse answers SEC_BROWSE: a browser is back with what belongs to a login that a
// client has begun by another worker. It lets nobody in: the client comes with what
// the browser gets here, and with its own SID.
func (w *worker) browse(q *ipc.Browse) (*ipc.Browsed, error) {
	if err := w.pin(q.Vhost); err != nil {
		return nil, err
	}
	if !ipc.IsBrowseTicket(q.Ticket) {
		return nil, violation("ticket of %d bytes", len(q.Ticket))
	}
	if l := w.s.attempts.Limited("", w.peer, w.s.Now()); l != attempts.None {
		w.limited(applicant{}, l)
		return new(ipc.Browsed), nil
	}
	d := w.s.browsers.find(q.Ticket, q.Vhost)
	if d == nil {
		return new(ipc.Browsed), nil
	}
	rep := new(ipc.Browsed)
	err := d.h.step(ipc.HelperBrowseT, &ipc.HelperBrowse{Login: d.number, Browse: q}, ipc.HelperBrowsedT, rep)
	if err != nil {
		if !errors.Is(err, errHelperBusy) {
			d.end()
		}
		w.refused(applicant{}, err.Error())
		return &ipc.Browsed{Result: ipc.BrowseResult_BROWSE_UNAVAILABLE}, nil
	}
	if rep.Wrong {
		rep.Wrong = false
		w.points()
		w.s.attempts.Wrong("", w.peer, w.s.Now())
	}
	return rep, nil
}
