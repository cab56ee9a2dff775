package worker

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"rocserv/internal/packet"
	"rocserv/netstack/stacktest"
)

// places are destinations worth trying: hosts that answer, ours, and those that
// must stay out of reach.
var places = []netip.Addr{
	webHost.Addr(), webV6.Addr(), gateV4, gateV6, clientIP, clientV6,
	netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.169.254"),
	netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("224.0.0.251"),
	netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.255"),
	netip.MustParseAddr("::"), netip.MustParseAddr("::1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ff02::1"),
	netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("64:ff9b::7f00:1"), netip.MustParseAddr("2002:7f00:1::"),
	netip.MustParseAddr("2001:db8:51::1"),
}

var protocols = []byte{packet.UDP, packet.TCP, packet.ICMP, packet.ICMPv6, 0, 43, 44, 60, 59, 47}

// FuzzPackets gives a whole worker, but for its channels, whatever packets: the
// stack, the relay and the gateway over a network in memory. The input is
// records of one byte of kind, one of length, and so many bytes:
//
//	kind % 4 = 0  a packet
//	           1  a packet from the lease to one of places, checksums right:
//	              place, protocol, hops, flags and fragment offset, payload
//	           2  the same with an IPv4 option, or an IPv6 extension header, of
//	              eight bytes in front of the payload
//	           3  the batch ends and time passes
//
// Nothing may panic or go on for ever, only packets that are in order may come
// to the client, and nothing may leave but to where clients may go, under the
// client's own name.
func FuzzPackets(f *testing.F) {
	for _, p := range oddPackets() {
		f.Add(fuzzRecord(0, p))
	}
	for i := range places {
		at := byte(i)
		f.Add(append(fuzzRecord(1, append([]byte{at, 0, 64, 0, 0}, datagramTo(53, "question")...)), 3, 1, 10))
		f.Add(append(fuzzRecord(1, append([]byte{at, 1, 64, 0, 0}, tcpFlags(2)...)), 3, 1, 12))
		f.Add(fuzzRecord(1, append([]byte{at, 2, 2, 0, 0}, 8, 0, 0, 0, 0, 1, 0, 1, 'x')))
		f.Add(fuzzRecord(1, append([]byte{at, 3, 2, 0, 0}, 128, 0, 0, 0, 0, 1, 0, 1, 'x')))
		f.Add(append(fuzzRecord(1, append([]byte{at, 0, 64, 0x20, 0}, datagramTo(53, "12345678")...)),
			fuzzRecord(1, append([]byte{at, 0, 64, 0, 2}, "12345678"...))...))
		f.Add(fuzzRecord(2, append([]byte{at, 0, 64, 0, 0, 131, 7, 4, 127, 0, 0, 1, 0}, datagramTo(53, "x")...)))
		f.Add(fuzzRecord(2, append([]byte{at, 5, 64, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0}, datagramTo(53, "x")...)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		clock := faketime.NewManualClock()
		in := newInside(t, clock)
		defer func() {
			in.close()
			for _, b := range in.said() {
				in.sane(b)
			}
		}()
		in.net.Serve(webHost, stacktest.Echo)
		in.net.Serve(webV6, stacktest.Reset)
		in.net.ServeUDP(netip.AddrPortFrom(webHost.Addr(), 53), func(b []byte) []byte { return b })
		in.net.Pingable(webHost.Addr())
		in.net.Pingable(webV6.Addr())
		var batch [][]byte
		for len(data) >= 2 {
			kind, n := data[0]%4, min(int(data[1]), len(data)-2)
			body := data[2 : 2+n]
			data = data[2+n:]
			switch kind {
			case 0:
				batch = append(batch, append([]byte(nil), body...))
			case 1, 2:
				batch = append(batch, fuzzPacket(body, kind == 2))
			case 3:
				in.inject(batch...)
				batch = nil
				if n > 0 {
					clock.Advance(time.Millisecond << (body[0] % 18))
					in.s.relay.Tick(clock.Now())
				}
			}
		}
		in.inject(batch...)
		if n := in.s.stack.Stats().Packet.InternalErrors; n > 0 {
			t.Errorf("%d internal errors", n)
		}
	})
}

func fuzzRecord(kind byte, body []byte) []byte {
	return append([]byte{kind, byte(len(body))}, body...)
}

// fuzzPacket makes a packet that gets past the first checks.
func fuzzPacket(b []byte, extra bool) []byte {
	var f [5]byte
	b = b[copy(f[:], b):]
	dst, proto := places[int(f[0])%len(places)], protocols[int(f[1])%len(protocols)]
	tune := func(h []byte) {
		if dst.Is6() {
			h[7] = f[2]
			return
		}
		h[8] = f[2]
		binary.BigEndian.PutUint16(h[6:], binary.BigEndian.Uint16(f[3:]))
		if extra && len(h) >= 28 {
			h[0] = 0x47
		}
	}
	return ipOf(dst, proto, b, tune)
}
