package dtls

import (
	"fmt"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/wire"
)

const (
	smallBuf    = 4 << 10
	largeBuf    = 65000 // less than the longest UDP datagram: a run is one to the kernel
	smallRuns   = 4
	maxRuns     = 64
	maxSegments = 64 // UDP_MAX_SEGMENTS of linux/udp.h
)

// run is a part of the buffer whose records are equally long, but for the last,
// which may be shorter: what one UDP_SEGMENT send takes.
type run struct {
	off, end int // of what is not sent yet
	seg      int // length of its records
	count    int
	closed   bool // nothing fits behind a shorter record
}

// sender is the sending side. It belongs to whoever may call Next, Add and Flush.
type sender struct {
	c    *Channel
	keys *association // of the open batch; nil between batches

	buf      []byte // records, back to back; the next one is built at buf[w:]
	w        int
	runs     []run
	overhead int    // of the batch's records, type byte included
	packets  uint64 // added and not counted yet
	bytes    uint64 // in them

	next      int // first run that is not sent
	vec       vector
	transmit  func(fd uintptr) bool // sendRuns
	fault     fault
	noSegment bool // the kernel or the device does not do UDP_SEGMENT
}

func (o *sender) init(c *Channel) {
	o.c = c
	o.transmit = o.sendRuns
}

// Next returns room for one packet of n bytes, at most 16383. The content is
// arbitrary, and the slice is valid until the next call of Next, Add or Flush.
// It blocks while the batch is full and the socket takes nothing.
func (c *Channel) Next(n int) []byte {
	o := &c.out
	head, need := maxOverhead-dtlsrecord.TagLen, maxOverhead+n
	if o.w+need > len(o.buf) {
		o.makeRoom(need)
	}
	if o.keys == nil {
		o.keys = c.current.Load()
	}
	if o.keys != nil {
		head = o.keys.suite.Headroom() + typeLen
		o.overhead = o.keys.suite.Overhead() + typeLen
	}
	start := o.w + head
	return o.buf[start : start+n : start+n]
}

// Add makes the first n bytes of the room Next gave a packet of type typ. It
// blocks while too much waits and the socket takes nothing.
func (c *Channel) Add(typ wire.PacketType, n int) {
	o := &c.out
	if o.keys == nil { // no handshake yet: nobody could read it
		c.count.txErrors.Add(1)
		return
	}
	o.buf[o.w+o.keys.suite.Headroom()] = byte(typ)
	size, err := o.keys.sealer.Seal(o.buf[o.w:], dtlsrecord.TypeApplicationData, typeLen+n)
	if err != nil {
		c.count.txErrors.Add(1)
		c.fail(fmt.Errorf("dtls: %w", err))
		return
	}
	o.packets++
	o.bytes += uint64(n)
	o.append(size)
}

// Flush sends what was added. It blocks while the socket takes nothing, and
// returns at once when the channel ends; what was not sent is then gone.
func (c *Channel) Flush() {
	o := &c.out
	o.keys = nil // the next batch looks for newer ones
	if len(o.runs) == 0 {
		return
	}
	o.flush()
	o.w = 0
	if c.ended() {
		o.buf, o.vec = nil, vector{}
	}
}

// append puts the record at buf[w:] into a run.
func (o *sender) append(size int) {
	if n := len(o.runs); n > 0 {
		if r := &o.runs[n-1]; !r.closed && size <= r.seg {
			r.end += size
			r.count++
			r.closed = size < r.seg || r.count == maxSegments
			o.w += size
			return
		}
		if n == maxRuns {
			o.flush() // the new record stays where it is
		}
	}
	o.runs = append(o.runs, run{off: o.w, end: o.w + size, seg: size, count: 1, closed: o.noSegment})
	o.w += size
}

// makeRoom provides need bytes behind what is there: by a larger buffer, or by
// sending.
func (o *sender) makeRoom(need int) {
	switch {
	case need > largeBuf:
		panic(fmt.Sprintf("dtls: internal error: record of %d bytes", need))
	case o.buf == nil && need <= smallBuf:
		o.buf = make([]byte, smallBuf)
	case o.w+need <= largeBuf:
		buf := make([]byte, largeBuf)
		copy(buf, o.buf[:o.w])
		o.buf = buf
	default:
		o.flush()
		o.w = 0
	}
}

// flush sends all runs and forgets them.
func (o *sender) flush() {
	o.c.count.txPackets.Add(o.packets)
	o.c.count.txBytes.Add(o.bytes)
	o.packets, o.bytes = 0, 0
	o.next = 0
	o.fault = fault{singly: o.noSegment}
	if !o.c.ended() {
		_ = o.c.sock.raw.Write(o.transmit) // an error only says that the channel ends
	}
	for _, r := range o.runs[o.next:] {
		o.c.count.txErrors.Add(uint64(segments(r.end-r.off, r.seg)))
	}
	o.runs = o.runs[:0]
}

// trim gives the buffers back if no batch is open.
func (o *sender) trim() {
	if o.w == 0 {
		o.buf, o.runs, o.vec = nil, nil, vector{}
	}
}
