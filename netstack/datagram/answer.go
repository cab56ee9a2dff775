package datagram

import (
	"net/netip"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
)

// maxAnswers bounds the ICMP errors that wait for the Sink.
const maxAnswers = 32

// refuse counts and answers a packet for which there is no way out.
func (r *Relay) refuse(err error, h *packet.Header, pkt []byte) {
	c := egress.Classify(err)
	if c == egress.Prohibited {
		r.up.stats.Prohibited++
	}
	r.explain(c, h, pkt)
}

// explain tells the client why a packet was not sent, if there is anything to tell.
func (r *Relay) explain(c egress.Class, h *packet.Header, pkt []byte) {
	switch c {
	case egress.Prohibited:
		r.answer(packet.Prohibited, h, pkt)
	case egress.Refused:
		r.answer(packet.PortUnreachable, h, pkt)
	case egress.NetUnreachable:
		r.answer(packet.NetUnreachable, h, pkt)
	case egress.HostUnreachable:
		r.answer(packet.HostUnreachable, h, pkt)
	case egress.TooBig:
		r.tooBig(0, h, pkt)
	}
}

// tooBig answers a packet that is longer than the way out takes; mtu is 0 if
// that is not known. RFC 4787 REQ-13.
func (r *Relay) tooBig(mtu int, h *packet.Header, pkt []byte) {
	if !h.DF {
		return
	}
	if mtu <= 0 || mtu >= h.Length {
		mtu = smallerMTU(h)
	}
	r.say(packet.TooBig.Error(h, pkt, mtu), r.router(h), h, pkt)
}

// Cut answers a packet of the client of which only the beginning has come, within
// a batch. A client whose path has become narrower cuts what its own hosts still
// send as long as before (openconnect mainloop.c, tun_mainloop); they learn here
// what gets through.
func (r *Relay) Cut(h packet.Header, pkt []byte) {
	r.begin()
	r.say(packet.TooBig.Error(&h, pkt, h.Length), r.router(&h), &h, pkt)
}

// answer makes an ICMP error about a packet. What a router would say comes from
// the gateway, what a host would say from the packet's destination.
func (r *Relay) answer(p packet.Problem, h *packet.Header, pkt []byte) {
	from := r.router(h)
	if p == packet.PortUnreachable {
		from = h.Dst
	}
	r.say(p.Error(h, pkt, 0), from, h, pkt)
}

// router is who we are to the client's packets.
func (r *Relay) router(h *packet.Header) netip.Addr {
	if h.V6() {
		return r.cfg.Gateway6
	}
	return r.cfg.Gateway4
}

// say puts an ICMP error about a packet of this batch to the answers, which
// leave with Flush.
func (r *Relay) say(e packet.ICMPError, from netip.Addr, h *packet.Header, pkt []byte) {
	if !from.IsValid() || !packet.MayAnswer(h, pkt) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enterAnswer(e, from, h, pkt, r.up.now)
}

// enterAnswer makes an ICMP error, within the bounds. The lock is held.
func (r *Relay) enterAnswer(e packet.ICMPError, from netip.Addr, h *packet.Header, pkt []byte, now time.Time) {
	if len(r.answers) >= maxAnswers || !r.errors.Take(now.Sub(r.up.start), r.cfg.Limits.Errors) { // RFC 4443 section 2.4 (f)
		r.stats.Suppressed++
		return
	}
	b := make([]byte, packet.ErrorLen(h))
	packet.PutError(b, from, e, h, pkt)
	r.answers = append(r.answers, b)
	r.stats.Answered++
}

// smallerMTU is an MTU to try after a packet was too big. The path's own is not
// known; these are what paths have, after RFC 1191 section 7.1.
func smallerMTU(h *packet.Header) int {
	if h.V6() {
		return 1280 // RFC 8200 section 5: every link has it
	}
	for _, m := range [...]int{1492, 1280, 1006, 508, 296} {
		if m < h.Length {
			return m
		}
	}
	return 68
}

// startSaying has the answers given to the Sink, if there are any. The lock is
// held.
func (r *Relay) startSaying() {
	if len(r.answers) > 0 && !r.saying {
		r.saying = true
		go r.sayAll()
	}
}

// sayAll gives answers to the Sink. It is a goroutine, for as long as there are
// any, because the Sink may make it wait and who injects must not: a client
// that does not read before it has written would stop for ever.
func (r *Relay) sayAll() {
	for {
		r.mu.Lock()
		answers := r.answers
		r.answers = nil
		r.saying = len(answers) > 0
		r.mu.Unlock()
		if len(answers) == 0 {
			return
		}
		r.cfg.Sink.Begin()
		for _, a := range answers {
			copy(r.cfg.Sink.Next(len(a)), a)
			r.cfg.Sink.Add(len(a))
		}
		r.cfg.Sink.End()
	}
}
