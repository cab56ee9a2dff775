//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

const lineDTLSLost = `DTLS Dead Peer Detection detected dead peer|DTLS.*(read|write) error|DTLS handshake failed`

// Where UDP is blocked, everything goes over TLS.
func TestUDPBlocked(t *testing.T) {
	t.Parallel() // openconnect waits some time for DTLS
	r := newRig(t, 1)
	r.must(r.CutUDP(0))
	c := r.dial(lab.Dial{})
	r.must(c.WaitUp())
	r.each(c, hello4, hello6)
	r.must(transfer(c, lab.Transfer{Host: lab.Tgt4, Bytes: 5 * megabyte}, lab.Transfer{Host: lab.Tgt4, Upload: true, Bytes: 5 * megabyte}))
	if c.Has(lineDTLS) {
		t.Error("DTLS is up where UDP is blocked")
	}
}

// When UDP stops to work, the tunnel goes on over TLS; when it works again,
// over DTLS. What is being downloaded arrives.
func TestUDPCutAndRestored(t *testing.T) {
	t.Parallel()
	const dpd = 3
	r := newRig(t, 1, fmt.Sprintf("dpd = %d", dpd), "switch-to-tcp-timeout = 6")
	c := r.connect(lab.Dial{})
	r.must(hello4.run(r, c))
	arrived := r.steady(c, 25)

	r.must(r.CutUDP(0))
	r.expect(c.Process, `DTLS Dead Peer Detection detected dead peer`, (2*dpd+5)*time.Second)
	r.within(10*time.Second, func() error { return hello4.run(r, c) })
	r.must(hello6.run(r, c))

	mark := c.Mark()
	r.must(r.RestoreUDP(0))
	if _, err := c.ExpectAfter(mark, lineDTLS, 70*time.Second); err != nil {
		t.Fatal(err)
	}
	r.must(hello4.run(r, c))
	r.must(arrived())
	if c.Has(`(?i)reconnect`) {
		t.Error("the TLS connection did not stay up")
	}
}

// within repeats what fails until it does not.
func (r *rig) within(limit time.Duration, try func() error) {
	r.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.Fatalf("after %v: %v", limit, err)
		}
	}
}
