package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"rocserv/secmod/helper"
)

// rest is how long a server that failed is tried after the others.
const rest = 30 * time.Second

// server is one line of `uri`.
type server struct {
	host string // that its certificate names
	port string
	tls  bool // ldaps
}

func (s *server) String() string { return net.JoinHostPort(s.host, s.port) }

// resolve finds the servers' addresses. One that has none is only warned of if others
// have, and looked for again when it is its turn.
func (c *config) resolve(lookup helper.Lookup) (warnings []string, err error) {
	var hosts []string
	for _, s := range c.servers {
		hosts = append(hosts, s.host)
	}
	c.names, warnings = helper.Resolve(lookup, hosts...)
	if !slices.ContainsFunc(hosts, c.names.Known) {
		return nil, errors.New(strings.Join(warnings, "; "))
	}
	return warnings, nil
}

// pool chooses among servers.
type pool struct {
	conf *config
	now  func() time.Time

	mu   sync.Mutex
	down map[*server]time.Time // until when
}

func newPool(c *config) *pool {
	return &pool{conf: c, now: time.Now, down: map[*server]time.Time{}}
}

// ask has one server say what do wants to know. A refusal is its word; any other
// error has the next one asked.
func (p *pool) ask(ctx context.Context, do func(*goldap.Conn) (person, error)) (who person, err error) {
	var errs []error
	for _, s := range p.order() {
		who, err := p.askOne(ctx, s, do)
		if r := refusal(""); err == nil || errors.As(err, &r) {
			p.mark(s, false)
			return who, err
		}
		if ctx.Err() != nil { // nobody waits any more: that is not the server's fault
			return person{}, ctx.Err()
		}
		p.mark(s, true)
		errs = append(errs, fmt.Errorf("%v: %w", s, err))
	}
	return person{}, errors.Join(errs...)
}

func (p *pool) askOne(ctx context.Context, s *server, do func(*goldap.Conn) (person, error)) (person, error) {
	ctx, cancel := context.WithTimeout(ctx, p.conf.timeout)
	defer cancel()
	conn, err := p.conf.open(ctx, s)
	if err != nil {
		return person{}, err
	}
	defer conn.Close()
	return do(conn)
}

// order is which servers are asked after which: those that failed lately come last.
func (p *pool) order() []*server {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := slices.Clone(p.conf.servers)
	now := p.now()
	slices.SortStableFunc(list, func(a, b *server) int {
		switch x, y := p.down[a].After(now), p.down[b].After(now); {
		case x == y:
			return 0
		case x:
			return 1
		}
		return -1
	})
	return list
}

func (p *pool) mark(s *server, failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if failed {
		p.down[s] = p.now().Add(rest)
	} else {
		delete(p.down, s)
	}
}

// open connects to a server. Everything on the connection ends with ctx.
func (c *config) open(ctx context.Context, s *server) (*goldap.Conn, error) {
	raw, err := c.names.Dial(ctx, "tcp", s.String())
	if err != nil {
		return nil, err
	}
	// A deadline on the socket holds for reads and writes of whatever is above it.
	deadline, _ := ctx.Deadline()
	raw.SetDeadline(deadline)
	context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	conf := c.tls.Clone()
	conf.ServerName = s.host
	if s.tls {
		over := tls.Client(raw, conf)
		if err := over.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		conn := goldap.NewConn(over, true)
		conn.Start()
		return conn, nil
	}
	conn := goldap.NewConn(raw, false)
	conn.Start()
	if c.startTLS {
		if err := conn.StartTLS(conf); err != nil {
			conn.Close()
			return nil, fmt.Errorf("StartTLS: %w", err)
		}
	}
	return conn, nil
}
