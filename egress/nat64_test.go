package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

var testNAT64 = translator{netip.MustParsePrefix("2001:db8:64::/96")}

func TestTranslatorAddresses(t *testing.T) {
	v4, v6 := netip.MustParseAddrPort("203.0.113.7:53"), netip.MustParseAddrPort("[2001:db8:64::203.0.113.7]:53")
	if got := testNAT64.out(v4); got != v6 {
		t.Errorf("%v leaves to %v", v4, got)
	}
	if got := testNAT64.out(netip.MustParseAddrPort("[2001:db8::1]:53")); got.Addr() != netip.MustParseAddr("2001:db8::1") {
		t.Errorf("IPv6 leaves to %v", got)
	}
	if got := testNAT64.in(v6.Addr()); got != v4.Addr() {
		t.Errorf("from %v is %v", v6, got)
	}
	if got := testNAT64.in(netip.MustParseAddr("2001:db8::1")); got.IsValid() {
		t.Errorf("who is not behind it is %v", got)
	}
	var none translator
	if none.out(v4) != v4 || none.in(v6.Addr()) != v6.Addr() {
		t.Error("without a NAT64 something changes")
	}
}

// RFC 7915 section 5.2.
func TestTranslatorReports(t *testing.T) {
	router, host := netip.MustParseAddr("2001:db8:9::1"), netip.MustParseAddr("2001:db8:64::203.0.113.7")
	for _, tt := range []struct {
		typ, code uint8
		info      uint32
		from      netip.Addr
		want      string // empty: it is not told
	}{
		{1, 0, 0, router, "3/1 0 invalid IP"},
		{1, 1, 0, router, "3/10 0 invalid IP"},
		{1, 2, 0, router, "3/1 0 invalid IP"},
		{1, 3, 0, router, "3/1 0 invalid IP"},
		{1, 4, 0, host, "3/3 0 203.0.113.7"},
		{1, 5, 0, router, ""},
		{2, 0, 1280, router, "3/4 1260 invalid IP"},
		{2, 0, 7, router, "3/4 0 invalid IP"},
		{3, 0, 0, router, "11/0 0 invalid IP"},
		{3, 1, 0, host, "11/1 0 203.0.113.7"},
		{4, 1, 40, router, ""},
	} {
		quote := []byte{echoRequest6, 0, 0, 0}
		rep := Report{Dst: netip.AddrPortFrom(host, 0), From: tt.from, Type: tt.typ, Code: tt.code, Info: tt.info, Quote: quote}
		got := ""
		if testNAT64.report(&rep) {
			got = fmt.Sprintf("%d/%d %d %v", rep.Type, rep.Code, rep.Info, rep.From)
			if rep.Dst != netip.MustParseAddrPort("203.0.113.7:0") || quote[0] != echoRequest4 {
				t.Errorf("%d/%d: about %v, quoting %x", tt.typ, tt.code, rep.Dst, quote)
			}
		}
		if got != tt.want {
			t.Errorf("%d/%d: '%s', want '%s'", tt.typ, tt.code, got, tt.want)
		}
	}
	rep := Report{Dst: netip.MustParseAddrPort("[2001:db8::1]:5"), Type: 1}
	if testNAT64.report(&rep) {
		t.Error("about somebody who is not behind the NAT64")
	}
}

func TestTranslatorDialError(t *testing.T) {
	dial := func(typ uint8) error {
		return fmt.Errorf("dial: %w", &ReportError{Err: unix.EHOSTUNREACH, Report: Report{Dst: netip.MustParseAddrPort("[2001:db8:64::cb00:7107]:80"), Type: typ}})
	}
	rep := (*ReportError)(nil)
	if err := testNAT64.dialError(dial(1)); !errors.As(err, &rep) || rep.Report.Type != 3 || !rep.Report.Dst.Addr().Is4() {
		t.Errorf("unreachable: %v", err)
	}
	if err := testNAT64.dialError(dial(4)); errors.As(err, new(*ReportError)) || !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("without a counterpart: %v", err)
	}
	if err := testNAT64.dialError(unix.ECONNREFUSED); err != unix.ECONNREFUSED {
		t.Errorf("without a report: %v", err)
	}
}

// Neither the client's destination nor what is made of it may be of the hard
// tier; an impossible prefix is none.
func TestNAT64Judged(t *testing.T) {
	p := mustPolicy(t, PolicyConfig{Host: Host{OwnAddrs: []netip.Addr{addr("2001:db8:64::203.0.113.8")}, NAT64: []netip.Prefix{testNAT64.prefix}}})
	d := NewDirect(p, DirectConfig{})
	defer d.Close()
	d.SetNAT64(testNAT64.prefix)
	for dst, want := range map[string]Denied{
		"127.0.0.1": DeniedLoopback, "169.254.169.254": DeniedMetadata, "203.0.113.8": DeniedOwnAddress, "0.0.0.0": DeniedUnspecified,
	} {
		_, err := d.DialTCP(t.Context(), netip.AddrPort{}, netip.AddrPortFrom(addr(dst), 80))
		if got := Denied(0); !errors.As(err, &got) || got != want {
			t.Errorf("TCP to %s: %v, want %v", dst, err, want)
		}
		s, err := d.OpenUDP(false, nobody{})
		if err != nil {
			t.Skip("no IPv6 sockets here:", err)
		}
		_, err = s.Send([]Message{{Addr: netip.AddrPortFrom(addr(dst), 53)}})
		if got := Denied(0); !errors.As(err, &got) || got != want {
			t.Errorf("UDP to %s: %v, want %v", dst, err, want)
		}
		s.Close()
	}
	// A client that writes the network's prefix itself.
	if err := p.Check(TCP, netip.AddrPortFrom(addr("2001:db8:64::127.0.0.1"), 80)); err != DeniedLoopback {
		t.Errorf("loopback by the network's prefix: %v", err)
	}
	for _, bad := range []string{"::/96", "::ffff:0:0/96", "fe80::/96", "2001:db8::/33"} {
		d.SetNAT64(netip.MustParsePrefix(bad))
		if d.translator(false).on() {
			t.Errorf("%s is used", bad)
		}
	}
	d.SetNAT64(testNAT64.prefix)
	if d.translator(true).on() || !d.translator(false).on() {
		t.Error("IPv6 is translated, or IPv4 is not")
	}
	d.SetNAT64(netip.Prefix{})
	if d.translator(false).on() {
		t.Error("it does not end")
	}
}

// What arrives is the client's IPv4 again.
func TestTranslatedReceive(t *testing.T) {
	s := &socket{spec: socketSpec{proto: ICMPv6, translator: testNAT64}}
	got := s.received([]Message{
		{Addr: netip.MustParseAddrPort("[2001:db8:64::203.0.113.7]:0"), Payload: []byte{echoReply6, 0, 1}},
		{Addr: netip.MustParseAddrPort("[2001:db8:99::1]:0"), Payload: []byte{echoReply6}},
	})
	if len(got) != 1 || got[0].Addr != netip.MustParseAddrPort("203.0.113.7:0") || got[0].Payload[0] != echoReply4 {
		t.Errorf("%v", got)
	}
	if s.spec.policyProto() != ICMP || s.spec.clientFamily() != unix.AF_INET {
		t.Error("judged as something else")
	}
	if got := testNAT64.request([]byte{8, 0, 5}); got[0] != echoRequest6 || got[2] != 5 {
		t.Errorf("a request is %v", got)
	}
	if testNAT64.localMTU(1500) != 1480 || (translator{}).localMTU(1500) != 1500 {
		t.Error("MTU")
	}
}

// by64 is a Direct that leaves by IPv6 only, where the NAT64 is loopback: what it
// makes of 0.0.0.1 is ::1.
func by64(t *testing.T) *Direct {
	d := NewDirect(mustPolicy(t, PolicyConfig{}), DirectConfig{Binding: Binding{Source6: netip.IPv6Loopback()}})
	t.Cleanup(func() { d.Close() })
	prefix := netip.MustParsePrefix("::/96")
	d.shared.nat64.Store(&prefix)
	return d
}

// A proxy that is named by an IPv4 address to which there is no way.
func TestDialConfiguredByNAT64(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here:", err)
	}
	defer l.Close()
	proxy := netip.AddrPortFrom(addr("0.0.0.1"), l.Addr().(*net.TCPAddr).AddrPort().Port())
	d := by64(t)
	s, err := d.DialConfigured(t.Context(), proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.RemoteAddr().String(); got != proxy.String() {
		t.Errorf("connected to %s, want the address as it was given", got)
	}
	l.Close()
	if _, err := d.DialConfigured(t.Context(), proxy); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a closed port: %v", err)
	}
	d.SetNAT64(netip.Prefix{})
	if _, err := d.DialConfigured(t.Context(), proxy); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("without a NAT64: %v", err)
	}
}

// The same for resolvers, and for relays of SOCKS5.
func TestOpenConfiguredByNAT64(t *testing.T) {
	l, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here:", err)
	}
	defer l.Close()
	peer := netip.AddrPortFrom(addr("0.0.0.1"), l.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	d, in := by64(t), newInbox()
	s, err := d.OpenConfigured(peer, in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := s.Send([]Message{{Addr: peer, Payload: []byte("question")}}); n != 1 {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, from, err := l.ReadFrom(b)
	if err != nil || string(b[:n]) != "question" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	l.WriteTo([]byte("answer"), from)
	if got := in.wait(t, 1); string(got[0].Payload) != "answer" || got[0].Addr != peer {
		t.Errorf("%q from %v, want it from the address as it was given", got[0].Payload, got[0].Addr)
	}
	d.SetNAT64(netip.Prefix{})
	if _, err := d.OpenConfigured(peer, in, nil); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("without a NAT64: %v", err)
	}
}

// What has a route is not translated: the host's own resolver on loopback.
func TestConfiguredWithRoute(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := NewDirect(mustPolicy(t, PolicyConfig{}), DirectConfig{})
	defer d.Close()
	d.SetNAT64(testNAT64.prefix)
	s, err := d.DialConfigured(t.Context(), l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

type nobody struct{}

func (nobody) Receive([]Message) {}
func (nobody) Report(*Report)    {}
