package secmod

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rocserv/internal/config"
	"rocserv/internal/ipc"
	"rocserv/secmod/helper"
)

// backend is what a login helper's method asks in these tests.
type backend struct {
	ended  atomic.Int64  // dialogues
	waits  atomic.Int64  // steps that do not come to an end
	killed chan struct{} // by a "die"

	telling atomic.Int64 // accounts that are being told

	mu    sync.Mutex
	heard []helper.Applicant
	told  []helper.Accounting
	end   map[string]helper.Disconnect // of those that listen, by their files
	deaf  int                          // the next ones that are told fail
	wait  <-chan struct{}              // who is told waits for its end; nil: he does not
}

func (b *backend) Tell(_ context.Context, a helper.Accounting) error {
	b.telling.Add(1)
	defer b.telling.Add(-1)
	b.mu.Lock()
	wait := b.wait
	b.mu.Unlock()
	if wait != nil {
		<-wait
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.deaf > 0 {
		b.deaf--
		return errors.New("no server answers")
	}
	b.told = append(b.told, a)
	return nil
}

// listen hears servers of the line that names that file.
func (b *backend) listen(file string, end helper.Disconnect) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.end == nil {
		b.end = map[string]helper.Disconnect{}
	}
	b.end[file] = end
}

// accounted is what was told so far, and forgets it.
func (b *backend) accounted() []helper.Accounting {
	b.mu.Lock()
	defer b.mu.Unlock()
	told := b.told
	b.told = nil
	return told
}

func (b *backend) Begin(ctx context.Context, a helper.Applicant) (helper.Dialogue, helper.Verdict) {
	b.mu.Lock()
	b.heard = append(b.heard, a)
	b.mu.Unlock()
	if a.User == "stuck" {
		b.waits.Add(1)
		<-ctx.Done()
		b.waits.Add(-1)
	}
	return &backendLogin{b, a}, helper.Verdict{Outcome: helper.Ask, Prompt: askPassword}
}

type backendLogin struct {
	b   *backend
	who helper.Applicant
}

func (d *backendLogin) End() { d.b.ended.Add(1) }

func (d *backendLogin) Answer(ctx context.Context, answer []byte) helper.Verdict {
	switch string(answer) {
	case "right":
		return helper.Verdict{Outcome: helper.Admit, User: d.who.User, Groups: []string{"staff", "ops"}, Grant: helper.Grant{
			IPv4: netip.MustParseAddr("10.9.7.7"), DNS: []netip.Addr{netip.MustParseAddr("10.9.0.53")}, IdleTimeout: time.Minute,
			Routes: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")}, SessionTimeout: time.Hour, RxPerSec: 1000,
		}}
	case "much":
		return helper.Verdict{Outcome: helper.Admit, User: d.who.User, Grant: helper.Grant{Routes: networks(204)}} // in 4096 bytes of RADIUS
	case "too much":
		return helper.Verdict{Outcome: helper.Admit, User: d.who.User, Grant: helper.Grant{Routes: networks(600)}}
	case "code":
		return helper.Verdict{Outcome: helper.Ask, Prompt: "Code:", Counter: 1}
	case "another":
		return helper.Verdict{Outcome: helper.Admit, User: "x\ny"}
	case "leg":
		return helper.Verdict{Outcome: helper.Ask, Leg: []byte("and you")}
	case "last leg":
		return helper.Verdict{Outcome: helper.Admit, User: d.who.User, Leg: []byte("welcome")}
	case "down":
		return helper.Verdict{Outcome: helper.Unavailable, Why: "no server answers"}
	case "again":
		return helper.Verdict{Outcome: helper.Ask, Prompt: askPasswordAgain, Wrong: true}
	case "die":
		close(d.b.killed)
		<-ctx.Done()
	case "wait":
		d.b.waits.Add(1)
		<-ctx.Done()
		d.b.waits.Add(-1)
	}
	return helper.Verdict{Wrong: true, Why: "wrong password"}
}

// remotely starts a sec-mod whose method is played by a helper, but for the virtual
// host plain.example, where bert has a password.
func remotely(t *testing.T, wait time.Duration) (*rig, *backend, *helperOf) {
	t.Helper()
	b := &backend{killed: make(chan struct{})}
	run := &helperOf{t: t, b: b}
	st := newSite(t, hashOf(t, "bert", "*", "secret"))
	st.add("[vhost:plain.example]")
	r := boot(t, st, func(s *server) { s.accounts.pause = 20 * time.Millisecond })
	r.mu.Lock()
	r.helper = run.start
	r.mu.Unlock()
	h := newHelper(r.s, "radius", wait)
	m := &remote{h: h, method: h.add(config.Method{Name: "radius", Options: map[string]string{"config": "x"}}, false)}
	a := &remote{h: h, method: h.add(config.Method{Name: "radius", Options: map[string]string{"config": "x"}}, true)}
	h.add(config.Method{Name: "radius", Options: map[string]string{"config": "another"}}, true)
	if _, err := h.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.stop)
	r.reconfigured(func(v *vhost) { v.ways, v.account = []way{{method: m}}, a })
	return r, b, run
}

// helperOf starts helpers in this process.
type helperOf struct {
	t *testing.T
	b *backend

	mu     sync.Mutex
	conns  []*ipc.Conn
	refuse int // the next ones are not started
}

func (o *helperOf) start(q *ipc.SecmHelperReq) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refuse > 0 {
		o.refuse--
		return -1, errors.New("no more processes")
	}
	near, far, err := ipc.Pair()
	if err != nil {
		return -1, err
	}
	o.conns = append(o.conns, near)
	go helper.Run(helper.Options{SecMod: near, Log: slog.New(slog.DiscardHandler), Kind: helper.Kind{Make: func(options map[string]string, _ helper.Logger) (helper.Made, error) {
		if options["config"] == "missing" {
			return helper.Made{}, errors.New("missing: no such file")
		}
		if options["kdcs"] != "" {
			return helper.Made{Relay: o.b.relay, Watch: []string{"/watched"}}, nil
		}
		return helper.Made{Method: o.b}, nil
	}, MakeAccount: func(options map[string]string, _ helper.Logger) (helper.Made, error) {
		return helper.Made{Account: o.b, Listen: func(_ context.Context, end helper.Disconnect) { o.b.listen(options["config"], end) }}, nil
	}}})
	return far, nil
}

// refuseOne lets the next helper not start.
func (o *helperOf) refuseOne() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refuse = 1
}

// kill ends the last helper.
func (o *helperOf) kill() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conns[len(o.conns)-1].Close()
}

func (o *helperOf) started() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.conns)
}

// TestRemoteLogins: what a helper says, and what becomes of it.
func TestRemoteLogins(t *testing.T) {
	r, b, _ := remotely(t, time.Minute)
	n := int64(0)
	for _, tt := range []struct {
		name, group string
		answers     []string
		want        string
		points      uint32
	}{
		{"right", "", []string{"right"}, "MSG OK staff", 0},
		{"right, second group", "ops", []string{"right"}, "MSG OK ops", 0},
		{"group he is not in", "board", []string{"right"}, "MSG FAILED", 10},
		{"a code too", "", []string{"code", "right"}, "MSG MSG1 OK staff", 0},
		{"wrong", "", []string{"guess"}, "MSG FAILED", 10},
		{"wrong, then right", "", []string{"again", "right"}, "MSG MSG OK staff", 10},
		{"no server", "", []string{"down"}, "MSG UNAVAILABLE", 0},
		{"an impossible user", "", []string{"another"}, "MSG UNAVAILABLE", 0},
	} {
		c, _ := r.handshaken(home)
		rep := authInit(t, c, &ipc.AuthInit{User: "anna", Group: tt.group, UserAgent: "client/1"})
		got := []string{status(rep)}
		for _, a := range tt.answers {
			rep = authCont(t, c, rep.Sid, a)
			s := status(rep)
			if rep.PasswordCounter > 0 {
				s += "1"
			}
			got = append(got, s)
		}
		if s := strings.TrimSpace(strings.Join(got, " ") + " " + rep.Group); s != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, s, tt.want)
		}
		if p := r.bans()[home]; p != tt.points {
			t.Errorf("%s: %d points, want %d", tt.name, p, tt.points)
		}
		n++
		eventually(t, "the dialogue's end", func() bool { return b.ended.Load() == n })
	}
	if a := b.heard[0]; a.User != "anna" || a.Peer.String() != home || a.Agent != "client/1" {
		t.Errorf("the helper hears %+v", a)
	}
}

// TestLegs: what the method says to the client's program goes to the worker.
func TestLegs(t *testing.T) {
	r, _, _ := remotely(t, time.Minute)
	c, _ := r.handshaken(home)
	rep := authInit(t, c, &ipc.AuthInit{User: "anna"})
	for _, leg := range []struct{ says, answer, status string }{{"leg", "and you", "MSG"}, {"last leg", "welcome", "OK"}} {
		if rep = authCont(t, c, rep.Sid, leg.says); string(rep.Leg) != leg.answer || status(rep) != leg.status {
			t.Errorf("%s: %s with %q", leg.says, status(rep), rep.Leg)
		}
	}
}

// TestGrantIsTheSessions: at every opening, and in the sec-mod after this one.
func TestGrantIsTheSessions(t *testing.T) {
	r, _, _ := remotely(t, time.Minute)
	c, id := r.handshaken(home)
	cookie := r.login(c, "anna", "right")
	check := func(rep *ipc.SecmSessionReply, conf *ipc.SessionConfig) {
		t.Helper()
		if !rep.Ok || ipc.Addr(rep.Lease.ExplicitIpv4).String() != "10.9.7.7" || rep.SessionTimeoutS != 3600 {
			t.Fatalf("opened %v", rep)
		}
		if len(conf.Routes) != 1 || !strings.HasPrefix(conf.Routes[0], "10.20.0.0/") || ipc.Addr(conf.Dns[0]).String() != "10.9.0.53" ||
			conf.IdleTimeoutS != 60 || conf.MobileIdleTimeoutS != 60 || conf.RxBytesPerS != 1000 || conf.SessionTimeoutS != 3600 {
			t.Errorf("configured %v", conf)
		}
	}
	rep, conf := r.openSession(cookie, id)
	check(rep, conf)
	r.closeSession(rep.SafeId, id, ipc.Reason_REASON_DPD_TIMEOUT)
	_, id2 := r.handshaken(home)
	rep, conf = r.openSession(cookie, id2)
	check(rep, conf)
	saved, ok := r.s.sessions.Save(rep.SafeId)
	if g, err := readGrant(saved.Session.Granted); !ok || err != nil || g.RxPerSec != 1000 {
		t.Errorf("saved %v: %+v, %v", ok, g, err)
	}
}

// networks are so many with the longest text.
func networks(n int) (list []netip.Prefix) {
	for i := range n {
		list = append(list, netip.MustParsePrefix(fmt.Sprintf("2001:db8:1234:5678:9abc:def0:%x:%x/128", 0x1000+i, 0x1000+i)))
	}
	return list
}

// TestLongGrant: what RADIUS can say in an answer is kept, in a record that main
// takes; with more nobody logs in.
func TestLongGrant(t *testing.T) {
	r, _, _ := remotely(t, time.Minute)
	c, id := r.handshaken(home)
	rep, conf := r.openSession(r.login(c, "anna", "much"), id)
	if !rep.Ok || len(conf.Routes) != 204 {
		t.Fatalf("opened %v with %d routes", rep, len(conf.Routes))
	}
	eventually(t, "the record", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		m := r.held[rep.SafeId]
		if m != nil && len(m.Sealed) > ipc.MaxSession {
			t.Fatalf("a record of %d bytes", len(m.Sealed))
		}
		return m != nil && len(m.Sealed) > 204*len("2001:db8:1234:5678:9abc:def0:1000:1000/128")
	})
	c, _ = r.handshaken(home)
	begun := authInit(t, c, &ipc.AuthInit{User: "anna"})
	if rep := authCont(t, c, begun.Sid, "too much"); rep.Status == ipc.AuthStatus_AUTH_OK || !strings.Contains(r.log.String(), "too long to be kept") {
		t.Errorf("%v: %s", rep, r.log)
	}
}

// TestStalledHelper: steps without an answer delay nobody but themselves, as many
// as fit into the queue, and end when nobody waits any more.
func TestStalledHelper(t *testing.T) {
	r, b, _ := remotely(t, time.Hour)
	r.s.gens.Load().current.config.Global.BanPointsPassword = 0
	c, _ := r.handshaken(home)
	ready := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
	var stuck []*ipc.Conn
	for range helperQueue {
		w, _ := r.handshaken(home)
		stuck = append(stuck, w)
		w.Send(ipc.AuthInitT, 0, &ipc.AuthInit{User: "stuck"})
	}
	eventually(t, "a full queue", func() bool { return b.waits.Load() == helperQueue })
	other, _ := r.handshaken(home)
	if rep := authInit(t, other, &ipc.AuthInit{User: "anna"}); status(rep) != "BUSY" || len(rep.Sid) > 0 {
		t.Errorf("one login more: %v", rep)
	}
	if rep := authCont(t, c, ready, "right"); status(rep) != "BUSY" || rep.Message != askPassword {
		t.Errorf("a login under way: %v", rep)
	}
	plainly, _ := r.worker(home) // what needs no helper goes on
	sign := signReq()
	sign.Vhost = "plain.example"
	call[ipc.SignRep](t, plainly, ipc.SignT, sign, ipc.SignRepT)
	sid := authInit(t, plainly, &ipc.AuthInit{User: "bert", Vhost: "plain.example"}).Sid
	if rep := authCont(t, plainly, sid, "secret"); status(rep) != "OK" {
		t.Errorf("a login by password: %v", rep)
	}
	r.s.gens.Load().current.vhosts[""].ways[0].method.(*remote).h.stop()
	for _, w := range stuck {
		rec, err := w.Recv()
		rep := new(ipc.AuthReply)
		if err != nil || rec.Decode(rep) != nil || status(rep) != "UNAVAILABLE" {
			t.Fatalf("a stuck login: %v, %v", rep, err)
		}
	}
	eventually(t, "the end of the steps", func() bool { return b.waits.Load() == 0 })
}

// TestLateHelper: a step takes auth-timeout at most, and the helper hears that
// nobody waits.
func TestLateHelper(t *testing.T) {
	r, b, _ := remotely(t, 50*time.Millisecond)
	c, _ := r.handshaken(home)
	sid := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
	if rep := authCont(t, c, sid, "wait"); status(rep) != "UNAVAILABLE" || rep.Message != cannotSay {
		t.Errorf("%v", rep)
	}
	eventually(t, "the end of the step", func() bool { return b.waits.Load() == 0 && b.ended.Load() == 1 })
	if n := r.bans()[home]; n != 0 {
		t.Errorf("%d points for a server that is late", n)
	}
	if rep := authCont(t, c, sid, "right"); status(rep) != "FAILED" {
		t.Errorf("the login goes on: %v", rep)
	}
}

// TestHelperDies: the logins at it are over, and another one takes its place.
func TestHelperDies(t *testing.T) {
	r, b, run := remotely(t, time.Minute)
	c, _ := r.handshaken(home)
	sid := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
	run.refuseOne()
	go func() {
		<-b.killed
		run.kill()
	}()
	if rep := authCont(t, c, sid, "die"); status(rep) != "UNAVAILABLE" {
		t.Errorf("the login it died of: %v", rep)
	}
	w, _ := r.handshaken(home)
	if rep := authInit(t, w, &ipc.AuthInit{User: "anna"}); status(rep) != "UNAVAILABLE" {
		t.Errorf("a login without a helper: %v", rep)
	}
	eventually(t, "another helper", func() bool { return run.started() == 2 })
	eventually(t, "a login", func() bool {
		w, _ := r.handshaken(home)
		defer w.Close()
		rep := authInit(t, w, &ipc.AuthInit{User: "anna"})
		return status(rep) == "MSG" && status(authCont(t, w, rep.Sid, "right")) == "OK"
	})
	if n := r.bans()[home]; n != 0 {
		t.Errorf("%d points for a helper's death", n)
	}
}

// TestAbandonedLogins: the helper forgets what sec-mod forgets.
func TestAbandonedLogins(t *testing.T) {
	r, b, _ := remotely(t, time.Minute)
	c, _ := r.handshaken(home)
	authInit(t, c, &ipc.AuthInit{User: "anna"})
	authInit(t, c, &ipc.AuthInit{User: "anna"}) // a connection is good for one
	eventually(t, "the end of the first", func() bool { return b.ended.Load() == 1 })
	r.clock.forward(time.Hour)
	r.s.sweep()
	eventually(t, "the end of the second", func() bool { return b.ended.Load() == 2 })
	h := r.s.gens.Load().current.vhosts[""].ways[0].method.(*remote).h
	if n := h.busy.Load(); n != 0 {
		t.Errorf("%d logins and requests are left", n)
	}
}

// TestRetiredHelper: one that is not configured any more stays for its logins.
func TestRetiredHelper(t *testing.T) {
	r, _, _ := remotely(t, time.Minute)
	c, _ := r.handshaken(home)
	sid := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
	h := r.s.gens.Load().current.vhosts[""].ways[0].method.(*remote).h
	go h.retire()
	select {
	case <-h.over:
		t.Fatal("it did not wait")
	case <-time.After(300 * time.Millisecond):
	}
	if rep := authCont(t, c, sid, "right"); status(rep) != "OK" {
		t.Errorf("its last login: %v", rep)
	}
	<-h.over
}

// TestIdleHelperRetires: not before a worker that took its generation when that was
// in effect has begun its login.
func TestIdleHelperRetires(t *testing.T) {
	r, _, _ := remotely(t, time.Minute)
	h := r.s.gens.Load().current.vhosts[""].ways[0].method.(*remote).h
	began := time.Now()
	h.retire()
	if took := time.Since(began); took < helperLook {
		t.Errorf("it retired after %v", took)
	}
	<-h.over
}

// TestHelpersStartTogether: none waits for another, and all are ready by one time.
func TestHelpersStartTogether(t *testing.T) {
	r, _, run := remotely(t, time.Minute)
	var asked sync.WaitGroup
	asked.Add(2)
	r.mu.Lock()
	r.helper = func(q *ipc.SecmHelperReq) (int, error) {
		asked.Done()
		asked.Wait() // with one after the other the second is never asked for
		return run.start(q)
	}
	r.mu.Unlock()
	l := &loader{server: r.s, gen: &generation{helpers: map[string]*helperLink{}}}
	for _, name := range []string{"ldap", "radius"} {
		l.gen.helpers[name] = newHelper(r.s, name, time.Minute)
	}
	if err := l.startHelpers(); err != nil {
		t.Fatal(err)
	}
	l.gen.stopHelpers()

	r.mu.Lock()
	r.helper = func(*ipc.SecmHelperReq) (int, error) { // started, and never ready
		near, far, err := ipc.Pair()
		if err == nil {
			t.Cleanup(func() { near.Close() })
		}
		return far, err
	}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := newHelper(r.s, "radius", time.Minute).start(ctx); !errors.Is(err, errHelperStart) {
		t.Errorf("one that is never ready: %v", err)
	}
}

// TestHelperConfiguration: what a helper cannot open is an error of the
// configuration, as is a helper that does not start.
func TestHelperConfiguration(t *testing.T) {
	r, _, run := remotely(t, time.Minute)
	h := newHelper(r.s, "radius", time.Minute)
	h.add(config.Method{Name: "radius", Options: map[string]string{"config": "missing"}}, false)
	if _, err := h.start(t.Context()); err == nil || err.Error() != "missing: no such file" {
		t.Errorf("%v", err)
	}
	run.refuseOne()
	h = newHelper(r.s, "radius", time.Minute)
	if _, err := h.start(t.Context()); err == nil || !strings.Contains(err.Error(), "no more processes") {
		t.Errorf("%v", err)
	}
}
