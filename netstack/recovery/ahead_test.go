package recovery

import (
	"testing"
	"time"

	"rocserv/test/relay"
)

// TestAhead: the source of a flow waits while the stack has plenty to send, and is
// told when it has little, or has been forgotten; a flow that is left to the stack
// is no exception.
func TestAhead(t *testing.T) {
	for _, sack := range []bool{true, false} {
		r := newRig(t, 1)
		name := Flow{Ports: [4]byte{1}}
		woken := 0
		wake := func() { woken++ }
		if r.p.Ahead(name, 10*lead, wake) {
			t.Error("a flow that is not known is ahead")
		}
		r.p.Open(name, 7, sack)
		if r.p.Ahead(name, 10*lead, wake) {
			t.Error("a flow that has not begun is ahead")
		}
		c := &conn{r: r, name: name, iss: 0xffff_0000} // the numbers wrap
		r.p.Sent(c.segment(c.iss, flagSYN|flagACK, 0))
		if r.p.Ahead(name, lead-1, wake) {
			t.Error("held back too early")
		}
		if !r.p.Ahead(name, lead, wake) {
			t.Error("not held back")
		}
		sent := uint32(0)
		send := func(until uint32) {
			for sent < until {
				n := min(until-sent, 10*simMSS)
				r.p.Sent(c.segment(c.iss+1+sent, flagACK, int(n)))
				sent += n
			}
		}
		send(lead/2 - 1)
		if woken != 0 {
			t.Error("woken too early")
		}
		send(lead / 2)
		if woken != 1 {
			t.Errorf("woken %d times when half was sent", woken)
		}
		send(lead)
		if woken != 1 {
			t.Errorf("woken %d times without having been held back again", woken)
		}
		if r.p.Ahead(name, lead, wake) || r.p.Ahead(name, 2*lead-1, wake) || !r.p.Ahead(name, 2*lead, wake) {
			t.Error("what has been sent still counts")
		}
		r.p.Forget(name)
		if woken != 2 {
			t.Errorf("woken %d times, the flow is forgotten", woken)
		}
	}
}

// TestSource: a source that is slow to notice that there is room, and never lets
// the stack have more than it needs, keeps the path busy.
func TestSource(t *testing.T) {
	if testing.Short() {
		t.Skip("seconds of virtual time are long under the race detector")
	}
	r := newRig(t, 1)
	r.both(relay.Path{Rate: 100 * mbit, Queue: 100 * time.Millisecond, Delay: 50 * time.Millisecond, Loss: .001})
	c := r.dial(-1, false)
	most := int32(0)
	r.w.run(1500 * time.Millisecond)
	before := c.read
	for r.w.now < 4*time.Second {
		r.w.run(r.w.now + time.Millisecond)
		unsent := int32(c.given - c.nxt)
		most = max(most, unsent)
		if unsent == 0 {
			t.Fatalf("after %v the stack has nothing to send", r.w.now)
		}
	}
	if got := float64(c.read-before) / mbit / 2.5; got < 90 {
		t.Errorf("%.1f of 100 Mbit/s", got)
	}
	if most > lead+60000 {
		t.Errorf("%d bytes wait in the stack", most)
	}
}
