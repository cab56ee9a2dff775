package radius

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"layeh.com/radius"

	"rocserv/secmod/helper"
)

var errNoServer = errors.New("no RADIUS server is configured for this")

// pool is the servers for one purpose, in the order of the configuration. One that
// does not answer is dead for a while, and asked only if no other is left.
type pool struct {
	conf *conf
	find helper.Lookup
	log  helper.Logger
	now  func() time.Time

	mu      sync.Mutex
	servers []server
	dead    map[string]time.Time // until when, by address
	looking bool                 // for where one has moved
}

func newPool(c *conf, find helper.Lookup, log helper.Logger) *pool {
	return &pool{servers: slices.Clone(c.servers), conf: c, find: find, log: log, now: time.Now, dead: map[string]time.Time{}}
}

// seek looks up the name of a server that does not answer: the next request goes to
// where it is now.
func (p *pool) seek(s server) {
	p.mu.Lock()
	busy := p.looking
	p.looking = true
	p.mu.Unlock()
	if busy {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), helper.ResolveTime)
	defer cancel()
	addrs, err := p.find.Addresses(ctx, s.host)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looking = false
	if err != nil {
		return
	}
	at := netip.AddrPortFrom(addrs[0], s.port).String()
	for i := range p.servers {
		if p.servers[i].name == s.name && p.servers[i].addr != at {
			p.log.Info("RADIUS server has another address", "server", s.name, "address", at)
			p.servers[i].addr = at
		}
	}
}

// order is the servers to ask, one after the other.
func (p *pool) order() []server {
	p.mu.Lock()
	defer p.mu.Unlock()
	var live, dead []server
	for _, s := range p.servers {
		if p.now().Before(p.dead[s.addr]) {
			dead = append(dead, s)
		} else {
			live = append(live, s)
		}
	}
	return append(live, dead...)
}

// bury notes that a server does not answer.
func (p *pool) bury(s server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead[s.addr] = p.now().Add(p.conf.deadTime)
}

// ask sends a request to one server after the other until one answers, and says
// which. build makes it for a server, whose secret is part of it.
func (p *pool) ask(ctx context.Context, build func(server) (*radius.Packet, error)) (*radius.Packet, server, error) {
	err := errNoServer
	for _, s := range p.order() {
		q, e := build(s)
		if e != nil {
			return nil, s, e // it was not asked: that says nothing of the server
		}
		var answer *radius.Packet
		if answer, err = p.askOne(ctx, s, q); err == nil {
			return answer, s, nil
		}
		if ctx.Err() != nil {
			break // nobody waits any more: that says nothing of the server
		}
		p.bury(s)
		p.log.Warn("RADIUS server does not answer", "server", s.name, "err", err)
		go p.seek(s)
	}
	return nil, server{}, err
}

// askOne asks one server, as often and as long as the configuration says.
func (p *pool) askOne(ctx context.Context, s server, q *radius.Packet) (*radius.Packet, error) {
	ctx, cancel := context.WithTimeout(ctx, p.conf.timeout*time.Duration(p.conf.retries+1))
	defer cancel()
	var c radius.Client
	if p.conf.retries > 0 {
		c.Retry = p.conf.timeout + p.conf.timeout/100 // such that the last is not when nobody listens any more
	}
	if p.conf.bind.IsValid() {
		c.Dialer.LocalAddr = &net.UDPAddr{IP: p.conf.bind.AsSlice()}
	}
	answer, err := c.Exchange(ctx, q, s.addr)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("no answer within %v", p.conf.timeout*time.Duration(p.conf.retries+1))
	case err != nil:
		return nil, err
	case q.Code == radius.CodeAccessRequest && !p.conf.unsigned && !signed(answer, q):
		return nil, errors.New("answer without a valid Message-Authenticator (require-message-authenticator)")
	}
	return answer, nil
}
