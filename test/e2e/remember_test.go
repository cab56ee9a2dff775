//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"os"
	"slices"
	"testing"

	"rocserv/internal/ocpasswd"
	"rocserv/test/e2e/lab"
)

// A worker's memory has neither the server's key nor another client's password.
// The same search finds the key in sec-mod, so it can find.
func TestWorkerMemory(t *testing.T) {
	rocservOnly(t, "it is about our processes")
	r := newLab(t, 2)
	const others = "battery staple 77"
	users := ""
	for user, password := range map[string]string{lab.User: lab.Password, lab.Other: others} {
		hash, err := ocpasswd.Hash(ocpasswd.SHA256, []byte(password))
		r.must(err)
		users += user + ":*:" + hash + "\n"
	}
	r.must(os.WriteFile(r.state.Path("users"), []byte(users), 0o600))
	r.start()
	key := r.keyForms()
	r.connectTLS(lab.Dial{From: r.Cli[0]})
	r.connectTLS(lab.Dial{From: r.Cli[1], User: lab.Other, Input: []string{others}})
	roles, err := r.srv.Processes()
	r.must(err)
	in, err := lab.Remembers(roles[lab.RoleSecMod][0].PID, key)
	r.must(err)
	if in["key"]+in["key, turned"] == 0 {
		t.Error("the key is not found in sec-mod: the search finds nothing")
	}
	for i, other := range []string{others, lab.Password} {
		w, err := r.srv.Worker(lab.ClientAddr4(i))
		r.must(err)
		words := maps.Clone(key)
		words["other's password"] = []byte(other)
		in, err := lab.Remembers(w.PID, words)
		r.must(err)
		for name, n := range in {
			if n > 0 {
				t.Errorf("the worker of client %d has the %s in memory, %d times", i, name, n)
			}
		}
	}
}

// keyForms are the forms the server's private key has in memory.
func (r *rig) keyForms() map[string][]byte {
	r.Helper()
	b, err := os.ReadFile(r.state.Path("key.pem"))
	r.must(err)
	block, _ := pem.Decode(b)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	r.must(err)
	scalar, err := parsed.(*ecdsa.PrivateKey).Bytes()
	r.must(err)
	turned := slices.Clone(scalar) // little endian, as code for P-256 has it
	slices.Reverse(turned)
	return map[string][]byte{"key": scalar, "key, turned": turned}
}
