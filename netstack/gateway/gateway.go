package gateway

import (
	"context"
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
)

const (
	dnsPort = 53
	ttl     = 64
)

// Resolver answers DNS queries; *resolver.Resolver is one.
type Resolver interface {
	// Query answers msg in at most limit bytes by calling reply, from any
	// goroutine and perhaps before it returns.
	Query(msg []byte, limit int, reply func(answer []byte))
	// DialTCP makes a connection whose other end answers DNS over TCP.
	DialTCP(ctx context.Context) (egress.Stream, error)
}

// Config sets up a Gateway.
type Config struct {
	Addr4, Addr6 netip.Addr // first addresses of the pools; zero: none of the family
	Sink         packet.Sink
	Resolver     Resolver // nil: DNS is a closed port
	MTU          int      // of the tunnel, in bytes

	// InterceptDNS makes the Resolver answer what clients ask other servers.
	InterceptDNS bool

	// Forwards are TCP ports that stand for services of the operator's, and how
	// these are reached.
	Forwards map[uint16]func(context.Context) (egress.Stream, error)

	// Now is the clock of the limit on ICMP errors; nil: time.Now.
	Now func() time.Time
}

// Gateway answers what clients send to the gateway address. Inject and Flush
// belong to one goroutine at a time; the rest is safe for concurrent use.
type Gateway struct {
	cfg    Config
	mtu    atomic.Int64
	ident  atomic.Uint32 // of packets that may be fragmented
	closed atomic.Bool
	stats  counters

	out    pending // owned by Inject and Flush, as is the next
	errors bucket
}

// New makes a gateway.
func New(cfg Config) *Gateway {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	g := &Gateway{cfg: cfg, errors: newBucket(cfg.Now())}
	g.SetMTU(cfg.MTU)
	return g
}

// SetMTU tells the tunnel's MTU, in bytes.
func (g *Gateway) SetMTU(mtu int) { g.mtu.Store(int64(min(mtu, packet.MaxPacket))) }

// Owns says whether a is the gateway's address.
func (g *Gateway) Owns(a netip.Addr) bool {
	return a.IsValid() && (a == g.cfg.Addr4 || a == g.cfg.Addr6)
}

// Intercepts says whether a packet to another host is a DNS query that the
// Resolver is to answer in that host's place. Nobody answers in the place of
// many hosts, or of an address that is no host's.
func (g *Gateway) Intercepts(h *packet.Header, pkt []byte) bool {
	if !g.cfg.InterceptDNS || h.Proto != packet.UDP || h.Fragment || !h.Dst.IsGlobalUnicast() {
		return false
	}
	u := h.Payload(pkt)
	return len(u) >= 4 && binary.BigEndian.Uint16(u[2:]) == dnsPort
}

// Inject takes a client's packet for the gateway address or one that Intercepts
// names, whole: fragments are
// reassembled before. The answer may wait for Flush. Nothing of pkt is kept.
func (g *Gateway) Inject(h packet.Header, pkt []byte) {
	g.stats.packets.Add(1)
	switch {
	case !g.Owns(h.Dst) && !g.Intercepts(&h, pkt) || h.Fragment || h.SourceRouted || h.Proto == packet.TCP || g.closed.Load():
		g.stats.dropped.Add(1) // nothing that the switch gives us
	case h.IsICMP():
		g.icmp(&h, pkt)
	case h.Proto == packet.UDP:
		g.udp(&h, pkt)
	default:
		g.refuse(packet.ProtocolUnreachable, &h, pkt)
	}
}

// icmp answers echo requests; RFC 1122 section 3.2.2.6, RFC 4443 section 4.2.
// There is nothing that an ICMP error could be about.
func (g *Gateway) icmp(h *packet.Header, pkt []byte) {
	e, ok, err := packet.ReadEcho(h, pkt)
	if err != nil || !ok || !e.Request || !packet.MayAnswer(h, pkt) {
		g.stats.dropped.Add(1)
		return
	}
	g.stats.echoes.Add(1)
	var f packet.Fragmenter
	f.ResetEcho(h.Dst, h.Src, ttl, g.ident.Add(1), e.ID, e.Msg, int(g.mtu.Load()))
	for n := f.Len(); n > 0; n = f.Len() {
		f.Put(g.next(n))
	}
}

// udp gives DNS to the resolver.
func (g *Gateway) udp(h *packet.Header, pkt []byte) {
	d, err := packet.ReadUDP(h, pkt)
	if err != nil || d.SrcPort == 0 { // RFC 768: port 0 wants no answer
		g.stats.dropped.Add(1)
		return
	}
	if d.DstPort != dnsPort || g.cfg.Resolver == nil {
		g.refuse(packet.PortUnreachable, h, pkt)
		return
	}
	g.stats.queries.Add(1)
	client, server := netip.AddrPortFrom(h.Src, d.SrcPort), netip.AddrPortFrom(h.Dst, dnsPort)
	limit := int(g.mtu.Load()) - packet.UDPOffset(h.V6())
	g.cfg.Resolver.Query(d.Payload, limit, func(answer []byte) { g.reply(server, client, answer) })
}

// reply sends a DNS answer, on whatever goroutine it comes. It fits the MTU
// there was when it was asked for; if that has shrunk since, it is fragmented.
func (g *Gateway) reply(server, client netip.AddrPort, answer []byte) {
	if g.closed.Load() {
		return
	}
	g.stats.replies.Add(1)
	var f packet.Fragmenter
	f.ResetUDP(server, client, ttl, g.ident.Add(1), answer, int(g.mtu.Load()))
	s := g.cfg.Sink
	s.Begin()
	for n := f.Len(); n > 0; n = f.Len() {
		s.Add(f.Put(s.Next(n)))
	}
	s.End()
}

// refuse answers with an ICMP error where one is allowed.
func (g *Gateway) refuse(p packet.Problem, h *packet.Header, pkt []byte) {
	if !packet.MayAnswer(h, pkt) || !g.errors.take(g.cfg.Now()) {
		g.stats.dropped.Add(1)
		return
	}
	g.stats.refused.Add(1)
	e := p.Error(h, pkt, 0)
	packet.PutError(g.next(packet.ErrorLen(h)), h.Dst, e, h, pkt)
}

// next is room for a packet of n bytes that leaves with the next Flush.
func (g *Gateway) next(n int) []byte {
	if g.out.full(n) {
		g.Flush()
	}
	return g.out.add(n)
}

// Flush sends the answers of the packets injected since the last one, as one
// batch. It blocks as the Sink does.
func (g *Gateway) Flush() {
	if len(g.out.lens) == 0 {
		return
	}
	s := g.cfg.Sink
	s.Begin()
	at := 0
	for _, n := range g.out.lens {
		copy(s.Next(n), g.out.buf[at:at+n])
		s.Add(n)
		at += n
	}
	s.End()
	g.out.reset()
}

// Trim gives memory back; it belongs to the goroutine of Inject.
func (g *Gateway) Trim() { g.out = pending{} }

// DialTCP gives what a TCP connection to a port of the gateway address is
// connected to. ok is false for a closed port.
func (g *Gateway) DialTCP(port uint16) (dial func(context.Context) (egress.Stream, error), ok bool) {
	if g.closed.Load() {
		return nil, false
	}
	if dial = g.cfg.Forwards[port]; dial != nil {
		return dial, true
	}
	if port != dnsPort || g.cfg.Resolver == nil {
		return nil, false
	}
	return g.cfg.Resolver.DialTCP, true
}

// Close ends the gateway: answers that are still on their way are not sent. The
// resolver is its owner's to close.
func (g *Gateway) Close() error {
	g.closed.Store(true)
	return nil
}
