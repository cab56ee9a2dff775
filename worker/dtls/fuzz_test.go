package dtls

import (
	"bytes"
	"testing"
	"time"

	"rocserv/internal/dtlsrecord"
	"rocserv/internal/secret"
	"rocserv/internal/wire"
)

// FuzzDatagrams gives the reading goroutine's side arbitrary datagrams in the
// states a channel can be in. Each step is a byte of command and a datagram.
func FuzzDatagrams(f *testing.F) {
	hello := testHello([32]byte{7}, testAppID, aes128)
	step := func(cmd byte, d []byte) []byte { return append([]byte{cmd, byte(len(d))}, d...) }
	alert := []byte{21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 2, 40}
	ccs := []byte{20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 1}
	f.Add(bytes.Join([][]byte{step(0, hello), step(0, ccs), step(0, alert), step(1, []byte("\x00data"))}, nil))
	f.Add(bytes.Join([][]byte{step(1, []byte("\x00data")), step(4, hello), step(1, []byte("\x03x")), step(5, nil), step(0, ccs)}, nil))
	f.Add(bytes.Join([][]byte{step(255, nil), step(0, hello), step(1, []byte("\x00early")), step(0, ccs), step(2, []byte{1, 0})}, nil))
	f.Add(bytes.Join([][]byte{step(2, []byte{1, 0}), step(3, []byte{4}), step(0, []byte{23})}, nil))
	p := newPair(f, "udp4", "127.0.0.1:0", aes128, nil)
	f.Cleanup(p.c.sock.close)
	f.Fuzz(func(t *testing.T, script []byte) {
		clock := &tick{time.Unix(1000, 0)}
		rec := newRecorder()
		rec.packets = make(chan wire.Packet, 1000)
		c, err := newChannel(Config{
			Keys: Keys{PSK: secret.NewBytes(testPSK)}, Suites: []uint16{aes128}, First: [][]byte{hello}, Receiver: rec, Log: discard(), Now: clock.read,
		}, p.c.sock)
		if err != nil {
			t.Fatal(err)
		}
		c.mail.take()
		q := &pair{c: c, rec: rec, suite: p.suite}
		q.install(t, aes128, 1)
		established := !bytes.HasPrefix(script, []byte{255})
		if !established { // the first handshake has yet to come
			c.in.assoc = nil
			c.current.Store(nil)
		}
		defer func() {
			c.in.abandon()
			c.shakes.Wait()
		}()
		sent, alerts := 0, 0
		for range 100 {
			if len(script) < 2 {
				break
			}
			n := min(int(script[1]), len(script)-2)
			cmd, d := script[0], bytes.Clone(script[2:2+n])
			script = script[2+n:]
			switch cmd % 6 {
			case 0:
				c.in.datagram(d)
			case 1: // the client's own, which must arrive whatever was before
				c.in.datagram(q.data(t, "\x00"+string(d)))
				sent++
			case 2:
				alerts++
				c.in.datagram(q.seal(t, dtlsrecord.TypeAlert, string(d)))
			case 3:
				clock.now = clock.now.Add(time.Duration(n) * 100 * time.Millisecond)
			case 4: // a hello of the right client, edited
				h := testHello([32]byte{8}, testAppID, aes128)
				copy(h[27:], d)
				c.in.datagram(h)
			case 5:
				c.in.takeMail()
			}
		}
		c.in.deliver()
		if !established {
			sent, alerts = 0, 0 // nothing counts without keys
		}
		if got := len(rec.packets); got != sent {
			t.Fatalf("%d packets, want %d", got, sent)
		}
		if c.ended() && alerts == 0 {
			t.Fatalf("ended: %v", *c.cause.Load())
		}
		if len(c.in.held) > maxHeld {
			t.Fatalf("%d records held", len(c.in.held))
		}
	})
}
