package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rocserv/test/descriptors"
)

// TestFairness: a flooded socket does not keep another one waiting.
func TestFairness(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	c, gate := listenUDP(t, "127.0.0.1:0")
	stop, entered := make(chan struct{}), make(chan struct{})
	var floodBefore, flood atomic.Int64
	blocker := openUDP(t, d, false, receiverFunc(func([]Message) { close(entered); <-stop }))
	flooded := openUDP(t, d, false, receiverFunc(func(m []Message) { flood.Add(int64(len(m))) }))
	served := make(chan struct{})
	quiet := openUDP(t, d, false, receiverFunc(func([]Message) { floodBefore.Store(flood.Load()); close(served) }))

	peers := map[PacketSocket]netip.AddrPort{}
	for _, s := range []PacketSocket{blocker, flooded, quiet} {
		s.Send([]Message{{Addr: gate}})
		_, peers[s] = readFrom(t, c)
	}
	c.WriteToUDPAddrPort(nil, peers[blocker])
	<-entered // the poller's goroutine is in Receive: now fill the queues
	for range 5 * recvMax {
		c.WriteToUDPAddrPort(nil, peers[flooded])
	}
	c.WriteToUDPAddrPort(nil, peers[quiet])
	close(stop)
	select {
	case <-served:
	case <-time.After(10 * time.Second):
		t.Fatal("never served")
	}
	if n := floodBefore.Load(); n > recvMax {
		t.Errorf("%d messages of the flooded socket came first, want at most a turn of %d", n, recvMax)
	}
	for deadline := time.Now().Add(10 * time.Second); flood.Load() < 5*recvMax; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d messages of the flooded socket: leftovers are forgotten", flood.Load(), 5*recvMax)
		}
	}
}

// TestCloseInReceive: a mapping may end with the answer it waited for.
func TestCloseInReceive(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	c, dst := listenUDP(t, "127.0.0.1:0")
	var s PacketSocket
	var calls atomic.Int64
	done := make(chan error, 1)
	s = openUDP(t, d, false, receiverFunc(func([]Message) {
		calls.Add(1)
		done <- s.Close()
	}))
	s.Send([]Message{{Addr: dst}})
	_, from := readFrom(t, c)
	for range 3 * recvMax { // so that the socket is among the leftovers when it is closed
		c.WriteToUDPAddrPort(nil, from)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	barrier(t, d, c, dst)
	if n := calls.Load(); n != 1 {
		t.Errorf("Receive was called %d times, want once", n)
	}
	if err := s.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if _, err := s.Send([]Message{{Addr: dst}}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send after Close: %v", err)
	}
}

// barrier returns when the poller has begun a round after the call.
func barrier(t testing.TB, d *Direct, c *net.UDPConn, dst netip.AddrPort) {
	t.Helper()
	for range 2 {
		in := newInbox()
		s := openUDP(t, d, false, in)
		s.Send([]Message{{Addr: dst, Payload: []byte("barrier")}})
		for {
			b, from := readFrom(t, c)
			if string(b) == "barrier" {
				c.WriteToUDPAddrPort(nil, from)
				break
			}
		}
		in.wait(t, 1)
		s.Close()
	}
}

// TestCloseRace: sockets are closed by others while their datagrams arrive and
// their numbers are given away again.
func TestCloseRace(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	c, dst := listenUDP(t, "127.0.0.1:0")
	go func() { // the far side sends everything back, thrice
		b := make([]byte, 100)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			for range 3 {
				c.WriteToUDPAddrPort(b[:n], from)
			}
		}
	}()
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 300 {
				want := fmt.Sprintf("%d/%d", w, i)
				s, err := d.OpenUDP(false, receiverFunc(func(msgs []Message) {
					for _, m := range msgs {
						if string(m.Payload) != want {
							t.Errorf("socket %s got %q, meant for another one", want, m.Payload)
						}
					}
				}))
				if err != nil {
					t.Error(err)
					return
				}
				s.Send([]Message{{Addr: dst, Payload: []byte(want)}})
				if i%3 == 0 {
					runtime.Gosched()
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestNoCallAfterClose: once Close has returned and what was under way is over,
// Receive is not called, whatever arrives.
func TestNoCallAfterClose(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	c, dst := listenUDP(t, "127.0.0.1:0")
	for range 100 {
		var calls atomic.Int64
		s := openUDP(t, d, false, receiverFunc(func([]Message) { calls.Add(1) }))
		s.Send([]Message{{Addr: dst}})
		_, from := readFrom(t, c)
		c.WriteToUDPAddrPort(nil, from)
		s.Close()
		before := calls.Load()
		c.WriteToUDPAddrPort(nil, from)
		barrier(t, d, c, dst)
		if after := calls.Load(); after > before+1 || after > 1 {
			t.Fatalf("%d calls, %d of them after Close", after, after-before)
		}
	}
}

// TestChurn: ten thousand sockets come and go and leave nothing.
func TestChurn(t *testing.T) {
	c, dst := listenUDP(t, "127.0.0.1:0")
	c.SetReadBuffer(1 << 12)
	runtime.GC() // files of tests before
	before, goroutines := descriptors.Open(t), runtime.NumGoroutine()
	d := NewDirect(unsafeLoopback(t), DirectConfig{})
	in := newInbox()
	var open []PacketSocket
	for i := range 10000 {
		s := openUDP(t, d, i%8 == 7, in)
		if i%8 != 7 {
			s.Send([]Message{{Addr: dst}})
		}
		if open = append(open, s); len(open) > 100 {
			open[0].Close()
			open = open[1:]
		}
	}
	if n := runtime.NumGoroutine(); n > goroutines+1 {
		t.Errorf("%d goroutines for 100 sockets, want one", n-goroutines)
	}
	for _, s := range open[50:] {
		s.Close()
	}
	if n := len(d.shared.poll.sockets); n != 50 {
		t.Errorf("the poller knows %d sockets, want 50", n)
	}
	d.Close() // takes the rest with it
	settle(t, goroutines)
	descriptors.NoneLeft(t, before)
	if _, err := d.OpenUDP(false, in); !errors.Is(err, net.ErrClosed) {
		t.Errorf("open after Close: %v", err)
	}
	if err := open[0].Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the socket that was left: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestTrim(t *testing.T) {
	d := newDirect(t, DirectConfig{})
	d.Trim() // nothing there yet
	c, dst := listenUDP(t, "127.0.0.1:0")
	in := newInbox()
	s := openUDP(t, d, false, in)
	s.Send([]Message{{Addr: dst}})
	_, from := readFrom(t, c)
	for i := range 3 {
		c.WriteToUDPAddrPort([]byte("still there"), from)
		if got := in.wait(t, i+1); string(got[i].Payload) != "still there" {
			t.Fatalf("after Trim: %q", got[i].Payload)
		}
		d.Trim()
	}
}

// TestPacketsAllocateNothing: a flow of datagrams, both ways.
func TestPacketsAllocateNothing(t *testing.T) {
	d := newDirect(t, DirectConfig{RecvTTL: true})
	_, dst := rawPeer(t)
	s := openUDP(t, d, false, newInbox())
	msgs := make([]Message, 8)
	for i := range msgs {
		msgs[i] = Message{Addr: dst, Payload: make([]byte, 64), TTL: 9}
	}
	if n := testing.AllocsPerRun(200, func() { s.Send(msgs) }); n != 0 {
		t.Errorf("Send: %v allocations", n)
	}
	var got atomic.Int64
	r := openUDP(t, d, false, receiverFunc(func(m []Message) { got.Add(int64(len(m))) }))
	c, at := listenUDP(t, "127.0.0.1:0")
	r.Send([]Message{{Addr: at}})
	_, msgs[0].Addr = readFrom(t, c)
	for i := range msgs {
		msgs[i].Addr = msgs[0].Addr
	}
	if n := testing.AllocsPerRun(200, func() {
		want := got.Load() + int64(len(msgs))
		s.Send(msgs)
		for got.Load() < want {
			runtime.Gosched()
		}
	}); n != 0 {
		t.Errorf("round: %v allocations", n)
	}
}
