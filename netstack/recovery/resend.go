package recovery

import (
	"encoding/binary"
	"math/bits"
)

// Take appends packets that are to be sent again, as many as the window has room
// for and at most max, with a reference to their memory: whoever sends them calls
// Done with the list. It takes of the flows in turn.
func (p *Path) Take(list []Resend, most int) []Resend {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for most > 0 && len(p.due) > 0 {
		f := p.due[0]
		n := 0
		list, n = p.takeOf(f, list, min(most, 16), now)
		most -= n
		p.due = append(p.due[:0], p.due[1:]...)
		if f.lost > 0 && f.state == managed && n > 0 {
			p.due = append(p.due, f)
			continue
		}
		f.due = false
	}
	return list
}

// takeOf takes of one flow, oldest first.
func (p *Path) takeOf(f *flow, list []Resend, most int, now int64) (_ []Resend, n int) {
	for _, r := range f.sent {
		for r.lost != 0 && n < most && f.pipe < p.share(f) {
			first := bits.TrailingZeros64(r.lost)
			count := min(bits.TrailingZeros64(^(r.lost >> first)), most-n)
			mask := ^uint64(0) >> (maxPackets - count) << first
			size := r.bytes(mask)
			r.lost &^= mask
			r.resent |= mask
			r.resentAt = now
			r.sample = p.model.sent(now, size)
			f.lost -= size
			f.pipe += size
			r.seg.records++
			list = append(list, Resend{Segment: r.seg.Segment, First: r.first + first, Count: count, hold: r.seg, reply: f.reply})
			p.stats.Resent += uint64(count)
			n += count
		}
		if n >= most {
			break
		}
	}
	if n > 0 {
		p.setDeadline(f, now)
	}
	return list, n
}

// Done gives back the memory of packets that were sent.
func (p *Path) Done(list []Resend) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range list {
		p.drop(list[i].hold)
	}
	clear(list)
}

// Say has the TCP header of what is sent again say what the stack says by now, also as
// timestamps: a client that has seen a newer one in something older (a keepalive, or what
// the stack repeated itself) drops the old one each time it comes (RFC 7323 section 5.3, R1).
func (x *Resend) Say(tcp []byte) {
	binary.BigEndian.PutUint32(tcp[8:], x.reply.ack)
	binary.BigEndian.PutUint16(tcp[14:], x.reply.window)
	if s := stamps(tcp); s != nil {
		copy(s, x.reply.stamps[:])
	}
}

// stamps are the timestamps in a TCP header of the stack, which puts them first and
// behind two no-operations (RFC 7323 appendix A); nil if there are none.
func stamps(tcp []byte) []byte {
	if len(tcp) < 32 || be32(tcp[20:]) != optionNOP<<24|optionNOP<<16|optionTimestamps<<8|10 {
		return nil
	}
	return tcp[24:32]
}
