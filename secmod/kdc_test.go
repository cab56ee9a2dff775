package secmod

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"rocserv/internal/ipc"
)

// relay is a KDC, as a helper's proxy reaches it.
func (b *backend) relay(ctx context.Context, message []byte) ([]byte, error) {
	switch string(message) {
	case "dead":
		return nil, errors.New("no KDC answers")
	case "wait":
		b.waits.Add(1)
		defer b.waits.Add(-1)
		b.mu.Lock()
		wait := b.wait
		b.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
		}
	}
	return append([]byte("answer to "), message...), nil
}

// askKDC is a worker that asks a KDC for its client.
func askKDC(t *testing.T, c *ipc.Conn, path, message string) string {
	t.Helper()
	return string(call[ipc.KDCRep](t, c, ipc.KDCT, &ipc.KDCReq{Path: path, Message: []byte(message)}, ipc.KDCRepT).Message)
}

// withKDC is a sec-mod with kkdcp, whose helper is a test's.
func withKDC(t *testing.T, lines ...string) (*rig, *backend) {
	t.Helper()
	b := &backend{killed: make(chan struct{})}
	run := &helperOf{t: t, b: b}
	st := newSite(t, hashOf(t, "anna", "*", "secret"))
	r := boot(t, st)
	r.mu.Lock()
	r.helper = run.start
	r.mu.Unlock()
	st.add(append([]string{"kkdcp = /KdcProxy R.TEST tcp@192.0.2.88:88", "kkdcp = /other Q.TEST udp@192.0.2.88:88"}, lines...)...)
	rep := r.configure(2, st.text())
	if rep.Error != "" {
		t.Fatal(rep.Error)
	}
	if !slices.Contains(rep.Watch, "/watched") { // what a helper has read is main's to watch
		t.Errorf("watched is %q", rep.Watch)
	}
	return r, b
}

// TestKDC: what a client posts goes to the helper of its path, and costs points.
func TestKDC(t *testing.T) {
	r, _ := withKDC(t, "ban-points-kkdcp = 3")
	for _, tt := range []struct{ path, message, want string }{
		{"/KdcProxy", "question", "answer to question"},
		{"/other", "question", "answer to question"},
		{"/KdcProxy", "dead", ""},
		{"/nothing", "question", ""},
		{"", "question", ""},
	} {
		c, _ := r.handshaken(home)
		if got := askKDC(t, c, tt.path, tt.message); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.path, tt.message, got, tt.want)
		}
		if n := r.bans()[home]; n != 3 {
			t.Errorf("%s %s: %d points, want 3", tt.path, tt.message, n)
		}
		if got := status(authInit(t, c, &ipc.AuthInit{User: "anna"})); got != "MSG" { // and a login begins afterwards
			t.Errorf("a login: %s", got)
		}
	}
	c, _ := r.worker(home)
	if err := c.Send(ipc.KDCT, 0, &ipc.KDCReq{Path: "/KdcProxy", Message: []byte("question")}); err != nil {
		t.Fatal(err)
	}
	if rec, err := c.Recv(); err == nil {
		t.Errorf("%v before a handshake", rec.Type)
	}
}

// TestKDCShare: who has many requests under way waits for no more of them, and keeps
// nobody else out; nor does who asks often.
func TestKDCShare(t *testing.T) {
	r, b := withKDC(t, "ban-points-kkdcp = 0")
	wait := make(chan struct{})
	b.mu.Lock()
	b.wait = wait
	b.mu.Unlock()
	var under []*ipc.Conn
	for range kdcShare {
		c, _ := r.handshaken(home)
		if err := c.Send(ipc.KDCT, 0, &ipc.KDCReq{Path: "/KdcProxy", Message: []byte("wait")}); err != nil {
			t.Fatal(err)
		}
		under = append(under, c)
	}
	eventually(t, "requests under way", func() bool { return b.waits.Load() == kdcShare })
	const away = "198.51.100.7"
	for peer, want := range map[string]string{home: "", away: "answer to question"} {
		c, _ := r.handshaken(peer)
		if got := askKDC(t, c, "/KdcProxy", "question"); got != want {
			t.Errorf("from %s: %q, want %q", peer, got, want)
		}
	}
	close(wait)
	for _, c := range under {
		rec, err := c.Recv()
		rep := new(ipc.KDCRep)
		if err != nil || rec.Decode(rep) != nil || string(rep.Message) != "answer to wait" {
			t.Errorf("under way: %v, %v", rep, err)
		}
	}
	eventually(t, "the places of those", func() bool {
		c, _ := r.handshaken(home)
		defer c.Close()
		return askKDC(t, c, "/KdcProxy", "question") != ""
	})
	for range kdcPace {
		r.s.kdcs.pace.Allow(netip.MustParseAddr(away), r.s.Now())
	}
	c, _ := r.handshaken(away)
	if got := askKDC(t, c, "/KdcProxy", "question"); got != "" {
		t.Errorf("too often: %q", got)
	}
	r.clock.forward(time.Minute)
	if got := askKDC(t, c, "/KdcProxy", "question"); got == "" {
		t.Error("a minute later there is no answer")
	}
}
