package netstack

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"rocserv/egress"
	"rocserv/internal/packet"
	"rocserv/netstack/stacktest"
)

// quietNetwork is a network of idle connections: sockets whose other end is a
// descriptor that nobody looks at, so that all memory is the stack's.
type quietNetwork struct {
	*stacktest.Network
	mu  sync.Mutex
	fds []int
}

func (q *quietNetwork) DialTCP(context.Context, netip.AddrPort, netip.AddrPort) (egress.Stream, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	q.mu.Lock()
	q.fds = append(q.fds, fds[1])
	q.mu.Unlock()
	file := os.NewFile(uintptr(fds[0]), "idle")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

func (q *quietNetwork) close() {
	for _, fd := range q.fds {
		syscall.Close(fd)
	}
}

// TestIdleFlowMemory: an idle flow costs less than 16 KiB, goroutines included.
func TestIdleFlowMemory(t *testing.T) {
	countAllocations(t)
	quiet := &quietNetwork{Network: stacktest.NewNetwork()}
	defer quiet.Close()
	defer quiet.close()
	sink := new(lastSink)
	s, err := New(Config{Addrs: []netip.Addr{lease4}, MTU: testMTU, Sink: sink, Net: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const flows = 400
	open := func(i int) {
		src := port(lease4, uint16(1024+i))
		s.Inject([][]byte{segment{src: src, dst: port(host4, 80), seq: 100, flags: syn, window: 60000, options: []byte{2, 4, 5, 100, 1, 3, 3, 7}}.packet()})
		var answer segment
		eventually(t, "SYN-ACK", func() bool { answer = sink.take(); return answer.dst == src })
		s.Inject([][]byte{segment{src: src, dst: port(host4, 80), seq: 101, ack: answer.seq + 1, flags: ack, window: 60000}.packet()})
		eventually(t, "open", func() bool { return s.Stats().Dial.Opened == uint64(i+1) })
	}
	for i := range 20 {
		open(i)
	}
	before, goroutines := memory(), runtime.NumGoroutine()
	for i := range flows {
		open(20 + i)
	}
	perFlow := (memory() - before) / flows
	t.Logf("%d bytes, %.1f goroutines per idle flow", perFlow, float64(runtime.NumGoroutine()-goroutines)/flows)
	if perFlow >= 16<<10 {
		t.Errorf("%d bytes per idle flow", perFlow)
	}
}

// TestIdleStackMemory: a stack without flows is cheap.
func TestIdleStackMemory(t *testing.T) {
	countAllocations(t)
	const stacks = 20
	var list []*Stack
	before := memory()
	for range stacks {
		s, err := New(Config{Addrs: []netip.Addr{lease4, lease6}, MTU: testMTU, Sink: new(lastSink), Net: stacktest.NewNetwork()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		defer s.cfg.Net.(*stacktest.Network).Close()
		list = append(list, s)
	}
	per := (memory() - before) / stacks
	t.Logf("%d bytes per idle stack", per)
	if per > 256<<10 {
		t.Errorf("%d bytes per idle stack", per)
	}
	runtime.KeepAlive(list)
}

// lastSink is a tunnel that remembers the last segment.
type lastSink struct {
	mu sync.Mutex
	nullSink
	last []byte
}

func (s *lastSink) Begin()    { s.mu.Lock() }
func (s *lastSink) Add(n int) { s.last = append(s.last[:0], s.buf[:n]...) }
func (s *lastSink) End()      { s.mu.Unlock() }

func (s *lastSink) take() segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.last) == 0 {
		return segment{}
	}
	h, ok := packet.Parse(s.last)
	if !ok {
		return segment{}
	}
	return parseSegment(h, s.last)
}
