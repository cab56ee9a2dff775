package worker

import (
	"crypto/sha256"
	"crypto/subtle"

	"rocserv/internal/ipc"
	"rocserv/internal/secret"
	"rocserv/internal/wire"
)

const saltLen = 16 // of Vhost.camouflage

// hiding is how far one connection has come with a virtual host that looks like
// another server (ocserv, camouflage): whoever does not say its secret in a URL,
// or show a cookie that could be ours, is a stranger and sees nothing of it.
type hiding struct {
	query      secret.Text // the secret, once it was said here; forms bring it back
	cookieOnly bool        // a cookie is all there was
}

// admits says whether the request is none of a stranger's.
func (h *hiding) admits(v *ipc.Vhost, req *wire.Request) bool {
	if len(v.Camouflage) == 0 || !h.query.IsZero() {
		return true
	}
	if isSecret(v.Camouflage, req.Query) {
		h.query, h.cookieOnly = secret.NewText(req.Query), false
		return true
	}
	// A phone's cookie is no pass: its login is known to everybody (ocserv worker-http.c).
	h.cookieOnly = !req.IsPhone() && (hasCookie(req, wire.CookieSession) || hasCookie(req, wire.CookieContext))
	return h.cookieOnly
}

func isSecret(salted []byte, query string) bool {
	if len(salted) != saltLen+sha256.Size || query == "" {
		return false
	}
	sum := sha256.Sum256(append(append([]byte(nil), salted[:saltLen]...), query...))
	return subtle.ConstantTimeCompare(sum[:], salted[saltLen:]) == 1
}

// hasCookie says whether there is a cookie of that name in the form of ours.
// Whether it is one only sec-mod knows.
func hasCookie(req *wire.Request, name string) bool {
	text, err := req.Cookie(name)
	if err != nil {
		return false
	}
	sid, err := wire.ParseSID(text)
	sid.Clear()
	return err == nil
}

// stranger is what everybody else gets, whatever the request.
func stranger(v *ipc.Vhost) *wire.Response {
	if v.CamouflageRealm == "" {
		return wire.NotFound()
	}
	return wire.BasicLogin(v.CamouflageRealm)
}
