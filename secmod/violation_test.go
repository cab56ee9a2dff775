package secmod

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"rocserv/internal/ipc"
	"rocserv/internal/session"
)

// raw is a worker's end that sends any bytes.
type raw struct {
	t  testing.TB
	fd int
}

func (r *rig) raw() *raw {
	r.t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	defer unix.Close(p[1])
	r.mu.Lock()
	r.conns++
	id := r.conns
	r.mu.Unlock()
	if err := r.name(id, home, p[1]); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { unix.Close(p[0]) })
	return &raw{r.t, p[0]}
}

func (w *raw) send(b []byte, fds ...int) {
	w.t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(w.fd, b, oob, nil, 0); err != nil {
		w.t.Fatal(err)
	}
}

// gone reads to the end and returns the types of what came before it.
func (w *raw) gone() (before []ipc.Type) {
	buf := make([]byte, ipc.MaxRecord)
	for {
		n, err := unix.Read(w.fd, buf)
		if n <= 0 || err != nil {
			return before
		}
		before = append(before, ipc.Type(buf[0]))
	}
}

func record(t ipc.Type, id byte, m ipc.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return append([]byte{byte(t), 0, 0, 0, id}, b...)
}

// act is something a worker does to its channel.
type act func(t *testing.T, r *rig, c *ipc.Conn, id uint64)

func tell(typ ipc.Type, m ipc.Message) act {
	return func(t *testing.T, _ *rig, c *ipc.Conn, _ uint64) {
		if err := c.Send(typ, 0, m); err != nil {
			t.Fatal(err)
		}
	}
}

func hear(want ipc.Type) act {
	return func(t *testing.T, _ *rig, c *ipc.Conn, _ uint64) {
		if rec, err := c.Recv(); err != nil || rec.Type != want {
			t.Fatalf("%v, %v instead of %v", rec.Type, err, want)
		}
	}
}

func asked(typ ipc.Type, m ipc.Message, want ipc.Type) act {
	return both(tell(typ, m), hear(want))
}

func both(acts ...act) act {
	return func(t *testing.T, r *rig, c *ipc.Conn, id uint64) {
		for _, a := range acts {
			a(t, r, c, id)
		}
	}
}

func times(n int, a act) act {
	return func(t *testing.T, r *rig, c *ipc.Conn, id uint64) {
		for range n {
			a(t, r, c, id)
		}
	}
}

var (
	handshake = asked(ipc.SignT, signReq(), ipc.SignRepT)
	initAnna  = asked(ipc.AuthInitT, &ipc.AuthInit{User: "anna"}, ipc.AuthReplyT)
	someSID   = bytes.Repeat([]byte{7}, session.SIDSize)
	ticket    = &ipc.ResumeReq{Data: []byte("no ticket")}
)

// logIn takes the worker to AUTH_OK; tunnel also lets main open its session.
func logIn(t *testing.T, r *rig, c *ipc.Conn, _ uint64) { r.login(c, "anna", "secret") }

func tunnel(t *testing.T, r *rig, c *ipc.Conn, id uint64) {
	if rep, _ := r.openSession(r.login(c, "anna", "secret"), id); !rep.Ok {
		t.Fatal(rep)
	}
}

func sign(change func(*ipc.SignReq)) act {
	q := signReq()
	change(q)
	return tell(ipc.SignT, q)
}

// TestViolations: each ends the worker that did it, and nobody else.
func TestViolations(t *testing.T) {
	st := newSite(t, hashOf(t, "anna", "*", "secret"))
	st.add("[vhost:b.example]")
	r := boot(t, st)
	cli := tell(ipc.CliStatsT, &ipc.CliStats{BytesUp: 1})
	for _, tt := range []struct {
		name string
		do   act
	}{
		// Out of state.
		{"login before the handshake", tell(ipc.AuthInitT, &ipc.AuthInit{User: "anna"})},
		{"answer before the handshake", tell(ipc.AuthContT, &ipc.AuthCont{Sid: someSID})},
		{"seal before the handshake", tell(ipc.ResumeSealT, ticket)},
		{"statistics before the handshake", cli},
		{"ticket after the signature", both(handshake, tell(ipc.ResumeOpenT, ticket))},
		{"statistics after the handshake", both(handshake, cli)},
		{"statistics during a login", both(handshake, initAnna, cli)},
		{"statistics after a login", both(handshake, logIn, cli)},
		{"signature during a login", both(handshake, initAnna, tell(ipc.SignT, signReq()))},
		{"seal during a login", both(handshake, initAnna, tell(ipc.ResumeSealT, ticket))},
		{"login after a login", both(handshake, logIn, tell(ipc.AuthInitT, &ipc.AuthInit{User: "anna"}))},
		{"answer after a login", both(handshake, logIn, tell(ipc.AuthContT, &ipc.AuthCont{Sid: someSID}))},
		{"login in a tunnel", both(handshake, tunnel, tell(ipc.AuthInitT, &ipc.AuthInit{User: "anna"}))},
		{"signature in a tunnel", both(handshake, tunnel, tell(ipc.SignT, signReq()))},
		{"ticket in a tunnel", both(handshake, tunnel, tell(ipc.ResumeOpenT, ticket))},
		{"seal in a tunnel", both(handshake, tunnel, tell(ipc.ResumeSealT, ticket))},
		// Too often.
		{"signature twice", both(handshake, tell(ipc.SignT, signReq()))},
		{"ninth ticket", both(times(8, asked(ipc.ResumeOpenT, ticket, ipc.ResumeRepT)), tell(ipc.ResumeOpenT, ticket))},
		{"third seal", both(handshake, times(2, asked(ipc.ResumeSealT, ticket, ipc.ResumeRepT)), tell(ipc.ResumeSealT, ticket))},
		{"too many logins", both(handshake, times(32, initAnna), tell(ipc.AuthInitT, &ipc.AuthInit{User: "anna"}))},
		{"seventeenth answer", both(handshake,
			times(16, asked(ipc.AuthContT, &ipc.AuthCont{Sid: someSID}, ipc.AuthReplyT)), tell(ipc.AuthContT, &ipc.AuthCont{Sid: someSID}))},
		{"a flood of statistics", both(handshake, tunnel, times(61, cli))},
		// What is asked.
		{"signature of anything", sign(func(q *ipc.SignReq) { q.Message = []byte("I owe you") })},
		{"signature of a client's text", sign(func(q *ipc.SignReq) { q.Message = bytes.Replace(q.Message, []byte("server"), []byte("client"), 1) })},
		{"scheme of another key", sign(func(q *ipc.SignReq) { q.Scheme = 0x0804 })},
		{"scheme with SHA-1", sign(func(q *ipc.SignReq) { q.Scheme = 0x0203 })},
		{"scheme beyond 16 bits", sign(func(q *ipc.SignReq) { q.Scheme = 0x10403 })},
		{"unknown key", sign(func(q *ipc.SignReq) { q.KeyIndex = 99 })},
		{"unknown virtual host", sign(func(q *ipc.SignReq) { q.Vhost = "other.example" })},
		{"login at another virtual host", both(handshake, tell(ipc.AuthInitT, &ipc.AuthInit{Vhost: "b.example", User: "anna"}))},
		{"seal for another virtual host", both(handshake, tell(ipc.ResumeSealT, &ipc.ResumeReq{Vhost: "b.example", Data: []byte("x")}))},
		{"signature for another virtual host than the ticket", both(asked(ipc.ResumeOpenT, ticket, ipc.ResumeRepT), sign(func(q *ipc.SignReq) { q.Vhost = "b.example" }))},
		{"ticket for an unknown virtual host", tell(ipc.ResumeOpenT, &ipc.ResumeReq{Vhost: "other.example"})},
		{"short SID", both(handshake, tell(ipc.AuthContT, &ipc.AuthCont{Sid: someSID[:31]}))},
		{"long SID", both(handshake, tell(ipc.AuthContT, &ipc.AuthCont{Sid: append(bytes.Clone(someSID), 0)}))},
		{"no SID", both(handshake, tell(ipc.AuthContT, &ipc.AuthCont{}))},
		// Messages of others.
		{"main's configuration", func(t *testing.T, _ *rig, c *ipc.Conn, _ uint64) {
			tell(ipc.SecmSessionOpenT, &ipc.SecmSessionOpen{Sid: someSID})(t, nil, c, 0)
		}},
		{"main's end of a session", tell(ipc.SecmSessionCloseT, &ipc.SecmSessionClose{})},
		{"sec-mod's own answer", tell(ipc.AuthReplyT, &ipc.AuthReply{})},
		{"points to itself", tell(ipc.SecmBanIPT, &ipc.SecmBanIP{})},
		{"a cookie meant for main", tell(ipc.AuthCookieReqT, &ipc.AuthCookieReq{Sid: someSID})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := r.s.counts.violations.Load()
			c, id := r.worker(home)
			defer c.Close()
			tt.do(t, r, c, id)
			if !gone(c) {
				t.Error("the channel is still open")
			}
			if n := r.s.counts.violations.Load() - before; n != 1 {
				t.Errorf("%d violations counted", n)
			}
			r.alive()
		})
	}
	if n := r.s.counts.panics.Load(); n != 0 {
		t.Errorf("%d panics: %s", n, r.log)
	}
}

// TestRawViolations: records that the ipc package would not send.
func TestRawViolations(t *testing.T) {
	r := boot(t, newSite(t, hashOf(t, "anna", "*", "secret")))
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	fd := int(null.Fd())
	good := record(ipc.SignT, 0, signReq())
	for _, tt := range []struct {
		name string
		send func(w *raw)
	}{
		{"one byte", func(w *raw) { w.send([]byte{byte(ipc.SignT)}) }},
		{"no body and half a header", func(w *raw) { w.send(good[:4]) }},
		{"unknown type", func(w *raw) { w.send([]byte{77, 0, 0, 0, 0}) }},
		{"type 0", func(w *raw) { w.send(make([]byte, 100)) }},
		{"an id", func(w *raw) { w.send(record(ipc.SignT, 1, signReq())) }},
		{"not protobuf", func(w *raw) { w.send(append([]byte{byte(ipc.SignT), 0, 0, 0, 0}, 0xff, 0xff, 0xff)) }},
		{"text that is no UTF-8", func(w *raw) { w.send(append([]byte{byte(ipc.SignT), 0, 0, 0, 0}, 0x0a, 1, 0xff)) }},
		{"too long", func(w *raw) { w.send(append(good, make([]byte, ipc.MaxRecord)...)) }},
		{"a descriptor", func(w *raw) { w.send(good, fd) }},
		{"many descriptors", func(w *raw) { w.send(good, fd, fd, fd, fd, fd, fd) }},
		{"a descriptor and nothing to understand", func(w *raw) { w.send([]byte{0}, fd) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := r.s.counts.violations.Load()
			w := r.raw()
			tt.send(w)
			if answers := w.gone(); len(answers) > 0 {
				t.Errorf("answered with %v", answers)
			}
			if n := r.s.counts.violations.Load() - before; n != 1 {
				t.Errorf("%d violations counted", n)
			}
			r.alive()
		})
	}
}

// TestNotViolations: what clients can bring about through an honest worker is
// answered, and the channel lives on.
func TestNotViolations(t *testing.T) {
	r := boot(t, newSite(t, hashOf(t, "anna", "*", "secret"), "open:*:"))
	cookie := func() []byte {
		c, _ := r.handshaken(home)
		return r.login(c, "anna", "secret")
	}
	lost := func() []byte {
		c, _ := r.handshaken(home)
		sid := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
		for range 3 {
			authCont(t, c, sid, "guess")
		}
		return sid
	}
	expired := func() []byte {
		c, _ := r.handshaken(home)
		sid := authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid
		r.clock.forward(316e9)
		return sid
	}
	for _, tt := range []struct {
		name string
		do   func(c *ipc.Conn) string
		want string
	}{
		{"a guessed SID", func(c *ipc.Conn) string { return status(authCont(t, c, someSID, "secret")) }, "FAILED"},
		{"a cookie as a login", func(c *ipc.Conn) string { return status(authCont(t, c, cookie(), "secret")) }, "FAILED"},
		{"a login that failed", func(c *ipc.Conn) string { return status(authCont(t, c, lost(), "secret")) }, "FAILED"},
		{"a login that expired", func(c *ipc.Conn) string { return status(authCont(t, c, expired(), "secret")) }, "FAILED"},
		{"no name", func(c *ipc.Conn) string { return status(authInit(t, c, &ipc.AuthInit{})) }, "FAILED"},
		{"63 bytes of name", func(c *ipc.Conn) string {
			return status(authInit(t, c, &ipc.AuthInit{User: strings.Repeat("x", 63)}))
		}, "MSG"},
		{"64 bytes of name", func(c *ipc.Conn) string {
			return status(authInit(t, c, &ipc.AuthInit{User: strings.Repeat("x", 64)}))
		}, "FAILED"},
		{"a line end in the name", func(c *ipc.Conn) string { return status(authInit(t, c, &ipc.AuthInit{User: "anna\r\nX: y"})) }, "FAILED"},
		{"NUL in the name", func(c *ipc.Conn) string { return status(authInit(t, c, &ipc.AuthInit{User: "anna\x00"})) }, "FAILED"},
		{"64 bytes of group", func(c *ipc.Conn) string {
			return status(authInit(t, c, &ipc.AuthInit{User: "anna", Group: strings.Repeat("x", 64)}))
		}, "FAILED"},
		{"an escape in the group", func(c *ipc.Conn) string {
			return status(authInit(t, c, &ipc.AuthInit{User: "anna", Group: "\x1b[2J"}))
		}, "FAILED"},
		{"a method that is not offered", func(c *ipc.Conn) string {
			return status(authInit(t, c, &ipc.AuthInit{User: "anna", Method: ipc.AuthMethod_AUTH_GSSAPI}))
		}, "FAILED"},
		{"a password of 60 KB", func(c *ipc.Conn) string {
			return status(authCont(t, c, authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid, strings.Repeat("x", 60000)))
		}, "MSG"},
		{"an empty password", func(c *ipc.Conn) string {
			return status(authCont(t, c, authInit(t, c, &ipc.AuthInit{User: "anna"}).Sid, ""))
		}, "MSG"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := r.handshaken(home)
			if got := tt.do(c); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if rep := authInit(t, c, &ipc.AuthInit{User: "anna"}); status(rep) != "MSG" {
				t.Errorf("afterwards: %v", rep)
			}
		})
	}
	if n := r.s.counts.violations.Load(); n != 0 {
		t.Errorf("%d violations: %s", n, r.log)
	}
}

// TestMainViolations: each is the end of sec-mod.
func TestMainViolations(t *testing.T) {
	st := newSite(t)
	sealed, err := ipc.Seal("x", st.text())
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sealed)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	socket := func() int {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
		return p[1]
	}
	for _, tt := range []struct {
		name       string
		configured bool
		do         func(r *rig) error
	}{
		{"a worker before the configuration", false, func(r *rig) error { return r.name(1, home, socket()) }},
		{"a session before the configuration", false, func(r *rig) error {
			return r.main.Send(ipc.SecmSessionOpenT, 1, &ipc.SecmSessionOpen{Sid: someSID})
		}},
		{"a configuration that can change", false, func(r *rig) error {
			return r.main.Send(ipc.SecmConfigT, 1, &ipc.SecmConfig{}, int(null.Fd()))
		}},
		{"a worker named twice", true, func(r *rig) error { r.name(1, home, socket()); return r.name(1, home, socket()) }},
		{"a worker without id", true, func(r *rig) error { return r.name(0, home, socket()) }},
		{"a worker without address", true, func(r *rig) error {
			return r.main.Send(ipc.SecmWorkerT, 0, &ipc.SecmWorker{Identity: &ipc.Identity{ConnId: 1, Peer: []byte{1, 2}}}, socket())
		}},
		{"a worker without identity", true, func(r *rig) error { return r.main.Send(ipc.SecmWorkerT, 0, &ipc.SecmWorker{}, socket()) }},
		{"a file as a worker's channel", true, func(r *rig) error { return r.name(1, home, sealed) }},
		{"a short SID", true, func(r *rig) error {
			return r.main.Send(ipc.SecmSessionOpenT, 1, &ipc.SecmSessionOpen{Sid: someSID[:3]})
		}},
		{"a worker's message", true, func(r *rig) error { return r.main.Send(ipc.SignT, 1, signReq()) }},
		{"sec-mod's message", true, func(r *rig) error { return r.main.Send(ipc.SecmEndedT, 1, &ipc.SecmEnded{}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			if tt.configured {
				if rep := r.configure(1, st.text()); rep.Error != "" {
					t.Fatal(rep.Error)
				}
			}
			if err := tt.do(r); err != nil {
				t.Fatal(err)
			}
			if err := <-r.end; !errors.Is(err, ipc.ErrViolation) {
				t.Errorf("sec-mod ended with %v", err)
			}
		})
	}
}

func TestMainGone(t *testing.T) {
	for _, configured := range []bool{false, true} {
		r := newRig(t)
		var workers []*ipc.Conn
		if configured {
			if rep := r.configure(1, newSite(t).text()); rep.Error != "" {
				t.Fatal(rep.Error)
			}
			for range 3 {
				c, _ := r.handshaken(home)
				workers = append(workers, c)
			}
		}
		r.main.Close()
		if err := <-r.end; !errors.Is(err, ErrMainGone) {
			t.Errorf("sec-mod ended with %v", err)
		}
		for _, c := range workers {
			if !gone(c) {
				t.Error("a worker's channel is still open")
			}
		}
	}
}
