package dtls

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/wire"
)

// The rules for what shares a send, without sending.
func TestRuns(t *testing.T) {
	type want struct{ seg, count int }
	const o = 38
	many := func(n, length int) (l []int) {
		for range n {
			l = append(l, length)
		}
		return l
	}
	tests := []struct {
		name    string
		lengths []int
		want    []want
	}{
		{"one", []int{100}, []want{{100 + o, 1}}},
		{"equal", []int{100, 100, 100}, []want{{100 + o, 3}}},
		{"shorter ends the run", []int{100, 100, 60, 60}, []want{{100 + o, 3}, {60 + o, 1}}},
		{"longer begins anew", []int{100, 101, 101}, []want{{100 + o, 1}, {101 + o, 2}}},
		{"shorter, then equal to the first", []int{100, 60, 100, 60}, []want{{100 + o, 2}, {100 + o, 2}}},
		{"64 segments", many(70, 50), []want{{50 + o, 64}, {50 + o, 6}}},
		{"empty packets", []int{0, 0}, []want{{o, 2}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
			defer p.c.sock.close()
			for _, n := range tt.lengths {
				p.c.Next(n)
				p.c.Add(wire.Data, n)
			}
			var got []want
			end := 0
			for _, r := range p.c.out.runs {
				if r.off != end {
					t.Errorf("run begins at %d, the last one ended at %d", r.off, end)
				}
				end = r.end
				got = append(got, want{r.seg, r.count})
				if segments(r.end-r.off, r.seg) != r.count {
					t.Errorf("%d bytes of %d are not %d records", r.end-r.off, r.seg, r.count)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("runs %v, want %v", got, tt.want)
			}
		})
	}
}

// Whatever is added arrives, in order, one record per datagram.
func TestSendArrives(t *testing.T) {
	batches := [][]int{
		{0}, {1400}, {1400, 1400, 1400, 20}, {20, 1400, 30, 1400, 1400, 0, 5},
		{16383, 16383, 16383, 16000}, {9000, 9000, 9000, 9000, 9000, 9000, 9000, 9000},
	}
	var ramp, down, equal []int
	for i := range 150 {
		ramp, down, equal = append(ramp, 300+i), append(down, 450-i), append(equal, 1390)
	}
	batches = append(batches, ramp, down, equal)
	for _, id := range []uint16{aes128, aes256, chacha} {
		for _, noSegment := range []bool{false, true} {
			t.Run(fmt.Sprintf("%04x segment=%v", id, !noSegment), func(t *testing.T) {
				checkLeaks(t)
				p := newPair(t, "udp4", "127.0.0.1:0", id, nil)
				p.conn.SetReadBuffer(4 << 20)
				p.c.out.noSegment = noSegment
				p.serve(t)
				var packets uint64
				for _, lengths := range batches {
					var want []string
					for part := range slices.Chunk(lengths, 50) { // what the client's buffer takes at once
						want = append(p.send(part...), want...)
						got := p.read(t, len(part))
						if !slices.Equal(got, want[:len(part)]) {
							t.Fatalf("batch of %d differs", len(part))
						}
					}
					packets += uint64(len(lengths))
				}
				if s := p.c.Stats(); s.TxPackets != packets || s.TxErrors != 0 {
					t.Errorf("stats %+v, want %d packets", s, packets)
				}
			})
		}
	}
}

// More in one batch than buffer, runs and vector hold.
func TestSendLongBatch(t *testing.T) {
	checkLeaks(t)
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	p.serve(t)
	const n = 1000
	got := make(chan []string, 1)
	go func() { got <- p.drain(t, n) }()
	for i := range n {
		b := p.c.Next(100 + i%7)
		copy(b, fmt.Sprintf("%06d", i))
		p.c.Add(wire.Data, len(b))
		if i%100 == 99 {
			p.c.Flush()
			await(t, "client", p.rec.packets) // it says when it has read them
		}
	}
	for i, s := range await(t, "packets", got) {
		if s[1:7] != fmt.Sprintf("%06d", i) || len(s) != 101+i%7 {
			t.Fatalf("packet %d: %.10q, %d bytes", i, s, len(s))
		}
	}
}

// drain reads n packets and answers each hundredth.
func (p *pair) drain(t *testing.T, n int) (got []string) {
	for len(got) < n {
		got = append(got, p.read(t, 100)...)
		p.write(t, p.data(t, "\x00go on"))
	}
	return got
}

// A socket without checksums cannot do UDP_SEGMENT: the kernel says EINVAL, as
// it does (or EIO) for devices that cannot.
func TestNoSegmentationIsRemembered(t *testing.T) {
	checkLeaks(t)
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	p.c.sock.raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
			t.Skip(err)
		}
	})
	p.serve(t)
	for round := range 3 {
		want := p.send(1000, 1000, 1000, 10, 700, 700)
		if got := p.read(t, len(want)); !slices.Equal(got, want) {
			t.Fatalf("round %d: packets differ", round)
		}
		if !p.c.out.noSegment {
			t.Fatal("not remembered")
		}
	}
	if s := p.c.Stats(); s.TxErrors != 0 || s.TooBig != 0 {
		t.Errorf("stats %+v", s)
	}
}

// What is longer than the MTU is reported, and what is not still arrives.
func TestTooBig(t *testing.T) {
	checkLeaks(t)
	var reported []int
	p := newPair(t, "udp6", "[::1]:0", aes128, func(cfg *Config) {
		cfg.TooBig = func(_ *Channel, n int) { reported = append(reported, n) }
	})
	p.c.sock.raw.Control(func(fd uintptr) {
		if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU, 1280); err != nil {
			t.Skip(err)
		}
	})
	p.serve(t)
	want := p.send(1400, 600, 1400, 1400, 1300, 1280-48-38, 1280-48-38+1)
	if got, fit := p.read(t, 2), []string{want[1], want[5]}; !slices.Equal(got, fit) {
		t.Fatalf("arrived: %d and %d bytes", len(got[0]), len(got[1]))
	}
	if !slices.Equal(reported, []int{1400, 1400, 1400, 1300, 1280 - 48 - 38 + 1}) {
		t.Errorf("reported %v", reported)
	}
	if s := p.c.Stats(); s.TooBig != 5 || s.TxErrors != 0 {
		t.Errorf("stats %+v", s)
	}
	if p.c.out.noSegment {
		t.Error("UDP_SEGMENT was blamed")
	}
	if p.send(1000, 1000); len(p.read(t, 2)) != 2 {
		t.Error("unreachable")
	}
}

// A client whose port is closed for a while.
func TestRefusedIsTransient(t *testing.T) {
	checkLeaks(t)
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	p.serve(t)
	local, server := p.conn.LocalAddr().(*net.UDPAddr), p.conn.RemoteAddr().(*net.UDPAddr)
	p.send(100)
	p.read(t, 1)
	p.conn.Close()
	for range 20 {
		p.send(100, 100, 50)
	}
	var err error
	if p.conn, err = net.DialUDP("udp", local, server); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.conn.Close() })
	want := p.send(200, 200)
	if got := p.read(t, 2); !slices.Equal(got, want) {
		t.Fatal("packets differ")
	}
	p.write(t, p.data(t, "\x00alive"))
	await(t, "packet", p.rec.packets)
	select {
	case err := <-p.rec.closed:
		t.Fatalf("closed with %v", err)
	default:
	}
}

func TestSealerExhausted(t *testing.T) {
	checkLeaks(t)
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	p.c.in.assoc.sealer, _ = p.suite.NewServer(&dtlsrecord.Secret{}, dtlsrecord.MaxSequence)
	p.serve(t)
	p.send(1, 1, 1)
	if err := await(t, "Closed", p.rec.closed); err == nil || !strings.Contains(err.Error(), "exhausted") {
		t.Errorf("closed with %v", err)
	}
}

// Before a handshake is done there is room, and nothing is sent.
func TestNextBeforeKeys(t *testing.T) {
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	defer p.c.sock.close()
	p.c.current.Store(nil)
	if b := p.c.Next(1400); len(b) != 1400 {
		t.Errorf("room for %d bytes", len(b))
	}
	p.c.Add(wire.Data, 1400)
	p.c.Flush()
	if s := p.c.Stats(); s.TxErrors != 1 || s.TxPackets != 0 {
		t.Errorf("stats %+v", s)
	}
	if p.c.Suite() != "" || p.c.Overhead() != 38 {
		t.Errorf("%q %d", p.c.Suite(), p.c.Overhead())
	}
}

func TestBuffersGrowAndShrink(t *testing.T) {
	checkLeaks(t)
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	p.conn.SetReadBuffer(4 << 20)
	r, o := &p.c.in, &p.c.out
	if len(r.batch.buf) != smallSlots*minSlot || o.buf != nil {
		t.Fatalf("at first %d and %d bytes", len(r.batch.buf), len(o.buf))
	}
	p.send(100)
	if len(o.buf) != smallBuf || len(o.vec.msgs) != smallRuns {
		t.Errorf("a ping takes %d bytes and %d messages", len(o.buf), len(o.vec.msgs))
	}
	p.send(1400, 1400, 1400, 1400)
	if len(o.buf) != largeBuf {
		t.Errorf("traffic takes %d bytes", len(o.buf))
	}
	for range 100 {
		p.write(t, p.data(t, "\x00x"))
	}
	p.c.sock.raw.Read(func(fd uintptr) bool { return r.poll(fd) || true })
	if len(r.batch.msgs) != largeSlots {
		t.Errorf("%d slots under load", len(r.batch.msgs))
	}
	p.c.Trim()
	r.takeMail()
	if len(r.batch.buf) != smallSlots*minSlot || o.buf != nil || o.vec.msgs != nil || r.packets != nil {
		t.Errorf("trimmed to %d and %d bytes", len(r.batch.buf), len(o.buf))
	}
	if len(p.rec.packets) != 100 {
		t.Errorf("%d packets", len(p.rec.packets))
	}
	p.c.Next(10)
	p.c.Add(wire.Data, 10)
	p.c.Trim() // a batch is open
	if o.buf == nil {
		t.Error("an open batch was thrown away")
	}
	p.c.sock.close()
}
