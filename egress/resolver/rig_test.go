package resolver

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"rocserv/egress"
)

// manualClock is a clock that stands still.
type manualClock struct {
	now    time.Time
	timers []*manualTimer
}

type manualTimer struct {
	c  *manualClock
	f  func()
	at time.Time // zero: stopped
}

func (c *manualClock) Now() time.Time { return c.now }

func (c *manualClock) NewTimer(f func()) Timer {
	t := &manualTimer{c: c, f: f}
	c.timers = append(c.timers, t)
	return t
}

func (t *manualTimer) Reset(d time.Duration) bool { t.at = t.c.now.Add(d); return true }

func (t *manualTimer) Stop() bool { t.at = time.Time{}; return true }

// advance lets time pass and timers end, in order.
func (c *manualClock) advance(d time.Duration) {
	for end := c.now.Add(d); ; {
		var next *manualTimer
		for _, t := range c.timers {
			if !t.at.IsZero() && !t.at.After(end) && (next == nil || t.at.Before(next.at)) {
				next = t
			}
		}
		if next == nil {
			c.now = end
			return
		}
		c.now = next.at
		next.at = time.Time{}
		next.f()
	}
}

// fakeUpstreams is the network behind a resolver under test.
type fakeUpstreams struct {
	sockets []*fakeSocket
	openErr error
	sendErr map[netip.AddrPort]error
}

type fakeSocket struct {
	net    *fakeUpstreams
	addr   netip.AddrPort
	up     *link
	sent   [][]byte
	closed bool
}

func (f *fakeUpstreams) open(up *link) (egress.PacketSocket, error) {
	if f.openErr != nil {
		return nil, f.openErr
	}
	s := &fakeSocket{net: f, addr: up.u.server.Addr, up: up}
	f.sockets = append(f.sockets, s)
	return s, nil
}

func (s *fakeSocket) Send(msgs []egress.Message) (int, error) {
	if err := s.net.sendErr[s.addr]; err != nil {
		return 0, err
	}
	for _, m := range msgs {
		s.sent = append(s.sent, bytes.Clone(m.Payload))
	}
	return len(msgs), nil
}

func (s *fakeSocket) Close() error {
	if s.closed {
		panic("closed twice")
	}
	s.closed = true
	return nil
}

func (s *fakeSocket) receive(msg []byte) {
	s.up.Receive([]egress.Message{{Addr: s.addr, Payload: msg}})
}

func (f *fakeUpstreams) openSockets() (n int) {
	for _, s := range f.sockets {
		if !s.closed {
			n++
		}
	}
	return n
}

// last is the newest socket to an upstream, and the newest query on it.
func (f *fakeUpstreams) last(t testing.TB, a netip.AddrPort) (*fakeSocket, []byte) {
	t.Helper()
	for _, s := range slices.Backward(f.sockets) {
		if s.addr == a && len(s.sent) > 0 {
			return s, s.sent[len(s.sent)-1]
		}
	}
	t.Fatalf("nothing was sent to %v", a)
	return nil, nil
}

// count is how many queries an upstream has got.
func (f *fakeUpstreams) count(a netip.AddrPort) (n int) {
	for _, s := range f.sockets {
		if s.addr == a {
			n += len(s.sent)
		}
	}
	return n
}

var (
	up1 = netip.MustParseAddrPort("192.0.2.1:53")
	up2 = netip.MustParseAddrPort("[2001:db8::2]:53")
	up3 = netip.MustParseAddrPort("192.0.2.3:53")
)

type resolverRig struct {
	*Resolver
	clock *manualClock
	net   *fakeUpstreams
}

func newRig(t testing.TB, upstreams ...netip.AddrPort) *resolverRig {
	return newRigOf(t, Config{Servers: plain(upstreams...)})
}

func newRigOf(t testing.TB, cfg Config) *resolverRig {
	c := &manualClock{now: time.Unix(1000, 0)}
	f := &fakeUpstreams{sendErr: map[netip.AddrPort]error{}}
	cfg.Now, cfg.NewTimer = c.Now, c.NewTimer
	r := newResolver(f.open, cfg)
	t.Cleanup(func() { r.Close() })
	return &resolverRig{r, c, f}
}

func plain(addrs ...netip.AddrPort) (list []Server) {
	for _, a := range addrs {
		list = append(list, Server{Addr: a})
	}
	return list
}

// ask makes a query and gives where its answer comes to.
func (r *resolverRig) ask(msg []byte) *[]byte { return r.askLimit(msg, 1400) }

func (r *resolverRig) askLimit(msg []byte, limit int) *[]byte {
	var got []byte
	r.Query(msg, limit, func(answer []byte) {
		if got != nil {
			panic("answered twice")
		}
		got = bytes.Clone(answer)
	})
	return &got
}

func dnsQueryMsg(t testing.TB, id uint16, name string, typ dnsmessage.Type, udpSize int) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	b.StartQuestions()
	b.Question(dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET})
	if udpSize > 0 {
		b.StartAdditionals()
		var h dnsmessage.ResourceHeader
		h.SetEDNS0(udpSize, 0, true)
		b.OPTResource(h, dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 10, Data: []byte("cookie00")}}})
	}
	msg, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// answerTo makes the answer of an upstream: n address records.
func answerTo(t testing.TB, query []byte, rcode dnsmessage.RCode, n int) []byte {
	t.Helper()
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		t.Fatal(err)
	}
	q, err := p.Question()
	if err != nil {
		t.Fatal(err)
	}
	h.Response, h.RecursionAvailable, h.RCode = true, true, rcode
	b := dnsmessage.NewBuilder(nil, h)
	b.EnableCompression()
	b.StartQuestions()
	b.Question(q)
	b.StartAnswers()
	for i := range n {
		b.AResource(dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, dnsmessage.AResource{A: [4]byte{10, 0, 0, byte(i)}})
	}
	msg, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func mustParse(t testing.TB, msg []byte) dnsmessage.Message {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(msg); err != nil {
		t.Fatalf("answer %x: %v", msg, err)
	}
	return m
}

func edit(b []byte, f func([]byte)) []byte {
	b = bytes.Clone(b)
	f(b)
	return b
}

// dnsServer answers on loopback, by UDP.
func dnsServer(t testing.TB) netip.AddrPort {
	c, at := listenUDP(t, "127.0.0.1:0")
	c.SetReadBuffer(1 << 20)
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			c.WriteToUDPAddrPort(answerTo(t, b[:n], dnsmessage.RCodeSuccess, 1), from)
		}
	}()
	return at
}

func listenUDP(t testing.TB, address string) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenUDP("udp", a)
	if err != nil {
		t.Skipf("no socket on %s: %v", address, err)
	}
	t.Cleanup(func() { c.Close() })
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// closedPort is a UDP address where nobody listens.
func closedPort(t testing.TB) netip.AddrPort {
	c, dst := listenUDP(t, "127.0.0.1:0")
	c.Close()
	return dst
}

func newDirect(t testing.TB) *egress.Direct {
	t.Helper()
	p, err := egress.NewPolicy(egress.PolicyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	d := egress.NewDirect(p, egress.DirectConfig{})
	t.Cleanup(func() { d.Close() })
	return d
}
