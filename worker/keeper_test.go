package worker

import (
	"context"
	"io"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/internal/ipc"
	"rocserv/netstack/stacktest"
)

// newHost is reached through the newest worker only; each world has a network
// of its own, so a packet that takes the wrong way reaches nobody.
var newHost = netip.MustParseAddrPort("192.0.2.90:80")

// retire tells a worker that another one is newer and returns that one's end of
// the pair, once the worker has answered.
func (w *world) retire() (pair int, answer *ipc.Retired) {
	w.t.Helper()
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	defer unix.Close(fd[1])
	before := len(w.said())
	if err := w.main.Send(ipc.RetireT, 0, &ipc.Retire{Generation: 2}, fd[1]); err != nil {
		w.t.Fatal(err)
	}
	answer, ok := w.next(before).(*ipc.Retired)
	if !ok {
		w.t.Fatal("RETIRE was answered with something else")
	}
	return fd[0], answer
}

func (w *world) said() []any {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []any
	for _, m := range w.kept {
		list = append(list, m)
	}
	return list
}

// next waits for what the worker says after the first n.
func (w *world) next(n int) any {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if said := w.said(); len(said) > n {
			return said[n]
		}
		if time.Now().After(deadline) {
			w.t.Fatal("the worker says nothing")
		}
	}
}

// comeBack is the client at another worker, with the same stack.
func comeBack(t *testing.T, stack *stacktest.Client, pairs ...int) (*world, *vpnClient) {
	t.Helper()
	w := newWorld(t, nil, nil)
	w.net.Serve(newHost, stacktest.Echo)
	w.mu.Lock()
	w.pairs = pairs
	w.mu.Unlock()
	c := w.dial()
	c.connectStack(c.login(), stack)
	return w, c
}

// flowing is a TCP connection through the tunnel to an echoing host.
type flowing struct {
	*stacktest.TCPConn
	t    *testing.T
	seed uint64
}

func dialEcho(t *testing.T, c *stacktest.Client, to netip.AddrPort) *flowing {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := c.DialTCP(ctx, to)
	if err != nil {
		t.Fatalf("%v: %v", to, err)
	}
	t.Cleanup(func() { conn.Close() })
	return &flowing{TCPConn: conn, t: t}
}

// send sends so many bytes; the same must come back.
func (f *flowing) send(size int64) {
	f.t.Helper()
	f.seed++
	go io.CopyN(f, stacktest.Stream(f.seed), size)
	f.SetReadDeadline(time.Now().Add(30 * time.Second))
	got, n, err := stacktest.Checksum(io.LimitReader(f, size))
	want, _, _ := stacktest.Checksum(io.LimitReader(stacktest.Stream(f.seed), size))
	if err != nil || n != size || got != want {
		f.t.Fatalf("%d of %d bytes came back, %v", n, size, err)
	}
}

// The client comes back while its connection seems alive: its flow goes on in
// the worker before, new ones begin in the newest, and the old one leaves with
// the last of its flows.
func TestFlowsGoOnInAKeeper(t *testing.T) {
	first := newWorld(t, nil, nil)
	first.net.Serve(webHost, stacktest.Echo)
	c := first.dial()
	c.connect(c.login())
	flow := dialEcho(t, c.Client, webHost)
	flow.send(100 << 10)

	pair, answer := first.retire()
	if answer.TcpFlows != 1 || answer.Stats.GetReason() != ipc.Reason_REASON_REPLACED || answer.Stats.GetBytesUp() < 100<<10 {
		t.Errorf("retired with %v", answer)
	}
	if p, ok := <-c.control; ok {
		t.Errorf("the client was told type %d", p.Type)
	}
	second, c2 := comeBack(t, c.Client, pair)
	flow.send(1 << 20)
	fresh := dialEcho(t, c2.Client, newHost)
	fresh.send(10 << 10)

	// A third connection: both workers before keep flows.
	pair1, answer := first.retire()
	if answer.TcpFlows != 1 || answer.Stats != nil {
		t.Errorf("retired again with %v", answer)
	}
	pair2, _ := second.retire()
	third, c3 := comeBack(t, c.Client, pair1, pair2)
	flow.send(100 << 10)
	fresh.send(100 << 10)
	dialEcho(t, c3.Client, newHost).send(1000)

	flow.Close()
	if err := first.wait(); err != nil {
		t.Errorf("the first keeper: %v", err)
	}
	if first.final == nil || first.final.BytesUp > 300<<10 {
		t.Errorf("counters of the first worker grew when it was a keeper: %v", first.final)
	}
	fresh.send(100 << 10)
	third.clientC.Close()
	if _, ok := third.next(0).(*ipc.Detached); !ok {
		t.Error("the third did not detach")
	}
}

// The newest worker dies: the keeper waits, and goes on with the next one.
func TestKeeperOutlivesTheNewest(t *testing.T) {
	first := newWorld(t, nil, nil)
	first.net.Serve(webHost, stacktest.Echo)
	c := first.dial()
	c.connect(c.login())
	flow := dialEcho(t, c.Client, webHost)
	pair, _ := first.retire()
	second, _ := comeBack(t, c.Client, pair)
	flow.send(1000)
	second.main.Close() // it ends at once
	second.wait()
	go flow.Write([]byte("into the void"))
	time.Sleep(50 * time.Millisecond)
	pair, _ = first.retire()
	comeBack(t, c.Client, pair)
	buf := make([]byte, 13)
	flow.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadFull(flow, buf); err != nil || string(buf) != "into the void" {
		t.Errorf("%q, %v", buf, err)
	}
	flow.send(100 << 10)
}

// A client that vanishes leaves a worker that keeps its flows, in the midst of
// a transfer, as long as main lets it.
func TestDetachedKeepsFlows(t *testing.T) {
	first := newWorld(t, nil, nil)
	first.net.Serve(webHost, stacktest.Source(3, 8<<20))
	c := first.dial()
	c.connect(c.login())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := c.DialTCP(ctx, webHost)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.CopyN(io.Discard, conn, 100<<10); err != nil {
		t.Fatal(err)
	}
	first.clientC.Close()
	d, ok := first.next(0).(*ipc.Detached)
	if !ok || d.TcpFlows != 1 || d.Stats.GetReason() != ipc.Reason_REASON_CONNECTION_LOST {
		t.Fatalf("said %v", d)
	}
	pair, _ := first.retire()
	comeBack(t, c.Client, pair)
	conn.SetReadDeadline(time.Now().Add(60 * time.Second))
	if n, err := io.Copy(io.Discard, conn); err != nil || n != 8<<20-100<<10 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// main ends a detached worker, whatever waits in it.
func TestDetachedIsTerminated(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.net.Serve(webHost, stacktest.Source(3, 8<<20))
	c := w.dial()
	c.connect(c.login())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := c.DialTCP(ctx, webHost)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w.clientC.Close()
	w.next(0)
	w.main.Send(ipc.TerminateT, 0, &ipc.Terminate{Reason: ipc.Reason_REASON_CONNECTION_LOST})
	if err := w.wait(); err != nil {
		t.Error(err)
	}
}

// A keeper that hands over nothing, or nonsense, costs its flows and no more.
func TestBadHandOver(t *testing.T) {
	for name, say := range map[string]string{"nothing": "", "no note": "\x01\xff\xff", "no record": "\x07", "packets only": "\x00\x00\x01x"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd[1])
			if say != "" {
				unix.Write(fd[1], []byte(say))
			}
			stack, err := stacktest.NewClient(stacktest.ClientConfig{Addrs: []netip.Addr{clientIP, clientV6}, MTU: 1400, Up: func([][]byte) {}})
			if err != nil {
				t.Fatal(err)
			}
			defer stack.Close()
			_, c := comeBack(t, stack, fd[0])
			dialEcho(t, c.Client, newHost).send(1000)
		})
	}
}
