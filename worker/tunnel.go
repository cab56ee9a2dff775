package worker

import (
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"

	"rocserv/internal/packet"
	"rocserv/internal/pipe"
	"rocserv/internal/wire"
	"rocserv/worker/compress"
	"rocserv/worker/dtls"
	"rocserv/worker/peers"
)

// The functions of this file stand in the order in which a packet meets them.
//
//	up    fromCSTP.Packets, fromDTLS.Packets → up → stack, relay, gateway or peers
//	down  stack, relay, gateway → Begin, Next, Add, End → the channel in use

// tunnel carries packets between the client's channels and the netstack. It is
// the packet.Sink of everything that sends to the client.
type tunnel struct {
	lease   leased
	inner   inner
	packing packing

	cstp lane
	dtls atomic.Pointer[dtlsLane] // what is sent on; nil: CSTP

	upMu sync.Mutex // one batch up at a time; protects the next four
	tcp  [][]byte   // of the batch, for the stack
	kept *kept      // flows that keepers of this session have; nil: none
	deaf bool       // what is still read of the client's channels is dropped
	unpacker

	sinkMu sync.Mutex // held from Begin to End; protects the next four
	out    *lane
	outMax int    // longest packet out takes
	spill  []byte // a packet too long for out, on its way to CSTP; nil: none
	newest *lane  // of a keeper: to the newest worker of its session; nil: to the client

	frozen atomic.Bool // who wants to send waits
	thawed *sync.Cond  // on sinkMu

	putOff chan struct{} // wakes the flusher; capacity 1

	counters counters
	seen     activity
}

// leased is what a client may send from, and the addresses that answer for us.
type leased struct {
	ipv4, ipv6         netip.Addr
	gateway4, gateway6 netip.Addr
}

// inner is where a client's packets go.
type inner struct {
	stack   interface{ Inject(pkts [][]byte) } // TCP, and whatever is odd
	relay   relay                              // UDP and ICMP echo
	gateway interceptor                        // the gateway's own address
	peers   *peers.Peers                       // other clients; nil: there are none
}

// interceptor is the gateway, which may answer in the place of other hosts.
type interceptor interface {
	datagrams
	Intercepts(h *packet.Header, pkt []byte) bool
}

// relay also says of any packet that it was too long.
type relay interface {
	datagrams
	Cut(h packet.Header, pkt []byte)
}

// datagrams takes whole packets of one batch; Flush ends the batch.
type datagrams interface {
	Inject(h packet.Header, pkt []byte)
	Flush()
}

// sender is the sending side of a channel. Its calls are serialised by a lane.
type sender interface {
	Next(n int) []byte
	Add(typ wire.PacketType, n int)
	Flush()
	Busy() bool
}

// lane is a channel's sending side with its lock: one writer per socket.
type lane struct {
	mu sync.Mutex
	to sender
}

// dtlsLane is a DTLS channel and what the tunnel knows of it.
type dtlsLane struct {
	lane
	ch    *dtls.Channel
	at    atomic.Pointer[netip.AddrPort]
	quiet atomic.Bool  // nothing came for long, or data came by CSTP: send by CSTP
	limit atomic.Int64 // longest packet one datagram takes on this path, bytes
	probe *prober      // of limit
}

// peer is where the client is.
func (d *dtlsLane) peer() netip.AddrPort { return *d.at.Load() }

// counters only grow.
type counters struct {
	bytesUp, bytesDown atomic.Uint64 // of inner packets
	spoofed            atomic.Uint64 // source is not the lease
	malformed          atomic.Uint64 // no IP packet, or one to the lease itself
	unknown            atomic.Uint64 // packet types we do not know
	dtls               atomic.Uint64 // DTLS channels that were used
}

// send sends one packet at once.
func (l *lane) send(typ wire.PacketType, payload []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	copy(l.to.Next(len(payload)), payload)
	l.to.Add(typ, len(payload))
	l.to.Flush()
}

// fromCSTP receives what the CSTP channel reads.
type fromCSTP struct {
	t          *tunnel
	disconnect func(payload []byte) // the client says goodbye
}

func (r fromCSTP) Packets(pkts []wire.Packet) {
	t := r.t
	t.seen.cstp.touch()
	t.upMu.Lock()
	control := t.batch(pkts, t.packing.cstp)
	t.upMu.Unlock()
	if d := t.dtls.Load(); d != nil && control < len(pkts) {
		// The client fell back to CSTP: so do we, at once, until DTLS speaks
		// again (ocserv worker-vpn.c does the same).
		d.quiet.Store(true)
	}
	if control == 0 {
		return
	}
	for _, p := range pkts {
		switch p.Type {
		case wire.DPDReq:
			// Empty on CSTP: an echo has upset clients.
			t.cstp.send(wire.DPDResp, nil)
		case wire.Disconnect:
			r.disconnect(p.Payload)
		case wire.Data, wire.DPDResp, wire.Keepalive:
		case wire.Compressed:
			if t.packing.cstp == "" {
				t.counters.unknown.Add(1)
			}
		default:
			t.counters.unknown.Add(1)
		}
	}
}

// batch takes the data packets of a batch, which may be compressed in this way, and
// returns how many others there are. t.upMu is held.
func (t *tunnel) batch(pkts []wire.Packet, packed compress.Algorithm) (others int) {
	t.used = 0
	for _, p := range pkts {
		switch {
		case p.Type == wire.Data:
			t.up(p.Payload)
		case p.Type == wire.Compressed && packed != "":
			t.unpack(packed, p.Payload)
		default:
			others++
		}
	}
	t.endUp()
	return others
}

// dtlsPackets takes a batch of the DTLS channel d, which is in use.
func (t *tunnel) dtlsPackets(d *dtlsLane, pkts []wire.Packet) {
	t.seen.dtls.touch()
	d.quiet.Store(false)
	t.upMu.Lock()
	control := t.batch(pkts, t.packing.dtls)
	t.upMu.Unlock()
	if control == 0 {
		return
	}
	for _, p := range pkts {
		switch p.Type {
		case wire.DPDReq:
			// The same length back: openconnect finds its MTU so
			// (openconnect mtu.c, detect_mtu).
			d.send(wire.DPDResp, p.Payload)
		case wire.DPDResp:
			d.probe.answered()
		case wire.Data, wire.Keepalive:
		case wire.Compressed:
			if t.packing.dtls == "" {
				t.counters.unknown.Add(1)
			}
		default:
			t.counters.unknown.Add(1)
		}
	}
}

// up gives one packet of the client to who answers for its destination. The
// packet stays valid until endUp has returned.
func (t *tunnel) up(pkt []byte) {
	if len(pkt) == 0 || t.deaf {
		return // an empty data packet means nothing
	}
	t.counters.bytesUp.Add(uint64(len(pkt)))
	h, ok := packet.Parse(pkt)
	if !ok {
		t.counters.malformed.Add(1)
		if h, ok = packet.ParseCut(pkt); ok && h.Length >= wire.MinMTU && t.lease.has(h.Src) {
			t.inner.relay.Cut(h, pkt)
		}
		return
	}
	if !t.lease.has(h.Src) && !t.inner.peers.Behind(h.Src) {
		t.counters.spoofed.Add(1)
		return
	}
	if h.Dst == h.Src { // a host says that to itself
		t.counters.malformed.Add(1)
		return
	}
	if h.Proto != packet.ICMP && h.Proto != packet.ICMPv6 {
		t.seen.data.touch() // ICMP does not keep a session from being idle (ocserv)
	}
	t.route(&h, pkt)
}

// route gives a packet of the client to who answers for its destination.
func (t *tunnel) route(h *packet.Header, pkt []byte) {
	switch {
	case t.kept != nil && t.kept.take(h, pkt):
	case t.inner.peers.Reaches(h.Dst) && !t.inner.gateway.Intercepts(h, pkt) && t.inner.peers.Take(h, pkt):
	case !t.lease.has(h.Src): // from behind the client, and not to other clients
		t.inner.peers.Refuse(h, pkt)
	case h.Proto == packet.TCP || h.Fragment:
		t.tcp = append(t.tcp, pkt[:h.Length])
	case t.forGateway(h, pkt):
		t.inner.gateway.Inject(*h, pkt)
	default:
		t.inner.relay.Inject(*h, pkt)
	}
}

func (t *tunnel) forGateway(h *packet.Header, pkt []byte) bool {
	return h.Dst == t.lease.gateway4 || h.Dst == t.lease.gateway6 || t.inner.gateway.Intercepts(h, pkt)
}

// endUp ends a batch of up.
func (t *tunnel) endUp() {
	if t.kept != nil {
		t.kept.flush()
	}
	if len(t.tcp) > 0 {
		t.inner.stack.Inject(t.tcp)
		clear(t.tcp)
		t.tcp = t.tcp[:0]
	}
	t.inner.relay.Flush()
	t.inner.gateway.Flush()
	t.inner.peers.Flush()
}

// reassembled takes a packet that had come in fragments, from within
// stack.Inject. The stack keeps the packet's memory, so it is copied.
func (t *tunnel) reassembled(h packet.Header, pkt []byte) {
	pkt = append([]byte(nil), pkt...)
	if t.forGateway(&h, pkt) {
		t.inner.gateway.Inject(h, pkt)
	} else {
		t.inner.relay.Inject(h, pkt)
	}
}

// Begin opens a batch to the client on the channel in use, or waits until there
// is one again.
func (t *tunnel) Begin() {
	t.sinkMu.Lock()
	for t.frozen.Load() {
		t.thawed.Wait()
	}
	t.out, t.outMax = &t.cstp, packet.MaxPacket
	if d := t.dtls.Load(); d != nil && !d.quiet.Load() {
		t.out, t.outMax = &d.lane, int(d.limit.Load())
	}
	if t.newest != nil {
		t.out, t.outMax = t.newest, pipe.MaxPacket
	}
	t.out.mu.Lock()
}

// freeze stops all sending. Who is in the midst of it comes to an end when its
// channel is closed, which must follow; nobody begins afterwards.
func (t *tunnel) freeze() { t.frozen.Store(true) }

// thaw lets sending go on, to the newest worker of the session by way of l, or
// with nil by the client's own channels.
func (t *tunnel) thaw(l *lane) {
	t.sinkMu.Lock()
	defer t.sinkMu.Unlock()
	t.newest = l
	t.frozen.Store(false)
	t.thawed.Broadcast()
}

// Next returns room for a packet. What is too long for a datagram goes by CSTP.
func (t *tunnel) Next(n int) []byte {
	t.spill = nil
	if n > t.outMax {
		t.spill = make([]byte, n)
		return t.spill
	}
	return t.out.to.Next(n)
}

// Add completes the packet.
func (t *tunnel) Add(n int) {
	t.counters.bytesDown.Add(uint64(n))
	if t.spill != nil {
		t.cstp.send(wire.Data, t.spill[:n])
		return
	}
	t.out.to.Add(wire.Data, n)
}

// End sends the batch, or leaves that to the flusher while so much arrives that
// other goroutines are about to add to it.
func (t *tunnel) End() {
	if t.out.to.Busy() {
		select {
		case t.putOff <- struct{}{}:
		default:
		}
	} else {
		t.out.to.Flush()
	}
	t.out.mu.Unlock()
	t.sinkMu.Unlock()
}

// runFlusher sends what End put off, once everybody who can run has run.
func (t *tunnel) runFlusher(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-t.putOff:
		}
		runtime.Gosched()
		if d := t.dtls.Load(); d != nil {
			d.mu.Lock()
			d.to.Flush()
			d.mu.Unlock()
		}
	}
}
