package secclient

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"rocserv/internal/ipc"
)

// pair is a client and the end of sec-mod, played by the test.
func pair(t *testing.T) (*Client, *ipc.Conn) {
	t.Helper()
	near, far, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	its, err := ipc.NewConn(far)
	if err != nil {
		t.Fatal(err)
	}
	c := New(near)
	t.Cleanup(func() { c.Close(); its.Close() })
	return c, its
}

// serve answers requests until the channel ends.
func serve(its *ipc.Conn, answer func(ipc.Record) error) {
	for {
		rec, err := its.Recv()
		if err != nil || answer(rec) != nil {
			its.Close()
			return
		}
	}
}

func TestSchemeOf(t *testing.T) {
	ec := func(c elliptic.Curve) crypto.PublicKey { return &ecdsa.PublicKey{Curve: c} }
	pss := func(h crypto.Hash, salt int) crypto.SignerOpts { return &rsa.PSSOptions{SaltLength: salt, Hash: h} }
	const eq = rsa.PSSSaltLengthEqualsHash
	for _, tt := range []struct {
		name string
		pub  crypto.PublicKey
		opts crypto.SignerOpts
		want uint32 // 0: refused
	}{
		{"rsa_pkcs1_sha256", &rsa.PublicKey{}, crypto.SHA256, 0x0401},
		{"rsa_pkcs1_sha384", &rsa.PublicKey{}, crypto.SHA384, 0x0501},
		{"rsa_pkcs1_sha512", &rsa.PublicKey{}, crypto.SHA512, 0x0601},
		{"rsa_pss_rsae_sha256", &rsa.PublicKey{}, pss(crypto.SHA256, eq), 0x0804},
		{"rsa_pss_rsae_sha384", &rsa.PublicKey{}, pss(crypto.SHA384, eq), 0x0805},
		{"rsa_pss_rsae_sha512", &rsa.PublicKey{}, pss(crypto.SHA512, 64), 0x0806},
		{"ecdsa_secp256r1_sha256", ec(elliptic.P256()), crypto.SHA256, 0x0403},
		{"ecdsa_secp384r1_sha384", ec(elliptic.P384()), crypto.SHA384, 0x0503},
		{"ecdsa_secp521r1_sha512", ec(elliptic.P521()), crypto.SHA512, 0x0603},
		{"ed25519", ed25519.PublicKey{}, crypto.Hash(0), 0x0807},
		{"SHA-1", &rsa.PublicKey{}, crypto.SHA1, 0},
		{"ECDSA with SHA-1", ec(elliptic.P256()), crypto.SHA1, 0},
		{"MD5 and SHA-1", &rsa.PublicKey{}, crypto.MD5SHA1, 0},
		{"any salt", &rsa.PublicKey{}, pss(crypto.SHA256, rsa.PSSSaltLengthAuto), 0},
		{"PSS without hash", &rsa.PublicKey{}, pss(0, eq), 0},
		{"PSS for ECDSA", ec(elliptic.P256()), pss(crypto.SHA256, eq), 0},
		{"Ed25519ph", ed25519.PublicKey{}, crypto.SHA512, 0},
		{"no hash", ec(elliptic.P256()), crypto.Hash(0), 0},
		{"a key of another kind", "key", crypto.SHA256, 0},
	} {
		got, err := schemeOf(tt.pub, tt.opts)
		if got != tt.want || (err != nil) != (tt.want == 0) || err != nil && !errors.Is(err, ErrScheme) {
			t.Errorf("%s: 0x%04x, %v; want 0x%04x", tt.name, got, err, tt.want)
		}
	}
}

func TestSigner(t *testing.T) {
	c, its := pair(t)
	asked := make(chan *ipc.SignReq, 2)
	go serve(its, func(rec ipc.Record) error {
		q := new(ipc.SignReq)
		if err := rec.Decode(q); err != nil {
			return err
		}
		asked <- q
		rep := &ipc.SignRep{Signature: []byte("sig")}
		if len(asked) > 1 {
			rep = &ipc.SignRep{Error: "internal error"}
		}
		return its.Send(ipc.SignRepT, 0, rep)
	})
	pub := &ecdsa.PublicKey{Curve: elliptic.P256()}
	s := c.Signer("v", 7, pub)
	if s.Public() != crypto.PublicKey(pub) {
		t.Error("not the public key of the chain")
	}
	if _, err := s.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, ErrDigest) {
		t.Errorf("Sign: %v", err)
	}
	sig, err := s.SignMessage(nil, []byte("text"), crypto.SHA256)
	if err != nil || string(sig) != "sig" {
		t.Fatalf("SignMessage = %q, %v", sig, err)
	}
	q := <-asked
	asked <- q // so that the next is the second
	if q.Vhost != "v" || q.KeyIndex != 7 || q.Scheme != 0x0403 || string(q.Message) != "text" {
		t.Errorf("sec-mod was asked for %v", q)
	}
	if _, err := s.SignMessage(nil, []byte("text"), crypto.SHA256); err == nil || errors.Is(err, ErrGone) {
		t.Errorf("a signature that could not be made: %v", err)
	}
}

func TestPasswordIsCleared(t *testing.T) {
	c, its := pair(t)
	seen := make(chan []byte, 1)
	go serve(its, func(rec ipc.Record) error {
		q := new(ipc.AuthCont)
		rec.Decode(q)
		seen <- q.Password
		return its.Send(ipc.AuthReplyT, 0, &ipc.AuthReply{Status: ipc.AuthStatus_AUTH_OK})
	})
	password := []byte("secret")
	if _, err := c.AuthCont(make([]byte, 32), password); err != nil {
		t.Fatal(err)
	}
	if sent := <-seen; string(sent) != "secret" || !bytes.Equal(password, make([]byte, 6)) {
		t.Errorf("sent %q, left %q", sent, password)
	}
}

// TestGone: however the channel ends, the call under way and all later ones
// say so.
func TestGone(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(its *ipc.Conn) error
	}{
		{"closed", func(its *ipc.Conn) error { return its.Close() }},
		{"another answer", func(its *ipc.Conn) error { return its.Send(ipc.SignRepT, 0, &ipc.SignRep{}) }},
		{"not an answer", func(its *ipc.Conn) error { return its.Send(ipc.AuthInitT, 0, &ipc.AuthInit{}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, its := pair(t)
			go serve(its, func(ipc.Record) error { return tt.answer(its) })
			for range 3 {
				if _, err := c.AuthInit(&ipc.AuthInit{}); !errors.Is(err, ErrGone) {
					t.Fatalf("AuthInit: %v", err)
				}
			}
			for what, err := range map[string]error{
				"AuthCont":    second(c.AuthCont(nil, nil)),
				"ResumeSeal":  second(c.ResumeSeal("", nil)),
				"ResumeOpen":  second(c.ResumeOpen("", nil)),
				"SignMessage": second(c.Signer("", 0, ed25519.PublicKey{}).SignMessage(nil, nil, crypto.Hash(0))),
				"FinalStats":  c.FinalStats(1, 2, 0),
			} {
				if !errors.Is(err, ErrGone) {
					t.Errorf("%s: %v", what, err)
				}
			}
			c.Stats(1, 2) // must not panic either
		})
	}
}

func second[T any](_ T, err error) error { return err }

// TestLockStep: many callers at once get each their own answer.
func TestLockStep(t *testing.T) {
	c, its := pair(t)
	go serve(its, func(rec ipc.Record) error {
		q := new(ipc.ResumeReq)
		if err := rec.Decode(q); err != nil {
			return err
		}
		return its.Send(ipc.ResumeRepT, 0, &ipc.ResumeRep{Data: q.Data})
	})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for j := range 20 {
				want := fmt.Appendf(nil, "%d/%d", i, j)
				if got, err := c.ResumeOpen("", want); err != nil || !bytes.Equal(got, want) {
					t.Errorf("asked %s, got %s, %v", want, got, err)
				}
			}
		})
	}
	wg.Wait()
}

// TestStatsNeverBlock: with a sec-mod that does not read for a while, and the
// newest counters arrive last.
func TestStatsNeverBlock(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	c, its := pair(t)
	const last = 20000 // far more records than a socket takes
	for n := range uint64(last) {
		c.Stats(n+1, 0)
	}
	for was := uint64(0); was < last; {
		rec, err := its.Recv()
		if err != nil {
			t.Fatal(err)
		}
		m := new(ipc.CliStats)
		if err := rec.Decode(m); err != nil || rec.Type != ipc.CliStatsT || m.BytesUp <= was || m.Final {
			t.Fatalf("%v %v after %d: %v", rec.Type, m, was, err)
		}
		was = m.BytesUp
	}
	if err := c.FinalStats(last+1, 5, ipc.Reason_REASON_USER); err != nil {
		t.Fatal(err)
	}
	rec, err := its.Recv()
	m := new(ipc.CliStats)
	if err != nil || rec.Decode(m) != nil || m.BytesUp != last+1 || m.BytesDown != 5 || !m.Final || m.Reason != ipc.Reason_REASON_USER {
		t.Errorf("the last words: %v, %v", m, err)
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the sender does not end")
		}
	}
}

// A worker asks for less than what would be a violation: what is too much fails,
// or waits, and sec-mod does not hear of it.
func TestWaySignPace(t *testing.T) {
	c, its := pair(t)
	var asked atomic.Int64
	go serve(its, func(rec ipc.Record) error {
		if rec.Type != ipc.WaySignT {
			return errors.New("another message")
		}
		asked.Add(1)
		return its.Send(ipc.WaySignRepT, 0, &ipc.SignRep{Signature: []byte("signed")})
	})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{PublicKey: key.Public()}
	c.WaySigner("corp", leaf)
	if burst, perMinute := c.signs.Burst(), 60*float64(c.signs.Limit()); burst >= ipc.WaySignsPerMinute || perMinute >= ipc.WaySignsPerMinute {
		t.Errorf("%d at once, %v a minute", burst, perMinute)
	}
	c.signs = rate.NewLimiter(rate.Every(time.Hour), 3)
	one, other := c.WaySigner("corp", leaf), c.WaySigner("dmz", leaf)
	if _, err := one.SignMessage(nil, make([]byte, ipc.MaxRecord), crypto.SHA256); err == nil {
		t.Error("a text that no record takes was signed")
	}
	for i, s := range []crypto.MessageSigner{one, other, one, other, one} {
		_, err := s.SignMessage(nil, []byte("text"), crypto.SHA256)
		if want := i < 3; (err == nil) != want || !want && !errors.Is(err, errTooOften) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if n := asked.Load(); n != 3 {
		t.Errorf("sec-mod was asked %d times", n)
	}
}
