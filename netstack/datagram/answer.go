package datagram

import (
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
		if h.DF { // RFC 4787 REQ-13
			r.answer(packet.TooBig, h, pkt)
		}
	}
}

// answer makes an ICMP error about a packet, to be sent with Flush. What a
// router would say comes from the gateway, what a host would say from the
// packet's destination.
func (r *Relay) answer(p packet.Problem, h *packet.Header, pkt []byte) {
	from := r.cfg.Gateway4
	if h.V6() {
		from = r.cfg.Gateway6
	}
	if p == packet.PortUnreachable {
		from = h.Dst
	}
	if !from.IsValid() || !packet.MayAnswer(h, pkt) {
		return
	}
	u := &r.up
	if !u.errors.Take(u.now.Sub(u.start), r.cfg.Limits.Errors) { // RFC 4443 section 2.4 (f)
		u.stats.Suppressed++
		return
	}
	b := make([]byte, packet.ErrorLen(h))
	packet.PutError(b, from, p.Error(h, pkt, smallerMTU(h)), h, pkt)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.answers) >= maxAnswers {
		u.stats.Suppressed++
		return
	}
	r.answers = append(r.answers, b)
	u.stats.Answered++
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

// say gives answers to the Sink. It is a goroutine, for as long as there are
// any, because the Sink may make it wait and who injects must not: a client
// that does not read before it has written would stop for ever.
func (r *Relay) say() {
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
