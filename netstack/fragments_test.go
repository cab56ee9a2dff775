package netstack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"rocserv/internal/packet"
	"rocserv/netstack/stacktest"
)

// frag is a fragment of a packet from the client.
type frag struct {
	src, dst netip.Addr
	proto    uint8
	id       uint32
	offset   int
	more     bool
	data     []byte
	ext      []byte // IPv6: header before the fragment header, a multiple of 8 bytes, of type hop-by-hop
}

func (f frag) packet() []byte {
	if f.src.Is4() {
		b := make([]byte, header.IPv4MinimumSize+len(f.data))
		packet.PutIP(b, packet.IP{Src: f.src, Dst: f.dst, Proto: f.proto, TTL: 33, TOS: 0x10, ID: uint16(f.id)})
		word := uint16(f.offset / 8)
		if f.more {
			word |= 0x2000
		}
		binary.BigEndian.PutUint16(b[6:], word)
		copy(b[header.IPv4MinimumSize:], f.data)
		return b
	}
	b := make([]byte, header.IPv6MinimumSize+len(f.ext)+8+len(f.data))
	packet.PutIP(b, packet.IP{Src: f.src, Dst: f.dst, Proto: 44, TTL: 33, TOS: 0x10})
	at := header.IPv6MinimumSize
	if len(f.ext) > 0 {
		b[6] = 0
		copy(b[at:], f.ext)
		b[at], b[at+1] = 44, byte(len(f.ext)/8-1)
		at += len(f.ext)
	}
	b[at] = f.proto
	word := uint16(f.offset)
	if f.more {
		word |= 1
	}
	binary.BigEndian.PutUint16(b[at+2:], word)
	binary.BigEndian.PutUint32(b[at+4:], f.id)
	copy(b[at+8:], f.data)
	return b
}

// cut makes fragments of n bytes of a payload.
func cut(f frag, payload []byte, n int) (list []frag) {
	for f.offset = 0; f.offset < len(payload); f.offset += n {
		end := min(f.offset+n, len(payload))
		f.data, f.more = payload[f.offset:end], end < len(payload)
		list = append(list, f)
	}
	return list
}

func newFragments() *fragments { return &fragments{stats: new(counters)} }

func (f *fragments) feed(t *testing.T, now int64, list ...frag) (whole [][]byte) {
	t.Helper()
	for _, p := range list {
		b := p.packet()
		h, ok := packet.Parse(b)
		if !ok {
			t.Fatalf("no packet: %x", b)
		}
		if w := f.add(&h, b, tcpip.MonotonicTime{}.Add(time.Duration(now))); w != nil {
			whole = append(whole, w)
		}
	}
	return whole
}

func TestReassembly(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for family, a := range pairs {
		t.Run(family, func(t *testing.T) {
			for range 300 {
				f := newFragments()
				payload := make([]byte, 1+rng.IntN(20000))
				for i := range payload {
					payload[i] = byte(rng.Uint32())
				}
				list := cut(frag{src: a[0], dst: a[1], proto: packet.UDP, id: rng.Uint32()}, payload, 8*(20+rng.IntN(180)))
				if len(list) == 1 {
					continue // the only piece of a packet is no fragment
				}
				if family == "v6" && rng.IntN(2) == 0 {
					for i := range list {
						list[i].ext = make([]byte, 8)
					}
				}
				rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
				whole := f.feed(t, 0, list...)
				if len(whole) != 1 {
					t.Fatalf("%d packets of %d fragments", len(whole), len(list))
				}
				h, ok := packet.Parse(whole[0])
				if !ok || h.Fragment || h.Src != a[0] || h.Dst != a[1] || h.Proto != packet.UDP || h.TTL != 33 {
					t.Fatalf("header %+v", h)
				}
				if !bytes.Equal(h.Payload(whole[0]), payload) || !packet.HeaderSumOK(whole[0]) {
					t.Fatal("wrong packet")
				}
				if len(f.list) != 0 || f.bytes != 0 {
					t.Fatalf("%d packets, %d bytes left", len(f.list), f.bytes)
				}
			}
		})
	}
}

// TestReassemblyRefuses: what contradicts itself is given up as a whole.
func TestReassemblyRefuses(t *testing.T) {
	data := bytes.Repeat([]byte("12345678"), 100)
	tests := []struct {
		name   string
		pieces func(f frag) []frag
	}{
		{"overlap", func(f frag) []frag {
			list := cut(f, data, 400)
			list[1].offset -= 8
			return append(list, cut(f, data, 400)[1:]...)
		}},
		{"overlap before", func(f frag) []frag {
			list := cut(f, data, 400)
			return []frag{list[1], {f.src, f.dst, f.proto, f.id, 0, true, data[:408], nil}, list[0]}
		}},
		{"repeated", func(f frag) []frag { list := cut(f, data, 200); return append([]frag{list[0]}, list...) }},
		{"two ends", func(f frag) []frag {
			list := cut(f, data, 200)
			list[2].more = false
			return []frag{list[3], list[2], list[0], list[1]}
		}},
		{"beyond the end", func(f frag) []frag {
			list := cut(f, data, 200)
			return []frag{list[3], {f.src, f.dst, f.proto, f.id, 800, true, data[:8], nil}, list[0], list[1], list[2]}
		}},
		{"end before what is there", func(f frag) []frag {
			list := cut(f, data, 200)
			return []frag{list[0], list[2], {f.src, f.dst, f.proto, f.id, 200, false, data[:8], nil}, list[1], list[3]}
		}},
		{"odd length", func(f frag) []frag {
			list := cut(f, data, 200)
			list[0].data = list[0].data[:199]
			return list
		}},
		{"too long", func(f frag) []frag {
			return []frag{{f.src, f.dst, f.proto, f.id, 65528, false, data[:16], nil}, {f.src, f.dst, f.proto, f.id, 0, true, data, nil}}
		}},
		{"other packets", func(f frag) []frag {
			list := cut(f, data, 200)
			for i := range list {
				list[i].id += uint32(i)
			}
			return list
		}},
		{"other source", func(f frag) []frag {
			list := cut(f, data, 400)
			list[1].src = list[1].src.Next()
			return list
		}},
	}
	for _, test := range tests {
		for family, a := range pairs {
			t.Run(test.name+"/"+family, func(t *testing.T) {
				f := newFragments()
				whole := f.feed(t, 0, test.pieces(frag{src: a[0], dst: a[1], proto: packet.UDP, id: 7})...)
				for _, w := range whole {
					h, _ := packet.Parse(w)
					if !bytes.Equal(h.Payload(w), data) {
						t.Errorf("made a packet of %d bytes", len(w))
					}
				}
				if len(whole) > 0 && test.name != "overlap before" {
					t.Error("made a packet")
				}
			})
		}
	}
}

// TestReassemblyBounds: neither packets, bytes, pieces nor time without end.
func TestReassemblyBounds(t *testing.T) {
	base := frag{src: lease4, dst: host4, proto: packet.UDP}
	t.Run("packets", func(t *testing.T) {
		f := newFragments()
		for i := range uint32(1000) {
			p := base
			p.id, p.more, p.data = i, true, make([]byte, 8)
			f.feed(t, 0, p)
		}
		if len(f.list) != maxReassemblies || f.bytes != 8*maxReassemblies {
			t.Errorf("%d packets, %d bytes", len(f.list), f.bytes)
		}
		if n := f.stats.packet.fragmentsDropped.Load(); n != 1000-maxReassemblies {
			t.Errorf("%d dropped", n)
		}
	})
	t.Run("bytes", func(t *testing.T) {
		f := newFragments()
		for i := range 1000 {
			p := base
			p.id, p.offset, p.more, p.data = uint32(i/40), 1400*(i%40), true, make([]byte, 1400)
			f.feed(t, 0, p)
			if f.bytes > maxFragmentBytes {
				t.Fatalf("%d bytes", f.bytes)
			}
		}
	})
	t.Run("pieces", func(t *testing.T) {
		f := newFragments()
		for i := range 1000 {
			p := base
			p.offset, p.more, p.data = 8*i, true, make([]byte, 8)
			f.feed(t, 0, p)
			if len(f.list) == 1 && len(f.list[0].pieces) > maxFragments {
				t.Fatalf("%d pieces", len(f.list[0].pieces))
			}
		}
	})
	t.Run("time", func(t *testing.T) {
		f := newFragments()
		list := cut(base, make([]byte, 1000), 504)
		f.feed(t, 0, list[0])
		f.feed(t, int64(reassemblyTimeout)-1, frag{src: lease4, dst: host4, proto: packet.UDP, id: 99, more: true, data: make([]byte, 8)})
		if len(f.list) != 2 {
			t.Fatalf("%d packets", len(f.list))
		}
		if whole := f.feed(t, int64(reassemblyTimeout), list[1]); len(whole) != 0 || len(f.list) != 2 {
			t.Errorf("%d whole, %d in the making", len(whole), len(f.list))
		}
	})
}

// TestFragmentsThroughStack: a whole UDP packet goes to Datagram, a whole TCP
// segment to the stack.
func TestFragmentsThroughStack(t *testing.T) {
	for family, a := range pairs {
		t.Run(family, func(t *testing.T) {
			var got [][]byte
			b := newBare(t, Limits{}, func(c *Config) {
				c.Datagram = func(h packet.Header, pkt []byte) {
					if h.Fragment || h.Proto != packet.UDP {
						t.Errorf("header %+v", h)
					}
					got = append(got, bytes.Clone(h.Payload(pkt)))
				}
			})
			payload := bytes.Repeat([]byte("datagram"), 500)
			for _, f := range cut(frag{src: a[0], dst: a[1], proto: packet.UDP, id: 1}, payload, 1200) {
				b.stack.Inject([][]byte{f.packet()})
			}
			if len(got) != 1 || !bytes.Equal(got[0], payload) {
				t.Errorf("%d datagrams", len(got))
			}
			b.network.Serve(port(a[1], 80), stacktest.Discard)
			s := segment{src: port(a[0], 1), dst: port(a[1], 80), flags: syn, window: 1000, options: []byte{2, 4, 5, 0, 1, 1, 1, 1}}.packet()
			h, _ := packet.Parse(s)
			for _, f := range cut(frag{src: a[0], dst: a[1], proto: packet.TCP, id: 2}, h.Payload(s), 16) {
				b.stack.Inject([][]byte{f.packet()})
			}
			if s := b.nextSegment(); s.flags != syn|ack {
				t.Errorf("instead of SYN-ACK: %+v", s)
			}
			if n := b.stack.Stats().Packet.Reassembled; n != 2 {
				t.Errorf("%d reassembled", n)
			}
		})
	}
}

func FuzzFragments(f *testing.F) {
	for _, p := range cut(frag{src: lease4, dst: host4, proto: packet.UDP, id: 1}, make([]byte, 300), 104) {
		f.Add(p.packet(), uint8(3))
	}
	for _, p := range cut(frag{src: lease6, dst: host6, proto: packet.TCP, id: 1, ext: make([]byte, 8)}, make([]byte, 300), 104) {
		f.Add(p.packet(), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		r := newFragments()
		for i := range int(n) {
			h, ok := packet.Parse(b)
			if !ok || !h.Fragment {
				return
			}
			// What a whole packet hides behind further extension headers may be
			// nonsense; Inject parses it again.
			if whole := r.add(&h, b, tcpip.MonotonicTime{}); len(whole) > 0xffff+header.IPv6MinimumSize {
				t.Fatalf("packet of %d bytes", len(whole))
			}
			sum := 0
			for _, x := range r.list {
				sum += x.bytes
			}
			if sum != r.bytes || r.bytes > maxFragmentBytes || len(r.list) > maxReassemblies {
				t.Fatalf("%d bytes, counted %d, %d packets", sum, r.bytes, len(r.list))
			}
			b[len(b)/2] += uint8(i)
		}
	})
}
