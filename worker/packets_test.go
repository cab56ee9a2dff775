package worker

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"rocserv/internal/ipc"
	"rocserv/internal/packet"
)

// ipOf is a whole packet of the client with the checksums as they should be;
// tune changes the header before that.
func ipOf(dst netip.Addr, proto uint8, body []byte, tune func(h []byte)) []byte {
	src, n := clientIP, 20
	if dst.Is6() {
		src, n = clientV6, 40
	}
	b := append(make([]byte, n), body...)
	packet.PutIP(b, packet.IP{Src: src, Dst: dst, Proto: proto, TTL: 64})
	if tune != nil {
		tune(b)
	}
	return sum(b)
}

// sum makes the checksums right, as far as b is a packet.
func sum(b []byte) []byte {
	h, ok := packet.Parse(b)
	if !ok {
		return b
	}
	be := binary.BigEndian
	if dst, ok := packet.Destination(b); ok && dst.Is4() {
		be.PutUint16(b[10:], 0)
		be.PutUint16(b[10:], ^packet.Sum(b[:int(b[0]&15)*4], 0))
	}
	at := map[uint8]int{packet.TCP: 16, packet.UDP: 6, packet.ICMP: 2, packet.ICMPv6: 2}[h.Proto]
	l4 := h.Payload(b)
	if at == 0 || h.Fragment || len(l4) < at+2 {
		return b
	}
	be.PutUint16(l4[at:], 0)
	pseudo := uint16(0)
	if h.Proto != packet.ICMP {
		pseudo = packet.PseudoSum(h.Src, h.Dst, h.Proto, len(l4))
	}
	be.PutUint16(l4[at:], ^packet.Sum(l4, pseudo))
	return b
}

func datagramTo(port uint16, payload string) []byte {
	b := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(b[0:], 5000)
	binary.BigEndian.PutUint16(b[2:], port)
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(payload)))
	return append(b, payload...)
}

// tcpFlags is a segment without options to port 80.
func tcpFlags(flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b[0:], 1000)
	binary.BigEndian.PutUint16(b[2:], 80)
	b[12], b[13], b[14] = 5<<4, flags, 16
	return b
}

// inserted is b with an IPv4 option or an IPv6 extension header behind its header.
func inserted(b []byte, n int, extra ...byte) []byte {
	return append(append(append([]byte{}, b[:n]...), extra...), b[n:]...)
}

func options4(proto uint8, body []byte, opts ...byte) []byte {
	b := inserted(ipOf(webHost.Addr(), proto, body, nil), 20, opts...)
	b[0] += byte(len(opts) / 4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return sum(b)
}

func extension6(kind, proto uint8, body []byte, ext ...byte) []byte {
	ext[0] = proto
	return ipOf(webV6.Addr(), kind, append(ext, body...), nil)
}

// oddPackets are the rows of doc/nat.md's table.
func oddPackets() map[string][]byte {
	web, web6 := webHost.Addr(), webV6.Addr()
	udp, syn := datagramTo(9, "x"), tcpFlags(2)
	echo := []byte{8, 0, 0, 0, 0, 1, 0, 1}
	fragment := func(word uint16) func([]byte) {
		return func(h []byte) { binary.BigEndian.PutUint16(h[6:], word) }
	}
	other := ipOf(web, packet.UDP, udp, nil)
	copy(other[12:], []byte{192, 0, 2, 99})
	return map[string][]byte{
		"not IP":                                        {0x55, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19},
		"header longer than the packet":                 ipOf(web, packet.UDP, udp, func(h []byte) { h[0] = 0x4f; h[3] = 28 }),
		"length of more than there is":                  ipOf(web, packet.UDP, udp, func(h []byte) { h[3] = 200 }),
		"cut off at the MTU of the client's path, TCP":  ipOf(web, packet.TCP, make([]byte, 1400), nil)[:1234],
		"cut off at the MTU of the client's path, IPv6": ipOf(web6, packet.UDP, datagramTo(9, strings.Repeat("x", 1300)), nil)[:1280],
		"source is not the lease":                       sum(other),
		"SYN to the lease itself":                       ipOf(clientIP, packet.TCP, syn, nil),
		"wrong checksum of the IPv4 header":             flipped(ipOf(web, packet.UDP, udp, nil), 10),
		"wrong checksum of UDP":                         flipped(ipOf(web, packet.UDP, udp, nil), 27),
		"UDP length of more than there is":              ipOf(web, packet.UDP, []byte{0x13, 0x88, 0, 9, 0, 99, 0, 0, 'x'}, nil),
		"UDP to port 0":                                 ipOf(web, packet.UDP, datagramTo(0, "x"), nil),
		"TCP shorter than its header":                   ipOf(web, packet.TCP, syn[:12], nil),
		"SYN with FIN":                                  ipOf(web, packet.TCP, tcpFlags(3), nil),
		"segment of no connection":                      ipOf(web, packet.TCP, tcpFlags(16), nil),
		"time to live of 1, UDP":                        ipOf(web, packet.UDP, udp, func(h []byte) { h[8] = 1 }),
		"time to live of 1, SYN":                        ipOf(web, packet.TCP, syn, func(h []byte) { h[8] = 1 }),
		"hop limit of 1, UDP":                           ipOf(web6, packet.UDP, udp, func(h []byte) { h[7] = 1 }),
		"first fragment alone":                          ipOf(web, packet.UDP, datagramTo(9, "12345678"), fragment(0x2000)),
		"last fragment alone":                           ipOf(web, packet.UDP, udp[:8], fragment(8)),
		"fragment of a length no multiple of 8":         ipOf(web, packet.UDP, append(udp, "1"...), fragment(0x2000)),
		"IPv4 option: router alert":                     options4(packet.UDP, udp, 148, 4, 0, 0),
		"IPv4 option: record route":                     options4(packet.UDP, udp, 7, 7, 4, 0, 0, 0, 0, 0),
		"IPv4 option: router alert, SYN":                options4(packet.TCP, syn, 148, 4, 0, 0),
		"IPv4 option: loose source route":               options4(packet.UDP, udp, 131, 7, 4, 10, 0, 0, 1, 0),
		"IPv4 option: strict source route, SYN":         options4(packet.TCP, syn, 137, 7, 4, 10, 0, 0, 1, 0),
		"IPv6 hop-by-hop header":                        extension6(0, packet.UDP, udp, 0, 0, 1, 4, 0, 0, 0, 0),
		"IPv6 destination options":                      extension6(60, packet.UDP, udp, 0, 0, 1, 4, 0, 0, 0, 0),
		"IPv6 routing header, type 0":                   extension6(43, packet.UDP, udp, append([]byte{0, 2, 0, 1, 0, 0, 0, 0}, webV6.Addr().AsSlice()...)...),
		"IPv6 atomic fragment":                          extension6(44, packet.UDP, udp, 0, 0, 0, 0, 0, 0, 0, 7),
		"IPv6 header of which nothing is left":          ipOf(web6, 60, []byte{17, 9, 0, 0}, nil),
		"IPv6: no next header":                          ipOf(web6, packet.NoHeader, nil, nil),
		"GRE":                                           ipOf(web, 47, make([]byte, 8), nil),
		"SCTP over IPv6":                                ipOf(web6, 132, make([]byte, 12), nil),
		"ICMP of the other family":                      ipOf(web, packet.ICMPv6, echo, nil),
		"echo reply":                                    ipOf(web, packet.ICMP, []byte{0, 0, 0, 0, 0, 1, 0, 1}, nil),
		"ICMP error of the client":                      ipOf(web, packet.ICMP, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, ipOf(clientIP, packet.UDP, udp, nil)...), nil),
		"ICMP timestamp request":                        ipOf(web, packet.ICMP, append([]byte{13, 0, 0, 0, 0, 1, 0, 1}, make([]byte, 12)...), nil),
		"router solicitation":                           ipOf(netip.MustParseAddr("ff02::2"), packet.ICMPv6, []byte{133, 0, 0, 0, 0, 0, 0, 0}, nil),
		"multicast DNS":                                 ipOf(netip.MustParseAddr("224.0.0.251"), packet.UDP, datagramTo(5353, "x"), nil),
		"multicast DNS over IPv6":                       ipOf(netip.MustParseAddr("ff02::fb"), packet.UDP, datagramTo(5353, "x"), nil),
		"IGMP report":                                   ipOf(netip.MustParseAddr("224.0.0.22"), 2, make([]byte, 8), nil),
		"broadcast":                                     ipOf(netip.MustParseAddr("255.255.255.255"), packet.UDP, datagramTo(67, "x"), nil),
		"SYN to a multicast address":                    ipOf(netip.MustParseAddr("224.0.0.251"), packet.TCP, syn, nil),
		"the host's loopback":                           ipOf(netip.MustParseAddr("127.0.0.1"), packet.UDP, udp, nil),
		"the host's loopback, IPv4-mapped":              ipOf(netip.MustParseAddr("::ffff:127.0.0.1"), packet.UDP, udp, nil),
		"the host's loopback by NAT64":                  ipOf(netip.MustParseAddr("64:ff9b::7f00:1"), packet.UDP, udp, nil),
		"a closed port of the gateway":                  ipOf(gateV4, packet.UDP, udp, nil),
		"GRE to the gateway":                            ipOf(gateV4, 47, make([]byte, 8), nil),
		"closed TCP port of the gateway":                ipOf(gateV4, packet.TCP, syn, nil),
	}
}

func flipped(b []byte, at int) []byte {
	b[at] ^= 0x55
	return b
}

// what names an answer as the table does.
func what(b []byte) string {
	h, _ := packet.Parse(b)
	l4 := h.Payload(b)
	switch {
	case h.Proto == packet.TCP && l4[13]&4 != 0:
		return "RST"
	case h.Proto == packet.ICMP:
		return fmt.Sprintf("ICMP %d/%d", l4[0], l4[1])
	case h.Proto == packet.ICMPv6:
		return fmt.Sprintf("ICMPv6 %d/%d", l4[0], l4[1])
	}
	return fmt.Sprintf("protocol %d", h.Proto)
}

// The last answers to these packets come after whatever else the relay and the
// stack had to say.
var markers = [][]byte{
	ipOf(webHost.Addr(), 99, make([]byte, 8), nil),
	ipOf(webHost.Addr(), packet.TCP, append([]byte{3, 232, 0, 80, 0, 0, 1, 244}, tcpFlags(1)[8:]...), nil), // FIN
}

func isMarker(b []byte) bool {
	h, _ := packet.Parse(b)
	if h.Proto == packet.TCP {
		l4 := h.Payload(b)
		return l4[13] == 4|16 && binary.BigEndian.Uint32(l4[8:]) == 501 // RST, ACK of the FIN
	}
	return h.IsICMP() && len(h.Payload(b)) > 17 && h.Payload(b)[17] == 99 // quotes protocol 99
}

// answers is what was said, once everything has been.
func (in *inside) answers() (list []string) {
	in.t.Helper()
	in.inject(markers...)
	left := len(markers)
	for end := time.Now().Add(30 * time.Second); left > 0; time.Sleep(time.Millisecond) {
		for _, b := range in.said() {
			in.sane(b)
			if isMarker(b) {
				left--
			} else {
				list = append(list, what(b))
			}
		}
		if time.Now().After(end) {
			in.t.Fatalf("no answer to what always has one; got %v", list)
		}
	}
	return list
}

// table reads a page's table that has these columns: cells by the first one.
func table(t *testing.T, page string, columns ...string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head := "| " + strings.Join(columns, " | ") + " |\n"
	_, rest, ok := strings.Cut(string(text), head)
	if !ok {
		t.Fatalf("%s has no table with the head %s", page, head)
	}
	rows := map[string][]string{}
	for line := range strings.Lines(rest) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|"); len(cells) == len(columns) && !strings.HasPrefix(line, "|--") {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows[cells[0]] = cells[1:]
		}
	}
	return rows
}

// Every odd packet has the answer and the counter that doc/nat.md promises, and
// a hundred more of the kind are not a hundred lines of log.
func TestOddPackets(t *testing.T) {
	promised, odd := table(t, "../doc/nat.md", "packet", "answer", "counter"), oddPackets()
	for name := range promised {
		if odd[name] == nil {
			t.Errorf("no packet for doc/nat.md's '%s'", name)
		}
	}
	for name, pkt := range odd {
		t.Run(name, func(t *testing.T) {
			row := promised[name]
			if row == nil {
				t.Fatal("not in doc/nat.md")
			}
			clock := faketime.NewManualClock()
			in := newInside(t, clock)
			defer in.close()
			in.net.BlackHole(webHost)
			before := ipc.TakeCounters(in.s.counters())
			in.inject(pkt)
			if strings.HasSuffix(name, " alone") { // the rest never comes
				clock.Advance(time.Minute)
				in.s.stack.Trim()
			}
			after := ipc.TakeCounters(in.s.counters())
			var counted []string
			for i := range after {
				c := ipc.Counter(i)
				if after[i] != before[i] && c != ipc.CountICMPErrorsSent {
					counted = append(counted, c.String())
				}
			}
			if got := strings.Join(counted, ", "); got != row[1] {
				t.Errorf("counted as '%s', doc/nat.md says '%s'", got, row[1])
			}
			answer := strings.Join(in.answers(), ", ")
			if answer == "" {
				answer = "none"
			}
			if answer != row[0] {
				t.Errorf("answered '%s', doc/nat.md says '%s'", answer, row[0])
			}
			in.inject(slices.Repeat([][]byte{pkt}, 100)...)
			if text, n := in.log.take(); n > 1 {
				t.Errorf("%d lines of log:\n%s", n, text)
			}
		})
	}
}
