package worker

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"rocserv/internal/ipc"
)

// hostPorts are the local UDP ports that the world's main has to give; its
// fields are of world.mu.
type hostPorts struct {
	left, held int
	asked      int // times
}

// open is what the worker has from the start.
func (p *hostPorts) open() *ipc.Ports {
	if p == nil {
		return nil
	}
	return p.give(32)
}

func (p *hostPorts) give(n int) *ipc.Ports {
	n = min(n, p.left)
	p.left, p.held = p.left-n, p.held+n
	return &ipc.Ports{More: uint32(n)}
}

// grant answers PORTS_REQ.
func (w *world) grant(rec *ipc.Record) {
	var req ipc.Ports
	rec.Decode(&req)
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.ports
	p.left, p.held = p.left+int(req.Back), p.held-int(req.Back)
	if req.More > 0 {
		p.asked++
		w.main.Send(ipc.PortsT, 0, p.give(int(req.More)))
	}
}

func (w *world) portsNow() hostPorts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.ports
}

// until has time go on until main's ports are so.
func (w *world) until(what string, clock *faketime.ManualClock, so func(hostPorts) bool) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(w.portsNow()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("never: %s; %+v", what, w.portsNow())
		}
		clock.Advance(time.Second)
	}
}

// counters asks the worker as main does.
func (w *world) counters() *ipc.WorkerStats {
	w.t.Helper()
	before := len(w.said())
	if err := w.main.Send(ipc.WorkerStatsReqT, 0, new(ipc.Nothing)); err != nil {
		w.t.Fatal(err)
	}
	m, ok := w.next(before).(*ipc.WorkerStats)
	if !ok {
		w.t.Fatal("another answer to WORKER_STATS_REQ")
	}
	return m
}

// A worker uses no more local ports than main lets it: the flow that was used
// longest ago makes room, new ones are served, and with ports again all are.
// What is not needed any more goes back.
func TestLocalPorts(t *testing.T) {
	clock := faketime.NewManualClock()
	w := newWorld(t, clock, func(_ *ipc.WorkerConfig, sc *ipc.SessionConfig) { sc.DpdS = 0 })
	host := netip.MustParseAddrPort("192.0.2.53:5353")
	w.net.ServeUDP(host, func(p []byte) []byte { return p })
	w.mu.Lock()
	w.ports = &hostPorts{left: 40}
	w.mu.Unlock()
	c := w.dial()
	c.connect(c.login())
	exchanges := func(n int) {
		t.Helper()
		for i := range n {
			u, err := c.DialUDP(host)
			if err != nil {
				t.Fatal(err)
			}
			// Open until the end: no port of the client's comes again.
			t.Cleanup(func() { u.Close() })
			u.SetDeadline(time.Now().Add(10 * time.Second))
			fmt.Fprint(u, i)
			buf := make([]byte, 100)
			if n, err := u.Read(buf); err != nil || string(buf[:n]) != fmt.Sprint(i) {
				t.Fatalf("flow %d: %q, %v", i, buf[:n], err)
			}
		}
	}
	exchanges(60)
	for deadline := time.Now().Add(20 * time.Second); w.portsNow().asked == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was asked for")
		}
	}
	m := w.counters() // comes after main's answer
	if out := ipc.TakeCounters(m.Counters)[ipc.CountNATOutOfPorts]; m.UdpFlows != 40 || out != 20 {
		t.Errorf("%d flows with 40 ports, %d went for want of a port; want 20", m.UdpFlows, out)
	}
	if p := w.portsNow(); p.held != 40 || p.asked != 1 {
		t.Errorf("%d ports held, asked %d times within a moment", p.held, p.asked)
	}

	w.mu.Lock()
	w.ports.left = 1000
	w.mu.Unlock()
	w.until("the worker has more", clock, func(p hostPorts) bool { return p.held >= 80 })
	w.counters() // comes after what main has granted
	exchanges(60)
	if m = w.counters(); m.UdpFlows != 100 || ipc.TakeCounters(m.Counters)[ipc.CountNATOutOfPorts] != 20 {
		t.Errorf("with ports again: %v", m)
	}

	for range 330 {
		clock.Advance(time.Second)
	}
	w.until("what is not used is given back", clock, func(p hostPorts) bool { return p.held < 64 })
}
