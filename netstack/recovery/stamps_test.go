package recovery

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"rocserv/test/relay"
)

// stamped is a segment with timestamps as gVisor writes them.
func (c *conn) stamped(seq uint32, size int, stamp uint32) Segment {
	s := c.segment(seq, flagACK, size)
	s.Head = append(s.Head, optionNOP, optionNOP, optionTimestamps, 10)
	s.Head = binary.BigEndian.AppendUint32(s.Head, stamp)
	s.Head = binary.BigEndian.AppendUint32(s.Head, stamp+1)
	s.Head[32] = 8 << 4
	return s
}

// TestStamps: a client whose kernel has seen a new timestamp drops old ones. So nothing
// goes to it with a newer one before what is sent again, unless that has it too; and what
// the stack repeats of what the client has is not sent.
func TestStamps(t *testing.T) {
	r := newRig(t, 1)
	r.both(relay.Path{Rate: 100 * mbit, Queue: 100 * time.Millisecond, Delay: 10 * time.Millisecond})
	r.woken = true // what is to be sent again waits for us
	c := r.dial(0, false)
	first := c.nxt
	send := func(seq uint32, size int, stamp uint32, want Verdict) {
		t.Helper()
		v := r.p.Sent(c.stamped(seq, size, stamp))
		if v != want {
			t.Errorf("%d bytes at %d: %d, want %d", size, seq-first, v, want)
		}
		if v == Kept {
			r.held++
		}
	}
	send(first, 1000, 100, Kept)
	send(first+1000, 1000, 101, Kept)
	ack := make([]byte, 20)
	copy(ack, c.name.Ports[:])
	binary.BigEndian.PutUint32(ack[8:], first+1000)
	ack[12], ack[13] = 5<<4, flagACK
	binary.BigEndian.PutUint16(ack[14:], 1000)
	r.p.Received(c.name.Addrs[:8], ack, 0)

	send(first, 1000, 200, Held)     // it has arrived
	send(first+500, 1000, 200, Held) // and this is in our care
	send(first+999, 1, 201, Send)    // a keepalive
	send(first+2000, 0, 202, Send)   // says what it has received
	var list []Resend
	for len(list) == 0 && r.w.now < 20*time.Second {
		r.w.run(r.w.now + 100*time.Millisecond)
		list = r.p.Take(nil, 64)
	}
	if len(list) != 1 {
		t.Fatalf("%d to send again, want 1", len(list))
	}
	head := bytes.Clone(list[0].Segment.Head[20:])
	list[0].Say(head)
	if got := be32(head[24:]); got != 202 {
		t.Errorf("it is sent again with timestamp %d, want the newest", got)
	}
	if got := be32(head[28:]); got != 203 {
		t.Errorf("it answers timestamp %d, want the newest", got)
	}
	r.p.Done(list)
}
