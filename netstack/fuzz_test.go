package netstack

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"rocserv/internal/packet"
	"rocserv/netstack/stacktest"
)

// FuzzInject gives the stack batches of whatever: records of one byte of kind,
// one of length, and so many bytes.
//
//	kind % 4 = 0  a packet
//	           1  a TCP segment of a flow that may be open: flags, sequence
//	              number near what is expected, options, payload
//	           2  the same in IPv6
//	           3  time passes
//
// Nothing may panic, nothing but TCP and ICMP may be said, and everything must
// end.
func FuzzInject(f *testing.F) {
	f.Add(record(0, segment{src: port(lease4, 1), dst: port(host4, 80), flags: syn}.packet()))
	f.Add(append(record(1, []byte{2, 0, 0, 0, 0, 4, 2, 4, 5, 100}), record(1, []byte{16, 0, 1, 0, 1, 0, 'x'})...))
	f.Add(append(record(2, []byte{2, 0, 0, 0, 0, 0}), record(2, []byte{17, 0, 1, 0, 1, 0, 'x'})...))
	for _, p := range cut(frag{src: lease4, dst: host4, proto: packet.TCP, id: 1}, make([]byte, 100), 56) {
		f.Add(record(0, p.packet()))
	}
	options := segment{src: port(lease4, 1), dst: port(host4, 80), flags: syn}.packet()
	options[0] = 0x46
	f.Add(append(record(0, options), 3, 1, 200))
	f.Fuzz(func(t *testing.T, data []byte) {
		clock := faketime.NewManualClock()
		network := stacktest.NewNetwork()
		defer network.Close()
		network.Serve(port(host4, 80), stacktest.Echo)
		network.Serve(port(host6, 80), stacktest.Reset)
		sink := &checkingSink{t: t}
		s, err := New(Config{
			Addrs: []netip.Addr{lease4, lease6}, Gateway4: gateway4, MTU: testMTU, Sink: sink, Net: network, Clock: clock,
			Limits: Limits{Flows: 4, Dials: 4, Buffers: 1 << 20}, Datagram: func(packet.Header, []byte) {},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var batch [][]byte
		for len(data) >= 2 {
			kind, n := data[0], min(int(data[1]), len(data)-2)
			body := data[2 : 2+n]
			data = data[2+n:]
			switch kind % 4 {
			case 0:
				batch = append(batch, body)
			case 1, 2:
				batch = append(batch, sink.segment(kind%4 == 2, body).packet())
			case 3:
				s.Inject(batch)
				batch = nil
				if n > 0 {
					clock.Advance(timeOf(body[0]))
				}
			}
		}
		s.Inject(batch)
		if n := s.Stats().Packet.InternalErrors; n > 0 {
			t.Errorf("%d internal errors", n)
		}
	})
}

func record(kind byte, body []byte) []byte {
	return append([]byte{kind, byte(len(body))}, body...)
}

// checkingSink verifies what comes down and remembers where flows are.
type checkingSink struct {
	t *testing.T
	lastSink
}

func (s *checkingSink) Add(n int) {
	s.lastSink.Add(n)
	h, ok := packet.Parse(s.last)
	switch {
	case !ok || h.Proto != packet.TCP && !h.IsICMP():
		s.t.Errorf("came down: %x", s.last)
	case h.Proto == packet.TCP && packet.TransportSum(&h, s.last) != 0xffff:
		s.t.Errorf("wrong checksum: %x", s.last)
	}
}

// segment makes a segment that may fit the last one of the stack: flags,
// offsets to the expected numbers, length of options, options, payload.
func (s *checkingSink) segment(v6 bool, b []byte) segment {
	out := segment{src: port(lease4, 1000), dst: port(host4, 80), window: 500}
	if v6 {
		out.src, out.dst = port(lease6, 1000), port(host6, 80)
	}
	var field [6]byte
	b = b[copy(field[:], b):]
	last := s.take()
	out.flags = header.TCPFlags(field[0])
	out.seq = last.ack + uint32(int16(binary.BigEndian.Uint16(field[1:])))
	out.ack = last.seq + uint32(int16(binary.BigEndian.Uint16(field[3:])))
	n := min(int(field[5])%11*4, len(b)&^3)
	out.options, out.payload = b[:n], b[n:]
	return out
}

// timeOf makes of a byte anything from a tick to minutes.
func timeOf(b byte) time.Duration { return time.Millisecond << (b % 18) }
