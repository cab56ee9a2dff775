package secmod

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"rocserv/internal/ipc"
	"rocserv/internal/secret"
	"rocserv/internal/session"
	"rocserv/secmod/keys"
)

// Labels of what is derived and sealed: nothing sealed for one purpose opens
// for another.
const (
	keyringLabel = "rocserv keyring 1"
	recordLabel  = "rocserv session record 1\x00"
)

const recordSecret = 32 // bytes of the key that seals records

// records seals sessions for main to keep, and opens them again in the sec-mod
// after this one.
//
//	secret  = 32 random bytes, made by the first sec-mod
//	keyring = for each server key: AES-256-GCM(HKDF(private key, label), secret)
//	record  = AES-256-GCM(secret, savedSession in JSON), bound to the safe id
//
// Main keeps keyring and records, and has nothing to open them with. Any of
// the server keys is enough for a new sec-mod, so a key can be replaced in any
// reload that another survives, and in any reload at all that this sec-mod
// lives through: it seals the keyring anew for the keys it has then.
type records struct {
	mu     sync.Mutex   // held from the look at a session until its record is sent: they go out in order
	secret secret.Bytes // 32
	aead   cipher.AEAD  // nil: no configuration yet
}

// Format implements fmt.Formatter: the secret is not shown.
func (*records) Format(f fmt.State, _ rune) { io.WriteString(f, "[records]") }

// unlock takes the secret out of the keyring that the sec-mod before left, or
// makes one, and returns the keyring for the keys that are loaded.
func (r *records) unlock(keyring []byte, loaded map[uint32]*keys.Key, log *slog.Logger) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.aead == nil {
		if !r.open(keyring, loaded) {
			if len(keyring) > 0 {
				log.Error("sessions of before are lost: none of the server keys is one of then")
			}
			r.secret = secret.NewBytes(make([]byte, recordSecret))
			rand.Read(r.secret.Reveal())
		}
		r.aead = newAEAD(r.secret.Reveal())
	}
	var ring [][]byte
	done := map[string]bool{} // several files may hold one key
	for _, k := range loaded {
		spki := string(k.Leaf().RawSubjectPublicKeyInfo)
		if done[spki] {
			continue
		}
		done[spki] = true
		derived, err := k.Derive(keyringLabel)
		if err != nil {
			return nil, fmt.Errorf("keyring: %w", err)
		}
		ring = append(ring, newAEAD(derived).Seal(nil, nil, r.secret.Reveal(), []byte(keyringLabel)))
		clear(derived)
	}
	return json.Marshal(ring)
}

func (r *records) open(keyring []byte, loaded map[uint32]*keys.Key) bool {
	var ring [][]byte
	if json.Unmarshal(keyring, &ring) != nil {
		return false
	}
	for _, k := range loaded {
		derived, err := k.Derive(keyringLabel)
		if err != nil {
			continue
		}
		aead := newAEAD(derived)
		clear(derived)
		for _, sealed := range ring {
			if held, err := aead.Open(nil, nil, sealed, []byte(keyringLabel)); err == nil && len(held) == recordSecret {
				r.secret = secret.NewBytes(held)
				return true
			}
		}
	}
	return false
}

func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("secmod: internal error: " + err.Error())
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic("secmod: internal error: " + err.Error())
	}
	return aead
}

// savedSession is what a record holds.
type savedSession struct {
	session.Saved
	Accounting *accounting `json:",omitempty"` // nil: it is not accounted
}

// record sends main the session as it is now, or that there is none. Whoever
// changes a session calls it before anybody is told of the change.
func (s *server) record(safeID string) {
	r := &s.records
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := &ipc.SecmRecord{SafeId: safeID}
	if saved, ok := s.sessions.Save(safeID); ok && r.aead != nil {
		plain, err := json.Marshal(savedSession{saved, s.accounts.save(safeID)})
		if err != nil {
			s.Log.Error("session not recorded", "session", session.ShortID(safeID), "err", err)
			return
		}
		rec.Sealed = r.aead.Seal(nil, nil, plain, []byte(recordLabel+safeID))
		if !saved.Expires.IsZero() {
			rec.ExpiresUnixMs = saved.Expires.UnixMilli()
		}
	}
	s.reply(ipc.SecmRecordT, 0, rec)
}

// restore takes over the sessions of the sec-mod before this one. It is done
// before the next record of main's is read: workers of these sessions follow.
func (s *server) restore(rec *ipc.Record) error {
	held := new(ipc.SecmRecords)
	if err := ipc.ReadSealedMessage(rec.FDs[0], held); err != nil {
		return err
	}
	rep := new(ipc.SecmRestoreRep)
	for _, h := range held.Records {
		saved, err := s.unseal(h)
		switch {
		case err != nil:
			rep.Refused++
		case s.sessions.Restore(saved.Saved, h.ConnIds):
			rep.Restored++
			s.accounts.restore(saved)
			s.attempts.Know(saved.Session.User, saved.Session.Peer, s.Now())
		default:
			rep.Expired++
			s.accounts.restore(saved)
			s.accounts.ended(ipc.Reason_REASON_UNSPECIFIED, h.SafeId)
		}
	}
	s.Log.Info("sessions restored", "restored", rep.Restored, "expired", rep.Expired, "refused", rep.Refused)
	s.reply(ipc.SecmRestoreRepT, rec.ID, rep)
	return nil
}

var errRecord = errors.New("not a record of a session")

func (s *server) unseal(h *ipc.SecmRecord) (saved savedSession, err error) {
	s.records.mu.Lock()
	aead := s.records.aead
	s.records.mu.Unlock()
	plain, err := aead.Open(nil, nil, h.Sealed, []byte(recordLabel+h.SafeId))
	if err != nil {
		return saved, err
	}
	if err := json.Unmarshal(plain, &saved); err != nil {
		return saved, err
	}
	if saved.Session.SafeID != h.SafeId {
		return saved, errRecord
	}
	return saved, nil
}
