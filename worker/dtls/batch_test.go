package dtls

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestSourceAddress(t *testing.T) {
	tests := []struct {
		name   string
		family uint16
		body   []byte // from the port on
		want   string
	}{
		{"IPv4", unix.AF_INET, []byte{0x01, 0xbb, 192, 0, 2, 1}, "192.0.2.1:443"},
		{"IPv6", unix.AF_INET6, []byte{0x01, 0xbb, 1, 2, 3, 4, 0x20, 0x01, 0x0d, 0xb8, 15: 0, 21: 7}, "[2001:db8::7]:443"},
		{"mapped", unix.AF_INET6, []byte{0x01, 0xbb, 0, 0, 0, 0, 16: 0xff, 17: 0xff, 18: 192, 19: 0, 20: 2, 21: 1}, "192.0.2.1:443"},
	}
	for _, tt := range tests {
		var s sockaddr
		binary.NativeEndian.PutUint16(s[:], tt.family)
		copy(s[2:], tt.body)
		if got := s.addrPort(); got != netip.MustParseAddrPort(tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, got, tt.want)
		}
	}
	if got := (&sockaddr{}).addrPort(); got.IsValid() {
		t.Errorf("no address: %v", got)
	}
	for _, peer := range []string{"192.0.2.1:443", "[::ffff:192.0.2.1]:443"} {
		if got := bare(netip.MustParseAddrPort(peer)); got != netip.MustParseAddrPort("192.0.2.1:443") {
			t.Errorf("bare(%s) = %v", peer, got)
		}
	}
	if got := bare(netip.MustParseAddrPort("[fe80::1%eth0]:443")); got != netip.MustParseAddrPort("[fe80::1]:443") {
		t.Errorf("zone: %v", got)
	}
}

// The packets of a batch begin where an IP header is cheap to read.
func TestAlignment(t *testing.T) {
	var b batch
	b.init(9000)
	if b.slotSize < 9000+maxOverhead+slotPad || b.slotSize%slotAlign != 0 {
		t.Errorf("slots of %d bytes", b.slotSize)
	}
	for _, head := range []int{13 + 8 + typeLen, 13 + typeLen} {
		if at := uintptr(unsafe.Pointer(b.iovs[1].Base)) + uintptr(head); at%4 != 0 {
			t.Errorf("a packet after %d bytes of record begins at %#x", head, at)
		}
	}
}

func TestTruncatedDatagram(t *testing.T) {
	checkLeaks(t)
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	p.serve(t)
	p.write(t, p.data(t, string(make([]byte, 3000))))
	p.write(t, p.data(t, "\x00short"))
	if q := await(t, "packet", p.rec.packets); string(q.Payload) != "short" {
		t.Errorf("got %d bytes", len(q.Payload))
	}
	if s := p.c.Stats(); s.Odd != 1 || s.RxPackets != 1 {
		t.Errorf("stats %+v", s)
	}
}

// What a router or host says of our packets is read off the socket, and no more.
func TestReceiveErrors(t *testing.T) {
	checkLeaks(t)
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	p.serve(t)
	p.conn.Close()
	p.send(100)
	for end := time.Now().Add(testWait); p.c.Stats().RxErrors == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("stats %+v", p.c.Stats())
		}
	}
	if p.c.ended() {
		t.Error("the channel ended")
	}
	r := &reader{c: p.c}
	big := p.c.Stats().TooBig
	if r.failed(unix.EMSGSIZE) || p.c.Stats().TooBig != big+1 {
		t.Error("a router's report of a packet too big is not counted")
	}
	for range maxErrors - 2 {
		if r.failed(unix.EHOSTUNREACH) {
			t.Error("waits too early")
		}
	}
	if !r.failed(unix.EHOSTUNREACH) {
		t.Error("tries for ever")
	}
}
