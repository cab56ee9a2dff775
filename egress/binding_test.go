package egress

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"
)

// A bound Direct leaves from where it is bound to, and by no other family.
func TestBinding(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, udp := listenUDP(t, "127.0.0.1:0")
	d := newDirect(t, DirectConfig{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	dst := ln.Addr().(*net.TCPAddr).AddrPort()
	for _, tt := range []struct {
		name string
		b    Binding
		want string // source
	}{
		{"nothing", Binding{}, "127.0.0.1"},
		{"an address", Binding{Source4: addr("127.0.0.9")}, "127.0.0.9"},
		{"a device", Binding{Device: "lo"}, "127.0.0.1"},
		{"both", Binding{Device: "lo", Source4: addr("127.0.0.8")}, "127.0.0.8"},
	} {
		b := d.Bound(tt.b)
		c, err := b.DialTCP(ctx, netip.AddrPort{}, dst)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		in, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := in.RemoteAddr().(*net.TCPAddr).IP.String(); got != tt.want {
			t.Errorf("%s: TCP from %s, want %s", tt.name, got, tt.want)
		}
		in.Close()
		c.Close()
		s := openUDP(t, b, false, newInbox())
		if _, err := s.Send([]Message{{Addr: udp, Payload: []byte("x")}}); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if _, from := readFrom(t, peer); from.Addr().String() != tt.want {
			t.Errorf("%s: UDP from %v, want %s", tt.name, from, tt.want)
		}
		s.Close()
	}
	for name, b := range map[string]Binding{
		"no such device": {Device: "nosuch0"}, "not our address": {Source4: addr("192.0.2.1")}, "the other family": {Source6: addr("::1")},
	} {
		if c, err := d.Bound(b).DialTCP(ctx, netip.AddrPort{}, dst); err == nil {
			t.Errorf("%s: connected", name)
			c.Close()
		}
		if s, err := d.Bound(b).OpenUDP(false, newInbox()); err == nil {
			t.Errorf("%s: a socket", name)
			s.Close()
		}
	}
}
