package peers

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"rocserv/internal/packet"
)

const (
	maxTalks  = 128                         // with one other client
	tcpTalk   = 2*time.Hour + 4*time.Minute // RFC 5382 REQ-5
	otherTalk = 5 * time.Minute             // RFC 4787 REQ-5
)

// permits says whether the user may send a packet: the destination is allowed,
// or it belongs to what the other side has begun (ocserv-fw: established traffic
// passes). Fragments, whose ports nobody sees, do not pass a restriction. p.mu is
// held.
func (c *pair) permits(h *packet.Header, pkt []byte) bool {
	p := c.p
	if c.talks == nil {
		return true
	}
	if h.Fragment {
		return false
	}
	k := talkOf(h, pkt).reversed()
	switch {
	case p.allows(k):
		return true
	case packet.IsICMPError(h, pkt):
		return c.permitsError(h, pkt)
	}
	return isTalk(h, pkt) && c.talks.keeps(k, p.cfg.Now())
}

// permitsError says whether the user may send an ICMP error: to who has sent what
// it is about (RFC 792, RFC 4443 section 2.2), if that one has begun the exchange or
// the user may have.
func (c *pair) permitsError(h *packet.Header, pkt []byte) bool {
	q, quote, ok := packet.Quoted(h, pkt)
	if !ok || q.Src != h.Dst || q.Fragment && !q.First {
		return false
	}
	k := talkOf(&q, quote)
	return c.p.allows(k) || c.talks.has(k, c.p.cfg.Now())
}

// allows says whether the user may begin an exchange.
func (p *Peers) allows(k talk) bool {
	to := k.there
	if k.proto == packet.ICMP || k.proto == packet.ICMPv6 {
		to = netip.AddrPortFrom(to.Addr(), 0)
	}
	return p.cfg.Permit(k.proto, to)
}

// talk is an exchange with another client, as this client sees it. Echo has its
// identifier for both ports.
type talk struct {
	proto       uint8
	here, there netip.AddrPort
}

// talkOf is what a packet to this client belongs to.
func talkOf(h *packet.Header, pkt []byte) talk {
	there, here := portsOf(h, pkt)
	return talk{h.Proto, netip.AddrPortFrom(h.Dst, here), netip.AddrPortFrom(h.Src, there)}
}

// reversed is what a packet of this client belongs to.
func (k talk) reversed() talk { return talk{k.proto, k.there, k.here} }

// isTalk says whether a packet can be part of an exchange: of ICMP only echo has
// something to know it by.
func isTalk(h *packet.Header, pkt []byte) bool {
	if !h.IsICMP() {
		return true
	}
	_, echo, _ := packet.ReadEcho(h, pkt)
	return echo
}

// begun are the exchanges that another client has begun, and when they are
// forgotten. They outlast the pair, which is made anew when the MTU is another.
type begun struct {
	until map[talk]time.Time
}

// with returns what that client has begun, of which so much is kept as there may
// be pairs.
func (p *Peers) with(name netip.Addr) *begun {
	if p.begun == nil {
		return nil
	}
	b := p.begun[name]
	if b == nil {
		if len(p.begun) >= MaxPairs {
			p.dropBegun()
		}
		b = &begun{make(map[talk]time.Time)}
		p.begun[name] = b
	}
	return b
}

// dropBegun forgets one client without a pair, of which there is one.
func (p *Peers) dropBegun() {
	for name := range p.begun {
		if p.pairs[name] == nil {
			delete(p.begun, name)
			return
		}
	}
}

// sweepBegun forgets what is over.
func (p *Peers) sweepBegun(now time.Time) {
	for name, b := range p.begun {
		if b.expire(now); len(b.until) == 0 && p.pairs[name] == nil {
			delete(p.begun, name)
		}
	}
}

// heard notes a packet of the other client.
func (b *begun) heard(h *packet.Header, pkt []byte, now time.Time) {
	if h.Fragment || !isTalk(h, pkt) {
		return
	}
	k := talkOf(h, pkt)
	if _, known := b.until[k]; !known && len(b.until) >= maxTalks {
		b.makeRoom(now)
	}
	b.until[k] = now.Add(lifeOf(h.Proto))
}

func lifeOf(proto uint8) time.Duration {
	if proto == packet.TCP {
		return tcpTalk
	}
	return otherTalk
}

// has says whether an exchange is known.
func (b *begun) has(k talk, now time.Time) bool {
	until, ok := b.until[k]
	return ok && !now.After(until)
}

// keeps says whether an exchange is known, and goes on.
func (b *begun) keeps(k talk, now time.Time) bool {
	if !b.has(k, now) {
		return false
	}
	b.until[k] = now.Add(lifeOf(k.proto))
	return true
}

func (b *begun) expire(now time.Time) {
	for k, until := range b.until {
		if now.After(until) {
			delete(b.until, k)
		}
	}
}

// makeRoom forgets those whose time is over, or else an eighth, those that are
// next: so it is seldom called.
func (b *begun) makeRoom(now time.Time) {
	b.expire(now)
	if len(b.until) < maxTalks {
		return
	}
	all := make([]talk, 0, maxTalks)
	for k := range b.until {
		all = append(all, k)
	}
	slices.SortFunc(all, func(x, y talk) int { return b.until[x].Compare(b.until[y]) })
	for _, k := range all[:maxTalks/8] {
		delete(b.until, k)
	}
}

// portsOf are a packet's source and destination ports, as far as it has any.
func portsOf(h *packet.Header, pkt []byte) (src, dst uint16) {
	b := h.Payload(pkt)
	switch {
	case h.IsICMP() && len(b) >= 8:
		id := binary.BigEndian.Uint16(b[4:])
		return id, id
	case (h.Proto == packet.TCP || h.Proto == packet.UDP) && len(b) >= 4:
		return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
	return 0, 0
}
