package worker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"rocserv/internal/ipc"
	"rocserv/internal/wire"
	"rocserv/netstack/stacktest"
	"rocserv/worker/compress"
)

// A whole worker whose packets are compressed both ways, or are not because one
// side does not want to.
func TestCompression(t *testing.T) {
	for _, tt := range []struct{ name, allowed, offers, want string }{
		{"LZ4", "oc-lz4 lzs", "oc-lz4,lzs", "oc-lz4"},
		{"LZS", "oc-lz4 lzs", "lzs,deflate", "lzs"},
		{"the server's order", "lzs oc-lz4", "oc-lz4,lzs", "lzs"},
		{"off", "", "oc-lz4,lzs", ""},
		{"not offered", "oc-lz4 lzs", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil, func(wc *ipc.WorkerConfig, _ *ipc.SessionConfig) {
				wc.Vhosts[0].Compression, wc.Vhosts[0].NoCompressLimit = strings.Fields(tt.allowed), 64
			})
			text := bytes.Repeat([]byte("All work and no play makes Jack a dull boy. "), 5000)
			w.net.Serve(webHost, stacktest.Echo)
			c := w.dial()
			c.offers = tt.offers
			c.connect(c.login())
			if got := strings.Join(c.head["X-CSTP-Content-Encoding"], ","); got != tt.want {
				t.Fatalf("the client is told '%s'", got)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			conn, err := c.DialTCP(ctx, webHost)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go func() {
				conn.Write(text)
				conn.CloseWrite()
			}()
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, text) {
				t.Errorf("%d bytes came back, %v", len(got), err)
			}
			exchange(t, c, webHost) // what does not become shorter
			up, down := c.packed[0].Load(), c.packed[1].Load()
			if tt.want == "" && up+down > 0 || tt.want != "" && (up < 100 || down < 100) {
				t.Errorf("%d packets went compressed, %d came so", up, down)
			}
			c.frame(wire.Compressed, []byte{0xff, 0xff, 0xff})
			c.frame(wire.Disconnect, []byte("\xb0bye"))
			if err := w.wait(); err != nil {
				t.Fatal(err)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			count := ipc.TakeCounters(w.stats.GetCounters())
			malformed, unknown := uint64(1), uint64(0)
			if tt.want == "" {
				malformed, unknown = 0, 1
			}
			if count[ipc.CountPacketsMalformed] != malformed || count[ipc.CountPacketsUnknown] != unknown {
				t.Errorf("%d malformed, %d unknown", count[ipc.CountPacketsMalformed], count[ipc.CountPacketsUnknown])
			}
			if info := w.infos[0]; info.CstpCompression != tt.want {
				t.Errorf("main was told '%s'", info.CstpCompression)
			}
		})
	}
}

// recorder is the sending side of a channel.
type recorder struct {
	room []byte
	sent []wire.Packet
}

func (r *recorder) Next(n int) []byte { r.room = make([]byte, n); return r.room }
func (r *recorder) Add(typ wire.PacketType, n int) {
	r.sent = append(r.sent, wire.Packet{Type: typ, Payload: r.room[:n]})
}
func (r *recorder) Flush()     {}
func (r *recorder) Busy() bool { return false }

// What is short, is no data or does not become shorter goes as it is.
func TestPacker(t *testing.T) {
	to := new(recorder)
	if packed(to, "", 64) != sender(to) {
		t.Error("a channel without compression has something in between")
	}
	p := packed(to, compress.LZ4, 100)
	noise := make([]byte, 500)
	for i := range noise {
		noise[i] = byte(i * i >> 3)
	}
	text := bytes.Repeat([]byte("ab"), 2000)
	for i, tt := range []struct {
		typ  wire.PacketType
		b    []byte
		want wire.PacketType
	}{
		{wire.Data, text, wire.Compressed}, {wire.Data, text[:99], wire.Data}, {wire.Data, text[:100], wire.Compressed},
		{wire.DPDReq, text, wire.DPDReq}, {wire.Data, nil, wire.Data}, {wire.Data, []byte(fmt.Sprintf("%0100x", 1)), wire.Compressed},
	} {
		copy(p.Next(len(tt.b)), tt.b)
		p.Add(tt.typ, len(tt.b))
		got := to.sent[len(to.sent)-1]
		b := got.Payload
		if got.Type == wire.Compressed {
			b = make([]byte, 5000)
			n, err := compress.LZ4.Decompress(b, got.Payload)
			if b = b[:n]; err != nil {
				t.Error(err)
			}
		}
		if got.Type != tt.want || !bytes.Equal(b, tt.b) {
			t.Errorf("%d: %v of %d bytes became %v of %d", i, tt.typ, len(tt.b), got.Type, len(got.Payload))
		}
	}
}

// A batch of packets that each become as long as may be takes bounded memory, and
// none becomes longer than the MTU.
func TestBomb(t *testing.T) {
	in := newInside(t, faketime.NewManualClock())
	defer in.close()
	in.s.tunnel.packing = packing{cstp: compress.LZ4, most: 1400}
	bomb := func(n int) wire.Packet { // one byte, then it again and again
		b := []byte{0x1f, 0x45, 1, 0}
		for n -= 1 + 4 + 15 + 5; n >= 255; n -= 255 {
			b = append(b, 255)
		}
		return wire.Packet{Type: wire.Compressed, Payload: append(b, byte(n), 0x50, 1, 2, 3, 4, 5)}
	}
	fromCSTP{t: &in.s.tunnel}.Packets(slices.Repeat([]wire.Packet{bomb(1400)}, 5000))
	if n := in.s.tunnel.counters.malformed.Load(); n != 5000 { // as IP packets they are nonsense
		t.Errorf("%d malformed", n)
	}
	if up := in.s.tunnel.counters.bytesUp.Load(); up != 5000*1400 {
		t.Errorf("%d bytes", up)
	}
	if n := len(in.s.tunnel.room); n != unpackRoom {
		t.Errorf("%d bytes of room", n)
	}
	before := in.s.tunnel.counters.bytesUp.Load()
	fromCSTP{t: &in.s.tunnel}.Packets([]wire.Packet{bomb(1401), bomb(1 << 20)})
	if after := in.s.tunnel.counters.bytesUp.Load(); after != before || in.s.tunnel.counters.malformed.Load() != 5002 {
		t.Errorf("%d bytes of packets longer than the MTU", after-before)
	}
}
