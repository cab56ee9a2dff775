package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) forward(d time.Duration) { c.t = c.t.Add(d) }

var (
	home = netip.MustParseAddr("192.0.2.1")
	cafe = netip.MustParseAddr("2001:db8::7")
	anna = Account{User: "anna", Group: "staff", Vhost: "v", Peer: home}
	five = Policy{CookieTimeout: 5 * time.Minute}
)

func newTable(t *testing.T, limits Limits) (*Table[string], *clock) {
	t.Helper()
	c := &clock{time.Unix(1_800_000_000, 0)}
	return New[string](c.now, limits), c
}

var roomy = Limits{Pending: 100, Unopened: 100}

func TestLogin(t *testing.T) {
	tb, _ := newTable(t, roomy)
	sid := tb.Begin("v", five, "conv")
	if _, err := tb.Lookup(sid); !errors.Is(err, ErrState) {
		t.Fatalf("Lookup of a login under way: %v", err)
	}
	conv, err := tb.Take(sid, "v")
	if err != nil || conv != "conv" {
		t.Fatalf("Take = %q, %v", conv, err)
	}
	if _, err := tb.Take(sid, "v"); !errors.Is(err, ErrBusy) {
		t.Fatalf("second Take: %v", err)
	}
	tb.Ask(sid)
	if _, err := tb.Take(sid, "v"); err != nil {
		t.Fatalf("Take after Ask: %v", err)
	}
	cookie, s, err := tb.Complete(sid, anna)
	if err != nil {
		t.Fatal(err)
	}
	if cookie == sid {
		t.Error("the SID of the login is the cookie too")
	}
	if s.SafeID != cookie.SafeID() || len(s.SafeID) != 28 || len(ShortID(s.SafeID)) != 6 {
		t.Errorf("safe id %q, short %q", s.SafeID, ShortID(s.SafeID))
	}
	if _, err := tb.Lookup(sid); !errors.Is(err, ErrUnknown) {
		t.Errorf("the old SID: %v", err)
	}
	if _, err := tb.Take(cookie, "v"); !errors.Is(err, ErrState) {
		t.Errorf("Take of a session: %v", err)
	}
	got, err := tb.Lookup(cookie)
	if err != nil || got != s || got.Account != anna {
		t.Errorf("Lookup = %+v, %v", got, err)
	}
}

func TestTakeRefusals(t *testing.T) {
	for _, tt := range []struct {
		name string
		prep func(*Table[string], *clock, SID)
		ask  string // vhost
		want error
	}{
		{"as begun", func(*Table[string], *clock, SID) {}, "v", nil},
		{"another vhost", func(*Table[string], *clock, SID) {}, "w", ErrState},
		{"failed", func(tb *Table[string], _ *clock, s SID) { tb.Take(s, "v"); tb.Fail(s) }, "v", ErrState},
		{"released", func(tb *Table[string], _ *clock, s SID) { tb.Take(s, "v"); tb.Release(s) }, "v", nil},
		{"a moment before expiry", func(_ *Table[string], c *clock, _ SID) { c.forward(5*time.Minute + Grace - 1) }, "v", nil},
		{"expired", func(_ *Table[string], c *clock, _ SID) { c.forward(5*time.Minute + Grace) }, "v", ErrUnknown},
		{"swept", func(tb *Table[string], c *clock, _ SID) { c.forward(time.Hour); tb.Sweep(); c.forward(-time.Hour) }, "v", ErrUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tb, c := newTable(t, roomy)
			sid := tb.Begin("v", five, "")
			tt.prep(tb, c, sid)
			if _, err := tb.Take(sid, tt.ask); !errors.Is(err, tt.want) {
				t.Errorf("Take: %v, want %v", err, tt.want)
			}
		})
	}
}

func TestCompleteTooLate(t *testing.T) {
	tb, c := newTable(t, roomy)
	sid := tb.Begin("v", five, "")
	tb.Take(sid, "v")
	c.forward(time.Hour)
	if _, _, err := tb.Complete(sid, anna); !errors.Is(err, ErrUnknown) {
		t.Errorf("Complete after expiry: %v", err)
	}
	if n := tb.Counts(); n.Completed != 0 {
		t.Errorf("%+v", n)
	}
}

func TestOutcomeWithoutTakePanics(t *testing.T) {
	tb, _ := newTable(t, roomy)
	sid := tb.Begin("v", five, "")
	defer func() {
		if recover() == nil {
			t.Error("Ask without Take did not panic")
		}
	}()
	tb.Ask(sid)
}

// TestClose is the table of doc.go.
func TestClose(t *testing.T) {
	for _, tt := range []struct {
		why                  Reason
		persistent, wantGone bool
	}{
		{Lost, false, false}, {Lost, true, false},
		{UserLeft, false, true}, {UserLeft, true, false},
		{Ended, false, true}, {Ended, true, false},
		{TimedOut, false, true}, {TimedOut, true, true},
	} {
		t.Run(fmt.Sprintf("%d persistent=%t", tt.why, tt.persistent), func(t *testing.T) {
			tb, c := newTable(t, roomy)
			p := five
			p.Persistent = tt.persistent
			sid, s := tb.Admit(anna, p)
			if _, err := tb.Open(sid, 1, home, p); err != nil {
				t.Fatal(err)
			}
			c.forward(10 * time.Hour) // no expiry while it is open
			if ended := tb.Sweep(); len(ended) != 0 {
				t.Fatalf("an open session expired: %v", ended)
			}
			got := tb.Close(s.SafeID, 1, tt.why)
			if got.Gone != tt.wantGone {
				t.Fatalf("Close = %+v", got)
			}
			_, err := tb.Open(sid, 2, home, p)
			if tt.wantGone {
				if !errors.Is(err, ErrUnknown) || !got.Expires.IsZero() {
					t.Errorf("reopen of a session that is gone: %v (%+v)", err, got)
				}
				return
			}
			if want := c.t.Add(5*time.Minute + Grace); err != nil || !got.Expires.Equal(want) {
				t.Errorf("reopen: %v; expires %v, want %v", err, got.Expires, want)
			}
		})
	}
}

func TestNewestWorkerIsTheSession(t *testing.T) {
	tb, _ := newTable(t, roomy)
	sid, s := tb.Admit(anna, five)
	for _, conn := range []uint64{1, 2} {
		if _, err := tb.Open(sid, conn, home, five); err != nil {
			t.Fatal(err)
		}
	}
	if got := tb.Close(s.SafeID, 1, UserLeft); got.Gone || !got.Expires.IsZero() {
		t.Errorf("the end of a replaced worker touched the session: %+v", got)
	}
	if _, err := tb.Open(sid, 3, home, five); err != nil {
		t.Fatal(err)
	}
	if got := tb.Close(s.SafeID, 3, Ended); !got.Gone {
		t.Errorf("ended by an administrator, yet an older worker keeps it: %+v", got)
	}
	if got := tb.Close(s.SafeID, 2, Lost); !got.Gone {
		t.Errorf("Close of a session that is gone = %+v", got)
	}
}

func TestSessionTimeoutIsAbsolute(t *testing.T) {
	tb, c := newTable(t, roomy)
	p := five
	p.SessionTimeout = time.Hour
	sid, s := tb.Admit(anna, p)
	for conn := range uint64(11) {
		if _, err := tb.Open(sid, conn+1, home, p); err != nil {
			t.Fatalf("open %d: %v", conn, err)
		}
		c.forward(5 * time.Minute)
		got := tb.Close(s.SafeID, conn+1, Lost)
		if end := s.Login.Add(time.Hour); got.Gone || got.Expires.After(end) {
			t.Fatalf("close %d = %+v, the session ends at %v", conn, got, end)
		}
	}
	c.forward(5 * time.Minute)
	if _, err := tb.Open(sid, 99, home, p); err == nil {
		t.Error("reconnecting moved the session's end")
	}
}

func TestOpenRefusals(t *testing.T) {
	strict, short := five, five
	strict.DenyRoaming = true
	short.SessionTimeout = time.Minute
	for _, tt := range []struct {
		name string
		wait time.Duration
		peer netip.Addr
		conn uint64
		p    Policy
		want error
	}{
		{"good", time.Minute, cafe, 7, five, nil},
		{"same connection twice", 0, home, 1, five, ErrState},
		{"no connection", 0, home, 0, five, ErrState},
		{"roamed, denied", 0, cafe, 7, strict, ErrRoamed},
		{"same address", 0, home, 7, strict, nil},
		{"session-timeout", time.Minute, home, 7, short, ErrTimedOut},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tb, c := newTable(t, roomy)
			sid, _ := tb.Admit(anna, five)
			if _, err := tb.Open(sid, 1, home, five); err != nil {
				t.Fatal(err)
			}
			c.forward(tt.wait)
			if _, err := tb.Open(sid, tt.conn, tt.peer, tt.p); !errors.Is(err, tt.want) {
				t.Errorf("Open: %v, want %v", err, tt.want)
			}
		})
	}
}

func TestSweepTellsOfOpenedSessions(t *testing.T) {
	tb, c := newTable(t, roomy)
	tb.Begin("v", five, "")
	tb.Admit(anna, five)
	sid, s := tb.Admit(anna, five)
	tb.Open(sid, 1, home, five)
	tb.Close(s.SafeID, 1, Lost)
	c.forward(5*time.Minute + Grace - 1)
	if ended := tb.Sweep(); len(ended) != 0 {
		t.Fatalf("too early: %v", ended)
	}
	c.forward(1)
	if ended := tb.Sweep(); len(ended) != 1 || ended[0] != s.SafeID {
		t.Errorf("Sweep = %v, want %v", ended, s.SafeID)
	}
	if n := tb.Counts(); n != (Counts{}) {
		t.Errorf("left: %+v", n)
	}
}

func TestCounters(t *testing.T) {
	tb, _ := newTable(t, roomy)
	sid, s := tb.Admit(anna, five)
	tb.Open(sid, 1, home, five)
	tb.Count(s.SafeID, 1, Totals{100, 10})
	if total, ok := tb.Count(s.SafeID, 1, Totals{90, 20}); !ok || total != (Totals{100, 20}) {
		t.Errorf("Count of the session's worker: %+v, %v", total, ok)
	}
	for _, who := range []struct {
		id   string
		conn uint64
	}{{s.SafeID, 2}, {"nobody", 1}} {
		if _, ok := tb.Count(who.id, who.conn, Totals{1 << 40, 1 << 40}); ok {
			t.Errorf("Count took the word of %+v", who)
		}
	}
	if got := tb.Close(s.SafeID, 1, Lost).Totals; got != (Totals{100, 20}) {
		t.Errorf("after the first worker: %+v", got)
	}
	tb.Open(sid, 2, home, five)
	tb.Count(s.SafeID, 2, Totals{5, 5})
	if got := tb.Close(s.SafeID, 2, UserLeft).Totals; got != (Totals{105, 25}) {
		t.Errorf("over both workers: %+v", got)
	}
}

func TestBounds(t *testing.T) {
	tb, _ := newTable(t, Limits{Pending: 3, Unopened: 2})
	var logins, cookies []SID
	for range 5 {
		logins = append(logins, tb.Begin("v", five, ""))
	}
	for range 4 {
		sid, _ := tb.Admit(anna, five)
		cookies = append(cookies, sid)
	}
	for i, sid := range logins {
		if _, err := tb.Take(sid, "v"); (err == nil) != (i >= 2) {
			t.Errorf("login %d: %v", i, err)
		}
	}
	for i, sid := range cookies {
		if _, err := tb.Open(sid, uint64(i+1), home, five); (err == nil) != (i >= 2) {
			t.Errorf("cookie %d: %v", i, err)
		}
	}
	for range 3 {
		tb.Admit(anna, five)
	}
	if _, err := tb.Lookup(cookies[2]); err != nil {
		t.Errorf("an opened session made room for unopened ones: %v", err)
	}
	if _, _, err := tb.Complete(logins[4], anna); err != nil {
		t.Errorf("Complete: %v", err)
	}
	tb.Begin("v", five, "") // room left by the completed one
	if _, _, err := tb.Complete(logins[2], anna); err != nil {
		t.Errorf("the oldest login went although there was room: %v", err)
	}
}

func TestSIDNeverPrints(t *testing.T) {
	sid := newSID()
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "a", sid, "b", struct{ S SID }{sid}, "c", []SID{sid})
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "a", sid, "b", struct{ S SID }{sid}, "c", &sid)
	j, _ := json.Marshal(map[string]any{"sid": sid, "p": &sid})
	log.Write(j)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%T"} {
		fmt.Fprintf(&log, verb+" "+verb+"\n", sid, struct{ S SID }{sid})
	}
	for _, form := range []string{fmt.Sprintf("%x", sid[:]), fmt.Sprintf("%X", sid[:]), fmt.Sprint(sid[:8]), string(sid[:8]),
		strings.Trim(fmt.Sprintf("%d", sid[:6]), "[]"), fmt.Sprintf("0x%x, 0x%x, 0x%x", sid[0], sid[1], sid[2])} {
		if strings.Contains(log.String(), strings.Trim(form, "[]")) {
			t.Errorf("the SID shows as %q in\n%s", form, log.String())
		}
	}
}

func TestParseSID(t *testing.T) {
	for n := range 70 {
		if _, ok := ParseSID(make([]byte, n)); ok != (n == SIDSize) {
			t.Errorf("ParseSID of %d bytes: %t", n, ok)
		}
	}
}

func TestAbandon(t *testing.T) {
	tb, _ := newTable(t, roomy)
	begun, taken, failed := tb.Begin("v", five, ""), tb.Begin("v", five, ""), tb.Begin("v", five, "")
	tb.Take(taken, "v")
	tb.Take(failed, "v")
	tb.Fail(failed)
	cookie, _ := tb.Admit(anna, five)
	for _, sid := range []SID{begun, taken, failed, cookie, newSID(), {}} {
		tb.Abandon(sid)
	}
	if n := tb.Counts(); n.Pending != 2 || n.Completed != 1 {
		t.Errorf("left: %+v", n)
	}
	if _, err := tb.Take(begun, "v"); !errors.Is(err, ErrUnknown) {
		t.Errorf("Take of an abandoned login: %v", err)
	}
	if _, _, err := tb.Complete(taken, anna); err != nil {
		t.Errorf("Complete of a login that was being answered: %v", err)
	}
}
