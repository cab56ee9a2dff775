package secmod

import (
	"crypto/sha1"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
	"rocserv/internal/session"
)

// maxProfile bounds the AnyConnect profile of a user, in bytes.
const maxProfile = 1 << 20

// readProfile reads the profile of a user; nil: none is configured.
func readProfile(u *config.User) ([]byte, error) {
	if u.UserProfile == "" {
		return nil, nil
	}
	b, err := readBounded(u.UserProfile, maxProfile)
	if err != nil {
		return nil, fmt.Errorf("user-profile: %w", err)
	}
	return b, nil
}

// profileOf is the profile of a session's user as it is now. What is wrong with
// it keeps nobody out: the login is done.
func (s *server) profileOf(of session.Session) (name string, b []byte) {
	v := s.gens.Load().current.vhosts[of.Vhost]
	if v == nil {
		return "", nil
	}
	user, err := s.userConfig(v.Vhost, of.Account)
	if err == nil {
		b, err = readProfile(user)
	}
	if err != nil {
		if skipped, ok := s.quiet.sessions.allow(s.Now()); ok {
			s.Log.Warn("no profile", "user", of.User, "err", err, "skipped", skipped)
		}
		return "", nil
	}
	return filepath.Base(user.UserProfile), b
}

// tellProfile adds to the end of a login which profile the client is to have.
func (s *server) tellProfile(rep *ipc.AuthReply, of session.Session) {
	if name, b := s.profileOf(of); b != nil {
		sum := sha1.Sum(b) // what the clients' protocol names it by
		rep.ProfileName, rep.ProfileSha1 = name, sum[:]
	}
}

// profile answers SEC_PROFILE.
func (w *worker) profile(rec *ipc.Record) error {
	q := new(ipc.ProfileReq)
	if err := rec.Decode(q); err != nil {
		return err
	}
	sid, ok := session.ParseSID(q.Sid)
	clear(q.Sid)
	if !ok {
		return violation("SID of %d bytes", len(q.Sid))
	}
	known, err := w.s.sessions.Lookup(sid)
	if err != nil || !ofCertificate(known, q.CertificateSha256) {
		return w.conn.Send(ipc.ProfileRepT, 0, new(ipc.Nothing))
	}
	_, b := w.s.profileOf(known)
	fd, err := ipc.Seal("profile", b)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return w.conn.Send(ipc.ProfileRepT, 0, new(ipc.Nothing), fd)
}
