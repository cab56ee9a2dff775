package netstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"rocserv/egress"
	"rocserv/internal/packet"
	"rocserv/netstack/stacktest"
)

// TestDialFailures: a failed dial is answered with the truth, and the client's
// stack makes an errno of it.
func TestDialFailures(t *testing.T) {
	type answer struct {
		errno  error // what connect(2) of the client says; nil: nothing (yet)
		v4, v6 [2]byte
		count  func(Stats) uint64
	}
	refused := func(s Stats) uint64 { return s.Dial.Refused }
	unreachable := func(s Stats) uint64 { return s.Dial.Unreachable }
	prohibited := func(s Stats) uint64 { return s.Dial.Prohibited }
	tests := []struct {
		name string
		err  error
		want answer
	}{
		{"refused", syscall.ECONNREFUSED, answer{errno: syscall.ECONNREFUSED, count: refused}},
		{"wrapped", fmt.Errorf("dial: %w", syscall.ECONNREFUSED), answer{errno: syscall.ECONNREFUSED, count: refused}},
		{"unknown", errors.New("proxy: bad day"), answer{errno: syscall.ECONNREFUSED, count: refused}},
		{"host", syscall.EHOSTUNREACH, answer{errno: syscall.EHOSTUNREACH, v4: [2]byte{3, 1}, v6: [2]byte{1, 3}, count: unreachable}},
		{"net", syscall.ENETUNREACH, answer{errno: syscall.ENETUNREACH, v4: [2]byte{3, 0}, v6: [2]byte{1, 0}, count: unreachable}},
		{"host forbids", syscall.EACCES, answer{errno: syscall.EHOSTUNREACH, v4: [2]byte{3, 13}, v6: [2]byte{1, 1}, count: prohibited}},
		{"policy", egress.ErrProhibited, answer{errno: syscall.EHOSTUNREACH, v4: [2]byte{3, 13}, v6: [2]byte{1, 1}, count: prohibited}},
		{"timed out", syscall.ETIMEDOUT, answer{count: func(s Stats) uint64 { return s.Dial.TimedOut }}},
		{"no descriptors", syscall.EMFILE, answer{count: func(s Stats) uint64 { return s.Dial.Exhausted }}},
		{"no ports", syscall.EADDRNOTAVAIL, answer{count: func(s Stats) uint64 { return s.Dial.Exhausted }}},
	}
	for _, test := range tests {
		for family, addr := range families4and6 {
			t.Run(test.name+"/"+family, func(t *testing.T) {
				r := newRig(t, rigOptions{})
				dst := port(addr, 80)
				r.network.Fail(dst, test.err)
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				want, errno := test.want.v4, test.want.errno
				if family == "v6" {
					want = test.want.v6
					if errno == syscall.EHOSTUNREACH {
						errno = nil // gVisor's client knows these messages in IPv4 only
					}
				}
				result := make(chan error, 1)
				go func() { _, err := r.client.DialTCP(ctx, dst); result <- err }()
				eventually(t, "counted", func() bool { return test.want.count(r.stack.Stats()) > 0 })
				if want != [2]byte{} {
					eventually(t, "answered", func() bool { return len(r.icmp()) > 0 })
				}
				if errno == nil {
					cancel()
					errno = context.Canceled
				}
				if err := <-result; !errors.Is(err, errno) {
					t.Errorf("client got %v, want %v", err, errno)
				}
				if got := r.icmp(); want == [2]byte{} && len(got) > 0 || want != [2]byte{} && !slices.Contains(got, want) {
					t.Errorf("ICMP %v, want %v", got, want)
				}
				eventually(t, "the table is empty", func() bool { return r.stack.Flows() == 0 })
			})
		}
	}
}

// TestPolicyAtSYN: what the policy forbids is never dialled, and has no effect
// on the stack but the answer.
func TestPolicyAtSYN(t *testing.T) {
	for family, addr := range families4and6 {
		t.Run(family, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			r.network.Prohibit(netip.PrefixFrom(addr, addr.BitLen()))
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if _, err := r.client.DialTCP(ctx, port(addr, 22)); err == nil {
				t.Error("connected")
			}
			if total, _ := r.network.Dials(); total != 0 {
				t.Error("dialled")
			}
			if r.stack.Stats().Dial.Prohibited == 0 || len(r.icmp()) == 0 {
				t.Error("no answer")
			}
		})
	}
}

func TestGateway(t *testing.T) {
	services := func(cfg *Config) {
		net := cfg.Net
		cfg.GatewayTCP = func(port uint16) (func(context.Context) (egress.Stream, error), bool) {
			if port != 53 {
				return nil, false
			}
			return func(ctx context.Context) (egress.Stream, error) {
				return net.DialTCP(ctx, netip.AddrPort{}, mustAddrPort("198.51.100.53:53"))
			}, true
		}
	}
	for family, addr := range map[string]netip.Addr{"v4": gateway4, "v6": gateway6} {
		t.Run(family, func(t *testing.T) {
			r := newRig(t, rigOptions{config: services})
			r.network.Serve(mustAddrPort("198.51.100.53:53"), stacktest.Echo)
			// The gateway's address is not the network's affair, nor its policy's.
			r.network.Prohibit(netip.PrefixFrom(addr, addr.BitLen()))
			c := r.dial(port(addr, 53))
			c.Write([]byte("query"))
			b := make([]byte, 5)
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "query" {
				t.Errorf("%q, %v", b, err)
			}
			if _, err := r.tryDial(port(addr, 54)); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("closed port: %v", err)
			}
		})
		t.Run(family+" in another's place", func(t *testing.T) {
			r := newRig(t, rigOptions{config: func(cfg *Config) { services(cfg); cfg.InterceptDNS = true }})
			r.network.Serve(mustAddrPort("198.51.100.53:53"), stacktest.Echo)
			other := netip.MustParseAddr("203.0.113.9")
			if addr.Is6() {
				other = netip.MustParseAddr("2001:db8:9::9")
			}
			r.network.Prohibit(netip.PrefixFrom(other, other.BitLen()))
			c := r.dial(port(other, 53))
			c.Write([]byte("query"))
			b := make([]byte, 5)
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "query" {
				t.Errorf("%q, %v", b, err)
			}
			if _, err := r.tryDial(port(other, 54)); err == nil {
				t.Error("another port is taken too")
			}
		})
		t.Run(family+" without services", func(t *testing.T) {
			r := newRig(t, rigOptions{})
			if _, err := r.tryDial(port(addr, 53)); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("closed port: %v", err)
			}
			if total, _ := r.network.Dials(); total != 0 {
				t.Error("dialled the network")
			}
		})
	}
}

// TestDialOnce: a client that repeats its SYN does not make us dial twice.
func TestDialOnce(t *testing.T) {
	clock := faketime.NewManualClock()
	r := newRig(t, rigOptions{clock: clock})
	dst := port(host4, 80)
	r.network.BlackHole(dst)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go r.client.DialTCP(ctx, dst)
	eventually(t, "dialling", func() bool { _, now := r.network.Dials(); return now == 1 })
	for sec := range 7 {
		clock.Advance(time.Second)
		switch sec + 1 {
		case 1, 3, 7: // when SYNs are repeated
			eventually(t, "SYN repeated", func() bool { return r.lastSYN() == r.stack.clock.NowMonotonic() })
		}
	}
	if total, now := r.network.Dials(); total != 1 || now != 1 {
		t.Errorf("%d dials, %d under way", total, now)
	}
	clock.Advance(3 * time.Second)
	eventually(t, "dial timeout", func() bool { return r.stack.Stats().Dial.TimedOut == 1 && r.stack.Flows() == 0 })
}

// TestClientGivesUpDialling: a dial ends when the client's SYNs stop.
func TestClientGivesUpDialling(t *testing.T) {
	clock := faketime.NewManualClock()
	r := newRig(t, rigOptions{clock: clock})
	dst := port(host4, 80)
	r.network.BlackHole(dst)
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() { r.client.DialTCP(ctx, dst); close(gone) }()
	eventually(t, "dialling", func() bool { _, now := r.network.Dials(); return now == 1 })
	r.client.Vanish(true)
	clock.Advance(patience)
	eventually(t, "dial cancelled", func() bool { _, now := r.network.Dials(); return now == 0 })
	eventually(t, "counted", func() bool { return r.stack.Stats().Dial.GivenUp == 1 })
	cancel()
	<-gone
}

// TestHandshakeBounded: a client that never completes its handshake leaves
// nothing behind, here or at the host.
func TestHandshakeBounded(t *testing.T) {
	clock := faketime.NewManualClock()
	dropAll := func(up bool, pkt []byte) bool { return !up } // no SYN-ACK arrives
	r := newRig(t, rigOptions{clock: clock, drop: dropAll})
	dst := port(host4, 80)
	hostErr := make(chan error, 1)
	r.network.Serve(dst, func(c stacktest.Conn) {
		_, err := c.Read(make([]byte, 1))
		hostErr <- err
	})
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() { r.client.DialTCP(ctx, dst); close(gone) }()
	eventually(t, "SYN-ACK", func() bool { return r.stack.Stats().TCP.SegmentsSent > 0 })
	cancel()
	<-gone
	r.client.Vanish(true)
	advance(clock, handshakeLimit+2*time.Second, time.Second)
	select {
	case err := <-hostErr:
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("host saw %v, want a reset", err)
		}
	case <-time.After(15 * time.Second):
		t.Error("host's connection still open")
	}
	eventually(t, "nothing left", func() bool { return r.stack.Flows() == 0 })
	if n := r.stack.Stats().Dial.HandshakesFailed; n != 1 {
		t.Errorf("%d failed handshakes", n)
	}
}

// advance moves a clock in steps, letting goroutines run in between.
func advance(clock *faketime.ManualClock, d, step time.Duration) {
	for ; d > 0; d -= step {
		clock.Advance(step)
		time.Sleep(500 * time.Microsecond) // the clock does not wait for the goroutines of its timers
	}
}

// lastSYN is when the only dial last heard of its client.
func (r *rig) lastSYN() (t tcpip.MonotonicTime) {
	r.stack.table.each(func(f *flow) { t = f.dial.lastSYN })
	return t
}

// TestDialReported: what a router said about our SYN is said to the client, by
// that router; what this host said, by the gateway.
func TestDialReported(t *testing.T) {
	router4, router6 := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8:1::1")
	for name, tt := range map[string]struct {
		dst, from, want netip.Addr
		typ, code       uint8
	}{
		"time exceeded":       {host4, router4, router4, 11, 0},
		"time exceeded, IPv6": {host6, router6, router6, 3, 0},
		"prohibited":          {host4, router4, router4, 3, 13},
		"closed by ICMP":      {host4, host4, host4, 3, 3},
		"this host":           {host4, netip.Addr{}, gateway4, 3, 1},
		"this host, IPv6":     {host6, netip.Addr{}, gateway6, 1, 3},
		"link-local router":   {host6, netip.MustParseAddr("fe80::1"), gateway6, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			dst := port(tt.dst, 80)
			r.network.Fail(dst, &egress.ReportError{
				Report: egress.Report{Dst: dst, From: tt.from, Type: tt.typ, Code: tt.code}, Err: syscall.EHOSTUNREACH,
			})
			ctx, cancel := context.WithCancel(context.Background())
			gone := make(chan struct{})
			go func() { r.client.DialTCP(ctx, dst); close(gone) }()
			eventually(t, "answered", func() bool { return len(r.icmp()) > 0 })
			cancel()
			<-gone
			r.mu.Lock()
			defer r.mu.Unlock()
			h, _ := packet.Parse(r.seen[0])
			if m := h.Payload(r.seen[0]); h.Src != tt.want || m[0] != tt.typ || m[1] != tt.code {
				t.Errorf("%v says %d/%d, want %v", h.Src, m[0], m[1], tt.want)
			}
		})
	}
}

// TestSynHops: a SYN with few hops leaves with one less, an ordinary one with
// the host's default.
func TestSynHops(t *testing.T) {
	for ttl, want := range map[uint8]int{2: 1, 60: 59, 61: 0, 64: 0, 255: 0} {
		t.Run(fmt.Sprint(ttl), func(t *testing.T) {
			var got atomic.Int64
			got.Store(-1)
			b := newBare(t, Limits{}, func(c *Config) { c.Net = ttlNetwork{c.Net, &got} })
			b.inject(segment{src: port(lease4, 4000), dst: port(host4, 80), flags: syn, ttl: ttl})
			eventually(t, "dialled", func() bool { return got.Load() >= 0 })
			if got.Load() != int64(want) {
				t.Errorf("leaves with %d, want %d", got.Load(), want)
			}
		})
	}
}

// ttlNetwork sees with what TTL a dial is to begin.
type ttlNetwork struct {
	egress.Network
	got *atomic.Int64
}

func (n ttlNetwork) DialTCP(ctx context.Context, _, _ netip.AddrPort) (egress.Stream, error) {
	n.got.Store(int64(egress.TTLOf(ctx)))
	return nil, syscall.ECONNREFUSED
}
