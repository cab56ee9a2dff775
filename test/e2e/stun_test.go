//go:build e2e

package e2e

import (
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// TestSTUN: what a STUN client finds out about the NAT (RFC 5780): one port for
// all destinations, and who may answer there as nat-filtering says.
func TestSTUN(t *testing.T) {
	rocservOnly(t, "the kernel forwards datagrams")
	t.Parallel()
	const second = "10.77.9.3" // another address of the STUN server
	for _, k := range []struct{ filtering, want string }{
		{"address", "NAT with Address Dependent Filtering"},
		{"full-cone", "NAT with Endpoint Independent Filtering"},
	} {
		t.Run(k.filtering, func(t *testing.T) {
			r := newRig(t, 1, "nat-filtering = "+k.filtering)
			r.must(r.Tgt.IP("addr add " + second + "/24 dev eth0"))
			stun, err := r.Tgt.Start("STUN server", nil, nil, "turnserver", "-n", "-S", "--no-cli", "--no-tls", "--no-dtls", "-p", "3478",
				"-L", lab.Tgt4, "-L", second, "-l", "stdout", "--pidfile", r.Path("turn.pid"))
			r.must(err)
			r.expect(stun, "Total General servers", 10*time.Second)
			c := r.connect(lab.Dial{})
			r.each(c,
				command("mapping", "NAT with Endpoint Independent Mapping", "turnutils_natdiscovery", "-m", lab.Tgt4),
				command("filtering", k.want, "turnutils_natdiscovery", "-f", lab.Tgt4),
			)
		})
	}
}
