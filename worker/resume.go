package worker

import (
	"bytes"
	"crypto/sha1"
	"crypto/tls"

	"rocserv/internal/ipc"
)

// certificateKey marks, in the state of a TLS session, the hash of the
// certificate that the client was shown when the session began.
const certificateKey = "rocserv certificate\x00"

// resumption lets clients resume TLS sessions of any worker: the state is sealed
// by sec-mod, for this client's address and the virtual host only. What cannot be
// opened is a full handshake.
func (c *client) resumption(cfg *tls.Config, v *ipc.Vhost) {
	cfg.WrapSession = func(_ tls.ConnectionState, state *tls.SessionState) ([]byte, error) {
		// A resumption shows no certificate, but its hash is a part of the login.
		state.Extra = append(state.Extra, append([]byte(certificateKey), c.secure.certSHA1[:]...))
		b, err := state.Bytes()
		if err != nil {
			return nil, err
		}
		defer clear(b)
		ticket, err := c.sec.ResumeSeal(v.Name, b)
		if err == nil && ticket == nil {
			ticket = []byte{0} // nothing opens it; TLS 1.3 knows no empty one (RFC 8446 section 4.6.1)
		}
		return ticket, err
	}
	cfg.UnwrapSession = func(ticket []byte, _ tls.ConnectionState) (*tls.SessionState, error) {
		b, err := c.sec.ResumeOpen(v.Name, ticket)
		if err != nil || b == nil {
			return nil, err
		}
		state, err := tls.ParseSessionState(b) // keeps b
		if err != nil {
			return nil, nil
		}
		for i, extra := range state.Extra {
			if sum, ok := bytes.CutPrefix(extra, []byte(certificateKey)); ok && len(sum) == sha1.Size {
				copy(c.secure.certSHA1[:], sum)
				state.Extra = append(state.Extra[:i:i], state.Extra[i+1:]...) // WrapSession adds it again
				return state, nil
			}
		}
		return nil, nil
	}
}
