//go:build e2e

package e2e

import (
	"strconv"
	"strings"
	"testing"

	"rocserv/test/e2e/lab"
)

// openconnect and the server compress each other's packets, over DTLS and TLS, by
// either algorithm: every byte arrives, of what becomes shorter and of what does
// not, and far fewer go over the wire than without.
func TestCompression(t *testing.T) {
	rocservOnly(t, "1.1.6 takes no list of algorithms, and ends by a reload of it")
	r := newControlled(t, 1)
	const size = 5 * megabyte
	both := func(c *lab.Client) int {
		r.Helper()
		before := r.wire()
		for _, host := range []string{lab.Tgt4, lab.Tgt6} {
			r.must(transfer(c, lab.Transfer{Host: host, Text: true, Bytes: size}, lab.Transfer{Host: host, Text: true, Upload: true, Bytes: size}))
		}
		after := r.wire()
		r.must(transfer(c, lab.Transfer{Host: lab.Tgt4, Bytes: size}, lab.Transfer{Host: lab.Tgt4, Upload: true, Bytes: size}))
		return after - before
	}
	plain := r.connect(lab.Dial{})
	if plain.Has("Content-Encoding") {
		t.Error("compression without a word of the operator")
	}
	usual := both(plain)
	_, err := plain.Quit()
	r.must(err)
	for _, algorithm := range []struct{ order, name string }{{"lz4:lzs", "oc-lz4"}, {"lzs:lz4", "lzs"}} {
		r.reload(`configuration reloaded`, "compression = true", "compression-algo-priority = "+algorithm.order, "use-occtl = true", "occtl-socket-file = "+r.socket())
		for _, k := range []struct {
			name    string
			connect func(lab.Dial) *lab.Client
		}{{"DTLS", r.connect}, {"TLS", r.connectTLS}} {
			c := k.connect(lab.Dial{})
			r.expect(c.Process, "^X-CSTP-Content-Encoding: "+algorithm.name, answerLimit)
			shown := []string{"CSTP compression: " + algorithm.name}
			if k.name == "DTLS" {
				r.expect(c.Process, "^X-DTLS-Content-Encoding: "+algorithm.name, answerLimit)
				shown = append(shown, "DTLS compression: "+algorithm.name)
			}
			r.wants("show user "+lab.User, shown...)
			used := both(c)
			t.Logf("%s over %s: %d bytes on the wire, %d without", algorithm.name, k.name, used, usual)
			if used > usual/3 {
				t.Errorf("%s over %s: %d bytes on the wire, %d without", algorithm.name, k.name, used, usual)
			}
			if c.Has("(?i)compressed.*(fail|error)|decompress|(fail|error).*compress") {
				t.Errorf("%s over %s: the client complains", algorithm.name, k.name)
			}
			r.each(c, hello4, hello6)
			_, err := c.Quit()
			r.must(err)
		}
	}
}

// wire is how many bytes have gone between the client's host and the server, both
// ways.
func (r *rig) wire() (n int) {
	r.Helper()
	for _, name := range []string{"rx_bytes", "tx_bytes"} {
		out, err := r.Cli[0].Run("cat", "/sys/class/net/eth0/statistics/"+name)
		r.must(err)
		bytes, err := strconv.Atoi(strings.TrimSpace(out))
		r.must(err)
		n += bytes
	}
	return n
}
