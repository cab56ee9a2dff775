package dtls

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/secret"
	"rocserv/internal/wire"
)

// checkClosed waits for the end after Close.
func checkClosed(t *testing.T, c *Channel, rec *recorder) {
	t.Helper()
	if err := await(t, "Closed", rec.closed); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed with %v", err)
	}
	await(t, "Done", c.Done())
	if len(rec.closed) != 0 {
		t.Error("Closed twice")
	}
}

func TestCloseAtEveryStage(t *testing.T) {
	begin := func(t *testing.T, edit func(p *path)) (*Channel, *recorder) {
		f := listen(t, "udp4", "127.0.0.1:0")
		p := dial(t, f)
		edit(p)
		client(t, p, aes128)
		rec := newRecorder()
		return f.start(rec, nil), rec
	}
	t.Run("at once", func(t *testing.T) {
		checkLeaks(t)
		c, rec := begin(t, func(*path) {})
		c.Close()
		c.Close()
		checkClosed(t, c, rec)
	})
	t.Run("in the handshake", func(t *testing.T) {
		checkLeaks(t)
		answered := make(chan struct{}, 100)
		c, rec := begin(t, func(p *path) {
			p.setDown(func([]byte) [][]byte { answered <- struct{}{}; return nil })
		})
		await(t, "ServerHello", answered)
		c.Close()
		checkClosed(t, c, rec)
	})
	t.Run("before the client's last flight", func(t *testing.T) {
		checkLeaks(t)
		sent := make(chan struct{}, 100)
		first := true
		c, rec := begin(t, func(p *path) {
			p.setUp(func(d []byte) [][]byte {
				if first {
					first = false
					return [][]byte{d}
				}
				sent <- struct{}{}
				return nil
			})
		})
		await(t, "second flight", sent)
		c.Close()
		checkClosed(t, c, rec)
	})
	t.Run("established", func(t *testing.T) {
		checkLeaks(t)
		c, rec, _, _ := connect(t, nil)
		c.Close()
		checkClosed(t, c, rec)
	})
	t.Run("in use, then used on", func(t *testing.T) {
		checkLeaks(t)
		c, rec, conn, _ := connect(t, nil)
		echo(t, c, rec, conn, "x")
		c.Close()
		checkClosed(t, c, rec)
		for range 200 {
			c.Next(1000)
			c.Add(wire.Data, 1000)
		}
		c.Flush()
		c.Trim()
		c.Inject([][]byte{{1}})
		if s := c.Stats(); s.TxErrors != 200 {
			t.Errorf("stats %+v", s)
		}
		if c.PathMTU() != 0 {
			t.Error("a closed socket has a path MTU")
		}
	})
	t.Run("with a second handshake pending", func(t *testing.T) {
		checkLeaks(t)
		c, rec, conn, p := connect(t, nil)
		echo(t, c, rec, conn, "x")
		p.raw(t, testHello([32]byte{77}, testAppID, aes128))
		echo(t, c, rec, conn, "y")
		c.Close()
		checkClosed(t, c, rec)
	})
}

// A Receiver may close the channel from within its calls.
func TestCloseFromReceiver(t *testing.T) {
	t.Run("Packets", func(t *testing.T) {
		checkLeaks(t)
		p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
		p.rec.onPackets = func(c *Channel, _ []wire.Packet) {
			c.Next(4)
			c.Add(wire.Data, 4)
			c.Flush()
			c.Close()
			c.Close()
		}
		p.serve(t)
		p.write(t, p.data(t, "\x00x"))
		checkClosed(t, p.c, p.rec)
		p.read(t, 1)
	})
	t.Run("Established", func(t *testing.T) {
		checkLeaks(t)
		f := listen(t, "udp4", "127.0.0.1:0")
		_, result := client(t, dial(t, f), aes128)
		rec := &closer{recorder: newRecorder()}
		first, from := f.read()
		fd := f.socket()
		f.connect(fd, from)
		c, err := Start(Config{FD: fd, Peer: from, First: [][]byte{first}, Keys: Keys{PSK: secret.NewBytes(testPSK)}, Suites: []uint16{aes128}, Receiver: rec, Log: discard()})
		if err != nil {
			t.Fatal(err)
		}
		await(t, "handshake", result)
		checkClosed(t, c, rec.recorder)
	})
}

type closer struct{ *recorder }

func (r *closer) Established(c *Channel) { c.Close() }

// parked makes a channel whose socket takes nothing more. UDP over loopback never
// fills up, a pair of Unix datagram sockets does.
func parked(t *testing.T) (*pair, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[1]) })
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	p.c.sock.close()
	if p.c.sock, err = openSocket(fds[0], netip.AddrPort{}, false); err != nil {
		t.Fatal(err)
	}
	return p, fds[1]
}

func TestFlushParkedThenClose(t *testing.T) {
	for _, full := range []string{"Flush", "Add"} {
		t.Run(full, func(t *testing.T) {
			checkLeaks(t)
			p, _ := parked(t)
			p.serve(t)
			done := make(chan struct{})
			progress := make(chan struct{}, 1<<16)
			go func() {
				defer close(done)
				for !p.c.ended() {
					p.c.Next(1000)
					p.c.Add(wire.Data, 1000) // blocks by itself when the buffer is full
					if full == "Flush" {
						p.c.Flush()
					}
					progress <- struct{}{}
				}
			}()
			for idle := 0; idle < 20; { // until it is parked
				select {
				case <-progress:
					idle = 0
				case <-time.After(5 * time.Millisecond):
					idle++
				}
			}
			select {
			case <-done:
				t.Fatal("not parked")
			default:
			}
			p.c.Close()
			await(t, "end of the parked writer", done)
			checkClosed(t, p.c, p.rec)
			if p.c.Stats().TxErrors == 0 {
				t.Error("the packets that were not sent are not counted")
			}
		})
	}
}

// A parked writer goes on where it was when the socket takes more, and the
// reading goroutine works meanwhile.
func TestFlushParkedThenGoesOn(t *testing.T) {
	checkLeaks(t)
	p, peer := parked(t)
	p.serve(t)
	const n = 300
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range n {
			b := p.c.Next(800 + i) // each longer than the last: a run of its own
			b[0], b[1] = byte(i), byte(i>>8)
			p.c.Add(wire.Data, len(b))
		}
		p.c.Flush()
	}()
	buf := make([]byte, 1<<16)
	for i := range n {
		if i == 100 { // the client sends while we are parked
			if err := unix.Send(peer, p.data(t, "\x00up"), 0); err != nil {
				t.Fatal(err)
			}
			await(t, "packet", p.rec.packets)
		}
		size := recvWait(t, peer, buf)
		plain, err := p.opener.Open(buf[:size])
		if err != nil || len(plain) != 801+i || int(plain[1])|int(plain[2])<<8 != i {
			t.Fatalf("packet %d: %d bytes, %v", i, len(plain), err)
		}
	}
	await(t, "end of Flush", done)
	if s := p.c.Stats(); s.TxPackets != n || s.TxErrors != 0 {
		t.Errorf("stats %+v", s)
	}
}

func recvWait(t *testing.T, fd int, buf []byte) int {
	t.Helper()
	if !readable(fd, testWait) {
		t.Fatal("nothing to read")
	}
	n, err := unix.Read(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Everything that may be called from other goroutines, at once, until the end.
func TestConcurrentUse(t *testing.T) {
	checkLeaks(t)
	p := newPair(t, "udp4", "127.0.0.1:0", aes128, nil)
	var lock sync.Mutex // the caller's
	p.rec.onPackets = func(c *Channel, q []wire.Packet) {
		lock.Lock()
		defer lock.Unlock()
		copy(c.Next(8), "answer")
		c.Add(wire.DPDResp, 8)
		c.Flush()
	}
	p.serve(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for _, f := range []func(){
		func() {
			lock.Lock()
			defer lock.Unlock()
			for range 40 {
				p.c.Next(1300)
				p.c.Add(wire.Data, 1300)
			}
			p.c.Flush()
		},
		func() { lock.Lock(); p.c.Trim(); lock.Unlock() },
		func() { p.c.Inject([][]byte{{23, 0xfe, 0xfd}, make([]byte, 20)}) },
		func() { p.c.Stats(); p.c.Busy(); p.c.Suite(); p.c.Overhead(); p.c.PathMTU() },
		func() { p.conn.Write(p.data(t, "\x03probe")) },
	} {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	p.c.Close()
	checkClosed(t, p.c, p.rec)
	close(stop)
	wg.Wait()
}
