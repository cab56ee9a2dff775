package secmod

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
	"rocserv/secmod/keys"
)

// wayKey is the key of the certificate that a way's proxy is shown.
type wayKey struct {
	*keys.Key
	digests bool // the worker's TLS library has no more to give
}

// wayKeysOf are the keys of the ways that a worker is told of.
func wayKeysOf(m *ipc.EgressPolicy, u *config.User, files *egressFiles) map[string]wayKey {
	list := map[string]wayKey{}
	for _, told := range m.Ways {
		for i := range u.Ways {
			if w := &u.Ways[i]; w.Name == told.Name && files.clients[w.Client] != nil {
				list[w.Name] = wayKey{files.clients[w.Client], told.Fingerprint != "go"}
			}
		}
	}
	return list
}

// waySign answers SEC_WAY_SIGN, for the ways that the worker's user may take.
func (w *worker) waySign(q *ipc.WaySignReq) (*ipc.SignRep, error) {
	list, err := w.wayKeys()
	if err != nil {
		w.s.Log.Error("signature failed", "way", q.Way, "err", err)
		return &ipc.SignRep{Error: "internal error"}, nil
	}
	k, ok := list[q.Way]
	if !ok {
		return &ipc.SignRep{Error: "no key for this way"}, nil
	}
	if sum := sha256.Sum256(k.Leaf().Raw); string(sum[:]) != string(q.LeafSha256) {
		return &ipc.SignRep{Error: "the certificate was replaced: the user's next session has the new one"}, nil
	}
	if q.Scheme > math.MaxUint16 || q.Digest && !k.digests {
		return nil, violation("signature for a way with scheme %#x, digest %t", q.Scheme, q.Digest)
	}
	sign := k.SignAsClient
	if q.Digest {
		sign = k.SignDigest
	}
	w.s.signing.enter()
	defer w.s.signing.leave()
	sig, err := sign(keys.Scheme(q.Scheme), q.Message)
	switch {
	case errors.Is(err, keys.ErrText) || errors.Is(err, keys.ErrScheme):
		return nil, violation("%v", err)
	case err != nil:
		w.s.Log.Error("signature failed", "way", q.Way, "err", err)
		return &ipc.SignRep{Error: "internal error"}, nil
	}
	w.s.counts.signatures.Add(1)
	return &ipc.SignRep{Signature: sig}, nil
}

// wayKeys are those of the session's opening. If another sec-mod opened it they
// are what the configuration has now.
func (w *worker) wayKeys() (map[string]wayKey, error) {
	w.mu.Lock()
	list, safeID := w.wayKey, w.safeID
	w.mu.Unlock()
	if list != nil {
		return list, nil
	}
	list, err := w.s.wayKeysNow(safeID)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.wayKey = list
	w.mu.Unlock()
	return list, nil
}

func (s *server) wayKeysNow(safeID string) (map[string]wayKey, error) {
	saved, ok := s.sessions.Save(safeID)
	gen := s.gens.Load().current
	v := gen.vhosts[saved.Session.Vhost]
	if !ok || v == nil {
		return nil, errors.New("its session or virtual host is no more")
	}
	user, err := s.userConfig(v.Vhost, saved.Session.Account)
	if err != nil {
		return nil, fmt.Errorf("user %q: %w", saved.Session.User, err)
	}
	files, err := s.egressFiles(user)
	if err != nil {
		return nil, fmt.Errorf("user %q: egress: %w", saved.Session.User, err)
	}
	return wayKeysOf(egressOf(&gen.config.Global, user, saved.Session.Account, files), user, files), nil
}
