package netstack

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"rocserv/internal/packet"
	"rocserv/netstack/stacktest"
)

var (
	lease4   = netip.MustParseAddr("10.9.0.2")
	lease6   = netip.MustParseAddr("fd09::2")
	gateway4 = netip.MustParseAddr("10.9.0.1")
	gateway6 = netip.MustParseAddr("fd09::1")
	host4    = netip.MustParseAddr("192.0.2.10")
	host6    = netip.MustParseAddr("2001:db8::10")
)

// families4and6 runs a test for both: name and a host's address.
var families4and6 = map[string]netip.Addr{"v4": host4, "v6": host6}

// rig is a client, a stack and a network.
type rig struct {
	t       *testing.T
	client  *stacktest.Client
	network *stacktest.Network
	stack   *Stack

	mu   sync.Mutex
	seen [][]byte // what the client got, if it is not TCP
}

type rigOptions struct {
	mtu      int
	sockets  bool
	limits   Limits
	clock    tcpip.Clock
	lossless bool
	drop     func(up bool, pkt []byte) bool
	config   func(*Config)
}

const testMTU = 1400

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	if o.mtu == 0 {
		o.mtu = testMTU
	}
	r := &rig{t: t, network: stacktest.NewNetwork()}
	r.network.Sockets = o.sockets
	var err error
	r.client, err = stacktest.NewClient(stacktest.ClientConfig{
		Addrs: []netip.Addr{lease4, lease6}, MTU: o.mtu, Clock: o.clock, Drop: o.drop,
		Up:      func(pkts [][]byte) { r.stack.Inject(pkts) },
		Observe: r.observe,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Addrs: []netip.Addr{lease4, lease6}, Gateway4: gateway4, Gateway6: gateway6,
		MTU: o.mtu, Sink: r.client.Sink(), Net: r.network, Limits: o.limits, Clock: o.clock, Lossless: o.lossless,
		Log: slog.New(slog.DiscardHandler),
	}
	if o.config != nil {
		o.config(&cfg)
	}
	r.stack, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

// close ends everything, as a worker does: the tunnel first.
func (r *rig) close() {
	r.t.Helper()
	r.client.Close()
	r.stack.Close()
	r.network.Close()
	if n := r.stack.Stats().Packet.InternalErrors; n != 0 {
		r.t.Errorf("%d internal errors", n)
	}
	if n := r.stack.Flows(); n != 0 {
		r.t.Errorf("%d flows left after Close", n)
	}
	eventually(r.t, "all goroutines end", func() bool { return ownGoroutines() == "" })
}

// observe keeps what the client gets beside TCP.
func (r *rig) observe(b []byte) {
	h, ok := packet.Parse(b)
	if !ok {
		r.t.Errorf("client got garbage: %x", b)
		return
	}
	if h.Proto == packet.TCP {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, append([]byte(nil), b...))
}

// icmp returns type and code of the ICMP messages the client got.
func (r *rig) icmp() (m [][2]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.seen {
		if h, _ := packet.Parse(b); h.IsICMP() {
			p := h.Payload(b)
			m = append(m, [2]byte{p[0], p[1]})
		}
	}
	return m
}

func (r *rig) dial(dst netip.AddrPort) *stacktest.TCPConn {
	r.t.Helper()
	c, err := r.tryDial(dst)
	if err != nil {
		r.t.Fatalf("dial %v: %v", dst, err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) tryDial(dst netip.AddrPort) (*stacktest.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return r.client.DialTCP(ctx, dst)
}

// eventually waits until ok, which other goroutines bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s\n%s", what, ownGoroutines())
		}
		time.Sleep(time.Millisecond)
	}
}

// ownGoroutines returns the stacks of goroutines that run code of this
// package or of gVisor.
func ownGoroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var own []string
	for _, g := range strings.Split(string(buf), "\n\n") {
		if strings.Contains(g, "testing.tRunner") || strings.Contains(g, "testing.(*T).Run") ||
			strings.Contains(g, "netstack.TestMain") {
			continue
		}
		if strings.Contains(g, "rocserv/netstack.") || strings.Contains(g, "gvisor.dev") {
			own = append(own, g)
		}
	}
	return strings.Join(own, "\n\n")
}

func port(a netip.Addr, p uint16) netip.AddrPort { return netip.AddrPortFrom(a, p) }

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// counter counts the bytes that went through a writer.
type counter struct{ n atomic.Int64 }

func (c *counter) writer(w io.Writer) io.Writer { return countingWriter{w, c} }

type countingWriter struct {
	w io.Writer
	c *counter
}

func (w countingWriter) Write(b []byte) (int, error) {
	n, err := w.w.Write(b)
	w.c.n.Add(int64(n))
	return n, err
}

// settled waits until the count has not changed for a while, and returns it.
func (c *counter) settled(t *testing.T) int64 {
	t.Helper()
	last, same := int64(-1), 0
	eventually(t, "the flow stalls", func() bool {
		if n := c.n.Load(); n > 0 && n == last {
			same++
		} else {
			last, same = n, 0
		}
		return same > 100
	})
	return last
}
