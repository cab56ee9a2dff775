package datagram

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
	"rocserv/nat"
	"rocserv/netstack/shape"
)

// Config is what a Relay is made of.
type Config struct {
	Net  egress.Network
	Sink packet.Sink // to the client

	// Gateway4 and Gateway6 are the addresses from which the client is told
	// that something cannot be delivered. Without one, that family is not told
	// but for what its destination itself refuses.
	Gateway4, Gateway6 netip.Addr

	// Up and Down keep packets within a rate, and count those beyond, which go
	// nowhere; nil: they do not.
	Up, Down *shape.Limiter

	MTU      int // of the tunnel, in bytes; see SetMTU
	Limits   Limits
	Ports    *Ports           // nil: as many as Limits allow
	FullCone bool             // let everybody answer, not only whom the client spoke to
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger
}

// Limits bound what a client can have. Zero fields have defaults.
type Limits struct {
	nat.Limits
	Errors int // ICMP errors to the client in a second, and at once: 100. RFC 1812 section 4.3.2.8
}

// Ports bounds how many local ports a relay uses for UDP.
type Ports struct {
	Held int // at first

	// Say says that more are wanted, to which Granted must be the answer, or that
	// some are given back. It is called without locks and must not wait.
	Say func(more, back int)
}

// Relay carries one client's UDP and ICMP echo between its packets and the
// sockets of a Network.
type Relay struct {
	cfg Config
	mtu atomic.Int32
	up  up // under the caller's up lock, see Inject

	mu      sync.Mutex // protects the following and, where they say so, fields of flows
	table   *nat.Table[*flow]
	ids     uint32                // IP identification of the next packet down
	traces  traces                // of what was sent to be reported
	errors  nat.Bucket            // of ICMP errors to the client
	evicted []egress.PacketSocket // to be closed when the batch has been sent
	answers [][]byte              // ICMP errors to the client
	saying  bool                  // a goroutine gives answers to the Sink
	stats   Stats
	closed  bool
}

// Stats count what a Relay did.
type Stats struct {
	NAT      nat.Stats
	Up, Down Traffic // sent by sockets, given to the client

	// Packets of the client that went nowhere.
	Malformed   uint64 // lengths, ports, fragments, source routes
	Checksum    uint64
	Unsupported uint64 // neither UDP nor an echo request
	Multicast   uint64 // and broadcast
	Hops        uint64 // time to live used up
	Prohibited  uint64 // by policy, or ping sockets by the host
	Unopened    uint64 // there was no socket for them
	Unsent      uint64 // their socket did not take them

	// What arrived and was not for the client. Filtered is in NAT.
	Unexpected uint64

	Reported   uint64 // ICMP errors of the network about the client's packets
	Answered   uint64 // ICMP errors to the client, these and our own
	Suppressed uint64 // not sent, to keep Limits.Errors or because the client reads too slowly
}

// Traffic counts datagrams.
type Traffic struct {
	Packets uint64
	Bytes   uint64 // of payload
}

const (
	defaultErrors = 100
	minMTU        = 68 // RFC 791 section 3.2
)

// New makes a relay. It has no goroutine and no socket until there is traffic.
func New(cfg Config) *Relay {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Limits.Errors <= 0 {
		cfg.Limits.Errors = defaultErrors
	}
	filtering := nat.AddressDependent
	if cfg.FullCone {
		filtering = nat.EndpointIndependent
	}
	if !cfg.Gateway4.Is4() {
		cfg.Gateway4 = netip.Addr{}
	}
	if !cfg.Gateway6.Is6() {
		cfg.Gateway6 = netip.Addr{}
	}
	now := cfg.Now()
	r := &Relay{cfg: cfg, table: nat.New[*flow](cfg.Limits.Limits, filtering, now), ids: rand.Uint32()}
	if cfg.Ports != nil {
		r.table.LimitPorts(cfg.Ports.Held)
	}
	r.up.start = now
	r.SetMTU(cfg.MTU)
	return r
}

// SetMTU says how long a packet to the client may be, in bytes with its IP
// header; what is longer is fragmented.
func (r *Relay) SetMTU(mtu int) { r.mtu.Store(int32(max(minMTU, min(mtu, packet.MaxPacket)))) }

// Tick ends what has not been used for its time-out. To be called about once a
// second, with the time of Config.Now.
func (r *Relay) Tick(now time.Time) {
	var socks []egress.PacketSocket
	r.mu.Lock()
	r.table.Expire(now, func(m *nat.Mapping[*flow]) { socks = m.Value.end(socks) })
	if r.table.Len() == 0 {
		r.traces.trim()
	}
	more, back := 0, 0
	if !r.closed {
		more, back = r.table.NeedPorts(now), r.table.SparePorts(now)
	}
	r.mu.Unlock()
	closeAll(socks)
	r.sayPorts(more, back)
}

func (r *Relay) sayPorts(more, back int) {
	if more > 0 || back > 0 {
		r.cfg.Ports.Say(more, back)
	}
}

// Granted is told how many more local ports there are, which may be fewer than
// were asked for.
func (r *Relay) Granted(n int) {
	var socks []egress.PacketSocket
	r.mu.Lock()
	r.table.Granted(n, r.cfg.Now(), func(m *nat.Mapping[*flow]) { socks = m.Value.end(socks) })
	r.mu.Unlock()
	closeAll(socks)
}

// Stats returns the counters; those of the batch being injected are missing.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.NAT = r.table.Stats()
	return s
}

// Flows is the number of mappings: what would be lost with the relay.
func (r *Relay) Flows() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.Len()
}

// Close closes all sockets. It waits for nothing: what is on its way to the
// Sink may still arrive there.
func (r *Relay) Close() {
	r.mu.Lock()
	r.closed = true
	r.answers = nil
	socks := r.evicted
	r.evicted = nil
	r.table.Clear(func(m *nat.Mapping[*flow]) { socks = m.Value.end(socks) })
	r.mu.Unlock()
	closeAll(socks)
}

// add adds the counters that the way up keeps for itself during a batch.
func (s *Stats) add(o *Stats) {
	s.Up.Packets += o.Up.Packets
	s.Up.Bytes += o.Up.Bytes
	s.Malformed += o.Malformed
	s.Checksum += o.Checksum
	s.Unsupported += o.Unsupported
	s.Multicast += o.Multicast
	s.Hops += o.Hops
	s.Prohibited += o.Prohibited
	s.Unopened += o.Unopened
	s.Unsent += o.Unsent
}
