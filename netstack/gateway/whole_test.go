package gateway

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"rocserv/egress"
	"rocserv/egress/resolver"
	"rocserv/internal/packet"
)

// TestWholeWay: a client's packet to port 53 becomes a query at an upstream on
// loopback, which policy forbids clients, and the answer a packet; TCP too.
func TestWholeWay(t *testing.T) {
	upstream, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	at := upstream.LocalAddr().(*net.UDPAddr).AddrPort()
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := upstream.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			b[2] |= 0x80 // a response, with nothing in it
			upstream.WriteToUDPAddrPort(b[:n], from)
		}
	}()

	policy, err := egress.NewPolicy(egress.PolicyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	d := egress.NewDirect(policy, egress.DirectConfig{})
	defer d.Close()
	names := resolver.New(d, resolver.Config{Servers: []resolver.Server{{Addr: at}}})
	defer names.Close()
	s := &sink{t: t}
	g := New(Config{Addr4: gw4, Addr6: gw6, Sink: s, Resolver: names, MTU: 1400})
	defer g.Close()

	query := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 77, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("whole.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
	}
	msg, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	pkt := udpPacket(client6, gw6, 4321, 53, msg)
	h, _ := packet.Parse(pkt)
	g.Inject(h, pkt)
	g.Flush()
	var got [][]byte
	for deadline := time.Now().Add(10 * time.Second); len(got) == 0; runtime.Gosched() {
		if got = s.take(); time.Now().After(deadline) {
			t.Fatal("no answer")
		}
	}
	ah, _ := packet.Parse(got[0])
	u, err := packet.ReadUDP(&ah, got[0])
	if err != nil || u.DstPort != 4321 || ah.Dst != client6 {
		t.Fatalf("%+v, %v", ah, err)
	}
	var answer dnsmessage.Message
	if err := answer.Unpack(u.Payload); err != nil || answer.ID != 77 || !answer.Response || answer.Questions[0] != query.Questions[0] {
		t.Errorf("answer %+v, %v", answer, err)
	}

	dial, ok := g.DialTCP(53)
	if !ok {
		t.Fatal("closed")
	}
	stream, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := stream.Write(append([]byte{byte(len(msg) >> 8), byte(len(msg))}, msg...)); err != nil {
		t.Fatal(err)
	}
	stream.CloseWrite()
	if b, err := io.ReadAll(stream); err != nil || len(b) < 2 || answer.Unpack(b[2:]) != nil || answer.ID != 77 || answer.Questions[0] != query.Questions[0] {
		t.Errorf("read %x, %v", b, err)
	}
}
