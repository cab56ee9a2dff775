//go:build e2e

package e2e

import (
	"testing"

	"rocserv/test/e2e/lab"
)

func TestEverydayOverDTLS(t *testing.T) {
	r := newRig(t, 1)
	r.must(r.OpenPing(true))
	c := r.connect(lab.Dial{})
	r.everyday(c)
	if c.Has("Dead Peer|DTLS.*(failed|error|disconnect)") {
		t.Error("DTLS did not stay up")
	}
}

func TestEverydayOverTLS(t *testing.T) {
	r := newRig(t, 1)
	r.must(r.OpenPing(true))
	c := r.connectTLS(lab.Dial{})
	r.everyday(c)
	if c.Has("Established DTLS") {
		t.Error("DTLS is up")
	}
}

func (r *rig) everyday(c *lab.Client) {
	r.each(c, everyday...)
	if server.Kind == lab.Rocserv {
		r.each(c, gatewayDNS...)
	}
}
