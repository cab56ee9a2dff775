package datagram

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/egress"
)

// onLoopback is a relay on the host's sockets, to a host that echoes.
func onLoopback(t *testing.T) (*rig, *egress.Direct) {
	t.Helper()
	policy, err := egress.NewPolicy(egress.PolicyConfig{AllowUnsafe: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	d := egress.NewDirect(policy, egress.DirectConfig{})
	t.Cleanup(func() { d.Close() })
	return newRig(t, func(c *Config) { c.Net = d }), d
}

// A client's exchange goes on in another relay: the same port outside, and what
// arrived between the two is not lost.
func TestCarryToAnotherRelay(t *testing.T) {
	host, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	to := host.LocalAddr().(*net.UDPAddr).AddrPort()
	buf := make([]byte, 100)
	heard := func(want string) netip.AddrPort {
		t.Helper()
		host.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, from, err := host.ReadFromUDPAddrPort(buf)
		if err != nil || string(buf[:n]) != want {
			t.Fatalf("the host heard %q, %v", buf[:n], err)
		}
		return from
	}
	a, _ := onLoopback(t)
	a.inject(udp(5000, to, "one"))
	from := heard("one")
	carried := a.Carry()
	if len(carried) != 1 || a.Flows() != 0 {
		t.Fatalf("%d carried, %d left", len(carried), a.Flows())
	}
	host.WriteToUDPAddrPort([]byte("meanwhile"), from)
	a.inject(udp(5001, to, "too late"))
	if a.Flows() != 0 {
		t.Error("a relay that was carried away goes on")
	}

	b, _ := onLoopback(t)
	if !b.Adopt(carried[0]) || b.Flows() != 1 {
		t.Fatal("not adopted")
	}
	b.sink.wait()
	got := b.sink.packets()
	if len(got) != 1 {
		t.Fatalf("%d packets", len(got))
	}
	wantUDP(t, got[0], to, 5000, "meanwhile")
	b.inject(udp(5000, to, "two"))
	if now := heard("two"); now != from {
		t.Errorf("the port was %v, is %v", from, now)
	}
	// The same once more is refused, and the descriptor left to the caller.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	again := carried[0]
	again.FD = fd
	if b.Adopt(again) || unix.Close(fd) != nil || b.Flows() != 1 {
		t.Error("adopted twice")
	}
	b.Close()
}

// Sockets that cannot be taken out of their network end with the relay.
func TestCarryWithoutDescriptors(t *testing.T) {
	g := newRig(t, nil)
	g.inject(udp(5000, web4, "x"), ping(9, 1, web4.Addr(), "x"))
	if got := g.Carry(); len(got) != 0 || g.net.openNow() != 0 || g.Flows() != 0 {
		t.Errorf("%d carried, %d open, %d flows", len(got), g.net.openNow(), g.Flows())
	}
	if g.Adopt(Carried{FD: -1}) {
		t.Error("a network without Adopt adopted")
	}
}
