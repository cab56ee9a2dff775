package egress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestReportUnreachable: nobody listens, and who sent is told, with what he sent.
func TestReportUnreachable(t *testing.T) {
	for _, tt := range loopbacks {
		t.Run(tt.name, func(t *testing.T) {
			d := newDirect(t, DirectConfig{})
			c, dst := listenUDP(t, tt.address)
			c.Close()
			in := newInbox()
			s := openUDP(t, d, tt.v6, in)
			if n, err := s.Send([]Message{{Addr: dst, Payload: []byte("anybody?"), DF: true}}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			want := Report{Dst: dst, From: dst.Addr(), Type: unreachable4, Code: 3}
			if tt.v6 {
				want.Type, want.Code = unreachable6, 4
			}
			got := in.report(t)
			if string(got.Quote) != "anybody?" {
				t.Errorf("quoted %q", got.Quote)
			}
			got.Quote = nil
			if got.Dst != want.Dst || got.From != want.From || got.Type != want.Type || got.Code != want.Code || got.Info != 0 {
				t.Errorf("got %+v, want %+v", got, want)
			}
			// The socket goes on as before.
			alive, to := listenUDP(t, tt.address)
			if n, err := s.Send([]Message{{Addr: to, Payload: []byte("x")}}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			readFrom(t, alive)
		})
	}
}

// TestManyReports: more than one turn takes are all told.
func TestManyReports(t *testing.T) {
	d := newDirect(t, DirectConfig{RecvBuffer: 1 << 20})
	in := newInbox()
	s := openUDP(t, d, false, in)
	const n = 3 * reportsMax
	for i := range n {
		s.Send([]Message{{Addr: closedPort(t), Payload: []byte{byte(i)}}})
	}
	for {
		in.mu.Lock()
		got := len(in.reports)
		in.mu.Unlock()
		if got == n {
			return
		}
		select {
		case <-in.got:
		case <-time.After(10 * time.Second):
			t.Fatalf("%d reports of %d", got, n)
		}
	}
}

// TestTooBig: what does not fit the way out is refused with its MTU if it must
// stay whole, and cut if it may be cut; also behind others of the same batch.
// In IPv4 no datagram is longer than the loopback interface's MTU: end to end.
func TestTooBig(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	c, dst := listenUDP(t, "[::1]:0")
	s := openUDP(t, d, true, newInbox())
	long := make([]byte, 65520-8)
	msgs := []Message{{Addr: dst, Payload: []byte("1"), DF: true}, {Addr: dst, Payload: long, DF: true}, {Addr: dst, Payload: []byte("three")}}
	n, err := s.Send(msgs)
	var big TooBigError
	if n != 1 || !errors.As(err, &big) || Classify(err) != TooBig {
		t.Fatalf("Send: %d, %v", n, err)
	}
	if big.MTU != 65536 {
		t.Errorf("MTU %d, want that of the loopback interface", big.MTU)
	}
	if n, err := s.Send([]Message{{Addr: dst, Payload: long}, msgs[2]}); n != 2 || err != nil {
		t.Fatalf("that may be cut: %d, %v", n, err)
	}
	for _, want := range []int{1, len(long), 5} {
		if b, _ := readFrom(t, c); len(b) != want {
			t.Errorf("arrived: %d bytes, want %d", len(b), want)
		}
	}
}

// TestHide: the host's own addresses are not shown, but for a destination's.
func TestHide(t *testing.T) {
	own, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.9")
	p, err := NewPolicy(PolicyConfig{Host: Host{OwnAddrs: []netip.Addr{own}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ dst, from, want netip.Addr }{
		{other, own, netip.Addr{}},
		{other, netip.MustParseAddr("127.0.0.1"), netip.Addr{}},
		{other, netip.MustParseAddr("::1"), netip.Addr{}},
		{own, own, own},
		{own, other, other},
	} {
		rep := Report{Dst: netip.AddrPortFrom(tt.dst, 1), From: tt.from}
		if p.rules.Load().hide(&rep); rep.From != tt.want {
			t.Errorf("%v about %v: shown as %v, want %v", tt.from, tt.dst, rep.From, tt.want)
		}
	}
}

// TestSetInfo: the kernel's numbers become those of the message.
func TestSetInfo(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("192.0.2.1:9"), netip.MustParseAddrPort("[2001:db8::1]:9")
	for _, tt := range []struct {
		dst  netip.AddrPort
		ee   unix.SockExtendedErr
		info uint32
		ok   bool
	}{
		{v4, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_ICMP, Type: 3, Code: 4, Info: 1280}, 1280, true},
		{v4, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_ICMP, Type: 3, Code: 1, Info: 7}, 0, true},
		{v4, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_ICMP, Type: 11}, 0, true},
		{v4, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_ICMP, Type: 12, Info: 9}, 9 << 24, true},
		{v4, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_ICMP, Type: 4}, 0, false}, // source quench
		{v4, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_ICMP, Type: 5}, 0, false},
		{v4, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_ICMP6, Type: 1}, 0, false},
		{v4, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_TIMESTAMPING}, 0, false},
		{v6, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_ICMP6, Type: 2, Info: 1280}, 1280, true},
		{v6, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_ICMP6, Type: 1, Code: 1, Info: 5}, 0, true},
		{v6, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_ICMP6, Type: 3}, 0, true},
		{v6, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_ICMP6, Type: 4, Code: 1, Info: 40}, 40, true},
		{v6, unix.SockExtendedErr{Origin: unix.SO_EE_ORIGIN_ICMP6, Type: 137}, 0, false},
	} {
		rep := Report{Dst: tt.dst, Info: 99}
		if ok := rep.setInfo(&tt.ee); ok != tt.ok || ok && rep.Info != tt.info {
			t.Errorf("%+v: %d, %v", tt.ee, rep.Info, ok)
		}
	}
}

// What a router appends to a quoted packet is no part of it, RFC 4884. The
// kernel knows the option.
func TestAppendix(t *testing.T) {
	data := bytes.Repeat([]byte{7}, 140)
	ee := new(unix.SockExtendedErr)
	for at, want := range map[uint16]int{0: 140, 100: 100, 139: 139, 140: 140, 60000: 140} {
		binary.NativeEndian.PutUint16((*[4]byte)(unsafe.Pointer(&ee.Data))[:], at)
		if got := len(quoteOf(data, ee)); got != want {
			t.Errorf("appendix at %d: %d bytes of the packet, want %d", at, got, want)
		}
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Skip(err)
		}
		defer unix.Close(fd)
		if err := askErrors(fd, family, 1); err != nil {
			t.Fatal(err)
		}
		level, opt := unix.IPPROTO_IP, unix.IP_RECVERR_RFC4884
		if family == unix.AF_INET6 {
			level, opt = unix.IPPROTO_IPV6, unix.IPV6_RECVERR_RFC4884
		}
		on, err := unix.GetsockoptInt(fd, level, opt)
		if err == unix.ENOPROTOOPT {
			t.Skip("this kernel is older than 5.9")
		}
		if on != 1 || err != nil {
			t.Errorf("family %d: %d, %v", family, on, err)
		}
	}
}

func TestReportErrors(t *testing.T) {
	e := error(&ReportError{Report: Report{From: netip.MustParseAddr("192.0.2.1"), Type: 3, Code: 13}, Err: syscall.EHOSTUNREACH})
	if Classify(e) != HostUnreachable || e.Error() != "no route to host (ICMP 3/13 from 192.0.2.1)" {
		t.Errorf("%v, class %d", e, Classify(e))
	}
	if e := (TooBigError{MTU: 1400}); Classify(e) != TooBig || !errors.Is(e, syscall.EMSGSIZE) {
		t.Error(e)
	}
}
