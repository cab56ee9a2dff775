package resolver

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// Lookup resolves a name of the configuration, IPv4 addresses first.
func (r *Resolver) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	return r.addresses(ctx, name, true)
}

// Ask is Lookup for a name as the client asks for it: by its rules, from its
// cache, and known from then on. What a rule keeps from the client is an error
// that says so.
func (r *Resolver) Ask(ctx context.Context, name string) ([]netip.Addr, error) {
	return r.addresses(ctx, name, false)
}

var errNoAddress = errors.New("it has no address")

func (r *Resolver) addresses(ctx context.Context, name string, own bool) ([]netip.Addr, error) {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, fmt.Errorf("resolver: %s: %w", name, err)
	}
	types := [...]dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}
	answers := make(chan lookupAnswer, len(types))
	for i, t := range types {
		q := dnsmessage.Message{
			Header:    dnsmessage.Header{RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: n, Type: t, Class: dnsmessage.ClassINET}},
		}
		b, err := q.Pack()
		if err != nil {
			return nil, fmt.Errorf("resolver: %s: %w", name, err)
		}
		var rule error
		r.query(b, request{limit: wholeAnswer, whole: true, own: own, rule: &rule, reply: func(answer []byte) {
			addrs, err := addressesIn(answer)
			answers <- lookupAnswer{i, addrs, cmp.Or(rule, err)}
		}}).deliver()
	}
	var found [len(types)][]netip.Addr
	var errs [len(types)]error
	for range types {
		select {
		case a := <-answers:
			found[a.of], errs[a.of] = a.addrs, a.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if all := append(found[0], found[1]...); len(all) > 0 {
		return all, nil
	}
	return nil, fmt.Errorf("resolver: %s: %w", name, cmp.Or(errs[0], errs[1], errNoAddress))
}

type lookupAnswer struct {
	of    int
	addrs []netip.Addr
	err   error
}

// addressesIn gives the addresses of an answer.
func addressesIn(msg []byte) ([]netip.Addr, error) {
	if len(msg) < dnsHeaderLen {
		return nil, errors.New("no DNS answer")
	}
	if rcode := binary.BigEndian.Uint16(msg[2:]) & dnsRcode; rcode != rcodeSuccess {
		return nil, fmt.Errorf("DNS says: %v", dnsmessage.RCode(rcode))
	}
	var list []netip.Addr
	err := eachAddress(msg, func(a netip.Addr, _ uint32) { list = append(list, a) })
	return list, err
}

// eachAddress calls f for every address among the answers of a message.
func eachAddress(msg []byte, f func(a netip.Addr, ttl uint32)) error {
	var p dnsmessage.Parser
	if _, err := p.Start(msg); err != nil {
		return err
	}
	if err := p.SkipAllQuestions(); err != nil {
		return err
	}
	for {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			return nil
		}
		if err != nil {
			return err
		}
		switch h.Type {
		case dnsmessage.TypeA:
			r, err := p.AResource()
			if err != nil {
				return err
			}
			f(netip.AddrFrom4(r.A), h.TTL)
		case dnsmessage.TypeAAAA:
			r, err := p.AAAAResource()
			if err != nil {
				return err
			}
			f(netip.AddrFrom16(r.AAAA), h.TTL)
		default:
			if err := p.SkipAnswer(); err != nil {
				return err
			}
		}
	}
}
