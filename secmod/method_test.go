package secmod

import (
	"strings"
	"testing"

	"rocserv/internal/ipc"
)

// scripted is a method that says what it is told to, whatever is answered.
type scripted struct {
	first verdict
	then  []verdict
}

func (s *scripted) groups() []string { return []string{"a", "b"} }

func (s *scripted) begin(applicant) (dialogue, verdict) { return &scriptedLogin{s.then}, s.first }

type scriptedLogin struct{ then []verdict }

func (d *scriptedLogin) answer([]byte) verdict {
	v := d.then[0]
	d.then = d.then[1:]
	return v
}

func (d *scriptedLogin) end() {}

// TestMethods: what a method can say, and what becomes of it.
func TestMethods(t *testing.T) {
	otp := verdict{outcome: ask, prompt: "Code:", counter: 1}
	in := verdict{outcome: admit, user: "anna", group: "g"}
	asks := verdict{outcome: ask, prompt: "P:"}
	for _, tt := range []struct {
		name   string
		method scripted
		want   string // statuses
		points uint32
	}{
		{"at once", scripted{first: in}, "OK", 0},
		{"never", scripted{first: verdict{why: "x"}}, "FAILED", 0},
		{"password, then a code", scripted{asks, []verdict{otp, in}}, "MSG MSG1 OK", 0},
		{"wrong code", scripted{asks, []verdict{otp, {wrong: true}}}, "MSG MSG1 FAILED", 10},
		{"wrong, then right", scripted{asks, []verdict{{outcome: ask, wrong: true}, in}}, "MSG MSG OK", 10},
		{"busy, then right", scripted{asks, []verdict{{outcome: busy}, in}}, "MSG BUSY OK", 0},
		{"refused without points", scripted{asks, []verdict{{why: "x"}}}, "MSG FAILED", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := boot(t, newSite(t))
			r.reconfigured(func(v *vhost) { v.ways = []way{{method: &tt.method}} })
			c, id := r.handshaken(home)
			rep := authInit(t, c, &ipc.AuthInit{User: "anna"})
			var got []string
			for {
				s := status(rep)
				if rep.PasswordCounter > 0 {
					s += "1"
				}
				got = append(got, s)
				if s == "OK" || s == "FAILED" {
					break
				}
				rep = authCont(t, c, rep.Sid, "x")
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("%s, want %s", s, tt.want)
			}
			if n := r.bans()[home]; n != tt.points {
				t.Errorf("%d points, want %d", n, tt.points)
			}
			if status(rep) == "OK" {
				if open, _ := r.openSession(rep.Sid, id); open.User != "anna" || open.Group != "g" {
					t.Errorf("session of %v", open)
				}
			}
		})
	}
}

// TestNewLoginAbandonsTheOld: a connection holds one login under way.
func TestNewLoginAbandonsTheOld(t *testing.T) {
	r := boot(t, newSite(t, hashOf(t, "anna", "*", "secret")))
	c, _ := r.handshaken(home)
	old := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
	sid := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
	if n := r.s.sessions.Counts().Pending; n != 1 {
		t.Errorf("%d logins under way", n)
	}
	if rep := authCont(t, c, old, "secret"); status(rep) != "FAILED" {
		t.Errorf("the abandoned login: %v", rep)
	}
	if rep := authCont(t, c, sid, "secret"); status(rep) != "OK" {
		t.Errorf("the login: %v", rep)
	}
}

// TestPanicFailsTheLogin: it is not left taken for ever.
func TestPanicFailsTheLogin(t *testing.T) {
	r := boot(t, newSite(t))
	r.reconfigured(func(v *vhost) { v.ways = []way{{method: &scripted{first: verdict{outcome: ask}}}} })
	c, _ := r.handshaken(home)
	sid := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
	c.Send(ipc.AuthContT, 0, &ipc.AuthCont{Sid: sid}) // the script has no line for it
	if !gone(c) {
		t.Fatal("no panic")
	}
	c2, _ := r.handshaken(home)
	if rep := authCont(t, c2, sid, ""); status(rep) != "FAILED" {
		t.Errorf("afterwards: %v", rep)
	}
}

// TestRefusedOpenLeavesTheSessionAlone: an attempt that fails does not make its
// worker the newest.
func TestRefusedOpenLeavesTheSessionAlone(t *testing.T) {
	r := boot(t, newSite(t, "anna:*:"))
	c, id := r.handshaken(home)
	cookie := r.login(c, "anna", "")
	rep, _ := r.openSession(cookie, id)

	c2, busy := r.handshaken(home)
	r.openSession(r.login(c2, "anna", ""), busy)
	if rep, _ := r.openSession(cookie, busy); rep.Ok {
		t.Fatal("a worker has two sessions")
	}
	if got := r.closeSession(rep.SafeId, busy, ipc.Reason_REASON_ERROR); got.ExpiresUnixMs != 0 {
		t.Errorf("the session's time runs: %v", got)
	}
	c.Close()
	if got := r.closeSession(rep.SafeId, id, ipc.Reason_REASON_USER); !got.Invalidated {
		t.Errorf("its own worker is not the newest: %v", got)
	}

	// And the other way round: what the table refuses leaves the worker free.
	c3, id3 := r.handshaken(home)
	if rep, _ := r.openSession(someSID, id3); rep.Ok {
		t.Fatal("opened a guess")
	}
	r.reconfigured(func(v *vhost) {
		c := *v.Vhost
		c.User.DenyRoaming = true
		v.Vhost = &c
	})
	c4, _ := r.handshaken("192.0.2.9")
	if rep, _ := r.openSession(r.login(c4, "anna", ""), id3); rep.Ok {
		t.Fatal("opened another address's session")
	}
	if rep, _ := r.openSession(r.login(c3, "anna", ""), id3); !rep.Ok {
		t.Errorf("after refusals: %v", rep)
	}
}

// TestGenerationsGrow: a configuration that comes late does not undo a newer one.
func TestGenerationsGrow(t *testing.T) {
	st := newSite(t)
	r := boot(t, st)
	if rep := r.configure(5, st.text()); rep.Error != "" {
		t.Fatal(rep.Error)
	}
	for _, n := range []uint64{1, 4, 5} {
		if rep := r.configure(n, st.text()); !strings.Contains(rep.Error, "too late") {
			t.Errorf("generation %d after 5: %v", n, rep)
		}
	}
}

// TestSharedUsersFile: virtual hosts with the same line share what it loads.
func TestSharedUsersFile(t *testing.T) {
	st := newSite(t, "open:*:")
	st.add("[vhost:b.example]", "[vhost:c.example]")
	r := newRig(t)
	rep := r.configure(1, st.text())
	n := strings.Count(strings.Join(rep.Warnings, "\n"), "no password")
	v := r.s.gens.Load().current.vhosts
	if n != 1 || v[""].ways[0].method != v["b.example"].ways[0].method || v[""].ways[0].method != v["c.example"].ways[0].method {
		t.Errorf("%d warnings for one file", n)
	}
}

func BenchmarkSign(b *testing.B) {
	r := boot(b, newSite(b))
	c, id := r.worker(home)
	go func() { // reads answers
		for {
			if _, err := c.Recv(); err != nil {
				return
			}
		}
	}()
	var w *worker
	eventually(b, "the worker", func() bool { w = r.s.worker(id); return w != nil })
	rec := record(ipc.SignT, 0, signReq())[5:]
	b.ReportAllocs()
	for b.Loop() {
		clear(w.said)
		w.move(fresh)
		if err := w.dispatch(&ipc.Record{Type: ipc.SignT, Body: rec}); err != nil {
			b.Fatal(err)
		}
	}
}
