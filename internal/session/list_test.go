package session

import (
	"errors"
	"testing"
	"time"
)

func TestList(t *testing.T) {
	tb, c := newTable(t, roomy)
	login := tb.Begin("v", five, "")
	tb.Describe(login, Account{User: "ben", Peer: cafe, Agent: "client/1"})
	c.forward(time.Second)
	sid, s := tb.Admit(anna, five)
	if _, err := tb.Open(sid, 7, home, five); err != nil {
		t.Fatal(err)
	}
	tb.Count(s.SafeID, 7, Totals{10, 20})
	got := tb.List()
	if len(got) != 2 || got[0].User != "ben" || got[0].State != Init || got[0].SafeID != "" || got[0].Agent != "client/1" || got[0].Expires.IsZero() {
		t.Fatalf("%+v", got)
	}
	if e := got[1]; e.SafeID != s.SafeID || e.State != Completed || e.Workers != 1 || !e.Opened || e.Totals != (Totals{10, 20}) || !e.Expires.IsZero() {
		t.Fatalf("%+v", e)
	}
	if _, err := tb.Take(login, "v"); err != nil {
		t.Fatal(err)
	}
	c.forward(2 * time.Second)
	_, done, err := tb.Complete(login, Account{User: "ben"})
	if err != nil || done.Agent != "client/1" || done.Took != 3*time.Second {
		t.Fatalf("completed: %+v, %v", done, err)
	}
	c.forward(time.Hour)
	if got := tb.List(); len(got) != 1 || got[0].User != "anna" {
		t.Fatalf("after an hour: %+v", got)
	}
}

func TestTerminate(t *testing.T) {
	tb, _ := newTable(t, roomy)
	away, a := tb.Admit(anna, five)
	up, u := tb.Admit(anna, Policy{CookieTimeout: time.Hour, Persistent: true})
	_, other := tb.Admit(Account{User: "ben"}, five)
	if _, err := tb.Open(up, 1, home, five); err != nil {
		t.Fatal(err)
	}
	isAnna := func(s Session) bool { return s.User == "anna" }
	gone, live := tb.Terminate(isAnna)
	if len(gone) != 1 || gone[0] != a.SafeID || len(live) != 1 || live[0] != u.SafeID {
		t.Fatalf("gone %v, live %v", gone, live)
	}
	for _, sid := range []SID{away, up} {
		if _, err := tb.Open(sid, 2, home, five); !errors.Is(err, ErrUnknown) {
			t.Errorf("a terminated cookie opens: %v", err)
		}
	}
	if gone, live := tb.Terminate(isAnna); len(gone)+len(live) != 0 {
		t.Errorf("again: %v, %v", gone, live)
	}
	// Its tunnel still counts, and its end is the session's, whatever the reason.
	tb.Count(u.SafeID, 1, Totals{1, 2})
	if c := tb.Close(u.SafeID, 1, Lost); !c.Gone || c.Totals != (Totals{1, 2}) {
		t.Errorf("closed: %+v", c)
	}
	if l := tb.List(); len(l) != 1 || l[0].SafeID != other.SafeID {
		t.Errorf("left: %+v", l)
	}
}
