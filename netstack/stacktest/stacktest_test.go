package stacktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rocserv/egress"
	"rocserv/internal/packet"
)

var (
	lease4 = netip.MustParseAddr("10.9.0.2")
	lease6 = netip.MustParseAddr("fd09::2")
	target = netip.MustParseAddrPort("192.0.2.1:80")
)

func dial(t *testing.T, n *Network) Conn {
	t.Helper()
	s, err := n.DialTCP(t.Context(), netip.AddrPort{}, target)
	if err != nil {
		t.Fatal(err)
	}
	return s.(Conn)
}

// TestStreams: memory and sockets behave alike, as TCP does.
func TestStreams(t *testing.T) {
	for _, sockets := range []bool{false, true} {
		t.Run(fmt.Sprintf("sockets %v", sockets), func(t *testing.T) {
			n := NewNetwork()
			defer n.Close()
			n.Sockets = sockets

			n.Serve(target, Echo)
			c := dial(t, n)
			c.Write([]byte("hello"))
			c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
				t.Errorf("echo: %q, %v", got, err)
			}
			c.Close()

			n.Serve(target, Reset)
			c = dial(t, n)
			c.Write([]byte("x"))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("reset: %v", err)
			}
			c.Close()

			hostErr := make(chan error)
			n.Serve(target, func(c Conn) { _, err := c.Read(make([]byte, 1)); hostErr <- err })
			c = dial(t, n)
			c.SetLinger(0)
			c.Close()
			if err := <-hostErr; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("host of a reset connection: %v", err)
			}

			n.Serve(target, Sum)
			c = dial(t, n)
			io.Copy(c, io.LimitReader(Stream(1), 1<<20))
			c.CloseWrite()
			want, _, _ := Checksum(io.LimitReader(Stream(1), 1<<20))
			if got, _ := io.ReadAll(c); !bytes.Equal(got, want[:]) {
				t.Errorf("sum %x, want %x", got, want)
			}
			c.Close()
		})
	}
}

// TestPipeBlocks: a pipe takes as much as it says and no more.
func TestPipeBlocks(t *testing.T) {
	a, b := newPipe()
	wrote := make(chan int)
	go func() { n, _ := a.Write(make([]byte, 3*pipeBuffer)); wrote <- n }()
	if n, err := io.ReadFull(b, make([]byte, pipeBuffer)); err != nil || n != pipeBuffer {
		t.Fatal(n, err)
	}
	b.Close()
	if n := <-wrote; n < pipeBuffer || n >= 3*pipeBuffer {
		t.Errorf("%d bytes written", n)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("writing to a closed end: %v", err)
	}
}

func TestDialOutcomes(t *testing.T) {
	n := NewNetwork()
	defer n.Close()
	dst := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	n.Prohibit(netip.MustParsePrefix("203.0.113.0/24"))
	n.Fail(dst("192.0.2.2:80"), syscall.EHOSTUNREACH)
	n.BlackHole(dst("192.0.2.3:80"))
	for addr, want := range map[string]egress.Class{
		"192.0.2.9:80": egress.Refused, "203.0.113.1:80": egress.Prohibited,
		"192.0.2.2:80": egress.HostUnreachable, "192.0.2.3:80": egress.TimedOut,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := n.DialTCP(ctx, netip.AddrPort{}, dst(addr))
		if got := egress.Classify(err); got != want {
			t.Errorf("%s: %v, class %d, want %d", addr, err, got, want)
		}
		cancel()
	}
	if total, now := n.Dials(); total != 3 || now != 0 { // what is prohibited is not dialled
		t.Errorf("%d dials, %d under way", total, now)
	}
}

type received chan egress.Message

func (r received) Receive(msgs []egress.Message) {
	for _, m := range msgs {
		r <- m
	}
}

func (r received) Report(*egress.Report) {}

func TestDatagrams(t *testing.T) {
	n := NewNetwork()
	defer n.Close()
	n.ServeUDP(target, bytes.ToUpper)
	n.Pingable(target.Addr())
	got := make(received, 10)
	udp, _ := n.OpenUDP(false, got)
	udp.Send([]egress.Message{{Addr: target, Payload: []byte("abc")}, {Addr: netip.AddrPortFrom(target.Addr(), 81), Payload: []byte("lost")}})
	if m := <-got; m.Addr != target || string(m.Payload) != "ABC" {
		t.Errorf("%+v", m)
	}
	ping, _ := n.OpenPing(false, got)
	ping.Send([]egress.Message{{Addr: netip.AddrPortFrom(target.Addr(), 0), Payload: []byte{8, 0, 0, 0, 0, 1, 0, 1, 'x'}}})
	if m := <-got; m.Payload[0] != 0 || string(m.Payload[8:]) != "x" {
		t.Errorf("%+v", m)
	}
	udp.Close()
	if _, err := udp.Send([]egress.Message{{Addr: target}}); err == nil {
		t.Error("sent on a closed socket")
	}
}

// fill writes packets of 100 bytes as one batch.
func fill(s *Sink, n int) {
	s.Begin()
	for range n {
		s.Next(100)
		s.Add(100)
	}
	s.End()
}

// TestSinkBlocks: writers wait at the limit until there is room.
func TestSinkBlocks(t *testing.T) {
	var got atomic.Int64
	s := NewSink(1000, func(pkts [][]byte) { got.Add(int64(len(pkts))) })
	s.Pause(true)
	fill(s, 11) // the last one may exceed the limit
	done := make(chan struct{})
	go func() { fill(s, 5); close(done) }()
	select {
	case <-done:
		t.Fatal("did not wait")
	case <-time.After(10 * time.Millisecond):
	}
	s.Pause(false)
	<-done
	for got.Load() < 16 {
		time.Sleep(time.Millisecond)
	}
	s.Close()
}

// TestSinkCloses: writers wait until there is no tunnel any more.
func TestSinkCloses(t *testing.T) {
	s := NewSink(1000, func([][]byte) {})
	s.Pause(true)
	fill(s, 11)
	done := make(chan struct{})
	go func() { fill(s, 5); close(done) }()
	s.Close()
	<-done
	fill(s, 100)
}

// TestClientAlone drives a client by hand: its echo requests are answered, its
// connections refused.
func TestClientAlone(t *testing.T) {
	var c *Client
	datagrams := make(chan struct{}, 1)
	up := func(pkts [][]byte) {
		for _, b := range pkts {
			h, ok := packet.Parse(b)
			if !ok {
				t.Errorf("client sent %x", b)
				continue
			}
			if h.Proto == packet.UDP {
				datagrams <- struct{}{}
			}
			answer := make([]byte, packet.EchoReplyLen(&h))
			if e, ok, err := packet.ReadEcho(&h, b); ok && err == nil && e.Request {
				c.Deliver(answer[:packet.PutEchoReply(answer, &h, b)])
				continue
			}
			answer = make([]byte, packet.ErrorLen(&h))
			c.Deliver(answer[:packet.PutError(answer, h.Dst, packet.PortUnreachable.Error(&h, b, 0), &h, b)])
		}
	}
	var err error
	c, err = NewClient(ClientConfig{Addrs: []netip.Addr{lease4, lease6}, MTU: 1400, Up: up})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, dst := range []string{"192.0.2.1", "2001:db8::1"} {
		a := netip.MustParseAddr(dst)
		if got, err := c.Ping(ctx, a, []byte("payload")); err != nil || string(got) != "payload" {
			t.Errorf("ping %s: %q, %v", dst, got, err)
		}
		if _, err := c.DialTCP(ctx, netip.AddrPortFrom(a, 80)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial %s: %v", dst, err)
		}
	}
	udp, err := c.DialUDP(target)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	udp.Write([]byte("x"))
	select {
	case <-datagrams:
	case <-ctx.Done():
		t.Error("no datagram came up")
	}
	c.Vanish(true)
	ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := c.Ping(ctx, target.Addr(), nil); err == nil {
		t.Error("ping without a network")
	}
}
