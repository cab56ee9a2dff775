package recovery

import (
	"encoding/binary"
	"testing"
	"time"

	"rocserv/test/relay"
)

// TestOutage: nothing reaches the client for long. Timeouts are backed off, and what it
// asks meanwhile (keepalives that tell of nothing new) puts none of them off; and on
// another way they begin anew.
func TestOutage(t *testing.T) {
	for _, tt := range []struct {
		name  string
		asks  time.Duration // between two keepalives
		then  func(p *Path) // when the outage is over
		limit time.Duration // for all to have arrived after that
	}{
		{"the same way", 0, func(*Path) {}, 60 * time.Second},
		{"the same way, a client that asks", 5 * time.Second, func(*Path) {}, 60 * time.Second},
		{"the TLS channel", 5 * time.Second, func(p *Path) { p.SetLossless(true) }, 4 * time.Second},
		{"another address", 5 * time.Second, (*Path).Moved, 4 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, 1)
			r.both(relay.Path{Rate: 100 * mbit, Queue: 100 * time.Millisecond, Delay: 10 * time.Millisecond})
			c := r.dial(8<<20, true)
			r.w.run(300 * time.Millisecond)
			r.down.Loss = 1
			ask := func(until time.Duration) {
				for r.w.now < until {
					if tt.asks == 0 {
						r.w.run(until)
						continue
					}
					r.w.run(min(r.w.now+tt.asks, until))
					c.acknowledge()
				}
			}
			ask(40 * time.Second)
			if c.una == c.nxt {
				t.Fatal("the outage left nothing under way")
			}
			r.down.Loss = 0
			tt.then(r.p)
			ask(40*time.Second + tt.limit)
			if c.una != c.nxt || !c.sentFIN {
				t.Errorf("at %d of %d bytes, %+v", c.una-c.iss, c.nxt-c.iss, r.p.stats)
			}
			r.p.check(t)
		})
	}
}

// TestKeepalive: a client that waits for a packet says so in each of its segments. One
// that tells of nothing new is nothing for the stack, but for the question whether
// anybody is there, which the stack answers.
func TestKeepalive(t *testing.T) {
	r := newRig(t, 1)
	r.both(relay.Path{Rate: 100 * mbit, Queue: 100 * time.Millisecond, Delay: 10 * time.Millisecond})
	c := r.dial(8<<20, true)
	r.w.run(300 * time.Millisecond)
	r.down.Loss = 1
	r.w.run(400 * time.Millisecond)
	c.ooo = append(c.ooo, [2]uint32{c.rcv + simMSS, c.rcv + 2*simMSS})
	said, ok := r.p.Acknowledged(c.name)
	if !ok {
		t.Fatal("the flow has not begun")
	}
	segment := func(seq uint32) bool {
		opts := []byte{optionNOP, optionNOP, optionSACK, 10}
		for _, edge := range c.ooo[0] {
			opts = binary.BigEndian.AppendUint32(opts, edge)
		}
		tcp := make([]byte, 20, 32)
		copy(tcp[:4], c.name.Ports[:])
		binary.BigEndian.PutUint32(tcp[4:], seq)
		binary.BigEndian.PutUint32(tcp[8:], c.rcv)
		tcp = append(tcp, opts...)
		tcp[12], tcp[13] = byte(len(tcp)/4)<<4, flagACK
		binary.BigEndian.PutUint16(tcp[14:], uint16(c.window>>c.scale))
		return r.p.Received(c.name.Addrs[:8], tcp, 0)
	}
	for range 5 {
		segment(said) // what it says is new, or the window is
	}
	if segment(said) {
		t.Error("the stack gets what tells of nothing new")
	}
	if !segment(said - 1) {
		t.Error("the stack does not get a keepalive")
	}
}

// TestReorderedAfterOutage: after an outage packets overtake each other. Some of what was
// sent again is given up once more and arrives before it is sent a third time. That says
// nothing of the round-trip time: when it was sent that has arrived is not known (RFC 6298
// section 3). Taken for the first time it would be as long as the outage was, and so the
// next timeout.
func TestReorderedAfterOutage(t *testing.T) {
	for _, after := range []relay.Path{
		{Rate: mbit, Late: 0.2, By: 200 * time.Millisecond},
		{Rate: 10 * mbit, Late: 0.5, By: 3 * time.Millisecond},
	} {
		for seed := range uint64(5) {
			r := newRig(t, seed)
			way := relay.Path{Rate: 100 * mbit, Queue: 100 * time.Millisecond, Delay: 10 * time.Millisecond}
			r.both(way)
			c := r.dial(2<<20, true)
			r.w.run(100 * time.Millisecond)
			r.down.Loss = 1
			r.w.run(30 * time.Second)
			after.Queue, after.Delay = way.Queue, way.Delay
			r.down.Path = after
			for r.w.now < 150*time.Second && c.una != c.nxt {
				r.w.run(r.w.now + 10*time.Millisecond)
				if f := r.p.flows[c.name]; f.srtt > 2000*ms {
					t.Fatalf("%+v, seed %d: at %v the round-trip time is %v", after, seed, r.w.now, time.Duration(f.srtt))
				}
			}
			if c.una != c.nxt || !c.sentFIN {
				t.Errorf("%+v, seed %d: at %d of %d bytes, %+v", after, seed, c.una-c.iss, c.nxt-c.iss, r.p.stats)
			}
			r.p.check(t)
		}
	}
}
