package secmod

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"rocserv/internal/ipc"
	"rocserv/internal/ocpasswd"
)

func countFDs(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestHundredWorkers: all at once, each from the handshake to the end of its
// tunnel, some of them misbehaving; and nothing is left behind.
func TestHundredWorkers(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "*", "secret"), "open:*:")
	st.add("attempts-user = 0") // some guess anna's password while she logs in elsewhere
	goroutines, fds := runtime.NumGoroutine(), countFDs(t)
	r := boot(t, st, func(s *server) { s.hashing = hashing{slots: newSlots(2, 1000), check: (*ocpasswd.File).Check} })
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			c, id := r.handshaken(fmt.Sprintf("10.0.0.%d", i))
			defer c.Close()
			switch i % 4 {
			case 0:
				r.tunnelTo(c, id, r.login(c, "open", ""))
			case 1:
				r.tunnelTo(c, id, r.login(c, "anna", "secret"))
			case 2:
				sid := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
				for range 3 {
					authCont(t, c, sid, "guess")
				}
			case 3:
				c.Send(ipc.SignT, 0, signReq())
				if !gone(c) {
					t.Error("a violation was not noticed")
				}
			}
		})
	}
	wg.Wait()
	if n := r.s.counts.violations.Load(); n != 25 {
		t.Errorf("%d violations, want 25", n)
	}
	if n := r.s.counts.logins.Load(); n != 50 {
		t.Errorf("%d logins, want 50", n)
	}
	eventually(t, "the end of all workers", func() bool {
		r.s.mu.Lock()
		defer r.s.mu.Unlock()
		return len(r.s.workers) == 0
	})
	r.main.Close()
	<-r.end
	eventually(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "the end of all descriptors", func() bool { return countFDs(t) <= fds })
}

// tunnelTo opens a session, counts and ends it.
func (r *rig) tunnelTo(c *ipc.Conn, id uint64, cookie []byte) {
	rep, _ := r.openSession(cookie, id)
	if !rep.Ok {
		r.t.Errorf("session not opened: %v", rep)
		return
	}
	c.Send(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: id, BytesDown: 1})
	c.Close()
	if got := r.closeSession(rep.SafeId, id, ipc.Reason_REASON_USER); got.BytesUp != id || !got.Invalidated {
		r.t.Errorf("end of the session: %v", got)
	}
}

// TestEOFAnywhere: workers and main that vanish in every state.
func TestEOFAnywhere(t *testing.T) {
	goroutines, fds := runtime.NumGoroutine(), countFDs(t)
	states := []act{
		func(*testing.T, *rig, *ipc.Conn, uint64) {},
		tell(ipc.SignT, signReq()), // gone before the answer
		handshake,
		both(handshake, initAnna),
		both(handshake, tell(ipc.AuthInitT, &ipc.AuthInit{User: "anna"})),
		both(handshake, tell(ipc.AuthContT, &ipc.AuthCont{Sid: someSID})),
		both(handshake, logIn),
		both(handshake, tunnel),
		both(handshake, tunnel, tell(ipc.CliStatsT, &ipc.CliStats{BytesUp: 1})),
	}
	for _, whole := range []bool{false, true} {
		for i, state := range states {
			t.Run(fmt.Sprintf("state %d main %t", i, whole), func(t *testing.T) {
				r := boot(t, newSite(t, hashOf(t, "anna", "*", "secret")))
				c, id := r.worker(home)
				state(t, r, c, id)
				if whole {
					r.main.Close()
				}
				c.Close()
				if !whole {
					eventually(t, "the worker's end", func() bool { return r.s.worker(id) == nil })
					r.alive()
					r.main.Close()
				}
				if err := <-r.end; err != ErrMainGone {
					t.Errorf("sec-mod ended with %v", err)
				}
				if n := r.s.counts.violations.Load() + r.s.counts.panics.Load(); n != 0 {
					t.Errorf("%d violations or panics: %s", n, r.log)
				}
			})
		}
	}
	eventually(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= goroutines })
	eventually(t, "the end of all descriptors", func() bool { return countFDs(t) <= fds })
}

// TestRun is Run itself, which also sweeps.
func TestRun(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	near, far, err := ipc.Pair()
	if err != nil {
		t.Fatal(err)
	}
	its, err := ipc.NewConn(far)
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error)
	go func() { end <- Run(Options{Main: its, Log: slog.New(slog.DiscardHandler)}) }()
	near.Close()
	if err := <-end; err != ErrMainGone {
		t.Errorf("Run: %v", err)
	}
	eventually(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// TestPanic: in a worker's request it costs that worker its channel, in one of
// main's that request; sec-mod goes on and counts.
func TestPanic(t *testing.T) {
	var broken *ocpasswd.File
	check := func(f *ocpasswd.File, user string, password []byte) (ocpasswd.Entry, bool, error) {
		if string(password) == "runtime" {
			return broken.Check(user, password)
		}
		if string(password) == "value" {
			panic("the password is " + string(password) + "-shibboleth")
		}
		return f.Check(user, password)
	}
	r := boot(t, newSite(t, hashOf(t, "anna", "*", "secret")), func(s *server) { s.hashing.check = check })
	for i, password := range []string{"runtime", "value"} {
		c, _ := r.handshaken(home)
		sid := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
		if err := c.Send(ipc.AuthContT, 0, &ipc.AuthCont{Sid: sid, Password: []byte(password)}); err != nil {
			t.Fatal(err)
		}
		if !gone(c) {
			t.Error("the channel is still open")
		}
		if n := r.s.counts.panics.Load(); n != uint64(i+1) {
			t.Errorf("%d panics counted", n)
		}
		r.clock.forward(2 * time.Second) // past the log's limit
		r.alive()
	}
	log := r.log.String()
	if !strings.Contains(log, "nil pointer") || !strings.Contains(log, "robust_test.go") || strings.Contains(log, "shibboleth") {
		t.Errorf("log: %s", log)
	}
	// A place for hashing that a panic left would be missing now.
	for range r.s.hashing.slots.queue + 10 {
		c, _ := r.handshaken(home)
		r.login(c, "anna", "secret")
		c.Close()
	}

	c, id := r.handshaken(home)
	cookie := r.login(c, "anna", "secret")
	good := r.s.gens.Load()
	r.reconfigured(func(v *vhost) { v.Vhost = nil })
	if rep, _ := r.openSession(cookie, id); rep.Ok || !rep.Unavailable {
		t.Errorf("a panic in a request of main's: %v", rep)
	}
	r.s.gens.Store(good)
	if rep, _ := r.openSession(cookie, id); !rep.Ok {
		t.Errorf("afterwards: %v", rep)
	}
	if n := r.s.counts.panics.Load(); n != 3 {
		t.Errorf("%d panics counted", n)
	}
}

// TestSlowWorkerHoldsUpNobody: a worker that does not read its answers.
func TestSlowWorkerHoldsUpNobody(t *testing.T) {
	r := boot(t, newSite(t, hashOf(t, "anna", "*", "secret")))
	c, _ := r.worker(home)
	for range 8 {
		if err := c.Send(ipc.ResumeOpenT, 0, ticket); err != nil {
			t.Fatal(err)
		}
	}
	r.alive()
}

// TestNothingPrintsSecrets logs whatever a log line could be given by mistake.
func TestNothingPrintsSecrets(t *testing.T) {
	const password, wrong = "Secret-Pass-1", "Wrong-Pass-2"
	st := newSite(t, hashOf(t, "anna", "*", password))
	st.add("key-pin = Pin-Value-3")
	r := boot(t, st)
	c, id := r.handshaken(home)
	first := authInit(t, c, &ipc.AuthInit{User: "anna"})
	authCont(t, c, first.Sid, wrong)
	cookie := authCont(t, c, first.Sid, password)
	r.openSession(cookie.Sid, id)
	r.openSession(someSID, id)
	violator, _ := r.handshaken(home)
	r.login(violator, "anna", password)
	violator.Send(ipc.AuthContT, 0, &ipc.AuthCont{Sid: someSID, Password: []byte(wrong)})
	gone(violator)

	w := r.s.worker(id)
	r.main.Close() // so that nothing moves any more
	<-r.end
	<-w.done
	var all bytes.Buffer
	all.WriteString(r.log.String())
	gen := r.s.gens.Load()
	things := []any{r.s.tickets.keys, r.s.tickets.keys[0], gen.current.keys, w, gen, gen.current, gen.current.vhosts[""]}
	r.s.tickets.current()
	for _, x := range things {
		fmt.Fprintf(&all, "%v %+v %#v\n", x, x, x)
		slog.New(slog.NewTextHandler(&all, nil)).Info("x", "x", x)
	}
	keyFile, err := os.ReadFile(st.path("p256.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(keyFile)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := key.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{password, wrong, "Pin-Value-3", fmt.Sprintf("%x", "Pin-Value-3"), fmt.Sprintf("%x", scalar), fmt.Sprintf("%d", scalar),
		fmt.Sprintf("%x", cookie.Sid), base64.StdEncoding.EncodeToString(cookie.Sid), fmt.Sprintf("%x", first.Sid), string(cookie.Sid)} {
		if strings.Contains(all.String(), strings.Trim(secret, "[]")) {
			i := strings.Index(all.String(), strings.Trim(secret, "[]"))
			t.Errorf("%q shows: %s", secret, all.String()[max(0, i-200):i+100])
		}
	}
}

// loose returns a maker of workers that nobody serves: records are handed to
// step, answers go nowhere.
func (r *rig) loose() func() *worker {
	r.t.Helper()
	near, far, err := ipc.Pair()
	if err != nil {
		r.t.Fatal(err)
	}
	near.Close()
	conn, err := ipc.NewConn(far)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return func() *worker {
		return &worker{s: r.s, conn: conn, id: 1, peer: netip.MustParseAddr(home), gens: r.s.gens.Load(), done: make(chan struct{}),
			said: map[ipc.Type]int{}, pace: map[ipc.Type]*rate.Limiter{}, state: fresh}
	}
}

// TestKeysAreLetGo: a worker behind its handshake keeps no generation alive.
func TestKeysAreLetGo(t *testing.T) {
	r := boot(t, newSite(t))
	w := r.loose()()
	open := ipc.Record{Type: ipc.ResumeOpenT, Body: record(ipc.ResumeOpenT, 0, ticket)[5:]}
	w.step(&open)
	if w.where() != fresh || w.gens == nil {
		t.Fatal("let go before the signature")
	}
	sign := ipc.Record{Type: ipc.SignT, Body: record(ipc.SignT, 0, signReq())[5:]}
	w.step(&sign)
	if w.where() != signed || w.gens != nil {
		t.Errorf("in state %v the keys are still held", w.where())
	}
}

// FuzzWorker sends sec-mod records of any type and body, split by a length
// byte. Whatever they are, it neither panics nor harms another worker.
func FuzzWorker(f *testing.F) {
	add := func(records ...[]byte) {
		var b []byte
		for _, rec := range records {
			b = append(b, rec[0], byte(len(rec)-5))
			b = append(b, rec[5:]...)
		}
		f.Add(b)
	}
	sign := record(ipc.SignT, 0, signReq())
	initAnna := record(ipc.AuthInitT, 0, &ipc.AuthInit{User: "anna"})
	cont := record(ipc.AuthContT, 0, &ipc.AuthCont{Sid: someSID, Password: []byte("x")})
	add(sign, initAnna, cont)
	add(sign, record(ipc.ResumeSealT, 0, &ipc.ResumeReq{Data: []byte("state")}), initAnna)
	add(record(ipc.ResumeOpenT, 0, &ipc.ResumeReq{Data: make([]byte, 60)}), sign)
	add(record(ipc.CliStatsT, 0, &ipc.CliStats{BytesUp: 1}))
	add(sign, record(ipc.AuthInitT, 0, &ipc.AuthInit{User: "open"}), record(ipc.CliStatsT, 0, &ipc.CliStats{}))

	st := newSite(f, hashOf(f, "anna", "*", "secret"), "open:*:")
	r := boot(f, st, func(s *server) {
		s.hashing.check = func(*ocpasswd.File, string, []byte) (ocpasswd.Entry, bool, error) {
			return ocpasswd.Entry{}, false, nil
		}
	})
	go func() { // nobody asks main's side of it
		for range r.notes {
		}
	}()
	loose := r.loose()
	f.Fuzz(func(t *testing.T, b []byte) {
		w := loose()
		for len(b) >= 2 {
			typ, n := ipc.Type(b[0]), min(int(b[1]), len(b)-2)
			rec := ipc.Record{Type: typ, Body: bytes.Clone(b[2 : 2+n])}
			b = b[2+n:]
			row, known := r.s.rows[typ]
			was := w.state
			err := w.step(&rec)
			if known && row.worker != nil && was&row.in != 0 {
				continue
			}
			if err == nil {
				t.Fatalf("%v in state %v was taken", typ, was)
			}
		}
		if n := r.s.counts.panics.Load(); n != 0 {
			t.Fatalf("%d panics: %s", n, r.log)
		}
	})
}
