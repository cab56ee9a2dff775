package session

import (
	"errors"
	"testing"
	"time"
)

// TestSaved: another table goes on with what one saved.
func TestSaved(t *testing.T) {
	tb, c := newTable(t, roomy)
	sid, s := tb.Admit(anna, five)
	if _, err := tb.Open(sid, 1, home, five); err != nil {
		t.Fatal(err)
	}
	tb.Count(s.SafeID, 1, Totals{5, 6})
	tb.Open(sid, 2, home, five)
	tb.Count(s.SafeID, 2, Totals{10, 20})
	saved, ok := tb.Save(s.SafeID)
	if !ok || saved.Newest != 2 || len(saved.Workers) != 2 {
		t.Fatalf("saved %+v", saved)
	}
	if _, ok := tb.Save("nobody's"); ok {
		t.Error("a session nobody has")
	}
	for _, tt := range []struct {
		name    string
		conns   []uint64
		newest  uint64
		expires bool
	}{
		{"all workers there", []uint64{1, 2}, 2, false},
		{"the older one gone", []uint64{2}, 2, false},
		{"the newest gone", []uint64{1}, 0, true},
		{"all gone", nil, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			next := New[string](c.now, roomy)
			if !next.Restore(saved, tt.conns) || next.Restore(saved, tt.conns) {
				t.Fatal("not restored, or twice")
			}
			now, _ := next.Save(s.SafeID)
			if now.Newest != tt.newest || now.Expires.IsZero() == tt.expires || len(now.Workers) != len(tt.conns) {
				t.Errorf("restored %+v", now)
			}
			if got := next.byID[s.SafeID].open.totals(); got != (Totals{15, 26}) {
				t.Errorf("totals %+v", got)
			}
			if _, err := next.Open(sid, 3, home, five); err != nil {
				t.Errorf("Open: %v", err)
			}
		})
	}
	void := saved
	void.Void = true
	next := New[string](c.now, roomy)
	next.Restore(void, []uint64{2})
	if _, err := next.Open(sid, 3, home, five); !errors.Is(err, ErrUnknown) {
		t.Errorf("Open of what an administrator ended: %v", err)
	}
	if end := next.Close(s.SafeID, 2, Lost); !end.Gone {
		t.Errorf("its end: %+v", end)
	}
	if New[string](c.now, roomy).Restore(void, nil) {
		t.Error("what an administrator ended is restored without a tunnel")
	}
	if New[string](c.now, roomy).Restore(Saved{SID: saved.SID, Session: s, Expires: c.t.Add(-time.Second)}, nil) {
		t.Error("an expired session is restored")
	}
}
