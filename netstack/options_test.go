package netstack

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"rocserv/netstack/recovery"
	"rocserv/netstack/stacktest"
)

// clients are what SYNs agree on: Linux and macOS, Windows, and the rest.
var clients = []struct {
	sack, timestamps bool
}{{true, true}, {true, false}, {false, true}, {false, false}}

// synOf is a client's SYN with an MSS.
func synOf(sack, stamps bool, mss int) []byte {
	opts := []byte{header.TCPOptionMSS, header.TCPOptionMSSLength, byte(mss >> 8), byte(mss)}
	if stamps {
		opts = append(opts, timestamps(1, 0)...)
	}
	if sack {
		opts = append(opts, header.TCPOptionNOP, header.TCPOptionNOP, header.TCPOptionSACKPermitted, 2)
	}
	return opts
}

// TestFullSegments: a client gets packets as long as it can take and the tunnel
// carries, whatever it agrees on, and none that are longer.
func TestFullSegments(t *testing.T) {
	for family, pair := range pairs {
		ip := map[string]int{"v4": header.IPv4MinimumSize, "v6": header.IPv6MinimumSize}[family]
		carried := testMTU - ip - header.TCPMinimumSize
		for _, c := range clients {
			for _, mss := range []int{carried, 1000, carried + 60, 0xffff} {
				for _, holes := range []int{0, 1, 3} {
					if holes > 0 && !c.sack {
						continue
					}
					want := min(mss, carried)
					if c.timestamps {
						want -= tsOptionLen
					}
					if holes > 0 {
						want -= 2 + 2 + 8*holes // NOP, NOP, kind, length, blocks: RFC 2018 section 3
					}
					t.Run(fmt.Sprintf("%s/sack=%v,timestamps=%v/%d/%d", family, c.sack, c.timestamps, mss, holes), func(t *testing.T) {
						b := newBare(t, Limits{}, nil)
						src, dst := port(pair[0], 1), port(pair[1], 80)
						write := make(chan struct{})
						b.network.Serve(dst, func(c stacktest.Conn) {
							<-write
							stacktest.Source(1, 9000)(c)
						})
						b.inject(segment{src: src, dst: dst, seq: 100, flags: syn, window: 60000, options: synOf(c.sack, c.timestamps, mss)})
						s := b.nextSegment()
						var opts []byte
						if c.timestamps {
							opts = timestamps(2, binary.BigEndian.Uint32(header.TCP(s.options)[slices.Index(s.options, header.TCPOptionTS)+2:]))
						}
						b.inject(segment{src: src, dst: dst, seq: 101, ack: s.seq + 1, flags: ack, window: 60000, options: opts})
						for i := range holes { // what the stack's segments tell of
							b.inject(segment{src: src, dst: dst, seq: 201 + 200*uint32(i), ack: s.seq + 1, flags: ack, window: 60000, options: opts, payload: make([]byte, 100)})
							b.nextSegment()
						}
						close(write)
						longest, got := 0, 0
						for got < 9000 {
							s := b.nextSegment()
							longest = max(longest, len(s.payload))
							got += len(s.payload)
						}
						if longest != want {
							t.Errorf("the longest segment has %d bytes, want %d", longest, want)
						}
					})
				}
			}
		}
	}
}

// TestSetAside: what we take for set aside is what gVisor sets aside.
func TestSetAside(t *testing.T) {
	var blocks [header.TCPMaxSACKBlocks]header.SACKBlock
	for _, stamps := range []bool{false, true} {
		b, used := make([]byte, header.TCPOptionsMaximumSize), 0
		if stamps {
			used = tsOptionLen
		}
		n := 2 + header.EncodeSACKBlocks(blocks[:], b[used+2:])
		if got := setAside(true, stamps); got != n {
			t.Errorf("timestamps %v: %d, gVisor %d", stamps, got, n)
		}
	}
}

// TestNarrowerMeanwhile: what the stack has made for a wider tunnel is cut for the
// one that there is.
func TestNarrowerMeanwhile(t *testing.T) {
	pkt := superSegment(3*1382, 1382)
	defer pkt.DecRef()
	sink := new(pages)
	l := &link{sink: sink, stats: new(counters), tunnel: tunnelOf(1200), path: recovery.New(recovery.Config{})}
	l.WritePacket(pkt)
	got := 0
	for _, p := range sink.packets {
		if len(p) > 1200 {
			t.Errorf("a packet of %d bytes", len(p))
		}
		got += len(p) - (header.IPv4MinimumSize + header.TCPMinimumSize + tsOptionLen)
	}
	if got != 3*1382 {
		t.Errorf("%d bytes of %d", got, 3*1382)
	}
}
