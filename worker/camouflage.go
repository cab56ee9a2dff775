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
// another server (ocserv, camouflage): whoever does not say its secret in a URL is
// a stranger and sees nothing of it. A cookie of ours can be told from one that is
// made up by using it only: alone it lets a request try (ocserv lets any pass).
type hiding struct {
	query      secret.Text // the secret, once it was said here; forms bring it back
	cookieOnly bool        // a cookie is all there was, and may be made up
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
	// What ends a login needs the cookie and nothing else, nor does AnyConnect's
	// downloader, which asks for constants by connections of its own. A login under
	// way has the secret with every form. A phone's cookie is no pass: its login is
	// known to everybody (ocserv worker-http.c). A browser comes back from its provider without the
	// secret, with a state and a cookie that sec-mod knows.
	_, constant := wire.FindStatic(req.Path)
	h.cookieOnly = (req.IsTunnel() || req.IsProfile() || constant && req.Method == "GET") && hasCookie(req, wire.CookieSession) || isBrowser(v, req)
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
