package peers

import (
	"net/netip"
	"time"

	"rocserv/internal/packet"
)

// Verdict is main's answer.
type Verdict uint8

// The verdicts.
const (
	Nobody     Verdict = iota // no client has that address
	Open                      // here is a pair
	Prohibited                // one of the two may not
	Away                      // its client is not connected
)

// question is a destination that main was asked for.
type question struct {
	answered bool
	verdict  Verdict // Nobody until it is answered: with again it holds meanwhile
	again    bool
	until    time.Time
	waiting  [][]byte
}

// ask is what is known of a destination without a pair. It has Flush ask main if
// that is nothing, or old; nil: there is no room for another question.
func (p *Peers) ask(key netip.Prefix, dst netip.Addr) *question {
	now := p.cfg.Now()
	q := p.asked[key]
	if q != nil && !now.After(q.until) {
		return q
	}
	again := q != nil && q.verdict == Nobody && (q.answered || q.again)
	if q == nil && len(p.asked) >= maxAsked || !p.mayAsk.AllowN(now, 1) {
		if again { // it was nobody's, and packets for elsewhere must not suffer
			return q
		}
		return nil
	}
	if q != nil {
		p.forget(key, q)
	}
	q = &question{again: again, until: now.Add(answerTime)}
	p.asked[key] = q
	p.batch.asked = append(p.batch.asked, dst)
	return q
}

// hold keeps a copy of a packet.
func (p *Peers) hold(list *[][]byte, pkt []byte) {
	if p.held+len(pkt) > maxHeld {
		p.counters.Dropped++
		return
	}
	p.held += len(pkt)
	*list = append(*list, append([]byte(nil), pkt...))
}

// release takes kept packets out.
func (p *Peers) release(list *[][]byte) [][]byte {
	l := *list
	*list = nil
	for _, b := range l {
		p.held -= len(b)
	}
	return l
}

// forget drops a question.
func (p *Peers) forget(key netip.Prefix, q *question) {
	p.counters.Dropped += uint64(len(p.release(&q.waiting)))
	delete(p.asked, key)
}

// deny answers a packet for which there is no pair; false: it is not for a client.
func (p *Peers) deny(v Verdict, h *packet.Header, pkt []byte) bool {
	switch v {
	case Nobody:
		return false
	case Prohibited:
		p.tell(packet.Prohibited, h, pkt, 0)
	default:
		p.tell(packet.HostUnreachable, h, pkt, 0)
	}
	return true
}

// Answered takes main's answer about dst; fd is an end of a pair with Open, and is
// taken over.
func (p *Peers) Answered(dst netip.Addr, v Verdict, other Peer, fd int) {
	p.mu.Lock()
	if v == Open && !p.join(other, fd) {
		v = Away
	}
	var back [][]byte
	if key, ok := p.destination(dst); ok {
		if q := p.asked[key]; q != nil && !q.answered {
			back = p.conclude(key, q, v)
		}
	}
	p.flush()
	p.mu.Unlock()
	if len(back) > 0 {
		go p.cfg.Return(back) // main's messages must not wait for the client
	}
}

// conclude does with what waited for an answer as the answer says. It returns
// what is for nobody here.
func (p *Peers) conclude(key netip.Prefix, q *question, v Verdict) (back [][]byte) {
	waiting := p.release(&q.waiting)
	if c := p.to[key]; c != nil {
		delete(p.asked, key)
		for _, pkt := range waiting {
			p.hold(&c.waiting, pkt)
		}
		return nil
	}
	life := noTime
	switch v {
	case Nobody:
		life = nobodyTime
	case Open: // not to where the packet goes: main has another view of the networks
		v = Away
	}
	q.answered, q.verdict, q.until = true, v, p.cfg.Now().Add(life)
	for _, pkt := range waiting {
		if h, ok := packet.Parse(pkt); ok && !p.deny(v, &h, pkt) {
			back = append(back, pkt)
		}
	}
	return back
}
