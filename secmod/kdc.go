package secmod

import (
	"errors"
	"time"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
	"rocserv/secmod/attempts"
)

// What one source may ask KDCs for, beside its points (ban-points-kkdcp): a login
// needs three to five requests.
const (
	kdcPace  = 120 // at once, and again in each minute
	kdcShare = 8   // under way
)

var (
	errNoKDC   = errors.New("no kkdcp on this path")
	errKDCBusy = errors.New("too many requests to kkdcp from there")
)

// kdcs are the login helpers' end of kkdcp: who may ask, and how often.
type kdcs struct {
	pace  *attempts.Pace
	share *attempts.Share
}

func newKDCs() kdcs {
	return kdcs{attempts.NewPace(kdcPace, time.Minute), attempts.NewShare(kdcShare)}
}

// relays are the paths of kkdcp, with who takes what is posted to them.
func (l *loader) relays(c *config.Vhost) map[string]*remote {
	of := map[string]*remote{}
	for path, m := range c.KDCPaths() {
		key := m.Options["kdcs"]
		if l.kdcs[key] == nil {
			made := &remote{h: l.helper(m.Name)}
			made.method = made.h.add(m, false)
			l.kdcs[key] = made
		}
		of[path] = l.kdcs[key]
	}
	return of
}

// askKDC answers SEC_KDC: what a client posts goes to a login helper as it is.
func (w *worker) askKDC(q *ipc.KDCReq) (*ipc.KDCRep, error) {
	if err := w.pin(q.Vhost); err != nil {
		return nil, err
	}
	w.charge(w.s.gens.Load().current.config.Global.BanPointsKDC, "request to a KDC")
	rep := new(ipc.HelperRelayed)
	if err := w.relay(q, rep); err != nil {
		if skipped, ok := w.s.quiet.logins.allow(w.s.Now()); ok {
			w.s.Log.Warn("KDC not asked", "vhost", q.Vhost, "peer", w.peer, "why", err, "skipped", skipped)
		}
		return new(ipc.KDCRep), nil
	}
	return &ipc.KDCRep{Message: rep.Message}, nil
}

func (w *worker) relay(q *ipc.KDCReq, rep *ipc.HelperRelayed) error {
	v := w.s.gens.Load().current.vhosts[q.Vhost]
	if v == nil || v.relays[q.Path] == nil {
		return errNoKDC
	}
	to := v.relays[q.Path]
	if !w.s.kdcs.pace.Allow(w.peer, w.s.Now()) || !w.s.kdcs.share.Enter(w.peer) {
		return errKDCBusy
	}
	defer w.s.kdcs.share.Leave(w.peer)
	if err := to.h.step(ipc.HelperRelayT, &ipc.HelperRelay{Method: to.method, Message: q.Message}, ipc.HelperRelayedT, rep); err != nil {
		return err
	}
	if rep.Error != "" {
		return errors.New(rep.Error)
	}
	return nil
}
