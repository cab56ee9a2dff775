//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// Ports of haproxy, and what it says at each.
const (
	portV1     = 5001
	portV2     = 5002
	portPlain  = 5003 // without a header, from an address that is no proxy's
	portForged = 5004 // with a header, from that address
)

// A load balancer in front that passes TLS through. Where its header is
// believed, the client of the header is who is logged, counted and banned.
func TestProxyProtocol(t *testing.T) {
	rocservOnly(t, "proxy-proto-trusted and ban-local are ours")
	const trusted, stranger = "10.77.1.201", "10.77.1.202"
	r := newRig(t, 4, "listen-proxy-proto = true", "proxy-proto-trusted = 192.0.2.0/24, "+trusted, "ban-local = true", "max-ban-score = 40",
		"ban-points-connection = 0")
	balancer := r.Cli[3]
	r.must(balancer.IP("addr add "+trusted+"/24 dev eth0", "addr add "+stranger+"/24 dev eth0"))
	p, err := r.StartHaproxy(balancer,
		lab.Passage{Port: portV1, Source: trusted, Option: "send-proxy"},
		lab.Passage{Port: portV2, Source: trusted, Option: "send-proxy-v2"},
		lab.Passage{Port: portPlain, Source: stranger},
		lab.Passage{Port: portForged, Source: stranger, Option: "send-proxy-v2"})
	r.must(err)
	r.storyOf(p)
	at := func(host string, port int) string { return fmt.Sprintf("%s:%d", host, port) }
	v4, v6 := lab.ClientAddr4(3), "["+lab.ClientAddr6(3)+"]"

	for _, tt := range []struct{ name, to, peer string }{
		{"version 1", at(v4, portV1), lab.ClientAddr4(0)},
		{"version 2", at(v4, portV2), lab.ClientAddr4(0)},
		{"version 1 of an IPv6 client", at(v6, portV1), "[" + lab.ClientAddr6(0) + "]"},
		{"version 2 of an IPv6 client", at(v6, portV2), "[" + lab.ClientAddr6(0) + "]"},
		{"no header from no proxy", at(v4, portPlain), stranger},
		{"no proxy", lab.ServerAt(lab.Srv4), lab.ClientAddr4(0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := r.in(t)
			mark := r.srv.Mark()
			c := r.connectTLS(lab.Dial{To: tt.to})
			r.must(hello4.run(r, c))
			if _, err := r.srv.ExpectAfter(mark, `peer="?`+regexp.QuoteMeta(tt.peer)+`:.*new user session`, time.Second); err != nil {
				t.Error(err)
			}
			r.quit(c)
		})
	}
	t.Run("a header from no proxy", func(t *testing.T) {
		r := r.in(t)
		mark := r.srv.Mark()
		c := r.dial(lab.Dial{To: at(v4, portForged)})
		if status, err := c.Wait(30 * time.Second); err != nil || status == 0 {
			t.Errorf("it gets in: %d, %v", status, err)
		}
		if _, err := r.srv.ExpectAfter(mark, `connection refused .*`+stranger+`:.* not in proxy-proto-trusted`, time.Second); err != nil {
			t.Error(err)
		}
	})
	t.Run("bans are the clients'", func(t *testing.T) {
		r := r.in(t)
		for range 2 { // three times is a login's end
			guess := as(lab.User, []string{wrong, wrong, wrong, wrong})
			guess.From, guess.To = r.Cli[1], at(v4, portV2)
			c := r.dial(guess)
			if status, err := c.Wait(30 * time.Second); err != nil || status == 0 {
				t.Errorf("openconnect ended with %d, %v", status, err)
			}
		}
		for i, banned := range map[int]bool{1: true, 2: false} {
			for _, to := range []string{at(v4, portV1), lab.ServerAt(lab.Srv4)} {
				c := r.dial(lab.Dial{From: r.Cli[i], To: to, Args: []string{"--no-dtls"}})
				if !banned {
					r.must(c.WaitUp())
					r.must(hello4.run(r, c))
					r.quit(c)
				} else if status, err := c.Wait(30 * time.Second); err != nil || status == 0 {
					t.Errorf("who is banned gets in through %s: %d, %v", to, status, err)
				}
			}
		}
	})
}

// quit ends a client as its user does.
func (r *rig) quit(c *lab.Client) {
	r.Helper()
	if _, err := c.Quit(); err != nil {
		r.Error(err)
	}
}
