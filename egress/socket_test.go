package egress

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestUDP: one socket, two destinations, one port towards both (RFC 4787
// REQ-1); what they answer arrives with its source.
func TestUDP(t *testing.T) {
	for _, tt := range loopbacks {
		t.Run(tt.name, func(t *testing.T) {
			d := newDirect(t, DirectConfig{})
			in := newInbox()
			s := openUDP(t, d, tt.v6, in)
			a, addrA := listenUDP(t, tt.address)
			b, addrB := listenUDP(t, tt.address)
			big := bytes.Repeat([]byte("x"), 60000)
			msgs := []Message{{Addr: addrA, Payload: []byte("one")}, {Addr: addrB, Payload: nil}, {Addr: addrA, Payload: big}}
			if n, err := s.Send(msgs); n != 3 || err != nil {
				t.Fatalf("Send: %d, %v", n, err)
			}
			one, fromA := readFrom(t, a)
			none, fromB := readFrom(t, b)
			large, _ := readFrom(t, a)
			if string(one) != "one" || len(none) != 0 || !bytes.Equal(large, big) {
				t.Errorf("arrived: %q, %q, %d bytes", one, none, len(large))
			}
			if fromA != fromB {
				t.Errorf("two mappings for one socket: %v and %v", fromA, fromB)
			}
			a.WriteToUDPAddrPort(big, fromA)
			in.wait(t, 1)
			b.WriteToUDPAddrPort([]byte{}, fromB)
			got := in.wait(t, 2)
			if got[0].Addr != addrA || !bytes.Equal(got[0].Payload, big) || got[1].Addr != addrB || len(got[1].Payload) != 0 {
				t.Errorf("received %d bytes from %v, %d bytes from %v", len(got[0].Payload), got[0].Addr, len(got[1].Payload), got[1].Addr)
			}
			if got[0].TTL != 0 {
				t.Errorf("TTL %d though not asked for", got[0].TTL)
			}
		})
	}
}

// TestMapped: the IPv6 socket does not speak v4-mapped addresses, the IPv4 one
// takes them for what they are.
func TestMapped(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	c, dst := listenUDP(t, "127.0.0.1:0")
	mapped := netip.AddrPortFrom(netip.AddrFrom16(dst.Addr().As16()), dst.Port())
	s := openUDP(t, d, false, newInbox())
	if n, err := s.Send([]Message{{Addr: mapped, Payload: []byte("x")}}); n != 1 || err != nil {
		t.Fatalf("IPv4 socket: %d, %v", n, err)
	}
	readFrom(t, c)
	s6 := openUDP(t, d, true, newInbox())
	if _, err := s6.Send([]Message{{Addr: mapped, Payload: []byte("x")}}); !errors.Is(err, unix.EAFNOSUPPORT) || Classify(err) != NetUnreachable {
		t.Errorf("IPv6 socket: %v", err)
	}
	// The kernel has the same opinion.
	if v, err := unix.GetsockoptInt(s6.(*socket).fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY); v != 1 || err != nil {
		t.Errorf("IPV6_V6ONLY: %d, %v", v, err)
	}
}

func TestSockaddr(t *testing.T) {
	for in, want := range map[string]struct {
		out   string
		scope uint32
		size  int
	}{
		"192.0.2.1:53":       {"192.0.2.1:53", 0, unix.SizeofSockaddrInet4},
		"[2001:db8::1]:4660": {"[2001:db8::1]:4660", 0, unix.SizeofSockaddrInet6},
		"[fe80::1%7]:53":     {"[fe80::1]:53", 7, unix.SizeofSockaddrInet6}, // a resolver main knows of
		"[fe80::1%eth0]:53":  {"[fe80::1]:53", 0, unix.SizeofSockaddrInet6},
	} {
		var sa sockaddr
		n := sa.set(netip.MustParseAddrPort(in))
		if n != want.size || sa.get() != netip.MustParseAddrPort(want.out) || n == unix.SizeofSockaddrInet6 && sa.Scope_id != want.scope {
			t.Errorf("%s: %d bytes, %v, scope %d", in, n, sa.get(), sa.Scope_id)
		}
	}
	var none sockaddr
	if none.get().IsValid() {
		t.Error("an address out of nothing")
	}
}

func TestTTL(t *testing.T) {
	for _, tt := range loopbacks {
		t.Run(tt.name, func(t *testing.T) {
			d := newDirect(t, DirectConfig{RecvTTL: true})
			in := newInbox()
			a, b := openUDP(t, d, tt.v6, in), openUDP(t, d, tt.v6, newInbox())
			c, dst := listenUDP(t, tt.address)
			a.Send([]Message{{Addr: dst, Payload: []byte("who am I")}})
			_, addrA := readFrom(t, c)
			if n, err := b.Send([]Message{{Addr: addrA, TTL: 5}, {Addr: addrA}, {Addr: addrA, TTL: 77}}); n != 3 || err != nil {
				t.Fatal(n, err)
			}
			got := in.wait(t, 3)
			if got[0].TTL != 5 || got[1].TTL != 64 || got[2].TTL != 77 {
				t.Errorf("TTLs %d, %d, %d; want 5, 64, 77", got[0].TTL, got[1].TTL, got[2].TTL)
			}
		})
	}
}

// TestSendJudges: every destination, also of a socket that has sent before.
func TestSendJudges(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	c, dst := listenUDP(t, "127.0.0.1:0")
	s := openUDP(t, d, false, newInbox())
	bad := netip.MustParseAddrPort("169.254.169.254:80")
	msgs := []Message{{Addr: dst, Payload: []byte("1")}, {Addr: bad, Payload: []byte("2")}, {Addr: dst, Payload: []byte("3")}}
	n, err := s.Send(msgs)
	if n != 1 || !errors.Is(err, DeniedMetadata) {
		t.Fatalf("Send: %d, %v; want 1, %v", n, err, DeniedMetadata)
	}
	if n, err := s.Send(msgs[n+1:]); n != 1 || err != nil {
		t.Fatalf("the rest: %d, %v", n, err)
	}
	first, _ := readFrom(t, c)
	second, _ := readFrom(t, c)
	if string(first) != "1" || string(second) != "3" {
		t.Errorf("arrived: %q, %q", first, second)
	}
	// The verdict is not kept longer than the policy.
	d.policy.SetHost(Host{Denied: []netip.Prefix{netip.PrefixFrom(dst.Addr(), 32)}})
	if n, err := s.Send(msgs[:1]); n != 0 || !errors.Is(err, DeniedHost) {
		t.Errorf("after the host named it: %d, %v", n, err)
	}
	if err := d.Check(UDP, bad); !errors.Is(err, DeniedMetadata) {
		t.Errorf("Check: %v", err)
	}
}

func TestSendManyBatches(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	c, dst := listenUDP(t, "127.0.0.1:0")
	c.SetReadBuffer(1 << 20)
	s := openUDP(t, d, false, newInbox())
	msgs := make([]Message, 2*sendMax+7)
	for i := range msgs {
		msgs[i] = Message{Addr: dst, Payload: []byte(fmt.Sprint(i))}
	}
	if n, err := s.Send(msgs); n != len(msgs) || err != nil {
		t.Fatalf("Send: %d, %v", n, err)
	}
	for i := range msgs {
		if b, _ := readFrom(t, c); string(b) != fmt.Sprint(i) {
			t.Fatalf("message %d: %q", i, b)
		}
	}
	if n, err := s.Send([]Message{{Addr: dst}, {Addr: dst, Payload: make([]byte, 1<<16)}, {Addr: dst}}); n != 1 || Classify(err) != TooBig {
		t.Errorf("too long a message: %d, %v", n, err)
	}
}

// TestRuns: what leaves as one long message arrives as the datagrams it was made
// of, also where the host cannot segment.
func TestRuns(t *testing.T) {
	for _, tt := range loopbacks {
		for _, segments := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/segments=%v", tt.name, segments), func(t *testing.T) { testRuns(t, tt.v6, tt.address, segments) })
		}
	}
}

func testRuns(t *testing.T, v6 bool, address string, segments bool) {
	d := newDirect(t, DirectConfig{RecvTTL: true})
	s := openUDP(t, d, v6, newInbox())
	if !segments { // the kernel refuses UDP_SEGMENT without checksums
		if err := unix.SetsockoptInt(s.(*socket).fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
			t.Fatal(err)
		}
		unix.SetsockoptInt(s.(*socket).fd, unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_TX, 1)
	}
	in := newInbox()
	far := openUDP(t, d, v6, in)
	c, gate := listenUDP(t, address)
	unix.SetsockoptInt(far.(*socket).fd, unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_RX, 1)
	far.Send([]Message{{Addr: gate}})
	_, dst := readFrom(t, c)

	var msgs []Message
	for i, n := range []int{100, 100, 100, 40, 100, 0, 100, 100, 200, 200, 1, 30000, 30000, 30000, 7, 7, 7, 7} {
		m := Message{Addr: dst, Payload: bytes.Repeat([]byte{byte(i)}, n), TTL: 9}
		if i >= 16 {
			m.TTL = 8
		}
		msgs = append(msgs, m)
	}
	for range 2 { // the second time a host that cannot is known
		if n, err := s.Send(msgs); n != len(msgs) || err != nil {
			t.Fatalf("Send: %d, %v", n, err)
		}
	}
	if s.(*socket).single == segments {
		t.Errorf("single is %v", !segments)
	}
	for i, got := range in.wait(t, 2*len(msgs)) {
		want := msgs[i%len(msgs)]
		if !bytes.Equal(got.Payload, want.Payload) || got.TTL != want.TTL {
			t.Fatalf("message %d: %d bytes, TTL %d; want %d, %d", i, len(got.Payload), got.TTL, len(want.Payload), want.TTL)
		}
	}
}

// TestErrorsDoNotBreak: what ICMP says of one destination does not stop the next.
func TestErrorsDoNotBreak(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	c, dst := listenUDP(t, "127.0.0.1:0")
	nobody := closedPort(t)
	for _, recverr := range []int{0, 1} { // 1: as it will be with the error queue
		in := newInbox()
		s := openUDP(t, d, false, in)
		if err := unix.SetsockoptInt(s.(*socket).fd, unix.IPPROTO_IP, unix.IP_RECVERR, recverr); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if n, err := s.Send([]Message{{Addr: nobody}, {Addr: nobody}, {Addr: dst, Payload: []byte("ping")}}); n != 3 || err != nil {
				t.Fatalf("IP_RECVERR %d: Send: %d, %v", recverr, n, err)
			}
			_, from := readFrom(t, c)
			c.WriteToUDPAddrPort([]byte("pong"), from)
			if got := in.wait(t, i+1); string(got[i].Payload) != "pong" {
				t.Fatalf("IP_RECVERR %d: got %q", recverr, got[i].Payload)
			}
		}
	}
}

// TestConnectedError: a socket with one peer is told that nobody is there.
func TestConnectedError(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	failed := make(chan error, 10)
	s, err := d.open(socketSpec{family: unix.AF_INET, proto: UDP, connect: closedPort(t), failed: func(err error) { failed <- err }}, newInbox())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Send([]Message{{Payload: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("told %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("not told")
	}
}

// TestPing needs net.ipv4.ping_group_range to contain the test's group; else it
// tests what is said then.
func TestPing(t *testing.T) {
	for _, tt := range []struct {
		name string
		v6   bool
		dst  string
		echo byte
	}{{"IPv4", false, "127.0.0.1", 8}, {"IPv6", true, "::1", 128}} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDirect(t, DirectConfig{RecvTTL: true})
			in := newInbox()
			s, err := d.OpenPing(tt.v6, in)
			if err != nil {
				if Classify(err) != Prohibited || !errors.Is(err, syscall.EACCES) {
					t.Fatalf("%v, want an error of class Prohibited", err)
				}
				t.Skip("ping_group_range forbids ping sockets")
			}
			msg := []byte{tt.echo, 0, 0, 0, 0x12, 0x34, 0, 7, 'h', 'e', 'l', 'l', 'o'}
			dst := netip.AddrPortFrom(addr(tt.dst), 4711) // the port means nothing
			if n, err := s.Send([]Message{{Addr: dst, Payload: msg}}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			got := in.wait(t, 1)[0]
			if got.Addr.Addr() != dst.Addr() || got.Payload[0] == tt.echo || !bytes.Equal(got.Payload[6:], msg[6:]) || got.TTL != 64 {
				t.Errorf("got %v %x TTL %d", got.Addr, got.Payload, got.TTL)
			}
			if n, err := s.Send([]Message{{Addr: netip.MustParseAddrPort("169.254.169.254:0"), Payload: msg}}); n != 0 || !errors.Is(err, DeniedMetadata) {
				t.Errorf("metadata: %d, %v", n, err)
			}
		})
	}
}
