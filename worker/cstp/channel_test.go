package cstp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rocserv/internal/wire"
)

// link is a server channel and the client's end of its TLS connection over loopback.
type link struct {
	ch     *Channel
	client *tls.Conn
	wire   *countingConn // below the server's TLS
}

// countingConn counts what leaves.
type countingConn struct {
	net.Conn
	mu     sync.Mutex
	writes int
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes++
	c.mu.Unlock()
	return c.Conn.Write(p)
}

func (c *countingConn) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

func newLink(t testing.TB, version uint16) *link {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	wire := &countingConn{Conn: in}
	conn := NewConn(wire)
	server := tls.Server(conn, &tls.Config{
		Certificates: []tls.Certificate{testCert(t)}, DynamicRecordSizingDisabled: true,
		MinVersion: version, MaxVersion: version, SessionTicketsDisabled: true,
	})
	client := tls.Client(out, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
	done := make(chan error, 1)
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); out.Close() })
	return &link{ch: New(server, conn), client: client, wire: wire}
}

func testCert(t testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// inbox keeps copies of what Serve delivers and how it was batched.
type inbox struct {
	mu      sync.Mutex
	packets []wire.Packet
	batches []int
	got     chan struct{}
}

func newInbox() *inbox { return &inbox{got: make(chan struct{}, 1000)} }

func (i *inbox) Packets(p []wire.Packet) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.batches = append(i.batches, len(p))
	for _, p := range p {
		i.packets = append(i.packets, wire.Packet{Type: p.Type, Payload: bytes.Clone(p.Payload)})
	}
	i.got <- struct{}{}
}

func (i *inbox) wait(t *testing.T, n int) []wire.Packet {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		i.mu.Lock()
		have := len(i.packets)
		i.mu.Unlock()
		if have >= n {
			i.mu.Lock()
			defer i.mu.Unlock()
			return i.packets
		}
		select {
		case <-i.got:
		case <-deadline:
			t.Fatalf("%d packets arrived, want %d", have, n)
		}
	}
}

func frame(typ wire.PacketType, payload []byte) []byte {
	return append([]byte{'S', 'T', 'F', 1, byte(len(payload) >> 8), byte(len(payload)), byte(typ), 0}, payload...)
}

func TestOnePacketIsOneRecordAndABatchIsOneWrite(t *testing.T) {
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, version)
			before := l.wire.count()
			sizes := []int{0, 1, 1400, 9000, wire.MaxPayload, 40}
			for i, n := range sizes {
				p := l.ch.Next(n)
				for j := range p {
					p[j] = byte(i)
				}
				l.ch.Add(wire.Data, n)
			}
			if got := l.wire.count() - before; got != 0 {
				t.Fatalf("%d writes before Flush", got)
			}
			l.ch.Flush()
			if got := l.wire.count() - before; got != 1 {
				t.Errorf("batch left in %d writes, want 1", got)
			}
			buf := make([]byte, 32<<10)
			for i, n := range sizes {
				got, err := l.client.Read(buf) // one record a call
				if err != nil {
					t.Fatal(err)
				}
				want := frame(wire.Data, bytes.Repeat([]byte{byte(i)}, n))
				if !bytes.Equal(buf[:got], want) {
					t.Fatalf("record %d: %d bytes, want %d", i, got, len(want))
				}
			}
		})
	}
}

func TestLargeBatchLeavesInWholeRecords(t *testing.T) {
	l := newLink(t, tls.VersionTLS13)
	const n, size = 200, 1400 // more than the gather buffer holds
	go func() {
		for range n {
			l.ch.Next(size)
			l.ch.Add(wire.Data, size)
		}
		l.ch.Flush()
	}()
	buf := make([]byte, 32<<10)
	for i := range n {
		got, err := l.client.Read(buf)
		if err != nil || got != wire.HeaderLen+size {
			t.Fatalf("record %d: %d bytes, %v", i, got, err)
		}
	}
}

func TestServe(t *testing.T) {
	big := bytes.Repeat([]byte{7}, 9000)
	tests := []struct {
		name    string
		records [][]byte
		want    []wire.Packet
	}{
		{"one each", [][]byte{frame(wire.Data, []byte("abc")), frame(wire.DPDReq, nil)}, []wire.Packet{{Type: wire.Data, Payload: []byte("abc")}, {Type: wire.DPDReq, Payload: nil}}},
		{"coalesced", [][]byte{append(frame(wire.Data, []byte("ab")), frame(wire.Keepalive, nil)...)}, []wire.Packet{{Type: wire.Data, Payload: []byte("ab")}, {Type: wire.Keepalive, Payload: nil}}},
		{"split in the header", [][]byte{frame(wire.Data, []byte("abcd"))[:3], frame(wire.Data, []byte("abcd"))[3:]}, []wire.Packet{{Type: wire.Data, Payload: []byte("abcd")}}},
		{"split in the payload", [][]byte{frame(wire.Data, big)[:100], frame(wire.Data, big)[100:]}, []wire.Packet{{Type: wire.Data, Payload: big}}},
		{"unknown type is given", [][]byte{frame(77, []byte("x"))}, []wire.Packet{{Type: 77, Payload: []byte("x")}}},
		{"full record", [][]byte{frame(wire.Data, make([]byte, wire.MaxPayload))}, []wire.Packet{{Type: wire.Data, Payload: make([]byte, wire.MaxPayload)}}},
		{"longer than a record", [][]byte{frame(wire.Data, make([]byte, wire.MaxPayload))[:16000], frame(wire.Data, make([]byte, wire.MaxPayload))[16000:]}, []wire.Packet{{Type: wire.Data, Payload: make([]byte, wire.MaxPayload)}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLink(t, tls.VersionTLS13)
			box := newInbox()
			ended := make(chan error, 1)
			go func() { ended <- l.ch.Serve(box) }()
			for _, r := range tt.records {
				if _, err := l.client.Write(r); err != nil {
					t.Fatal(err)
				}
			}
			got := box.wait(t, len(tt.want))
			for i, w := range tt.want {
				if got[i].Type != w.Type || !bytes.Equal(got[i].Payload, w.Payload) {
					t.Errorf("packet %d: type %d, %d bytes", i, got[i].Type, len(got[i].Payload))
				}
			}
			l.client.Close()
			if err := <-ended; !errors.Is(err, io.EOF) {
				t.Errorf("Serve ended with %v", err)
			}
		})
	}
}

// What waits in the socket when Serve wakes up is delivered together.
func TestRecordsOfOneWakeUpAreOneBatch(t *testing.T) {
	l := newLink(t, tls.VersionTLS13)
	box := newInbox()
	// Fill the server's socket before Serve looks at it.
	const n = 40
	for i := range n {
		if _, err := l.client.Write(frame(wire.Data, []byte{byte(i)})); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(10 * time.Millisecond) // loopback: nothing asserts on it but the batch below
	go l.ch.Serve(box)
	got := box.wait(t, n)
	for i := range n {
		if got[i].Payload[0] != byte(i) {
			t.Fatalf("packet %d out of order", i)
		}
	}
	if len(box.batches) > n/4 {
		t.Errorf("%d packets came in %d batches", n, len(box.batches))
	}
}

// metered notes whether Serve thought that a client uploads.
type metered struct {
	ch   *Channel
	n    atomic.Int64
	busy atomic.Bool
}

func (m *metered) Packets(p []wire.Packet) {
	m.n.Add(int64(len(p)))
	if m.ch.meter.Busy() {
		m.busy.Store(true)
	}
}

// Serve knows an upload, for which it naps, and nothing is lost over it.
func TestUploadIsMetered(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l := newLink(t, tls.VersionTLS13)
	m := &metered{ch: l.ch}
	ended := make(chan error, 1)
	go func() { ended <- l.ch.Serve(m) }()
	sent := int64(0)
	f := frame(wire.Data, make([]byte, 1400))
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end) && !m.busy.Load(); {
		for range 100 {
			if _, err := l.client.Write(f); err != nil {
				t.Fatal(err)
			}
			sent++
		}
	}
	l.client.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("Serve ended with %v", err)
	}
	if got := m.n.Load(); got != sent {
		t.Errorf("%d of %d packets arrived", got, sent)
	}
	if !m.busy.Load() {
		t.Skip("this machine does not reach the rate")
	}
}

func TestBadFrameEndsServe(t *testing.T) {
	for name, raw := range map[string][]byte{
		"magic":    []byte("GET / HTTP/1.1\r\n"),
		"byte 7":   {'S', 'T', 'F', 1, 0, 0, 0, 1},
		"version":  {'S', 'T', 'F', 2, 0, 0, 0, 0},
		"too long": {'S', 'T', 'F', 1, 0xff, 0xff, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, tls.VersionTLS13)
			box := newInbox()
			l.client.Write(append(frame(wire.Data, []byte("good")), raw...))
			if err := l.ch.Serve(box); !errors.Is(err, ErrFrame) {
				t.Errorf("Serve ended with %v", err)
			}
			if len(box.packets) != 1 || string(box.packets[0].Payload) != "good" {
				t.Errorf("packets before the bad frame: %v", box.packets)
			}
		})
	}
}

func TestCloseWakesParkedFlush(t *testing.T) {
	l := newLink(t, tls.VersionTLS13)
	done := make(chan struct{})
	go func() { // the client reads nothing: this parks once the buffers are full
		defer close(done)
		for l.ch.err == nil {
			l.ch.Next(16000)
			l.ch.Add(wire.Data, 16000)
			l.ch.Flush()
		}
	}()
	select {
	case <-done:
		t.Fatal("never parked")
	case <-time.After(200 * time.Millisecond):
	}
	l.ch.Close()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("parked writer not woken by Close")
	}
	l.ch.Next(10)
	l.ch.Add(wire.Data, 10) // discarded, no panic
	l.ch.Flush()
}

func TestTrimGivesBuffersBackAndLosesNothing(t *testing.T) {
	l := newLink(t, tls.VersionTLS13)
	box := newInbox()
	go l.ch.Serve(box)
	payload := bytes.Repeat([]byte{1}, 12000)
	for range 50 {
		l.client.Write(frame(wire.Data, payload))
	}
	box.wait(t, 50)
	half := frame(wire.Data, []byte("after the trim"))
	l.client.Write(half[:5]) // a frame under way
	for range 3 {
		l.ch.Trim()
		time.Sleep(5 * time.Millisecond)
	}
	l.client.Write(half[5:])
	got := box.wait(t, 51)
	if string(got[50].Payload) != "after the trim" {
		t.Fatalf("got %q", got[50].Payload)
	}
	l.ch.Trim()
	l.client.Write(frame(wire.Data, []byte("x")))
	box.wait(t, 52)
	l.client.Close()
	if c := cap(l.ch.conn.in); c > smallBuffer {
		t.Errorf("read buffer of %d bytes after Trim", c)
	}
}

func TestSendingAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget on purpose")
	}
	l := newLink(t, tls.VersionTLS13)
	go io.Copy(io.Discard, l.client.NetConn()) // raw: only our side is counted
	send := func() {
		for range 20 {
			l.ch.Next(1400)
			l.ch.Add(wire.Data, 1400)
		}
		l.ch.Flush()
	}
	send()
	if n := testing.AllocsPerRun(200, send); n > 0 {
		t.Errorf("%v allocations per batch of 20 packets", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(frame(wire.Data, []byte("abc")), 3)
	f.Add(append(frame(wire.Data, nil), frame(wire.Disconnect, []byte{0xb0})...), 1)
	bye, _ := hex.DecodeString("535446010000050053544601")
	f.Add(bye, 2)
	f.Fuzz(func(t *testing.T, stream []byte, chunk int) {
		if chunk < 1 || chunk > 1000 || len(stream) > 10000 {
			return
		}
		whole := collect(t, stream, len(stream))
		if cut := collect(t, stream, chunk); !bytes.Equal(whole, cut) {
			t.Errorf("cut into %d bytes the stream reads differently", chunk)
		}
	})
}

// collect feeds a stream in chunks and returns every packet, flattened.
func collect(t *testing.T, stream []byte, chunk int) []byte {
	b := batch{buf: make([]byte, smallBatch)}
	box := &inbox{got: make(chan struct{}, len(stream)+1)}
	for len(stream) > 0 {
		n := copy(b.buf[b.w:], stream[:min(max(chunk, 1), len(stream))])
		b.w += n
		stream = stream[n:]
		err := b.parse()
		b.deliver(box)
		if err != nil {
			break
		}
		if len(b.buf)-b.w < batchSlack {
			t.Fatal("no room for a record after deliver")
		}
	}
	var flat []byte
	for _, p := range box.packets {
		flat = append(flat, frame(p.Type, p.Payload)...)
	}
	return flat
}

func BenchmarkSend(b *testing.B) {
	l := newLink(b, tls.VersionTLS13)
	go io.Copy(io.Discard, l.client.NetConn())
	b.SetBytes(44 * 1400)
	b.ReportAllocs()
	for b.Loop() {
		for range 44 {
			l.ch.Next(1400)
			l.ch.Add(wire.Data, 1400)
		}
		l.ch.Flush()
	}
}
