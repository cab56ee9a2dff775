package netstack

import (
	"bytes"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// pages is a Sink that keeps what it is given.
type pages struct {
	next    []byte
	packets [][]byte
	batches int
}

func (p *pages) Begin()            { p.batches++ }
func (p *pages) Next(n int) []byte { p.next = make([]byte, n); return p.next }
func (p *pages) Add(n int)         { p.packets = append(p.packets, p.next[:n]) }
func (p *pages) End()              {}

// ackHead is an acknowledgement to the client's port.
func ackHead(client netip.Addr, port uint16, ack uint32) []byte {
	host := netip.MustParseAddr("192.0.2.1")
	n := header.IPv4MinimumSize
	if client.Is6() {
		host, n = netip.MustParseAddr("2001:db8::1"), header.IPv6MinimumSize
	}
	b := make([]byte, n+header.TCPMinimumSize)
	if client.Is6() {
		header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: header.TCPMinimumSize, TransportProtocol: header.TCPProtocolNumber, HopLimit: 64,
			SrcAddr: tcpip.AddrFrom16(host.As16()), DstAddr: tcpip.AddrFrom16(client.As16())})
	} else {
		header.IPv4(b).Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(header.TCPProtocolNumber),
			SrcAddr: tcpip.AddrFrom4(host.As4()), DstAddr: tcpip.AddrFrom4(client.As4())})
	}
	header.TCP(b[n:]).Encode(&header.TCPFields{SrcPort: 80, DstPort: port, AckNum: ack, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagAck})
	return b
}

// TestLate: acknowledgements wait, one for each flow, unless there are too many,
// and are forgotten when the flow says something else.
func TestLate(t *testing.T) {
	four, six := netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd00::2")
	sink := new(pages)
	due := 0
	l := &link{sink: sink, stats: new(counters), tunnel: tunnelOf(testMTU)}
	if l.putOff(ackHead(four, 1, 1)) {
		t.Error("waits though nobody will send it")
	}
	l.late.due = func() { due++ }
	for _, head := range [][]byte{ackHead(four, 1, 1), ackHead(four, 2, 2), ackHead(six, 1, 3), ackHead(six, 2, 4)} {
		if !l.putOff(head) {
			t.Fatal("does not wait")
		}
	}
	l.late.drop(ackHead(four, 1, 9))
	l.late.drop(ackHead(six, 2, 9))
	l.late.drop(ackHead(four, 3, 9)) // not among them
	if sink.batches != 0 || due != 4 {
		t.Errorf("%d batches, due %d times", sink.batches, due)
	}
	l.sendLate()
	var acks []uint32
	for _, p := range sink.packets {
		n := header.IPv4MinimumSize
		if p[0]>>4 == 6 {
			n = header.IPv6MinimumSize
		}
		acks = append(acks, header.TCP(p[n:]).AckNumber())
	}
	if len(acks) != 2 || acks[0]+acks[1] != 5 || sink.batches != 1 {
		t.Errorf("acknowledged %v in %d batches, want 2 and 3 in one", acks, sink.batches)
	}
	if l.sendLate(); sink.batches != 1 {
		t.Error("a batch of nothing")
	}
	for i := range lateFlows {
		if !l.putOff(ackHead(four, uint16(i), 1)) {
			t.Fatalf("number %d does not wait", i)
		}
	}
	if l.putOff(ackHead(four, 100, 1)) {
		t.Error("more wait than there is room for")
	}
	l.closed.Store(true)
	if l.sendLate(); sink.batches != 1 || l.late.n != 0 {
		t.Error("sent after the end")
	}
}

// TestFlowKey: it is both addresses and both ports, and nothing else.
func TestFlowKey(t *testing.T) {
	for _, c := range []string{"10.9.0.2", "fd00::2"} {
		a := netip.MustParseAddr(c)
		one := flowKey(ackHead(a, 7, 1))
		if !bytes.Equal(one, flowKey(ackHead(a, 7, 2))) {
			t.Errorf("%v: another acknowledgement is another flow", a)
		}
		if bytes.Equal(one, flowKey(ackHead(a, 8, 1))) || bytes.Equal(one, flowKey(ackHead(a.Next(), 7, 1))) {
			t.Errorf("%v: another port or address is the same flow", a)
		}
	}
}
