package peers

import (
	"rocserv/internal/packet"
)

// forward passes a packet of the client on to the other one's worker, or tells
// why not. p.mu is held; the pair sends with flush.
func (c *pair) forward(h *packet.Header, pkt []byte) {
	p := c.p
	c.touched.Store(true)
	switch {
	case !c.ready:
		p.hold(&c.waiting, pkt[:h.Length])
	case h.V6() && !c.v6 || !h.V6() && !c.v4:
		p.tell(packet.HostUnreachable, h, pkt, 0)
	case h.SourceRouted || !c.permits(h, pkt):
		p.tell(packet.Prohibited, h, pkt, 0)
	case h.TTL <= 1: // RFC 1812 section 5.3.1
		p.tell(packet.TimeExceeded, h, pkt, 0)
	case !p.cfg.Up.Admit(h.Length):
	case h.Length <= c.mtu:
		c.gather()
		b := c.pipe.Next(h.Length)
		copy(b, pkt[:h.Length])
		packet.Hop(b)
		c.pipe.Add(h.Length)
		p.counters.Up++
	case h.DF || h.V6(): // RFC 1191 section 4, RFC 4443 section 3.2
		p.tell(packet.TooBig, h, pkt, c.mtu)
	default:
		c.split(h, pkt)
	}
}

// split passes an IPv4 packet on that is too long for the other tunnel.
func (c *pair) split(h *packet.Header, pkt []byte) {
	var s packet.Splitter
	s.Reset(h, pkt, c.mtu)
	if s.Len() == 0 {
		c.p.counters.Dropped++
		return
	}
	c.gather()
	for n := s.Len(); n > 0; n = s.Len() {
		b := c.pipe.Next(n)
		s.Put(b)
		packet.Hop(b)
		c.pipe.Add(n)
	}
	c.p.counters.Up++
}

func (c *pair) gather() {
	if !c.gathered {
		c.gathered = true
		c.p.batch.pairs = append(c.p.batch.pairs, c)
	}
}

func (c *pair) flush() {
	c.gathered = false
	c.pipe.Flush()
}
