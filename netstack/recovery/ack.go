package recovery

import (
	"encoding/binary"
	"math/bits"
)

const (
	optionEOL        = 0
	optionNOP        = 1
	optionSACK       = 5 // RFC 2018
	optionTimestamps = 8 // RFC 7323
)

// Received takes note of what a segment of the client acknowledges, before the
// stack sees it, and rewrites its TCP header for the stack, which is to see a way
// that loses nothing: without selective acknowledgements, and with a window of as
// much as may be in flight. Checksums are not kept. It returns false if there is
// nothing left in the segment that the stack could want. It waits for nobody.
func (p *Path) Received(addrs []byte, tcp []byte, payload int) bool {
	flags := tcp[13]
	if flags&(flagACK|flagSYN|flagRST) != flagACK {
		return true
	}
	name := FlowOf(addrs, tcp, false)
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.find(&name)
	if f == nil || f.state != managed {
		return true
	}
	ack := be32(tcp[8:])
	sacks, selective := f.readSACK(tcp[20:int(tcp[12]>>4)*4], ack)
	empty := payload == 0 && flags&flagFIN == 0
	switch {
	case before(f.nxt, ack):
		return true // of what was never sent: the stack has an answer to that
	case before(ack, f.una):
		// It was overtaken. The stack must not believe its window.
		binary.BigEndian.PutUint16(tcp[14:], uint16(min(f.told.edge-f.told.ack, f.told.edge-ack)>>f.shift))
		return !empty
	}
	now := p.now()
	if p.backlogged(f) {
		p.waited = now
	}
	var a arrival
	if len(f.sent) > 0 {
		late := f.reoAt != 0
		p.acknowledge(f, ack, sacks, now, &a)
		a.backlog = now-p.waited <= p.model.trip.least
		p.model.arrive(now, a)
		p.findLost(f, now)
		if f.lost > 0 {
			p.enqueue(f)
		}
		// What tells of nothing new moves no timer (RFC 6298 section 5.3): else a client's
		// keepalives, when they come more often than a timeout backed off, keep it from firing.
		if a.bytes > 0 || late || f.reoAt != 0 {
			p.setDeadline(f, now)
		}
	}
	told := p.offer(f, tcp, ack, now, p.pace(f, now, a.bytes))
	p.wake()
	return told || !selective || !empty || f.old(tcp)
}

// old says whether a segment repeats a byte that the stack has acknowledged: the client
// asks whether anybody is there (RFC 9293 section 3.8.4), and gets its answer though it
// waits for a packet and says so.
func (f *flow) old(tcp []byte) bool { return f.reply.said && before(be32(tcp[4:]), f.reply.ack) }

// blocks are what a segment acknowledges selectively: at most four
// (RFC 2018 section 3).
type blocks struct {
	list [4][2]uint32
	n    int
	dup  bool // the first is a duplicate (RFC 2883)
}

// readSACK reads the selective acknowledgements of a segment's options, and
// writes no-operations over them.
func (f *flow) readSACK(opts []byte, ack uint32) (b blocks, any bool) {
	for len(opts) > 0 {
		switch opts[0] {
		case optionEOL:
			return b, any
		case optionNOP:
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return b, any
		}
		n := int(opts[1])
		if opts[0] == optionSACK {
			any = true
			f.readBlocks(&b, opts[2:n], ack)
			for i := range opts[:n] {
				opts[i] = optionNOP
			}
		}
		opts = opts[n:]
	}
	return b, any
}

func (f *flow) readBlocks(b *blocks, list []byte, ack uint32) {
	for i := 0; len(list) >= 8; i, list = i+1, list[8:] {
		from, to := be32(list), be32(list[4:])
		if i == 0 {
			// RFC 2883 section 4: below the acknowledgement, or within the second.
			b.dup = !before(ack, to)
			if len(list) >= 16 && !b.dup {
				from2, to2 := be32(list[8:]), be32(list[12:])
				b.dup = !before(from, from2) && !before(to2, to)
			}
			if b.dup {
				continue
			}
		}
		// Only what is in flight can have been received: the rest is a lie.
		if b.n < len(b.list) && before(from, to) && before(ack, from) && !before(f.nxt, to) {
			b.list[b.n] = [2]uint32{from, to}
			b.n++
		}
	}
}

// acknowledge marks what has arrived.
func (p *Path) acknowledge(f *flow, ack uint32, b blocks, now int64, a *arrival) {
	if b.dup {
		p.duplicate(f)
	}
	for i := range b.n {
		p.got(f, b.list[i][0], b.list[i][1], now, a)
	}
	if ack != f.una {
		p.got(f, f.sent[0].seq, ack, now, a) // una may lie within its first packet
		p.advance(f, ack)
	}
	if a.bytes > 0 {
		f.backoff, f.probed = 0, false
		if f.limit != 0 {
			f.limit += a.bytes // slow start (RFC 5681 section 3.1)
			if f.limit >= p.model.window {
				f.limit = 0
			}
		}
	}
	f.learnRTT(a.rtt)
}

// got marks the packets in [from, to) as received by the client.
func (p *Path) got(f *flow, from, to uint32, now int64, a *arrival) {
	for i := f.search(from); i < len(f.sent); i++ {
		r := f.sent[i]
		if !before(r.seq, to) {
			return
		}
		fresh := r.within(from, to) &^ r.got
		if fresh == 0 {
			continue
		}
		n := r.bytes(fresh)
		late := r.bytes(fresh & r.lost) // was given up, or has arrived after all
		r.got |= fresh
		r.lost &^= fresh
		f.lost -= late
		f.pipe -= n - late
		p.model.pipe -= n - late
		a.bytes += n
		newest := bits.Len64(fresh) - 1
		p.arrived(f, r, fresh, newest, now, a)
	}
}

// arrived takes from the newest packet of those that arrived what the model and
// RACK want to know.
func (p *Path) arrived(f *flow, r *record, fresh uint64, newest int, now int64, a *arrival) {
	sent := r.sentLast(newest)
	if r.resent&fresh == 0 {
		rtt := now - r.sentAt
		if a.rtt == 0 || rtt < a.rtt {
			a.rtt = max(rtt, 1)
		}
	} else if r.resent>>newest&1 != 0 && now-sent < p.model.trip.least {
		return // it is the first one that has arrived (RFC 8985 section 6.2 step 2)
	}
	if sent > a.sentAt {
		a.sentAt = sent
		a.newest = r.sample
	}
	if end := r.after(newest); !f.known || sent > f.sentAt || sent == f.sentAt && before(f.end, end) {
		f.rack.sentAt, f.end, f.rtt, f.known = sent, end, now-sent, true
	}
}

// search returns the first record that is not wholly before seq.
func (f *flow) search(seq uint32) int {
	lo, hi := 0, len(f.sent)
	for lo < hi {
		m := int(uint(lo+hi) / 2)
		if before(seq, f.sent[m].end) {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return lo
}

// advance lets go of what is acknowledged for good.
func (p *Path) advance(f *flow, ack uint32) {
	f.una = ack
	n := 0
	for n < len(f.sent) && !before(ack, f.sent[n].end) {
		p.release(f.sent[n])
		n++
	}
	f.sent = f.sent[:copy(f.sent, f.sent[n:])]
	if len(f.sent) > 0 {
		p.cut(f, f.sent[0], ack)
	}
	p.setBusy(f)
}

// cut shortens the first record by what is acknowledged of it. A packet that is
// acknowledged in part stays whole.
func (p *Path) cut(f *flow, r *record, ack uint32) {
	if !before(r.seq, ack) {
		return
	}
	k := (ack - r.seq) / r.mss
	if k == 0 {
		return
	}
	r.first += int(k)
	r.n -= int(k)
	r.seq += k * r.mss
	r.got >>= k
	r.lost >>= k
	r.resent >>= k
}
