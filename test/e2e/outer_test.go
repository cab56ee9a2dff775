//go:build e2e

package e2e

import (
	"regexp"
	"testing"

	"rocserv/test/e2e/lab"
)

// Sockets to the client are as the operator wants them, and with
// match-tls-dtls-ciphers the cipher of both channels is one.
func TestOuterSockets(t *testing.T) {
	rocservOnly(t, "its sockets are its own affair")
	r := newRig(t, 1, "net-priority = 0xb8", "output-buffer = 20", "match-tls-dtls-ciphers = true", "dtls-legacy = false")
	for _, cipher := range []string{"AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"} {
		mark := r.srv.Mark()
		c := r.connect(lab.Dial{Args: []string{"--gnutls-priority=NORMAL:-CIPHER-ALL:+" + cipher}})
		_, err := r.srv.ExpectAfter(mark, `DTLS channel is up .*\(`+cipher+`\)`, answerLimit)
		r.must(err)
		for _, kind := range []string{"t", "u"} {
			out, err := r.Srv.Run("ss", "-Hn"+kind+"mO", "--tos", "state", "established", "src", lab.Srv4)
			r.must(err)
			if !regexp.MustCompile(`tos:0xb8`).MatchString(out) || !regexp.MustCompile(`skmem:.*,tb60000,`).MatchString(out) {
				t.Errorf("%s, %s: %s", cipher, kind, out)
			}
		}
		r.each(c, hello4, hello6)
		_, err = c.Quit()
		r.must(err)
	}
}
