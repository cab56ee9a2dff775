package secmod

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"rocserv/internal/ipc"
	"rocserv/internal/ocpasswd"
)

// counting counts what is hashed. It is to be set before the configuration.
type counting struct{ n atomic.Int64 }

func (c *counting) check(f *ocpasswd.File, user string, password []byte) (ocpasswd.Entry, bool, error) {
	c.n.Add(1)
	return f.Check(user, password)
}

// TestLoginOutcomes: what each kind of user meets, and that whoever is not let
// in cannot tell why: same questions, one hash and the same points per answer.
func TestLoginOutcomes(t *testing.T) {
	anna := hashOf(t, "anna", "staff,ops,x", "secret")
	locked := strings.Replace(hashOf(t, "lock", "*", "secret"), ":$5$", ":!$5$", 1)
	st := newSite(t, anna, locked, "empty:guests,ops:", "emptylock:*:!", "odd:*:plaintext", "des:*:rl.3StKT.4T8M")
	st.add("default-select-group = DEFAULT", "attempts-pair = 0", "attempts-source = 0")
	var hashes counting
	r := boot(t, st, func(s *server) { s.hashing.check = hashes.check })
	const refused = "MSG MSG FAILED"
	for _, tt := range []struct {
		name, user, group, password string
		want, groupGot              string
		hashes                      int64
	}{
		{"right", "anna", "", "secret", "MSG OK", "staff", 1},
		{"right, second group", "anna", "ops", "secret", "MSG OK", "ops", 1},
		{"right, default group", "anna", "DEFAULT", "secret", "MSG OK", "staff", 1},
		{"wrong", "anna", "", "guess", "MSG " + refused, "", 3},
		{"empty answer", "anna", "", "", "MSG " + refused, "", 3},
		{"unknown", "nobody", "", "secret", "MSG " + refused, "", 3},
		{"unknown with group", "nobody", "ops", "secret", "MSG " + refused, "", 3},
		{"locked", "lock", "", "secret", "MSG " + refused, "", 3},
		{"locked, with the !", "lock", "", "!secret", "MSG " + refused, "", 3},
		{"group he is not in", "anna", "board", "secret", "MSG " + refused, "", 3},
		{"group of one letter", "anna", "x", "secret", "MSG " + refused, "", 3},
		{"empty hash", "empty", "", "", "OK", "guests", 0},
		{"empty hash, second group", "empty", "ops", "", "OK", "ops", 0},
		{"empty hash, group he is not in", "empty", "board", "", "MSG " + refused, "", 3},
		{"empty hash, locked", "emptylock", "", "", "MSG " + refused, "", 3},
		{"a password in the clear in the file", "odd", "", "plaintext", "MSG " + refused, "", 3},
		{"a hash of a kind nobody checks", "des", "", "secret", "MSG " + refused, "", 3},
		{"case matters", "Anna", "", "secret", "MSG " + refused, "", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hashes.n.Store(0)
			r.bans()
			c, _ := r.handshaken(home)
			rep := authInit(t, c, &ipc.AuthInit{User: tt.user, Group: tt.group})
			got := []string{status(rep)}
			answers := 0
			for rep.Status == ipc.AuthStatus_AUTH_MSG {
				if again := answers > 0; (rep.Message == askPasswordAgain) != again || (rep.Message == askPassword) == again {
					t.Errorf("question %d is %q", answers, rep.Message)
				}
				rep = authCont(t, c, rep.Sid, tt.password)
				got = append(got, status(rep))
				answers++
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("%s, want %s", s, tt.want)
			}
			if rep.Group != tt.groupGot || (rep.Status == ipc.AuthStatus_AUTH_OK) != (rep.User == tt.user) {
				t.Errorf("logged in as %q of %q", rep.User, rep.Group)
			}
			if n := hashes.n.Load(); n != tt.hashes {
				t.Errorf("%d hashes, want %d", n, tt.hashes)
			}
			wrong := answers
			if rep.Status == ipc.AuthStatus_AUTH_OK && answers > 0 {
				wrong--
			}
			if n := r.bans()[home]; n != uint32(10*wrong) {
				t.Errorf("%d points for %d wrong answers", n, wrong)
			}
			c.Close()
		})
	}
}

// TestTriesBelongToTheLogin: three, at however many workers.
func TestTriesBelongToTheLogin(t *testing.T) {
	r := boot(t, newSite(t, hashOf(t, "anna", "*", "secret")))
	c, _ := r.handshaken(home)
	sid := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
	var got []string
	for i := range 4 {
		c, _ := r.handshaken(fmt.Sprintf("192.0.2.%d", 10+i))
		got = append(got, status(authCont(t, c, sid, "guess")))
	}
	if s := strings.Join(got, " "); s != "MSG MSG FAILED FAILED" {
		t.Errorf("%s", s)
	}
	c5, _ := r.handshaken(home)
	if rep := authCont(t, c5, sid, "secret"); status(rep) != "FAILED" {
		t.Errorf("the right password after three wrong ones: %v", rep)
	}
	if bans := r.bans(); bans["192.0.2.10"] != 10 || bans["192.0.2.11"] != 10 || bans["192.0.2.12"] != 10 || len(bans) != 3 {
		t.Errorf("points %v", bans)
	}
}

func TestLoginContinuesAtAnotherWorker(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "*", "secret"))
	st.add("[vhost:b.example]")
	r := boot(t, st)
	c, _ := r.handshaken(home)
	sid := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
	c.Close()

	b, _ := r.worker(home)
	req := signReq()
	req.Vhost = "b.example"
	call[ipc.SignRep](t, b, ipc.SignT, req, ipc.SignRepT)
	if rep := authCont(t, b, sid, "secret"); status(rep) != "FAILED" {
		t.Errorf("at another virtual host: %v", rep)
	}
	c2, id := r.handshaken("192.0.2.77")
	rep := authCont(t, c2, sid, "secret")
	if status(rep) != "OK" {
		t.Fatalf("at another worker: %v", rep)
	}
	if open, _ := r.openSession(rep.Sid, id); !open.Ok {
		t.Errorf("open: %v", open)
	}
}

func TestUsersFileIsReadAgain(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "*", "secret"))
	r := boot(t, st)
	try := func(user, password string) string {
		c, _ := r.handshaken(home)
		defer c.Close()
		rep := authInit(t, c, &ipc.AuthInit{User: user})
		if status(rep) != "MSG" {
			return status(rep)
		}
		return status(authCont(t, c, rep.Sid, password))
	}
	replace := func(lines ...string) { // as ocpasswd does it
		st.write("users.tmp", strings.Join(lines, "\n")+"\n")
		if err := os.Rename(st.path("users.tmp"), st.path("users")); err != nil {
			t.Fatal(err)
		}
	}
	if got := try("anna", "secret"); got != "OK" {
		t.Fatal(got)
	}
	replace(hashOf(t, "anna", "*", "better"), hashOf(t, "berta", "*", "secret"))
	for _, tt := range [][3]string{{"anna", "secret", "MSG"}, {"anna", "better", "OK"}, {"berta", "secret", "OK"}} {
		if got := try(tt[0], tt[1]); got != tt[2] {
			t.Errorf("%s with %q: %s", tt[0], tt[1], got)
		}
	}
	if err := os.Remove(st.path("users")); err != nil {
		t.Fatal(err)
	}
	if got := try("anna", "better"); got != "FAILED" {
		t.Errorf("without the file: %s", got)
	}
	replace(hashOf(t, "anna", "*", "third"))
	if got := try("anna", "third"); got != "OK" {
		t.Errorf("with the file back: %s", got)
	}
}

// stalled is a hash that takes as long as the test wants.
type stalled struct {
	started chan struct{}
	release chan struct{}
}

func newStalled() *stalled {
	return &stalled{started: make(chan struct{}, 1000), release: make(chan struct{})}
}

func (s *stalled) check(f *ocpasswd.File, user string, password []byte) (ocpasswd.Entry, bool, error) {
	s.started <- struct{}{}
	<-s.release
	return f.Check(user, password)
}

// TestStalledHashing: while every place for hashing is taken and the queue is
// full, logins are told AUTH_BUSY at no cost, and handshakes and sessions go on.
func TestStalledHashing(t *testing.T) {
	slow := newStalled()
	r := boot(t, newSite(t, hashOf(t, "anna", "*", "secret"), "open:*:"),
		func(s *server) { s.hashing = hashing{slots: newSlots(1, 3), check: slow.check} })

	var wg sync.WaitGroup
	var cookies [4][]byte
	for i := range cookies {
		c, _ := r.handshaken(home)
		sid := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
		wg.Go(func() {
			rep := new(ipc.AuthReply)
			if err := c.Call(ipc.AuthContT, &ipc.AuthCont{Sid: sid, Password: []byte("secret")}, ipc.AuthReplyT, rep); err == nil {
				cookies[i] = rep.Sid
			}
		})
	}
	<-slow.started
	eventually(t, "a full queue", func() bool { return r.s.hashing.waiting.Load() == 3 })

	c, _ := r.handshaken(home) // a signature while passwords wait
	first := authInit(t, c, &ipc.AuthInit{User: "anna"})
	for range 5 {
		rep := authCont(t, c, first.Sid, "secret")
		if status(rep) != "BUSY" || !bytes.Equal(rep.Sid, first.Sid) || rep.Message != askPassword {
			t.Fatalf("with a full queue: %v", rep)
		}
	}
	guest, id := r.handshaken(home)
	if rep, _ := r.openSession(r.login(guest, "open", ""), id); !rep.Ok {
		t.Errorf("a session while passwords wait: %v", rep)
	}
	if len(slow.started) != 0 || len(r.bans()) != 0 {
		t.Error("something was hashed or scored")
	}

	close(slow.release)
	wg.Wait()
	for i, cookie := range cookies {
		if len(cookie) != 32 {
			t.Errorf("login %d, which had waited, failed", i)
		}
	}
	if rep := authCont(t, c, first.Sid, "guess"); status(rep) != "MSG" {
		t.Errorf("AUTH_BUSY cost a try: %v", rep)
	}
	if rep := authCont(t, c, first.Sid, "secret"); status(rep) != "OK" {
		t.Errorf("afterwards: %v", rep)
	}
}

// TestSameLoginTwiceAtOnce: the second is busy, and not a second guess.
func TestSameLoginTwiceAtOnce(t *testing.T) {
	slow := newStalled()
	r := boot(t, newSite(t, hashOf(t, "anna", "*", "secret")),
		func(s *server) { s.hashing = hashing{slots: newSlots(4, 4), check: slow.check} })
	a, _ := r.handshaken(home)
	b, _ := r.handshaken(home)
	sid := authInit(t, a, &ipc.AuthInit{User: "anna"}).Sid
	done := make(chan string)
	go func() {
		rep := new(ipc.AuthReply)
		a.Call(ipc.AuthContT, &ipc.AuthCont{Sid: sid, Password: []byte("secret")}, ipc.AuthReplyT, rep)
		done <- status(rep)
	}()
	<-slow.started
	if rep := authCont(t, b, sid, "guess"); status(rep) != "BUSY" {
		t.Errorf("second answer meanwhile: %v", rep)
	}
	close(slow.release)
	if got := <-done; got != "OK" {
		t.Errorf("first answer: %s", got)
	}
	if len(slow.started) != 0 {
		t.Error("the second answer was hashed")
	}
}

func TestWithoutPasswordIsWarnedOf(t *testing.T) {
	st := newSite(t, "# a comment:*:", hashOf(t, "anna", "*", "x"), "empty:*:", "locked:*:!", "anna:*:", "two:*:", "broken", "empty:*:")
	r := newRig(t)
	rep := r.configure(1, st.text())
	all := strings.Join(rep.Warnings, "\n")
	if rep.Error != "" || !strings.Contains(all, "2 users have no password and are let in without one: empty, two") {
		t.Errorf("%v %q", rep.Error, all)
	}
}

func TestAutoSelectGroup(t *testing.T) {
	st := newSite(t, "a:staff,ops:x", "b:ops,x,guests:x")
	st.add("auto-select-group = true")
	r := newRig(t)
	rep := r.configure(1, st.text())
	var names []string
	for _, g := range rep.Vhosts[0].Groups {
		names = append(names, g.Name)
	}
	if fmt.Sprint(names) != "[staff ops guests]" {
		t.Errorf("groups %v", names)
	}
}
