package netstack

import (
	"bytes"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// lateFlows is how many flows' acknowledgements wait.
const lateFlows = 8

// late are acknowledgements of a little that wait until who can run has run: what
// they acknowledge should be on its way to the host before the client is told that
// it was here. All of link.writer.
type late struct {
	waiting [lateFlows]lateAck
	n       int
	due     func() // has sendLate called, soon; nil: nothing waits
}

type lateAck struct {
	head [header.IPv6MinimumSize + header.TCPHeaderMaximumSize]byte
	n    int
}

// flowKey is what names the flow in a packet's headers: both addresses and ports,
// which stand together. The stack writes no options and no extension headers.
func flowKey(head []byte) []byte {
	if head[0]>>4 == 6 {
		return head[8 : header.IPv6MinimumSize+4]
	}
	return head[12 : header.IPv4MinimumSize+4]
}

// drop forgets what waits of the flow of head, which is about to say it.
func (t *late) drop(head []byte) {
	for i := range t.n {
		if a := &t.waiting[i]; bytes.Equal(flowKey(a.head[:]), flowKey(head)) {
			t.n--
			*a = t.waiting[t.n]
			return
		}
	}
}

// put lets an acknowledgement wait. False: there is no room.
func (t *late) put(head []byte) bool {
	if t.n == lateFlows || len(head) > len(t.waiting[0].head) {
		return false
	}
	a := &t.waiting[t.n]
	a.n = copy(a.head[:], head)
	t.n++
	return true
}

// putOff lets an acknowledgement wait, if there is room.
func (l *link) putOff(head []byte) bool {
	if l.late.due == nil || !l.late.put(head) {
		return false
	}
	l.late.due()
	return true
}

// sendLate sends what has waited.
func (l *link) sendLate() {
	l.writer.Lock()
	defer l.writer.Unlock()
	n := l.late.n
	l.late.n = 0
	if l.closed.Load() || n == 0 {
		return
	}
	l.sink.Begin()
	for i := range n {
		a := &l.late.waiting[i]
		l.cut(a.head[:a.n], nil, 0)
	}
	l.sink.End()
}
