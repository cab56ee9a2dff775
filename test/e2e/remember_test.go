//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"rocserv/internal/ocpasswd"
	"rocserv/test/e2e/lab"
)

// A worker's memory has neither the server's key nor what is another client's,
// password or cookie; of its own client's it has the cookie, with which it holds
// the session, and no more the password. What is found in sec-mod (the key) and
// in the own worker (the cookie) shows that the search can find.
func TestWorkerMemory(t *testing.T) {
	rocservOnly(t, "it is about our processes")
	r := newLab(t, 4)
	who := []*remembered{
		{user: lab.User, password: "Battery-Staple-0123456789"},
		{user: lab.Other, password: "Horse-Correct-9876543210", args: []string{"--no-xmlpost"}}, // a form, where the other is XML
		// Buffers that grow are left behind with what was in them.
		{user: "carol", password: long()},
		{user: "dave", password: long(), args: []string{"--no-xmlpost"}},
	}
	users := ""
	for _, w := range who {
		hash, err := ocpasswd.Hash(ocpasswd.SHA256, []byte(w.password))
		r.must(err)
		users += w.user + ":*:" + hash + "\n"
		r.secrets[w.password] = true
	}
	r.must(os.WriteFile(r.state.Path("users"), []byte(users), 0o600))
	r.start()
	key := r.keyForms()
	for i, w := range who {
		c := r.dial(lab.Dial{From: r.Cli[i], User: w.user, Input: []string{w.password}, Args: append(w.args, "--no-dtls", "--dump-http-traffic", "-v")})
		r.must(c.WaitUp())
		w.cookie = r.expect(c.Process, `> Cookie:.*\bwebvpn=([\w-]{43})\b`, time.Second)[1]
		r.secrets[w.cookie] = true
	}
	roles, err := r.srv.Processes()
	r.must(err)
	in, err := lab.Remembers(roles[lab.RoleSecMod][0].PID, key)
	r.must(err)
	if in["key"]+in["key, turned"] == 0 {
		t.Error("the key is not found in sec-mod: the search finds nothing")
	}
	tunnels := map[int]int{}
	for i := range who {
		p, err := r.srv.Worker(lab.ClientAddr4(i))
		r.must(err)
		tunnels[p.PID] = i
	}
	for _, p := range roles[lab.RoleWorker] {
		own, serves := tunnels[p.PID]
		words := maps.Clone(key)
		for _, w := range who {
			maps.Copy(words, w.words())
		}
		in, err := lab.Remembers(p.PID, words)
		r.must(err)
		for name, n := range in {
			mine := serves && strings.HasPrefix(name, who[own].user+"'s cookie")
			if n > 0 && !mine {
				t.Errorf("worker %d (tunnel: %v, of client %d) has %s in memory, %d times", p.PID, serves, own, name, n)
			}
		}
		if serves && in[who[own].user+"'s cookie"]+in[who[own].user+"'s cookie, raw"] == 0 {
			t.Errorf("the cookie of client %d is not found in its own worker: the search finds nothing", own)
		}
	}
	if len(tunnels) != len(who) || len(roles[lab.RoleWorker]) <= len(who) {
		t.Errorf("%d tunnels, %d workers: none is left that waits for a client", len(tunnels), len(roles[lab.RoleWorker]))
	}
}

// remembered is a client whose secrets are searched for.
type remembered struct {
	user, password string
	args           []string
	cookie         string // as it stands in HTTP
}

// words are the forms of its secrets.
func (w *remembered) words() map[string][]byte {
	raw, _ := base64.RawURLEncoding.DecodeString(w.cookie)
	words := map[string][]byte{
		w.user + "'s password":    []byte(w.password),
		w.user + "'s cookie":      []byte(w.cookie),
		w.user + "'s cookie, raw": raw,
	}
	for at := 0; at+pieceLength <= len(w.password); at += pieceLength {
		words[fmt.Sprintf("%s's password, from byte %d", w.user, at)] = []byte(w.password[at : at+pieceLength])
	}
	return words
}

// pieceLength is that of the pieces of a password that are searched for.
const pieceLength = 12

// long is a password longer than what small buffers begin with.
func long() (s string) {
	for len(s) < 200 {
		s += rand.Text()
	}
	return s[:200]
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
