package netstack

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"rocserv/internal/packet"
	"rocserv/netstack/stacktest"
)

// TestMTUShrinks: a download survives that the tunnel's MTU becomes smaller,
// and from then on nothing is longer. IPv6 keeps its 1280 bytes; a tunnel with
// less has to find another way for them.
func TestMTUShrinks(t *testing.T) {
	kinds(t, func(t *testing.T, o rigOptions, family string) {
		for _, mtu := range []int{1300, 800} {
			t.Run(fmt.Sprint(mtu), func(t *testing.T) { testMTUShrinks(t, o, families4and6[family], mtu) })
		}
	})
}

func testMTUShrinks(t *testing.T, o rigOptions, host netip.Addr, mtu int) {
	longest := mtu
	if host.Is6() {
		longest = max(mtu, header.IPv6MinimumMTU)
	}
	var shrunk atomic.Bool
	var late, full atomic.Int64
	o.config = func(c *Config) {
		c.Sink = watchedSink{c.Sink, func(n int) {
			switch {
			case shrunk.Load() && n > longest:
				late.Add(1)
			case shrunk.Load() && n == longest:
				full.Add(1)
			}
		}}
	}
	r := newRig(t, o)
	dst := port(host, 80)
	const n = 16 << 20
	r.network.Serve(dst, stacktest.Source(1, n))
	c := r.dial(dst)
	if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	r.stack.SetMTU(mtu)
	r.client.SetMTU(longest)
	f := r.flow()
	eventually(t, "the endpoint knows", func() bool { return f.learned(longest) })
	shrunk.Store(true)
	got, err := io.Copy(io.Discard, c)
	if err != nil || got != n-1<<20 {
		t.Errorf("%d bytes, %v", got, err)
	}
	if late.Load() > 0 {
		t.Errorf("%d packets longer than %d", late.Load(), longest)
	}
	if n := int(full.Load()); n < 8<<20/longest {
		t.Errorf("%d packets of %d bytes: most should be as long as they can be", n, longest)
	}
	// A new flow begins with the new length.
	dst = port(host, 81)
	r.network.Serve(dst, stacktest.Source(1, 1<<20))
	if got, err := io.Copy(io.Discard, r.dial(dst)); err != nil || got != 1<<20 {
		t.Errorf("new flow: %d bytes, %v", got, err)
	}
	if late.Load() > 0 {
		t.Errorf("new flow: packets longer than %d", longest)
	}
}

// learned says whether the endpoint has been told of an MTU. HandleError only
// ever lowers what it knows, so asking it with the same value changes nothing;
// the lock it takes is free once shrinkFlows is done.
func (f *flow) learned(mtu int) bool {
	f.shrinkTo(mtu)
	time.Sleep(20 * time.Millisecond) // packets on their way to the Sink
	return true
}

// watchedSink tells the length of each packet.
type watchedSink struct {
	packet.Sink
	length func(int)
}

func (s watchedSink) Add(n int) { s.length(n); s.Sink.Add(n) }

// TestMTUIsAskedFor: a SYN-ACK asks for packets that fit the tunnel, also where
// the interface has the MTU that IPv6 wants.
func TestMTUIsAskedFor(t *testing.T) {
	for _, tt := range []struct {
		family    string
		mtu, want int
	}{{"v4", 1400, 1360}, {"v4", 1200, 1160}, {"v6", 1400, 1340}, {"v6", 1200, 1220}} {
		t.Run(fmt.Sprint(tt.family, " ", tt.mtu), func(t *testing.T) {
			b := newBare(t, Limits{}, nil)
			src, dst := port(pairs[tt.family][0], 1), port(pairs[tt.family][1], 80)
			b.network.Serve(dst, stacktest.Source(1, 4000))
			b.stack.SetMTU(tt.mtu)
			b.inject(segment{src: src, dst: dst, seq: 100, flags: syn, window: 60000, options: []byte{2, 4, 5, 180, 1, 3, 3, 7, 4, 2, 1, 1}})
			h, p := b.next()
			o := header.ParseSynOptions(header.TCP(h.Payload(p)).Options(), true)
			if sum := packet.TransportSum(&h, p); int(o.MSS) != tt.want || sum != 0xffff {
				t.Errorf("asked for %d, want %d; checksum %#x", o.MSS, tt.want, sum)
			}
		})
	}
}

// TestMTUBounds: nonsense is not believed.
func TestMTUBounds(t *testing.T) {
	b := newBare(t, Limits{}, func(c *Config) { c.Addrs = []netip.Addr{lease4}; c.MTU = 1 })
	if n := b.stack.link.MTU(); n != minMTU+sackRoom {
		t.Errorf("MTU %d", n)
	}
	b.stack.SetMTU(1 << 20)
	if n := b.stack.link.MTU(); n != maxMTU+sackRoom {
		t.Errorf("MTU %d", n)
	}
}

// TestClientIsTold: when the tunnel becomes narrower, the client's end of a flow
// is told by a message that it believes: about a packet of the length so far, which
// begins with the first byte that was not acknowledged.
func TestClientIsTold(t *testing.T) {
	for _, tt := range []struct {
		family   string
		mtu      int
		want     string // type, code and MTU
		sack     bool   // else recovery leaves the flow to the stack
		reporter netip.Addr
	}{
		{"v4", 1000, "3/4 1000", true, gateway4},
		{"v4", 1000, "3/4 1000", false, gateway4},
		{"v6", 1300, "2/0 1300", true, gateway6},
		{"v6", 1000, "2/0 1280", false, gateway6},
	} {
		t.Run(fmt.Sprint(tt.family, " ", tt.mtu, " ", tt.sack), func(t *testing.T) {
			b := newBare(t, Limits{}, nil)
			src, dst := port(pairs[tt.family][0], 1), port(pairs[tt.family][1], 80)
			b.network.Serve(dst, stacktest.Discard)
			var options []byte
			if tt.sack {
				options = []byte{1, 1, 4, 2}
			}
			b.inject(segment{src: src, dst: dst, seq: 100, flags: syn, window: 60000, options: options})
			s := b.nextSegment()
			b.inject(segment{src: src, dst: dst, seq: 101, ack: s.seq + 1, flags: ack | psh, window: 60000, payload: make([]byte, 500)})
			if s = b.nextSegment(); s.ack != 601 {
				t.Fatalf("instead of an acknowledgement: %+v", s)
			}
			// gVisor acknowledges what the flow is not told of yet.
			eventually(t, "an open flow", func() bool { return b.stack.Stats().Dial.Opened == 1 })
			b.stack.SetMTU(tt.mtu)
			h, p := b.next()
			m := h.Payload(p)
			if !h.IsICMP() || h.Src != tt.reporter || h.Dst != src.Addr() {
				t.Fatalf("instead of an ICMP error: %+v", h)
			}
			q, ok := packet.ParseCut(m[8:])
			if got := fmt.Sprintf("%d/%d %d", m[0], m[1], binary.BigEndian.Uint32(m[4:])); got != tt.want || !ok {
				t.Errorf("told %s, want %s", got, tt.want)
			}
			about, length := header.TCP(q.Payload(m[8:])), binary.BigEndian.Uint16(m[10:])
			if tt.family == "v6" {
				length = binary.BigEndian.Uint16(m[12:]) + header.IPv6MinimumSize
			}
			if q.Src != src.Addr() || q.Dst != dst.Addr() || length != testMTU || !q.DF || len(about) != header.TCPMinimumSize || about.SourcePort() != 1 || about.DestinationPort() != 80 || about.SequenceNumber() != 601 {
				t.Errorf("about %+v, % x", q, []byte(about))
			}
			b.stack.SetMTU(tt.mtu + 100) // wider again: nothing to be said
			b.stack.SetMTU(testMTU)
			b.silent()
		})
	}
}
