package worker

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"

	"rocserv/egress"
	"rocserv/internal/ipc"
	"rocserv/internal/packet"
	"rocserv/internal/wire"
	"rocserv/netstack/stacktest"
)

// inside is a worker between its channels and its network: all that a client's
// packet meets. What it says to the client is caught, what leaves is watched.
type inside struct {
	t   testing.TB
	s   *session
	net *witness
	log *lines

	mu   sync.Mutex // protects the next two
	down [][]byte
	next []byte
}

// newInside makes the inside of a worker as newSession does. The caller closes
// it.
func newInside(t testing.TB, clock tcpip.Clock) *inside {
	t.Helper()
	in := &inside{t: t, log: new(lines)}
	host := &ipc.HostInfo{OwnNets: [][]byte{ipc.PutPrefix(netip.MustParsePrefix("198.51.100.1/24")), ipc.PutPrefix(netip.MustParsePrefix("2001:db8:51::1/64"))}}
	cfg := &ipc.SessionConfig{}
	policy, err := policyOf(cfg, host, nil)
	if err != nil {
		t.Fatal(err)
	}
	in.net = &witness{Network: stacktest.NewNetwork(), t: t, policy: policy}
	log := slog.New(slog.NewTextHandler(in.log, nil))
	in.s = &session{
		client: &client{Options: Options{Clock: clock, Log: log}},
		offer: &offer{
			cfg: cfg, lease: leased{ipv4: clientIP, ipv6: clientV6, gateway4: gateV4, gateway6: gateV6},
			tunnel: &wire.Tunnel{MTU: wire.MTU{Tunnel: 1400}},
		},
		policy:  policy,
		outside: Outside{Net: in.net, Resolver: echoResolver{in.net.Network}, Close: func() {}},
	}
	in.s.tunnel.lease = in.s.offer.lease
	in.s.tunnel.cstp.to = (*catcher)(in)
	in.s.tunnel.putOff = make(chan struct{}, 1)
	in.s.tunnel.thawed = sync.NewCond(&in.s.tunnel.sinkMu)
	if err := in.s.makeInner(); err != nil {
		t.Fatal(err)
	}
	return in
}

func (in *inside) close() {
	in.s.stack.Close()
	in.s.relay.Close()
	in.s.gateway.Close()
	in.net.Close()
}

// inject is a batch of the client's packets.
func (in *inside) inject(pkts ...[]byte) {
	t := &in.s.tunnel
	t.upMu.Lock()
	defer t.upMu.Unlock()
	for _, p := range pkts {
		t.up(p)
	}
	t.endUp()
}

// said is what was said to the client since the last call.
func (in *inside) said() [][]byte {
	in.mu.Lock()
	defer in.mu.Unlock()
	d := in.down
	in.down = nil
	return d
}

// catcher is the channel of an inside.
type catcher inside

func (c *catcher) Next(n int) []byte {
	c.next = make([]byte, n)
	return c.next
}

func (c *catcher) Add(_ wire.PacketType, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = append(c.down, c.next[:n])
}

func (c *catcher) Flush()     {}
func (c *catcher) Busy() bool { return false }

// lines counts lines of a log.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) take() (text string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text = l.buf.String()
	l.buf.Reset()
	return text, strings.Count(text, "\n")
}

// echoResolver answers a query with itself.
type echoResolver struct{ net *stacktest.Network }

func (r echoResolver) Query(msg []byte, limit int, reply func([]byte)) {
	reply(append([]byte(nil), msg[:min(len(msg), limit)]...))
}

func (r echoResolver) DialTCP(ctx context.Context) (egress.Stream, error) {
	return r.net.DialTCP(ctx, netip.AddrPort{}, webHost)
}

// witness is a network that judges as the host's does, and knows by itself what
// must never leave.
type witness struct {
	*stacktest.Network
	t      testing.TB
	policy *egress.Policy
}

// never are destinations no client may reach, written down once more.
var never = func() (list []netip.Prefix) {
	for _, p := range []string{
		"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", // and broadcast
		"198.51.100.0/32", "198.51.100.1/32", "198.51.100.255/32", // the host's own
		"::/128", "::1/128", "fe80::/10", "ff00::/8", "2001:db8:51::1/128",
	} {
		list = append(list, netip.MustParsePrefix(p))
	}
	for _, p := range list[:8] { // the same by a translator, RFC 6052, and by 6to4
		b, v4 := netip.MustParseAddr("64:ff9b::").As16(), p.Addr().As4()
		copy(b[12:], v4[:])
		list = append(list, netip.PrefixFrom(netip.AddrFrom16(b), 96+p.Bits()))
		b = netip.MustParseAddr("2002::").As16()
		copy(b[2:], v4[:])
		list = append(list, netip.PrefixFrom(netip.AddrFrom16(b), 16+p.Bits()))
	}
	return list
}()

func (w *witness) leaves(what string, dst netip.AddrPort) {
	a := dst.Addr()
	if a.Is4In6() || a.Zone() != "" {
		w.t.Errorf("%s leaves to %v", what, dst)
	}
	for _, p := range never {
		if p.Contains(a) {
			w.t.Errorf("%s leaves to %v, of %v", what, dst, p)
		}
	}
}

func (w *witness) Check(p egress.Proto, dst netip.AddrPort) error { return w.policy.Check(p, dst) }

func (w *witness) DialTCP(ctx context.Context, src, dst netip.AddrPort) (egress.Stream, error) {
	w.leaves("TCP", dst)
	if src.Addr() != clientIP && src.Addr() != clientV6 {
		w.t.Errorf("a connection from %v", src)
	}
	return w.Network.DialTCP(ctx, src, dst)
}

func (w *witness) OpenUDP(v6 bool, r egress.Receiver) (egress.PacketSocket, error) {
	s, err := w.Network.OpenUDP(v6, r)
	return watchedSocket{s, w, "UDP", v6}, err
}

func (w *witness) OpenPing(v6 bool, r egress.Receiver) (egress.PacketSocket, error) {
	s, err := w.Network.OpenPing(v6, r)
	return watchedSocket{s, w, "echo", v6}, err
}

type watchedSocket struct {
	egress.PacketSocket
	w    *witness
	what string
	v6   bool
}

func (s watchedSocket) Send(msgs []egress.Message) (int, error) {
	for _, m := range msgs {
		s.w.leaves(s.what, m.Addr)
		if m.Addr.Addr().Is6() != s.v6 {
			s.w.t.Errorf("%s to %v by a socket of the other family", s.what, m.Addr)
		}
		if s.what == "echo" && !isEchoRequest(s.v6, m.Payload) {
			s.w.t.Errorf("a ping socket was given %x", m.Payload)
		}
	}
	return s.PacketSocket.Send(msgs)
}

func isEchoRequest(v6 bool, m []byte) bool {
	return len(m) >= 8 && m[1] == 0 && (v6 && m[0] == 128 || !v6 && m[0] == 8)
}

// sane verifies a packet to the client.
func (in *inside) sane(b []byte) {
	h, ok := packet.Parse(b)
	switch {
	case !ok || h.Length != len(b) || !packet.HeaderSumOK(b):
		in.t.Errorf("no IP packet came down: %x", b)
	case h.Dst != clientIP && h.Dst != clientV6:
		in.t.Errorf("came down to %v: %x", h.Dst, b)
	case h.Src == clientIP || h.Src == clientV6 || h.ToMany() || h.Src.IsMulticast() || h.Src.IsUnspecified():
		in.t.Errorf("came down from %v: %x", h.Src, b)
	case h.Fragment:
	case h.Proto == packet.TCP && packet.TransportSum(&h, b) != 0xffff,
		h.Proto == packet.ICMPv6 && packet.TransportSum(&h, b) != 0xffff,
		h.Proto == packet.ICMP && packet.Sum(h.Payload(b), 0) != 0xffff,
		h.Proto == packet.UDP && packet.TransportSum(&h, b) != 0xffff:
		in.t.Errorf("wrong checksum came down: %x", b)
	case h.Proto != packet.TCP && h.Proto != packet.UDP && !h.IsICMP():
		in.t.Errorf("protocol %d came down: %x", h.Proto, b)
	}
}
