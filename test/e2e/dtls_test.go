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

// A translator on the way gives the client's datagrams another port, in the midst
// of a download, and leaves its TCP connection alone: DTLS goes on from there
// without a new handshake, once and again. Of what strangers send from the client's
// address nothing changes.
func TestUDPRebound(t *testing.T) {
	t.Parallel()
	l, err := lab.OpenDistant()
	if err != nil {
		t.Fatal(err)
	}
	r := newLabOf(t, l, "dpd = 30")
	r.start()
	inner := r.Distant.Inner
	rebind := func(ports string) {
		const rules = "table ip rebind { chain c { type nat hook postrouting priority 100; udp dport %d masquerade to :%s; }; }"
		_, err := inner.RunFor(20*time.Second, fmt.Sprintf(rules, lab.Port, ports), "nft", "-f", "-")
		r.must(err)
	}
	rebind("39000-39100")
	c := r.connect(lab.Dial{})
	talk, err := lab.StartTalk(c.From, lab.Tgt4)
	r.must(err)
	t.Cleanup(talk.Close)
	r.must(talk.Exchange())
	arrived := r.steady(c, 20)
	mark, srv := c.Mark(), r.srv.Mark()
	for _, ports := range []string{"40000-40100", "41000-41100"} {
		time.Sleep(2 * time.Second)
		_, err := inner.RunFor(20*time.Second, "", "nft", "delete", "table", "ip", "rebind")
		r.must(err)
		rebind(ports)
		// A masquerade forgets what it knew when its device goes down.
		r.must(inner.IP("link set wan0 down", "link set wan0 up", "route add 10.77.1.0/24 via 10.77.6.1"))
		if server.Kind == lab.Rocserv {
			if _, err := r.srv.ExpectAfter(srv, `DTLS channel has moved.*:`+ports[:3], 20*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		r.must(talk.Exchange())
	}
	r.must(arrived())
	r.must(hello4.run(r, c))
	if server.Kind == lab.Rocserv {
		if m, err := c.ExpectAfter(mark, lineDTLS+"|"+lineDTLSLost, 0); err == nil {
			t.Errorf("DTLS began anew: %s", m[0])
		}
	}
	if c.Has(`(?i)reconnect`) {
		t.Error("the TLS connection did not stay up")
	}
}
