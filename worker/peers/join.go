package peers

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Paired takes a pair that another client has asked for; fd is taken over.
func (p *Peers) Paired(other Peer, fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.join(other, fd) {
		return
	}
	for _, key := range other.destinations() {
		if q := p.asked[key]; q != nil {
			p.conclude(key, q, Open)
		}
	}
}

// join makes a pair the one to that client; false if it must not be.
func (p *Peers) join(other Peer, fd int) bool {
	now := p.cfg.Now()
	if len(other.Addrs) == 0 || p.closed || now.Before(p.shunned[other.Addrs[0]]) {
		unix.Close(fd)
		return false
	}
	name := other.Addrs[0]
	if old := p.pairs[name]; old != nil {
		if old.other.Serial > other.Serial {
			unix.Close(fd)
			return true
		}
		p.end(old)
	}
	if len(p.pairs) >= MaxPairs && !p.makeRoom(now) {
		unix.Close(fd)
		return false
	}
	c, err := newPair(p, other, fd, now)
	if err != nil {
		p.cfg.Log.Warn("no pair to another client", "err", err)
		return false
	}
	c.talks = p.with(name)
	p.counters.Pairs++
	p.pairs[name] = c
	for _, key := range other.destinations() {
		p.to[key] = c
	}
	go c.serve()
	return true
}

// makeRoom ends the pair that was unused for the longest time.
func (p *Peers) makeRoom(now time.Time) bool {
	var oldest *pair
	for _, c := range p.pairs {
		if c.usedBy(now); oldest == nil || c.used.Before(oldest.used) {
			oldest = c
		}
	}
	if now.Sub(oldest.used) < keepUnused {
		return false
	}
	p.end(oldest)
	return true
}

// end hangs a pair up and forgets it.
func (p *Peers) end(c *pair) {
	if c.ended {
		return
	}
	c.ended = true
	c.pipe.Hangup() // serve closes it: that waits for who is about to read
	p.counters.Dropped += c.pipe.Dropped() + uint64(len(p.release(&c.waiting)))
	if p.pairs[c.other.Addrs[0]] == c {
		delete(p.pairs, c.other.Addrs[0])
	}
	for _, key := range c.other.destinations() {
		if p.to[key] == c {
			delete(p.to, key)
		}
	}
}

// destinations are what the tables have for the client.
func (o *Peer) destinations() []netip.Prefix {
	list := append([]netip.Prefix(nil), o.Behind...)
	for _, a := range o.Addrs {
		list = append(list, netip.PrefixFrom(a, a.BitLen()))
	}
	return list
}
