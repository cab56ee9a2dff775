//go:build e2e

package e2e

import (
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// How long a cookie is good, and where: what each setting says, held against
// openconnect.
func TestCookieLife(t *testing.T) {
	for _, k := range []struct {
		name    string
		setting string
		run     func(r *rig, cookie string)
	}{
		{"only from where the login was", "deny-roaming = true", func(r *rig, cookie string) {
			r.dead(cookie, r.Cli[1])
			c := r.connect(with(cookie, r.Cli[0]))
			r.must(hello4.run(r, c))
			before := r.addresses(c)
			_, err := c.End(syscall.SIGHUP, 10*time.Second) // leaves without a goodbye
			r.must(err)
			r.dead(cookie, r.Cli[1])
			c = r.connect(with(cookie, r.Cli[0]))
			if now := r.addresses(c); now != before {
				r.Errorf("addresses were %s, are %s", before, now)
			}
		}},
		{"longer than a goodbye", "persistent-cookies = true", func(r *rig, cookie string) {
			c := r.connect(with(cookie, r.Cli[0]))
			before := r.addresses(c)
			_, err := c.Quit()
			r.must(err)
			c = r.connect(with(cookie, r.Cli[1]))
			if now := r.addresses(c); now != before {
				r.Errorf("addresses were %s, are %s", before, now)
			}
		}},
		{"not longer than its time, unless it is in use", "cookie-timeout = 1", func(r *rig, cookie string) {
			unused := r.cookie()
			c := r.connect(with(cookie, r.Cli[0]))
			time.Sleep(18 * time.Second) // a second, and the 15 s that ocserv adds
			r.dead(unused, r.Cli[1])
			r.again(c, func() error { return c.Signal(syscall.SIGUSR2) })
		}},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 2, k.setting)
			k.run(r, r.cookie())
		})
	}
}

// Where no address is left a client is told so, and not that its cookie is bad;
// the next one to leave makes room.
func TestNoAddressLeft(t *testing.T) {
	rocservOnly(t, "1.1.6 gives no reason")
	t.Parallel()
	r := newRig(t, 2, "ipv4-network = 10.66.0.0/30")
	alice := r.connect(lab.Dial{From: r.Cli[0]})
	bob := lab.Dial{From: r.Cli[1], User: lab.Other, Input: right}
	refused := r.dial(bob)
	status, err := refused.Wait(30 * time.Second)
	r.must(err)
	if status == 0 || !refused.Has(`VPN service unavailable; reason: No address left`) {
		t.Errorf("openconnect without an address ended with status %d", status)
	}
	_, err = alice.Quit()
	r.must(err)
	r.expect(r.srv.Process, `permanently closing session .*REASON_USER`, 30*time.Second)
	r.must(hello4.run(r, r.connect(bob)))
}

// The oldest connection of a user makes room for the newest where that is
// wanted, and is told not to come back.
func TestReplaceOldestClient(t *testing.T) {
	rocservOnly(t, "the policy is ours")
	t.Parallel()
	r := newRig(t, 2, "max-same-clients = 1", "max-same-clients-policy = replace-oldest")
	first := r.connect(lab.Dial{From: r.Cli[0]})
	second := r.connect(lab.Dial{From: r.Cli[1]})
	status, err := first.Wait(30 * time.Second)
	r.must(err)
	if status != 1 || !first.Has("Received server disconnect") {
		t.Errorf("the first ended with status %d", status)
	}
	r.must(hello4.run(r, second))
}
