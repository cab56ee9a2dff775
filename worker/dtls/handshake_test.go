package dtls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/secret"
	"rocserv/internal/wire"
)

const (
	aes128 = dtlsrecord.PSKWithAES128GCMSHA256
	aes256 = dtlsrecord.PSKWithAES256GCMSHA384
	chacha = dtlsrecord.PSKWithChaCha20Poly1305SHA256
)

func TestSuites(t *testing.T) {
	for _, tt := range []struct {
		network, address string
		id               uint16
		name             string
		overhead         int
	}{
		{"udp4", "127.0.0.1:0", aes128, "(DTLS1.2)-(PSK)-(AES-128-GCM)", 38},
		{"udp4", "127.0.0.1:0", aes256, "(DTLS1.2)-(PSK)-(AES-256-GCM)", 38},
		{"udp4", "127.0.0.1:0", chacha, "(DTLS1.2)-(PSK)-(CHACHA20-POLY1305)", 30},
		{"udp6", "[::1]:0", aes128, "(DTLS1.2)-(PSK)-(AES-128-GCM)", 38},
	} {
		t.Run(fmt.Sprintf("%s %04x", tt.network, tt.id), func(t *testing.T) {
			checkLeaks(t)
			f := listen(t, tt.network, tt.address)
			p := dial(t, f)
			var session []byte
			p.setDown(func(d []byte) [][]byte {
				if h, rec, _, ok := dtlsrecord.Cut(d); ok && h.Type == dtlsrecord.TypeHandshake && rec[13] == msgServerHello {
					session = rec[60 : 60+rec[59]]
				}
				return [][]byte{d}
			})
			conn, result := client(t, p, tt.id)
			rec := newRecorder()
			c := f.start(rec, func(cfg *Config) { cfg.Suites = []uint16{tt.id} })
			if err := await(t, "handshake", result); err != nil {
				t.Fatal(err)
			}
			await(t, "Established", rec.established)
			if c.Suite() != tt.name || c.Overhead() != tt.overhead {
				t.Errorf("suite %q overhead %d", c.Suite(), c.Overhead())
			}
			if len(session) != 0 { // a client would take it for a resumption
				t.Errorf("ServerHello with session_id %x", session)
			}
			if c.PathMTU() < 1280 {
				t.Errorf("path MTU %d", c.PathMTU())
			}
			for i := range 20 {
				echo(t, c, rec, conn, fmt.Sprint(i))
			}
			conn.Close()
			if err := await(t, "Closed", rec.closed); !errors.Is(err, ErrCloseNotify) {
				t.Errorf("closed with %v", err)
			}
			await(t, "Done", c.Done())
			if got, want := rec.calls(), "established packets closed"; got != want {
				t.Errorf("calls %q, want %q", got, want)
			}
			if s := c.Stats(); s.RxPackets != 20 || s.TxPackets != 20 || s.Handshakes != 1 || s.Forged != 0 || s.Odd != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// A dual-stack socket names an IPv4 client by its mapped address.
func TestMappedPeer(t *testing.T) {
	checkLeaks(t)
	f := listen(t, "udp", "[::]:0")
	p := dial(t, &front{t: t, addr: netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", f.addr.Port()))})
	p.server = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), f.addr.Port())
	conn, result := client(t, p, aes128)
	rec := newRecorder()
	c := f.start(rec, func(cfg *Config) {
		if !cfg.Peer.Addr().Is4In6() {
			t.Errorf("peer %v", cfg.Peer)
		}
	})
	if err := await(t, "handshake", result); err != nil {
		t.Fatal(err)
	}
	await(t, "Established", rec.established)
	echo(t, c, rec, conn, "mapped")
}

func TestOurPreferenceCounts(t *testing.T) {
	checkLeaks(t)
	f := listen(t, "udp4", "127.0.0.1:0")
	_, result := client(t, dial(t, f), chacha, aes128) // its order
	rec := newRecorder()
	c := f.start(rec, func(cfg *Config) { cfg.Suites = []uint16{aes256, aes128, chacha} })
	if err := await(t, "handshake", result); err != nil {
		t.Fatal(err)
	}
	await(t, "Established", rec.established)
	if c.Suite() != "(DTLS1.2)-(PSK)-(AES-128-GCM)" {
		t.Errorf("chose %s", c.Suite())
	}
}

func TestHandshakeFails(t *testing.T) {
	tests := []struct {
		name string
		edit func(*Config)
		want error
	}{
		{"no common suite", func(cfg *Config) { cfg.Suites = []uint16{chacha} }, ErrHandshake},
		{"wrong key", func(cfg *Config) {
			cfg.Keys.PSK = secret.NewBytes(bytes.Repeat([]byte{1}, pskLen))
			cfg.HandshakeTimeout = 300 * time.Millisecond
		}, context.DeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkLeaks(t)
			f := listen(t, "udp4", "127.0.0.1:0")
			client(t, dial(t, f), aes128)
			rec := newRecorder()
			f.start(rec, tt.edit)
			err := await(t, "Closed", rec.closed)
			if !errors.Is(err, tt.want) || !errors.Is(err, ErrHandshake) {
				t.Errorf("closed with %v", err)
			}
			if rec.calls() != "closed" {
				t.Errorf("calls %q", rec.calls())
			}
		})
	}
}

func TestSilentClient(t *testing.T) {
	checkLeaks(t)
	f := listen(t, "udp4", "127.0.0.1:0")
	dial(t, f).raw(t, testHello([32]byte{1}, testAppID, aes128))
	rec := newRecorder()
	f.start(rec, func(cfg *Config) { cfg.HandshakeTimeout = 100 * time.Millisecond })
	if err := await(t, "Closed", rec.closed); !errors.Is(err, ErrHandshake) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("closed with %v", err)
	}
}

// has says whether a datagram holds a record of the type and epoch.
func has(d []byte, typ byte, epoch uint16) bool {
	for {
		h, _, rest, ok := dtlsrecord.Cut(d)
		if !ok {
			return false
		}
		if h.Type == typ && h.Epoch == epoch {
			return true
		}
		d = rest
	}
}

// loseFirst loses the first n datagrams that match.
func loseFirst(n int, match func(d []byte) bool) func(d []byte) [][]byte {
	return func(d []byte) [][]byte {
		if n > 0 && match(d) {
			n--
			return nil
		}
		return [][]byte{d}
	}
}

func TestLostFlights(t *testing.T) {
	ccs := func(d []byte) bool { return has(d, dtlsrecord.TypeChangeCipherSpec, 0) }
	serverHello := func(d []byte) bool {
		h, rec, _, ok := dtlsrecord.Cut(d)
		return ok && h.Type == dtlsrecord.TypeHandshake && rec[13] == msgServerHello
	}
	var up, down = (*path).setUp, (*path).setDown
	tests := []struct {
		name   string
		set    func(p *path, f func(d []byte) [][]byte)
		n      int
		match  func(d []byte) bool
		resent bool
	}{
		{"ServerHello", down, 1, serverHello, false},
		{"client's Finished", up, 1, ccs, false},
		{"client's Finished twice", up, 2, ccs, false},
		{"our Finished", down, 1, ccs, true},
		{"our Finished twice", down, 2, ccs, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkLeaks(t)
			f := listen(t, "udp4", "127.0.0.1:0")
			p := dial(t, f)
			tt.set(p, loseFirst(tt.n, tt.match))
			conn, result := client(t, p, aes128)
			rec := newRecorder()
			c := f.start(rec, nil)
			if err := await(t, "handshake", result); err != nil {
				t.Fatal(err)
			}
			await(t, "Established", rec.established)
			echo(t, c, rec, conn, tt.name)
			if s := c.Stats(); (s.Resent > 0) != tt.resent || s.Handshakes != 1 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// The last flight is repeated as it was, and not once the client has shown that it has it.
func TestLastFlightVerbatim(t *testing.T) {
	checkLeaks(t)
	f := listen(t, "udp4", "127.0.0.1:0")
	p := dial(t, f)
	var flights, finished [][]byte
	p.setDown(func(d []byte) [][]byte {
		if has(d, dtlsrecord.TypeChangeCipherSpec, 0) {
			flights = append(flights, d)
			if len(flights) < 3 {
				return nil
			}
		}
		return [][]byte{d}
	})
	p.setUp(func(d []byte) [][]byte {
		if has(d, dtlsrecord.TypeChangeCipherSpec, 0) {
			finished = append(finished, bytes.Clone(d))
		}
		return [][]byte{d}
	})
	conn, result := client(t, p, aes128)
	rec := newRecorder()
	c := f.start(rec, nil)
	if err := await(t, "handshake", result); err != nil {
		t.Fatal(err)
	}
	if len(flights) != 3 || !bytes.Equal(flights[0], flights[1]) || !bytes.Equal(flights[1], flights[2]) {
		t.Fatalf("flights differ: %x", flights)
	}
	echo(t, c, rec, conn, "up")
	before := c.Stats()
	p.raw(t, finished[0])
	echo(t, c, rec, conn, "again")
	if s := c.Stats(); s.Resent != before.Resent || s.Odd == before.Odd {
		t.Errorf("resent %d -> %d, odd %d -> %d", before.Resent, s.Resent, before.Odd, s.Odd)
	}
}

// A path that doubles and reorders what it carries.
func TestDuplicatesAndReordering(t *testing.T) {
	checkLeaks(t)
	f := listen(t, "udp4", "127.0.0.1:0")
	p := dial(t, f)
	r := rand.New(rand.NewPCG(1, 1))
	var late [][]byte
	p.setUp(func(d []byte) [][]byte {
		late = append(late, bytes.Clone(d), bytes.Clone(d))
		if has(d, dtlsrecord.TypeHandshake, 0) || len(late) > 20 {
			r.Shuffle(len(late), func(i, j int) { late[i], late[j] = late[j], late[i] })
			out := late
			late = nil
			return out
		}
		return nil
	})
	conn, result := client(t, p, aes128)
	rec := newRecorder()
	c := f.start(rec, nil)
	if err := await(t, "handshake", result); err != nil {
		t.Fatal(err)
	}
	await(t, "Established", rec.established)
	const n = 200
	for i := range n {
		if _, err := conn.Write([]byte{byte(wire.Data), byte(i), byte(i >> 8)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range late {
		p.raw(t, d)
	}
	p.setUp(nil)
	late = nil
	seen := map[int]bool{}
	for range n {
		q := await(t, "packet", rec.packets)
		i := int(q.Payload[0]) | int(q.Payload[1])<<8
		if seen[i] {
			t.Fatalf("packet %d twice", i)
		}
		seen[i] = true
	}
	echo(t, c, rec, conn, "last") // whatever was still under way is through
	if s := c.Stats(); s.RxPackets != n+1 || s.Replayed == 0 {
		t.Errorf("stats %+v", s)
	}
}

// Nothing that anybody can send ends a channel, at any time.
func TestGarbage(t *testing.T) {
	checkLeaks(t)
	f := listen(t, "udp4", "127.0.0.1:0")
	p := dial(t, f)
	record := func(typ byte, epoch byte, seq byte, body ...byte) []byte {
		return append([]byte{typ, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 9, seq, 0, byte(len(body))}, body...)
	}
	garbage := [][]byte{
		{}, {22}, bytes.Repeat([]byte{0xff}, 100), make([]byte, 1400),
		record(21, 0, 1, 2, 40), record(21, 0, 2, 1, 0), record(21, 1, 3, 2, 40), // alerts, not authentic
		record(20, 0, 4, 2), record(20, 0, 5), record(23, 0, 6, 0, 1, 2), record(99, 0, 7, 1),
		record(23, 1, 8), record(23, 1, 9, bytes.Repeat([]byte{7}, 40)...), record(23, 2, 10, 1, 2, 3),
		record(22, 0, 11), record(22, 0, 12, 1), record(22, 0, 13, 16, 0, 0, 99, 0, 1, 0, 0, 0, 0, 0, 1, 0),
		record(22, 1, 14, bytes.Repeat([]byte{1}, 60)...),
		append(record(23, 1, 15, 1), 1, 2, 3),
		testHello([32]byte{9}, []byte("another App-ID"), aes128),
		testHello([32]byte{}, testAppID, aes128),
		testHello([32]byte{9}, testAppID),
	}
	shower := func() {
		for _, g := range garbage {
			p.raw(t, g)
		}
	}
	p.setUp(func(d []byte) [][]byte {
		var out [][]byte
		for _, g := range garbage {
			if !isKeyExchange(append(slices.Clone(g), make([]byte, 13)...)) {
				out = append(out, g) // a forged one is a legitimate message before keys exist
			}
		}
		if _, ok := parseHello(d); ok {
			return [][]byte{d}
		}
		return append(out, d)
	})
	conn, result := client(t, p, aes128)
	rec := newRecorder()
	c := f.start(rec, nil)
	if err := await(t, "handshake", result); err != nil {
		t.Fatal(err)
	}
	await(t, "Established", rec.established)
	p.setUp(nil)
	shower()
	echo(t, c, rec, conn, "after the shower")
	shower()
	echo(t, c, rec, conn, "after another")
	if s := c.Stats(); s.Odd == 0 || s.Forged == 0 || s.RxPackets != 2 {
		t.Errorf("stats %+v", s)
	}
}

// What came to the socket between bind and connect is anybody's.
func TestForeignDatagrams(t *testing.T) {
	checkLeaks(t)
	f := listen(t, "udp4", "127.0.0.1:0")
	p := dial(t, f)
	conn, result := client(t, p, aes128)
	first, from := f.read()
	fd := f.socket()
	// The socket is not connected: the kernel shares clients out between it and
	// the port's. Try strangers until it has some.
	for n := 0; n < 3; {
		stranger := dial(t, f)
		stranger.raw(t, testHello([32]byte{66}, testAppID, aes128))
		stranger.UDPConn.Close()
		if readable(fd, 10*time.Millisecond) {
			n++
		}
	}
	f.connect(fd, from)
	rec := newRecorder()
	c, err := Start(Config{
		FD: fd, Peer: from, First: [][]byte{first}, Keys: Keys{PSK: secret.NewBytes(testPSK)}, Suites: []uint16{aes128}, Receiver: rec, Log: discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); <-c.Done() })
	if err := await(t, "handshake", result); err != nil {
		t.Fatal(err)
	}
	await(t, "Established", rec.established)
	echo(t, c, rec, conn, "x")
	if s := c.Stats(); s.Odd < 1 || s.Handshakes != 1 {
		t.Errorf("stats %+v", s)
	}
}

// Datagrams that reached main's socket come by Inject; the reading goroutine
// must not wait for the socket before it looks.
func TestInjectAll(t *testing.T) {
	checkLeaks(t)
	f := listen(t, "udp4", "127.0.0.1:0")
	p := dial(t, f)
	var c *Channel
	ready := make(chan struct{})
	hello := true
	p.setUp(func(d []byte) [][]byte {
		if hello {
			hello = false
			return [][]byte{d}
		}
		<-ready
		c.Inject([][]byte{bytes.Clone(d)})
		return nil
	})
	conn, result := client(t, p, aes128)
	rec := newRecorder()
	c = f.start(rec, nil)
	close(ready)
	if err := await(t, "handshake", result); err != nil {
		t.Fatal(err)
	}
	await(t, "Established", rec.established)
	for i := range 50 {
		echo(t, c, rec, conn, fmt.Sprint(i))
	}
}

func TestInjectIsBounded(t *testing.T) {
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	p.c.Inject(make([][]byte, maxInjected+7)) // nobody reads yet
	if got := p.c.Stats().Odd; got != 7 {
		t.Errorf("%d dropped, want 7", got)
	}
	p.c.sock.close()
}

// Packets that overtake the last step of the handshake wait for the keys.
func TestEarlyDataIsHeld(t *testing.T) {
	checkLeaks(t)
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	r, c := &p.c.in, p.c
	a := r.assoc
	r.assoc = nil
	c.current.Store(nil)
	hs := &handshake{cancel: func() {}, conn: newPionConn(c.sock, nil), started: c.cfg.Now()}
	r.pending = hs
	for i := range maxHeld + 5 {
		r.datagram(p.data(t, fmt.Sprintf("\x00early %d", i)))
	}
	r.deliver()
	if len(p.rec.packets) != 0 || len(r.held) != maxHeld || c.Stats().Odd != 5 {
		t.Fatalf("%d packets, %d held, stats %+v", len(p.rec.packets), len(r.held), c.Stats())
	}
	hs.result = a
	c.mail.handshake(hs)
	c.mail.datagrams([][]byte{p.data(t, "\x00later")})
	r.takeMail()
	for i := range maxHeld {
		if q := await(t, "packet", p.rec.packets); string(q.Payload) != fmt.Sprintf("early %d", i) {
			t.Fatalf("packet %d: %q", i, q.Payload)
		}
	}
	if q := await(t, "packet", p.rec.packets); string(q.Payload) != "later" {
		t.Fatalf("%q", q.Payload)
	}
	if p.rec.calls() != "established packets" || len(r.held) != 0 {
		t.Errorf("calls %q, %d held", p.rec.calls(), len(r.held))
	}
	c.sock.close()
}

func TestStartRefuses(t *testing.T) {
	f := listen(t, "udp4", "127.0.0.1:0")
	hello := testHello([32]byte{1}, testAppID, aes128)
	peer := netip.MustParseAddrPort("127.0.0.1:9")
	tests := []struct {
		name string
		edit func(*Config)
		want error
	}{
		{"no hello", func(c *Config) { c.First = nil }, ErrHello},
		{"bad hello", func(c *Config) { c.First = [][]byte{hello[:40]} }, ErrHello},
		{"no suite", func(c *Config) { c.Suites = nil }, nil},
		{"suite without PSK", func(c *Config) { c.Suites = []uint16{0xc02f} }, dtlsrecord.ErrSuite},
		{"short key", func(c *Config) { c.Keys.PSK = secret.NewBytes(testPSK[1:]) }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := openSockets(t)
			fd := f.socket()
			f.connect(fd, peer)
			cfg := Config{FD: fd, Peer: peer, First: [][]byte{hello}, Keys: Keys{PSK: secret.NewBytes(testPSK)}, Suites: []uint16{aes128}, Receiver: newRecorder(), Log: discard()}
			tt.edit(&cfg)
			c, err := Start(cfg)
			if err == nil || c != nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Start = %v, %v", c, err)
			}
			if n := openSockets(t); n != before {
				t.Errorf("%d sockets, %d before", n, before)
			}
		})
	}
	t.Run("not connected", func(t *testing.T) {
		if _, err := openSocket(f.socket(), peer, false); err == nil {
			t.Error("socket accepted")
		}
	})
	t.Run("a stream", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		file, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		fd, err := unix.Dup(int(file.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openSocket(fd, peer, false); err == nil {
			t.Error("socket accepted")
		}
	})
}
