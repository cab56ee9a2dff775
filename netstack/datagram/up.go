package datagram

import (
	"errors"
	"net/netip"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
	"rocserv/nat"
)

const (
	maxPending = 64 // messages gathered before they are sent without a Flush
	maxAllowed = 16 // verdicts remembered

	// A packet that would leave with this TTL or more leaves with the host's
	// default, which costs no control message: nobody looks for a router that
	// far away.
	usualTTL = 60

	pingRetry = time.Minute // after the host forbade ping sockets
)

// up is the state of the way to the network. All of it is under the caller's
// up lock.
type up struct {
	start   time.Time // of the relay
	now     time.Time // of the batch
	batch   bool      // something was injected since the last Flush
	pending []pending
	flows   []*flow          // that have something in pending
	msgs    []egress.Message // for one Send

	allowed [maxAllowed]netip.AddrPort // destinations the policy allowed lately
	cleared time.Time                  // when allowed was emptied
	noPing  time.Time                  // until when ping sockets are taken as forbidden
	logged  struct{ ping, sockets bool }
	stats   Stats // of the batch
}

// pending is a message that waits for the end of the batch.
type pending struct {
	msg  egress.Message
	pkt  []byte // that it came in
	next int32  // of its flow, a place in up.pending plus one
}

// request is what a packet of the client asks for.
type request struct {
	kind    nat.Kind
	client  netip.AddrPort // or address and echo identifier
	dst     netip.AddrPort // port 0 for echo
	payload []byte         // points into the packet
}

// Inject takes one whole packet of the client, whose header is h: UDP or an
// ICMP echo request, not a fragment. The packet stays the relay's until the
// next Flush returns. Inject and Flush are called by one goroutine at a time
// (the caller's up lock); neither waits for the Sink.
func (r *Relay) Inject(h packet.Header, pkt []byte) {
	r.begin()
	q, ok := r.read(&h, pkt)
	if !ok {
		return
	}
	if h.TTL <= 1 { // RFC 1812 section 5.3.1
		r.up.stats.Hops++
		r.answer(packet.TimeExceeded, &h, pkt)
		return
	}
	if err := r.check(&q); err != nil {
		r.refuse(err, &h, pkt)
		return
	}
	if !r.cfg.Up.Admit(h.Length) {
		return
	}
	f, err := r.flow(&q)
	if err != nil {
		if !errors.Is(err, errSilent) {
			r.refuse(err, &h, pkt)
		}
		return
	}
	r.gather(f, &q, &h, pkt)
}

// begin starts a batch with the first packet.
func (r *Relay) begin() {
	u := &r.up
	if u.batch {
		return
	}
	u.batch = true
	u.now = r.cfg.Now()
	if u.now.Sub(u.cleared) >= time.Second { // the policy may have changed; Send asks it anyway
		u.allowed = [maxAllowed]netip.AddrPort{}
		u.cleared = u.now
	}
}

// read finds out what a packet asks for; false if there is nothing to do.
func (r *Relay) read(h *packet.Header, pkt []byte) (q request, ok bool) {
	s := &r.up.stats
	switch {
	case h.Fragment, h.SourceRouted, // RFC 7126 section 4.3: source routes are not followed
		h.Dst.Is4In6(): // RFC 4291 section 2.5.5.2: no address of a packet
		s.Malformed++
		return q, false
	case !packet.HeaderSumOK(pkt):
		s.Checksum++
		return q, false
	case h.ToMany():
		s.Multicast++ // service discovery is the usual reason; not worth an answer, nor allowed one
		return q, false
	case h.Proto == packet.UDP:
		return r.readUDP(h, pkt)
	case h.IsICMP():
		return r.readEcho(h, pkt)
	}
	s.Unsupported++
	r.answer(packet.ProtocolUnreachable, h, pkt) // RFC 1122 section 3.2.2.1
	return q, false
}

func (r *Relay) readUDP(h *packet.Header, pkt []byte) (q request, ok bool) {
	d, err := packet.ReadUDP(h, pkt)
	switch {
	case errors.Is(err, packet.ErrChecksum):
		r.up.stats.Checksum++
		return q, false
	case err != nil || d.SrcPort == 0 || d.DstPort == 0:
		r.up.stats.Malformed++
		return q, false
	}
	return request{
		kind: nat.UDP, payload: d.Payload,
		client: netip.AddrPortFrom(h.Src, d.SrcPort), dst: netip.AddrPortFrom(h.Dst, d.DstPort),
	}, true
}

func (r *Relay) readEcho(h *packet.Header, pkt []byte) (q request, ok bool) {
	e, ok, err := packet.ReadEcho(h, pkt)
	switch {
	case errors.Is(err, packet.ErrChecksum):
		r.up.stats.Checksum++
		return q, false
	case err != nil:
		r.up.stats.Malformed++
		return q, false
	case !ok || !e.Request:
		r.up.stats.Unsupported++
		return q, false
	}
	return request{
		kind: nat.Echo, payload: e.Msg,
		client: netip.AddrPortFrom(h.Src, e.ID), dst: netip.AddrPortFrom(h.Dst, 0),
	}, true
}

// check asks the policy about a destination, or remembers that it was allowed a
// moment ago. Only echo has port 0, so the protocol need not be remembered.
func (r *Relay) check(q *request) error {
	a := q.dst.Addr().As16()
	slot := &r.up.allowed[(a[15]^a[7]^byte(q.dst.Port()))%maxAllowed]
	if *slot == q.dst {
		return nil
	}
	if err := r.cfg.Net.Check(q.proto(), q.dst); err != nil {
		return err
	}
	*slot = q.dst
	return nil
}

func (q *request) proto() egress.Proto {
	switch {
	case q.kind == nat.UDP:
		return egress.UDP
	case q.dst.Addr().Is4():
		return egress.ICMP
	}
	return egress.ICMPv6
}

// errSilent: there is no socket for a packet, and nothing to say about it.
var errSilent = errors.New("datagram: no socket")

// flow finds or makes the flow of a packet, refreshed for it.
func (r *Relay) flow(q *request) (*flow, error) {
	k := nat.Key{Kind: q.kind, Client: q.client}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, errSilent
	}
	if m := r.table.Lookup(k); m != nil {
		r.table.Outbound(m, q.dst, r.up.now)
		r.mu.Unlock()
		return m.Value, nil
	}
	r.mu.Unlock()
	if q.kind == nat.Echo && r.up.now.Before(r.up.noPing) {
		return nil, errNoPing
	}
	return r.openFlow(k, q.dst)
}

// gather puts a message to those of its flow.
func (r *Relay) gather(f *flow, q *request, h *packet.Header, pkt []byte) {
	u := &r.up
	if len(u.pending) == maxPending {
		r.send()
	}
	u.pending = append(u.pending, pending{
		msg: egress.Message{Addr: q.dst, Payload: q.payload, TTL: leavingTTL(h.TTL), DF: h.DF},
		pkt: pkt,
	})
	if u.pending[len(u.pending)-1].msg.TTL != 0 {
		r.trace(f, q, h, pkt)
	}
	at := int32(len(u.pending))
	if f.first == 0 {
		f.first = at
		u.flows = append(u.flows, f)
	} else {
		u.pending[f.last-1].next = at
	}
	f.last = at
}

// leavingTTL is what a packet leaves with, 0 for the host's default: this is
// one hop.
func leavingTTL(ttl uint8) int {
	if int(ttl)-1 >= usualTTL {
		return 0
	}
	return int(ttl) - 1
}

// Flush sends what was injected since the last Flush: the end of a receive batch.
func (r *Relay) Flush() {
	u := &r.up
	if !u.batch {
		return
	}
	u.batch = false
	r.send()
	r.mu.Lock()
	r.stats.add(&u.stats)
	socks := r.evicted
	r.evicted = nil
	r.startSaying()
	r.mu.Unlock()
	u.stats = Stats{}
	closeAll(socks)
}

// send sends what is pending, each flow's messages at once.
func (r *Relay) send() {
	u := &r.up
	for _, f := range u.flows {
		r.sendFlow(f)
	}
	clear(u.flows)
	clear(u.pending) // the packets are the caller's again
	u.flows, u.pending = u.flows[:0], u.pending[:0]
}

func (r *Relay) sendFlow(f *flow) {
	u := &r.up
	at := f.first
	f.first, f.last = 0, 0
	for i := at; i != 0; i = u.pending[i-1].next {
		u.msgs = append(u.msgs, u.pending[i-1].msg)
	}
	for msgs := u.msgs; len(msgs) > 0; {
		n, err := f.sock.Send(msgs)
		u.stats.Up.add(msgs[:n])
		if err == nil || n == len(msgs) {
			u.stats.Unsent += uint64(len(msgs) - n)
			break
		}
		for range n {
			at = u.pending[at-1].next
		}
		p := &u.pending[at-1]
		if r.notSent(err, p.pkt) == egress.Exhausted { // the rest has no better chance
			u.stats.Unsent += uint64(len(msgs) - n - 1)
			break
		}
		at = p.next
		msgs = msgs[n+1:]
	}
	clear(u.msgs)
	u.msgs = u.msgs[:0]
}

// notSent counts and answers a packet that its socket did not take.
func (r *Relay) notSent(err error, pkt []byte) egress.Class {
	h, ok := packet.Parse(pkt)
	if !ok {
		panic("datagram: internal error: a packet changed between Inject and Flush")
	}
	c := egress.Classify(err)
	if c == egress.Prohibited {
		r.up.stats.Prohibited++
	} else {
		r.up.stats.Unsent++
	}
	var big egress.TooBigError
	if errors.As(err, &big) {
		r.tooBig(big.MTU, &h, pkt)
	} else {
		r.explain(c, &h, pkt)
	}
	return c
}

func (t *Traffic) add(msgs []egress.Message) {
	t.Packets += uint64(len(msgs))
	for i := range msgs {
		t.Bytes += uint64(len(msgs[i].Payload))
	}
}
