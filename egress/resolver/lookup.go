package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// Lookup resolves a name of the configuration, IPv4 addresses first.
func (r *Resolver) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
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
		r.query(b, request{limit: wholeAnswer, whole: true, own: true, reply: func(answer []byte) {
			addrs, err := addressesIn(answer)
			answers <- lookupAnswer{i, addrs, err}
		}}).deliver()
	}
	var found [len(types)][]netip.Addr
	for range types {
		select {
		case a := <-answers:
			found[a.of], err = a.addrs, errors.Join(err, a.err)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if all := append(found[0], found[1]...); len(all) > 0 {
		return all, nil
	}
	if err == nil {
		err = errors.New("it has no address")
	}
	return nil, fmt.Errorf("resolver: %s: %w", name, err)
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
