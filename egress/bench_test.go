package egress

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkSend is 64 B up. The far side's queue is full at once, so what is
// measured is the way into the kernel and through its UDP. Runs to one
// destination leave by UDP_SEGMENT; "single" is without.
func BenchmarkSend(b *testing.B) {
	for _, batch := range []int{1, 8, 32} {
		for _, kind := range []string{"unconnected", "unconnected-single", "connected-single"} {
			b.Run(fmt.Sprintf("%s/%d", kind, batch), func(b *testing.B) {
				d := newDirect(b, DirectConfig{})
				_, dst := rawPeer(b)
				spec := socketSpec{family: unix.AF_INET, proto: UDP, policy: d.policy}
				if kind == "connected-single" {
					spec.connect, spec.policy = dst, nil
				}
				s, err := d.open(spec, receiverFunc(func([]Message) {}))
				if err != nil {
					b.Fatal(err)
				}
				s.(*socket).single = kind != "unconnected"
				benchSend(b, s, dst, batch)
			})
		}
	}
}

func benchSend(b *testing.B, s PacketSocket, dst netip.AddrPort, batch int) {
	msgs := make([]Message, batch)
	for i := range msgs {
		msgs[i] = Message{Addr: dst, Payload: make([]byte, 64)}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += batch {
		if _, err := s.Send(msgs); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReceive is 64 B down: a burst is put into the socket, then the
// goroutine takes it. The sending is not in the time.
func BenchmarkReceive(b *testing.B) {
	for _, bm := range []struct {
		name      string
		burst     int
		connected bool
	}{
		{"unconnected/1", 1, false}, {"unconnected/32", 32, false}, {"unconnected/128", 128, false},
		{"connected/1", 1, true}, {"connected/128", 128, true},
	} {
		b.Run(bm.name, func(b *testing.B) { benchReceive(b, bm.burst, bm.connected) })
	}
}

func benchReceive(b *testing.B, burst int, connected bool) {
	d := newDirect(b, DirectConfig{})
	peer, dst := rawPeer(b)
	done := make(chan struct{}, 1)
	got := 0
	spec := socketSpec{family: unix.AF_INET, proto: UDP, policy: d.policy}
	if connected {
		spec.connect, spec.policy = dst, nil
	}
	s, err := d.open(spec, receiverFunc(func(m []Message) {
		if got += len(m); got >= burst {
			got = 0
			done <- struct{}{}
		}
	}))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.Send([]Message{{Addr: dst, Payload: make([]byte, 64)}}); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 100)
	_, from, err := unix.Recvfrom(peer, buf, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += burst {
		b.StopTimer()
		// While the raw system calls run, the poller's goroutine does not, if
		// GOMAXPROCS is 1.
		for range burst {
			if err := unix.Sendto(peer, buf[:64], 0, from); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		<-done
	}
}

// BenchmarkDial compares connect, one byte and close with package net's.
func BenchmarkDial(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	dst := ln.Addr().(*net.TCPAddr).AddrPort()
	b.Run("direct", func(b *testing.B) {
		d := newDirect(b, DirectConfig{})
		b.ReportAllocs()
		start := cpu()
		for b.Loop() {
			c, err := d.DialTCP(b.Context(), netip.AddrPort{}, dst)
			if err != nil {
				b.Fatal(err)
			}
			c.(interface{ SetLinger(int) error }).SetLinger(0)
			c.Close()
		}
		b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
	})
	b.Run("net", func(b *testing.B) {
		dialer := net.Dialer{KeepAlive: -1}
		b.ReportAllocs()
		start := cpu()
		for b.Loop() {
			c, err := dialer.DialContext(b.Context(), "tcp", dst.String())
			if err != nil {
				b.Fatal(err)
			}
			c.(interface{ SetLinger(int) error }).SetLinger(0)
			c.Close()
		}
		b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
	})
}
