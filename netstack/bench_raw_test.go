package netstack

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"rocserv/egress"
	"rocserv/netstack/stacktest"
)

// rawClient is the cheapest client there is: it acknowledges each batch that
// comes down and sends data as the window allows.
type rawClient struct {
	stack    *Stack
	src, dst netip.AddrPort
	buf      [1 << 14]byte

	mu       sync.Mutex
	changed  sync.Cond
	open     bool
	got      int64  // bytes of payload that came down
	rcvNext  uint32 // the next sequence number expected
	acked    uint32
	window   uint32
	dirty    bool // something to acknowledge
	sndNext  uint32
	template segment
}

const rawScale = 8

func newRawClient(b *testing.B, net egress.Network) *rawClient {
	c := &rawClient{src: port(lease4, 1000), dst: port(host4, 80)}
	c.changed.L = &c.mu
	var err error
	c.stack, err = New(Config{Addrs: []netip.Addr{lease4}, MTU: 1434, Sink: c, Net: net})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.stack.Close)
	c.template = segment{src: c.src, dst: c.dst, flags: ack, window: 0xffff, options: timestamps(1, 1)}
	request := segment{
		src: c.src, dst: c.dst, seq: 0, flags: syn, window: 0xffff,
		// MSS 1390, SACK permitted, timestamps, window scale.
		options: []byte{2, 4, 5, 110, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, rawScale},
	}
	c.stack.Inject([][]byte{request.packet()})
	c.mu.Lock()
	for !c.open {
		c.changed.Wait()
	}
	c.sndNext = 1
	c.mu.Unlock()
	c.template.seq, c.template.ack = 1, c.rcvNext
	c.stack.Inject([][]byte{c.template.packet()})
	return c
}

func (c *rawClient) Begin()            { c.mu.Lock() }
func (c *rawClient) Next(n int) []byte { return c.buf[:n] }

func (c *rawClient) Add(n int) {
	t := header.TCP(c.buf[header.IPv4MinimumSize:n])
	c.acked = t.AckNumber()
	switch payload := n - header.IPv4MinimumSize - int(t.DataOffset()); {
	case t.Flags().Contains(header.TCPFlagSyn):
		c.open = true
		c.rcvNext = t.SequenceNumber() + 1
		c.window = uint32(t.WindowSize())
	default:
		c.window = uint32(t.WindowSize()) << tcp.FindWndScale(maxReceiveBuffer)
		if payload > 0 {
			c.got += int64(payload)
			c.rcvNext = t.SequenceNumber() + uint32(payload)
			c.dirty = true
		}
	}
}

func (c *rawClient) End() {
	if c.dirty {
		c.dirty = false
		s := c.template
		s.seq, s.ack = c.sndNext, c.rcvNext
		p := s.packet()
		c.mu.Unlock()
		c.stack.Inject([][]byte{p}) // the writer's goroutine is the only one
		c.mu.Lock()
	}
	c.changed.Broadcast()
	c.mu.Unlock()
}

// BenchmarkRaw moves bytes between a socket of the host and packets: what the
// stack itself costs, with the host's socket calls.
func BenchmarkRaw(b *testing.B) {
	const payload, batch = 1382, 44
	b.Run("down", func(b *testing.B) {
		network := stacktest.NewNetwork()
		defer network.Close()
		network.Sockets = true
		start := make(chan struct{})
		n := int64(b.N) << 20
		network.Serve(port(host4, 80), func(c stacktest.Conn) {
			<-start
			io.CopyBuffer(onlyWriter{c}, io.LimitReader(zeros{}, n), make([]byte, 256<<10))
			io.Copy(io.Discard, c)
		})
		c := newRawClient(b, network)
		b.SetBytes(1 << 20)
		b.ReportAllocs()
		b.ResetTimer()
		close(start)
		c.mu.Lock()
		for c.got < n {
			c.changed.Wait()
		}
		c.mu.Unlock()
	})
	b.Run("up", func(b *testing.B) {
		network := &discardNetwork{Network: stacktest.NewNetwork()}
		defer network.Close()
		c := newRawClient(b, network)
		segs := make([][]byte, batch)
		s := c.template
		s.payload = make([]byte, payload)
		for i := range segs {
			segs[i] = s.packet()
		}
		b.SetBytes(1 << 20)
		b.ReportAllocs()
		b.ResetTimer()
		for sent := int64(0); sent < int64(b.N)<<20; {
			next, n := c.take(payload, batch)
			for i := range n {
				header.TCP(segs[i][header.IPv4MinimumSize:]).SetSequenceNumber(next + uint32(i*payload))
			}
			c.stack.Inject(segs[:n])
			sent += int64(n * payload)
		}
	})
}

// BenchmarkRequests sends a byte and waits for the host's answer, as a client
// with one request at a time does.
func BenchmarkRequests(b *testing.B) {
	network := stacktest.NewNetwork()
	defer network.Close()
	network.Sockets = true
	network.Serve(port(host4, 80), func(c stacktest.Conn) {
		buf := make([]byte, 1)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
			c.Write(buf)
		}
	})
	c := newRawClient(b, network)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		s := c.template
		s.payload = []byte{1}
		c.mu.Lock()
		s.seq, s.ack = c.sndNext, c.rcvNext
		c.sndNext++
		c.mu.Unlock()
		c.stack.Inject([][]byte{s.packet()})
		c.mu.Lock()
		for c.got <= int64(i) {
			c.changed.Wait()
		}
		c.mu.Unlock()
	}
}

// take waits until the window has room for a segment and takes room for up to n.
func (c *rawClient) take(payload, n int) (seq uint32, segments int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		room := int(c.window) - int(c.sndNext-c.acked)
		if segments = min(n, room/payload); segments > 0 {
			seq = c.sndNext
			c.sndNext += uint32(segments * payload)
			return seq, segments
		}
		c.changed.Wait()
	}
}

// discardNetwork is a network whose hosts read everything, in large pieces.
type discardNetwork struct{ *stacktest.Network }

func (n *discardNetwork) DialTCP(ctx context.Context, src, dst netip.AddrPort) (egress.Stream, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	c, err := l.Accept()
	if err != nil {
		return nil, err
	}
	go func() {
		defer c.Close()
		for buf := make([]byte, 256<<10); err == nil; {
			_, err = c.Read(buf)
		}
	}()
	return a.(*net.TCPConn), nil
}
