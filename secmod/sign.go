package secmod

import (
	"errors"
	"math"

	"rocserv/internal/ipc"
	"rocserv/secmod/keys"
)

// sign answers SEC_SIGN. What no crypto/tls server asks for is a violation:
// an unknown key, a scheme that does not fit it, a text that is no handshake's.
func (w *worker) sign(q *ipc.SignReq) (*ipc.SignRep, error) {
	if err := w.pin(q.Vhost); err != nil {
		return nil, err
	}
	k := w.gens.key(q.Vhost, q.KeyIndex)
	if k == nil {
		return nil, violation("signature with an unknown key")
	}
	if q.Scheme > math.MaxUint16 {
		return nil, violation("signature scheme %#x", q.Scheme)
	}
	// No queue limit: a worker has one signature in its life, and main bounds
	// the workers that have not logged in. Hashing has places of its own, so
	// that no number of wrong passwords holds up a handshake.
	w.s.signing.enter()
	sig, err := func() ([]byte, error) {
		defer w.s.signing.leave()
		return k.Sign(keys.Scheme(q.Scheme), q.Message)
	}()
	if errors.Is(err, keys.ErrText) || errors.Is(err, keys.ErrScheme) {
		return nil, violation("%v", err)
	}
	w.move(signed)
	if err != nil {
		w.s.Log.Error("signature failed", "vhost", q.Vhost, "err", err)
		return &ipc.SignRep{Error: "internal error"}, nil
	}
	w.s.counts.signatures.Add(1)
	return &ipc.SignRep{Signature: sig}, nil
}
