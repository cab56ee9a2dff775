package datagram

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
)

// directNet is an egress to the loopback interface.
func directNet(t testing.TB) *egress.Direct {
	t.Helper()
	policy, err := egress.NewPolicy(egress.PolicyConfig{
		AllowUnsafe: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := egress.NewDirect(policy, egress.DirectConfig{RecvTTL: true})
	t.Cleanup(func() { d.Close() })
	return d
}

// echoServer is a UDP server that sends back what it gets.
func echoServer(t testing.TB, addr string) netip.AddrPort {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Skipf("no %s here: %v", addr, err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			c.WriteTo(buf[:n], from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// The kernel's sockets instead of a fake: datagrams of all sizes come back.
func TestKernelUDP(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			to := echoServer(t, addr)
			g := newRig(t, func(c *Config) { c.Net = directNet(t) })
			defer g.Close()
			for _, payload := range []string{"question", "", strings.Repeat("x", 1300), strings.Repeat("y", 9000)} {
				g.inject(withTTL(udp(5000, to, payload), 20))
				g.sink.wait()
				got := g.sink.packets()
				h := wantUDP(t, reassemble(t, got, 1400), to, 5000, payload)
				if h.TTL != 63 {
					t.Errorf("TTL %d", h.TTL)
				}
			}
			if st := g.Stats(); st.NAT.Created != 1 || st.Unsent != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// A ping socket has an identifier of its own; the client sees its.
func TestKernelEcho(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "::1"} {
		t.Run(addr, func(t *testing.T) {
			to := netip.MustParseAddr(addr)
			d := directNet(t)
			if s, err := d.OpenPing(to.Is6(), nil); err != nil {
				t.Skipf("no ping sockets here: %v", err)
			} else {
				s.Close()
			}
			if c, err := net.ListenPacket("udp", net.JoinHostPort(addr, "0")); err != nil {
				t.Skipf("no %s here: %v", addr, err)
			} else {
				c.Close()
			}
			g := newRig(t, func(c *Config) { c.Net = d })
			defer g.Close()
			g.inject(ping(0x4711, 1, to, "data"), ping(0x4712, 2, to, "other"))
			var got [][]byte
			for len(got) < 2 {
				g.sink.wait()
				got = append(got, g.sink.packets()...)
			}
			seen := map[uint16]string{}
			for _, b := range got {
				h, _ := packet.Parse(b)
				e, ok, err := packet.ReadEcho(&h, b)
				if !ok || err != nil || h.Src != to {
					t.Fatalf("%+v, %v, %v", h, ok, err)
				}
				seen[e.ID] = string(e.Msg[8:])
			}
			if len(seen) != 2 || seen[0x4711] != "data" || seen[0x4712] != "other" {
				t.Errorf("%x", seen)
			}
		})
	}
}

// Policy and TTL hold with the kernel too: loopback only.
func TestKernelPolicy(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Net = directNet(t) })
	defer g.Close()
	g.inject(udp(5000, netip.MustParseAddrPort("169.254.169.254:80"), "x"))
	if st := g.Stats(); st.Prohibited != 1 || st.Answered != 1 || st.NAT.Created != 0 {
		t.Errorf("%+v", st)
	}
	g.sink.wait()
}

// BenchmarkKernelUp is one packet up, in batches of 32, system call included;
// the receiver is a socket that nobody reads.
func BenchmarkKernelUp(b *testing.B) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s := &steady{rig: newRig(b, func(cfg *Config) { cfg.Net = directNet(b); cfg.Now = time.Now })}
	defer s.Close()
	to := c.LocalAddr().(*net.UDPAddr).AddrPort()
	for range 32 {
		p := udp(5000, to, strings.Repeat("x", 64))
		h, _ := packet.Parse(p)
		s.heads, s.pkts = append(s.heads, h), append(s.pkts, p)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.up()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*32), "ns/packet")
}
