package kkdcp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"rocserv/secmod/helper"
)

const (
	patience = 10 * time.Second // proxy.patience
	rest     = 30 * time.Second // that a KDC which failed is asked after the others
)

var errRealm = errors.New("no such realm on this path")

// kdc is what a line of kkdcp names.
type kdc struct {
	realm string
	proto string // tcp, udp
	host  string
	port  string
}

func (k *kdc) String() string { return k.proto + "@" + net.JoinHostPort(k.host, k.port) }

// proxy asks the KDCs of a path.
type proxy struct {
	kdcs     []*kdc
	names    *helper.Names
	patience time.Duration // for all KDCs of a realm together
	log      helper.Logger
	now      func() time.Time

	mu   sync.Mutex
	down map[*kdc]time.Time // until when
}

// Make makes the proxy of a path: its KDCs are the lines of the option kdcs, `REALM
// tcp|udp HOST:PORT`. It implements helper.Make.
func Make(options map[string]string, log helper.Logger) (helper.Made, error) {
	p, warnings, err := newProxy(options["kdcs"], log, net.DefaultResolver.LookupNetIP)
	if err != nil {
		return helper.Made{}, err
	}
	made := helper.Made{Relay: p.relay, Warnings: warnings}
	made.Files.Exact = helper.ResolverFiles()
	return made, nil
}

func newProxy(lines string, log helper.Logger, lookup helper.Lookup) (p *proxy, warnings []string, err error) {
	p = &proxy{patience: patience, log: log, now: time.Now, down: map[*kdc]time.Time{}}
	if p.kdcs, err = parseKDCs(lines); err != nil {
		return nil, nil, err
	}
	var hosts []string
	for _, k := range p.kdcs {
		if !slices.Contains(hosts, k.host) {
			hosts = append(hosts, k.host)
		}
	}
	p.names, warnings = helper.Resolve(lookup, hosts...)
	return p, warnings, nil
}

func parseKDCs(text string) (list []*kdc, err error) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) != 3 {
			return nil, errors.New("not REALM PROTO HOST:PORT")
		}
		k := &kdc{realm: words[0], proto: words[1]}
		if k.host, k.port, err = net.SplitHostPort(words[2]); err != nil {
			return nil, err
		}
		list = append(list, k)
	}
	if len(list) == 0 {
		return nil, errors.New("no KDC")
	}
	return list, nil
}

// relay takes a KDC-PROXY-MESSAGE to a KDC of its realm and returns the one with the
// answer. It implements helper.Relay.
func (p *proxy) relay(ctx context.Context, message []byte) ([]byte, error) {
	request, realm, err := parseRequest(message)
	if err != nil {
		return nil, err
	}
	list := p.of(realm)
	if len(list) == 0 {
		return nil, errRealm
	}
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	var errs []error
	for i, k := range list {
		answer, err := p.askInTime(ctx, k, request, len(list)-i)
		if err == nil {
			p.mark(k, false)
			return proxyMessage(answer)
		}
		errs = append(errs, fmt.Errorf("%v: %w", k, err))
		if errors.Is(ctx.Err(), context.Canceled) { // nobody waits any more: that is not the KDC's fault
			break
		}
		p.mark(k, true)
	}
	return nil, errors.Join(errs...)
}

// askInTime asks a KDC, which leaves their part of the time to others.
func (p *proxy) askInTime(ctx context.Context, k *kdc, request []byte, left int) ([]byte, error) {
	end, _ := ctx.Deadline()
	ctx, cancel := context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
	defer cancel()
	return p.ask(ctx, k, request)
}

// of are the KDCs of a realm, in the order in which they are asked. Without a realm,
// which clients may leave out, it is that of the path, if it has one only. Case is
// not looked at: a client may know the realm as its domain.
func (p *proxy) of(realm string) (list []*kdc) {
	realm = cmp.Or(realm, p.only())
	for _, k := range p.kdcs {
		if strings.EqualFold(k.realm, realm) {
			list = append(list, k)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	late := func(k *kdc) int {
		if p.down[k].After(now) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(list, func(a, b *kdc) int { return late(a) - late(b) })
	return list
}

// only is the realm of the path; empty: it has several.
func (p *proxy) only() string {
	for _, k := range p.kdcs[1:] {
		if !strings.EqualFold(k.realm, p.kdcs[0].realm) {
			return ""
		}
	}
	return p.kdcs[0].realm
}

// mark remembers whether a KDC has answered. The log hears of it when that changes.
func (p *proxy) mark(k *kdc, failed bool) {
	p.mu.Lock()
	was, now := p.down[k], p.now()
	if failed {
		p.down[k] = now.Add(rest)
	} else {
		delete(p.down, k)
	}
	p.mu.Unlock()
	switch {
	case failed && was.IsZero():
		p.log.Warn("KDC does not answer", "realm", k.realm, "kdc", k.String())
	case !failed && !was.IsZero():
		p.log.Info("KDC answers again", "realm", k.realm, "kdc", k.String())
	}
}
