//go:build e2e

package e2e

import (
	"os"
	"regexp"
	"testing"

	"rocserv/test/e2e/lab"
)

// A user's rate: what is beyond it waits (TCP) or is sent again (QUIC), and every
// byte arrives; who has none is not concerned.
func TestRates(t *testing.T) {
	r := newLab(t, 2)
	dir := r.state.Path("users.d")
	r.must(os.Mkdir(dir, 0o755))
	r.must(os.WriteFile(dir+"/"+lab.User, []byte("rx-data-per-sec = 1000000\ntx-data-per-sec = 1500000\n"), 0o644))
	r.must(r.state.Configure("config-per-user = "+dir, "use-occtl = true", "occtl-socket-file = "+r.socket()))
	r.start()
	for _, k := range []struct {
		name    string
		connect func(lab.Dial) *lab.Client
	}{{"DTLS", r.connect}, {"TLS", r.connectTLS}} {
		c := k.connect(lab.Dial{})
		if server.Kind == lab.Rocserv {
			r.wants("show user "+lab.User, "Limit RX: 1.0 MB/s", "Limit TX: 1.5 MB/s")
		}
		r.must(transfer(c,
			lab.Transfer{Host: lab.Tgt4, Bytes: 2 * megabyte}, lab.Transfer{Host: lab.Tgt6, Bytes: 2 * megabyte},
			lab.Transfer{Host: lab.Tgt4, Upload: true, Bytes: 2 * megabyte}, lab.Transfer{Host: lab.Tgt6, Upload: true, Bytes: 2 * megabyte},
			lab.Transfer{Host: lab.Tgt4, QUIC: true, Bytes: megabyte}, lab.Transfer{Host: lab.Tgt4, QUIC: true, Upload: true, Bytes: megabyte}))
		r.each(c, hello4, hello6)
		_, err := c.Quit()
		r.must(err)
	}
	other := r.connect(lab.Dial{From: r.Cli[1], User: lab.Other, Input: right})
	r.must(transfer(other, lab.Transfer{Host: lab.Tgt4, Bytes: 20 * megabyte}))
	if server.Kind == lab.Rocserv {
		if out := r.wants("--debug show status"); !regexp.MustCompile(`packets_limited: [1-9]`).MatchString(out) {
			t.Errorf("nothing was counted as beyond the rate:\n%s", out)
		}
	}
}
