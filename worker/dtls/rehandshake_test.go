package dtls

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/wire"
)

// A client that comes back on the same address and port gets new keys; the old
// ones serve until it has proved that it is the client.
func TestRehandshake(t *testing.T) {
	for _, id := range []uint16{aes128, aes256, chacha} {
		t.Run(fmt.Sprintf("%04x", id), func(t *testing.T) {
			checkLeaks(t)
			c, rec, conn, p := connect(t, func(cfg *Config) { cfg.Suites = []uint16{id, aes128, chacha} })
			echo(t, c, rec, conn, "first")
			var old [][]byte
			p.setUp(func(d []byte) [][]byte {
				old = append(old, bytes.Clone(d))
				return [][]byte{d}
			})
			echo(t, c, rec, conn, "second")
			p.setUp(func([]byte) [][]byte { return nil }) // it dies without a word
			conn.Close()
			p.setUp(nil)

			conn, result := client(t, p, id)
			if err := await(t, "second handshake", result); err != nil {
				t.Fatal(err)
			}
			await(t, "Established", rec.established)
			echo(t, c, rec, conn, "third")
			forged := c.Stats().Forged
			for _, d := range old {
				p.raw(t, d)
			}
			echo(t, c, rec, conn, "fourth")
			s := c.Stats()
			if s.Handshakes != 2 || s.RxPackets != 4 || s.Forged+s.Replayed < forged+1 {
				t.Errorf("stats %+v", s)
			}
			if got, want := rec.calls(), "established packets established packets"; got != want {
				t.Errorf("calls %q, want %q", got, want)
			}
		})
	}
}

// A hello can be replayed by anybody who saw one: it costs the channel nothing
// but a handshake that fails.
func TestReplayedHello(t *testing.T) {
	checkLeaks(t)
	c, rec, conn, p := connect(t, func(cfg *Config) { cfg.HandshakeTimeout = 200 * time.Millisecond })
	p.setDown(func(d []byte) [][]byte { // the client would not understand what it did not ask for
		if has(d, dtlsrecord.TypeHandshake, 0) {
			return nil
		}
		return [][]byte{d}
	})
	echo(t, c, rec, conn, "before")
	for i := range byte(5) {
		p.raw(t, testHello([32]byte{100 + i}, testAppID, aes128))
	}
	for i := range 10 { // the handshake is pending, then over
		echo(t, c, rec, conn, string(rune('a'+i)))
		time.Sleep(30 * time.Millisecond)
	}
	select {
	case err := <-rec.closed:
		t.Fatalf("closed with %v", err)
	case <-rec.established:
		t.Fatal("established again")
	default:
	}
	if s := c.Stats(); s.Handshakes != 1 || s.RxPackets != 11 || s.Odd < 4 {
		t.Errorf("stats %+v", s)
	}
}

// tick is a clock that stands still.
type tick struct{ now time.Time }

func (k *tick) read() time.Time { return k.now }

// Which hello begins a handshake, told without a socket's help.
func TestWhichHelloCounts(t *testing.T) {
	checkLeaks(t)
	clock := &tick{time.Unix(1000, 0)}
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, func(cfg *Config) { cfg.Now = clock.read })
	r := &p.c.in
	hello := func(random byte, session string) []byte {
		return testHello([32]byte{random}, []byte(session), aes128)
	}
	appID := string(testAppID)
	r.datagram(hello(1, appID)) // the established one's (install): a late copy
	if r.pending != nil {
		t.Fatal("a copy of a finished handshake's hello began one")
	}
	r.datagram(hello(2, "other"))
	if r.pending != nil {
		t.Fatal("a hello with another App-ID began a handshake")
	}
	r.datagram(hello(2, appID))
	first := r.pending
	if first == nil {
		t.Fatal("a new hello began no handshake")
	}
	r.datagram(hello(2, appID))
	r.datagram(hello(3, appID))
	if r.pending != first {
		t.Fatal("a hello replaced a handshake that had just begun")
	}
	clock.now = clock.now.Add(helloPeriod)
	r.datagram(hello(2, appID))
	if r.pending != first {
		t.Fatal("a copy of its own hello replaced a handshake")
	}
	r.datagram(hello(3, appID))
	if r.pending == first || r.pending.random != [32]byte{3} {
		t.Fatal("a later hello did not replace a stuck handshake")
	}
	r.finished(first) // its outcome means nothing any more
	if r.pending == nil {
		t.Fatal("the outcome of a given-up handshake counted")
	}
	if odd := p.c.Stats().Odd; odd != 3 {
		t.Errorf("%d odd records, want 3", odd)
	}
	r.abandon()
	p.c.shakes.Wait()
	p.c.sock.close()
}

// While a handshake is pending, records of the keys in use still count, and
// those that the new keys may open are kept.
func TestBothKeysWhilePending(t *testing.T) {
	checkLeaks(t)
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	r, c := &p.c.in, p.c
	before := p.data(t, "\x00before")
	r.datagram(before)
	hs := &handshake{cancel: func() {}, conn: newPionConn(c.sock, nil), started: c.cfg.Now()}
	r.pending = hs
	r.datagram(p.data(t, "\x00during"))
	during := p.data(t, "\x03during, a DPD request")
	r.datagram(during)
	r.deliver()
	if s := c.Stats(); s.RxPackets != 3 || len(r.held) != 0 {
		t.Fatalf("%d held, stats %+v", len(r.held), s)
	}
	// The new keys' numbers begin anew, so the old window takes them for replays.
	oldAssoc := r.assoc
	p.install(t, aes128, 2)
	hs.result = r.assoc
	r.assoc = oldAssoc
	c.current.Store(oldAssoc)
	r.datagram(p.data(t, "\x00new keys, known number"))
	for range 5 {
		p.data(t, "")
	}
	r.datagram(p.data(t, "\x00new keys, new number"))
	if len(r.held) != 2 {
		t.Fatalf("%d held, want 2", len(r.held))
	}
	c.mail.handshake(hs)
	r.takeMail()
	if s := c.Stats(); s.RxPackets != 5 || s.Handshakes != 1 {
		t.Errorf("stats %+v", s)
	}
	r.datagram(during) // old keys are gone
	if s := c.Stats(); s.Replayed+s.Forged != 1 {
		t.Errorf("stats %+v", s)
	}
	c.sock.close()
}

func TestAlerts(t *testing.T) {
	tests := []struct {
		name  string
		alert string
		want  error
	}{
		{"close_notify", "\x01\x00", ErrCloseNotify},
		{"fatal", "\x02\x28", ErrAlert},
		{"warning", "\x01\x64", nil},
		{"malformed", "\x02", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			checkLeaks(t)
			p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
			p.serve(t)
			p.write(t, append(p.data(t, "\x00before"), p.seal(t, dtlsrecord.TypeAlert, tt.alert)...))
			if q := await(t, "packet", p.rec.packets); string(q.Payload) != "before" {
				t.Errorf("got %q", q.Payload)
			}
			if tt.want != nil {
				if err := await(t, "Closed", p.rec.closed); !errors.Is(err, tt.want) {
					t.Errorf("closed with %v", err)
				}
				return
			}
			p.write(t, p.data(t, "\x00after"))
			if q := await(t, "packet", p.rec.packets); string(q.Payload) != "after" {
				t.Errorf("got %q", q.Payload)
			}
		})
	}
}

func TestEmptyRecord(t *testing.T) {
	checkLeaks(t)
	p := newPair(t, "udp4", "127.0.0.1:0", chacha, nil)
	p.serve(t)
	p.write(t, p.data(t, ""))
	p.write(t, p.data(t, "\x07"))
	if q := await(t, "packet", p.rec.packets); q.Type != wire.Keepalive || len(q.Payload) != 0 {
		t.Errorf("got %+v", q)
	}
	if s := p.c.Stats(); s.Odd != 1 || s.RxPackets != 1 {
		t.Errorf("stats %+v", s)
	}
}
