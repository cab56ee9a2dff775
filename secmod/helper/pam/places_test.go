//go:build cgo && pam

package pam

import (
	"net/netip"
	"testing"
	"time"

	"rocserv/secmod/helper"
)

// TestPlaces: who has a place, and who gives way to whom.
func TestPlaces(t *testing.T) {
	p, now := newPlaces(maxConversations, maxShare), time.Unix(1_800_000_000, 0)
	p.now = func() time.Time { return now }
	from := func(addr string, idle bool) *login {
		d := &login{who: helper.Applicant{Peer: netip.MustParseAddr(addr)}, gone: make(chan struct{})}
		d.idle.Store(idle)
		return d
	}
	over := func(d *login) bool {
		select {
		case <-d.gone:
			return true
		default:
			return false
		}
	}
	busy, first := from("192.0.2.1", false), from("192.0.2.2", true)
	for _, d := range []*login{busy, first} {
		if !p.enter(d) {
			t.Fatal("no place for the first")
		}
	}
	for range maxShare - 2 {
		if !p.enter(from("192.0.2.3", true)) {
			t.Fatal("no place within a network's share")
		}
	}
	if now = now.Add(grace - time.Second); p.enter(from("192.0.2.4", true)) || over(first) {
		t.Error("somebody who came lately gives way")
	}
	other := from("198.51.100.1", true)
	if !p.enter(other) || over(first) {
		t.Error("another network has no place of its own")
	}
	if now = now.Add(time.Second); !p.enter(from("192.0.2.4", true)) || !over(first) || over(busy) || over(other) {
		t.Error("it is not the oldest one that waits for its client who gives way")
	}
	for n := len(p.inside); n < maxConversations; n++ {
		if !p.enter(from(netip.AddrFrom4([4]byte{10, 0, byte(n), 1}).String(), true)) {
			t.Fatalf("no place for number %d", n)
		}
	}
	if now = now.Add(grace); !p.enter(from("203.0.113.1", true)) || len(p.inside) != maxConversations || over(busy) {
		t.Error("nobody gives way where all places are taken")
	}
	p.leave(busy)
	p.leave(busy)
	p.leave(first) // it has none any more
	if len(p.inside) != maxConversations-1 {
		t.Errorf("%d are inside", len(p.inside))
	}
}

// TestGivesWay: a conversation that gave way is over for its client, and for its
// modules; the others go on.
func TestGivesWay(t *testing.T) {
	m, _ := playing(t, plain...)
	now := time.Unix(1_800_000_000, 0)
	m.places.now = func() time.Time { return now }
	var all []helper.Dialogue
	for range maxShare {
		d, v := m.Begin(t.Context(), helper.Applicant{User: "anna", Peer: netip.MustParseAddr("192.0.2.7")})
		if v.Outcome != helper.Ask {
			t.Fatalf("%+v", v)
		}
		all = append(all, d)
	}
	if got := dialogue(t, m, "anna"); got != "unavailable" {
		t.Errorf("one more: %s", got)
	}
	now = now.Add(grace)
	// A conversation waits a moment after its question is heard.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if got := dialogue(t, m, "anna", "right"); got == `"Password:"0 | admit anna` {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("one more, later: %s", got)
		}
	}
	ended := 0
	for _, d := range all {
		v := d.Answer(t.Context(), []byte("right"))
		if v.Outcome == helper.Unavailable {
			ended++
		} else if v.Outcome != helper.Admit {
			t.Errorf("one of the others: %+v", v)
		}
		d.End()
	}
	if ended != 1 {
		t.Errorf("%d gave way to one", ended)
	}
	m.emptied(t)
}
