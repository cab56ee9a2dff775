package dtls

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/wire"
)

// counter is a Receiver that only counts.
type counter struct{ packets atomic.Int64 }

func (r *counter) Established(*Channel)                {}
func (r *counter) Closed(*Channel, error)              {}
func (r *counter) Packets(_ *Channel, p []wire.Packet) { r.packets.Add(int64(len(p))) }

func TestSendingAllocatesNothing(t *testing.T) {
	for _, noSegment := range []bool{false, true} {
		p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
		p.c.out.noSegment = noSegment
		batch := func() {
			for i := range 30 {
				n := 1400 - i/10*300
				p.c.Next(1400)
				p.c.Add(wire.Data, n)
			}
			p.c.Flush()
		}
		batch() // the buffers
		if n := testing.AllocsPerRun(100, batch); n != 0 {
			t.Errorf("%v allocations per batch, without segmentation %v", n, noSegment)
		}
		p.c.sock.close()
	}
}

func TestReceivingAllocatesNothing(t *testing.T) {
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, func(cfg *Config) { cfg.Receiver = new(counter) })
	defer p.c.sock.close()
	r := &p.c.in
	r.batch.resize(largeSlots, true) // as under load
	record := make([]byte, p.suite.Overhead()+1000)
	poll := func(fd uintptr) bool { return r.poll(fd) || true }
	round := func() {
		for range 30 {
			if _, err := p.sealer.Seal(record, dtlsrecord.TypeApplicationData, 1000); err != nil {
				t.Fatal(err)
			}
			if _, err := p.conn.Write(record); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.c.sock.raw.Read(poll); err != nil {
			t.Fatal(err)
		}
	}
	round()
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations per batch", n)
	}
	if s := p.c.Stats(); s.RxPackets == 0 || s.Forged+s.Replayed+s.Odd != 0 {
		t.Errorf("stats %+v", s)
	}
}

const benchBatch = 44 // full packets that fit one send

// BenchmarkDown sends over loopback to a client that only empties its socket.
func BenchmarkDown(b *testing.B) {
	for _, id := range []uint16{aes128, chacha} {
		for _, n := range []int{64, 1400} {
			b.Run(fmt.Sprintf("%04x/%d", id, n), func(b *testing.B) {
				p := newPair(b, "udp4", "127.0.0.1:0", id, nil)
				p.serve(b)
				p.conn.SetReadBuffer(1 << 20)
				stop := make(chan struct{})
				done := make(chan struct{})
				go func() { // its own thread, as a client's process would be
					defer close(done)
					runtime.LockOSThread()
					emptySocket(p, stop)
				}()
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					p.c.Next(n)
					p.c.Add(wire.Data, n)
					if i%benchBatch == benchBatch-1 {
						p.c.Flush()
					}
				}
				p.c.Flush()
				close(stop)
				p.conn.SetReadDeadline(past())
				<-done
			})
		}
	}
}

func emptySocket(p *pair, stop chan struct{}) {
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return
	}
	var bt batch
	bt.init(defaultMaxPacket)
	bt.resize(largeSlots, false)
	for {
		err := raw.Read(func(fd uintptr) bool {
			_, errno := bt.receive(fd)
			return errno != unix.EAGAIN
		})
		select {
		case <-stop:
			return
		default:
			if err != nil {
				return
			}
		}
	}
}

// BenchmarkUp receives over loopback from a client that sends with UDP_SEGMENT
// and keeps at most window packets under way.
func BenchmarkUp(b *testing.B) {
	const window = 128
	for _, procs := range []int{1, 2} {
		for _, n := range []int{64, 1400} {
			b.Run(fmt.Sprintf("procs=%d/%d", procs, n), func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				rec := new(counter)
				p := newPair(b, "udp4", "127.0.0.1:0", aes128, func(cfg *Config) { cfg.Receiver = rec })
				p.serve(b)
				// The client's sealer behind a sender of ours: what sends, sends alike.
				q := newPair(b, "udp4", "127.0.0.1:0", aes128, nil)
				defer q.c.sock.close()
				raw, err := p.conn.SyscallConn()
				if err != nil {
					b.Fatal(err)
				}
				q.c.sock.raw = raw
				q.c.current.Load().sealer = p.sealer
				b.SetBytes(int64(n))
				b.ReportAllocs()
				sent := int64(0)
				for b.Loop() {
					q.c.Next(n)
					q.c.Add(wire.Data, n)
					if sent++; sent%benchBatch == 0 {
						q.c.Flush()
						waitFor(rec, sent-window)
					}
				}
				q.c.Flush()
				waitFor(rec, sent)
				if got := rec.packets.Load(); got < sent {
					b.ReportMetric(float64(sent-got), "lost")
				}
			})
		}
	}
}

// waitFor waits until so many packets have arrived, or a moment.
func waitFor(rec *counter, n int64) {
	for end := time.Now().Add(100 * time.Millisecond); rec.packets.Load() < n && time.Now().Before(end); {
		runtime.Gosched()
	}
}

// BenchmarkOpenBatch is the reading goroutine's work without the socket.
func BenchmarkOpenBatch(b *testing.B) {
	for _, n := range []int{64, 1400} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := newPair(b, "udp4", "127.0.0.1:0", aes128, func(cfg *Config) { cfg.Receiver = new(counter) })
			defer p.c.sock.close()
			record := make([]byte, p.suite.Overhead()+n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := p.sealer.Seal(record, dtlsrecord.TypeApplicationData, n); err != nil {
					b.Fatal(err)
				}
				p.c.in.datagram(record)
				if i%benchBatch == 0 {
					p.c.in.deliver()
				}
			}
			p.c.in.deliver()
		})
	}
}
