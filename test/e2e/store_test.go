//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"syscall"
	"testing"
	"time"

	"rocserv/test/e2e/lab"
)

// With a store the same client comes back to a server that was stopped, or
// killed, and started again: by its cookie, to its address.
func TestSessionStore(t *testing.T) {
	rocservOnly(t, "it has none")
	r := newLab(t, 1)
	r.must(r.state.Configure("session-store = " + r.state.Path("run", "sessions")))
	r.start()
	cookie := r.cookie()
	c := r.connect(with(cookie, r.Cli[0]))
	ip4, _, err := c.Addresses()
	r.must(err)
	r.stored(ip4)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		r.again(c, func() error {
			if _, err := r.srv.End(sig, 20*time.Second); err != nil {
				return err
			}
			r.start()
			return nil
		})
	}
	stored := r.stored(ip4)
	for name, secret := range map[string]string{"cookie": cookie, "password": lab.Password} {
		if bytes.Contains(stored, []byte(secret)) {
			t.Errorf("the file has the %s", name)
		}
	}
}

// stored waits until the store, run/sessions, has an address, and returns what
// is in the file.
func (r *rig) stored(addr string) []byte {
	r.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		b, err := os.ReadFile(r.state.Path("run", "sessions"))
		r.must(err)
		if bytes.Contains(b, []byte(addr)) {
			return b
		}
		if time.Now().After(deadline) {
			r.Fatalf("%s is not in the file", addr)
		}
	}
}
