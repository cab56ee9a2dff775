//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rocserv/test/e2e/lab"
)

const (
	many   = 10_000            // flows of one client
	within = 120 * time.Second // that a loaded machine needs for anything here
	idleAt = "9010"            // where connections are kept
)

// lifted are limits for one client's many flows, within the hard one of files.
var lifted = []string{
	fmt.Sprintf("limit-tcp-flows = %d", many+500), fmt.Sprintf("limit-udp-flows = %d", many+500), "limit-new-flows = 100000",
	"limit-dials = 2000", fmt.Sprintf("limit-worker-files = %d", many+1500),
}

// flows starts a client's flows and waits until they are there.
func (r *rig) flows(c *lab.Client, f lab.Flows) *lab.Process {
	r.Helper()
	p, err := lab.StartFlows(c.From, f)
	r.must(err)
	r.expect(p, fmt.Sprintf(`^%d flows, 0 failed$`, f.N), within)
	return p
}

func (r *rig) private(pid int) int64 {
	r.Helper()
	n, err := lab.Private(pid)
	r.must(err)
	return n
}

// TestIdleFlows: what ten thousand idle flows of a client cost its worker.
func TestIdleFlows(t *testing.T) {
	rocservOnly(t, "the kernel has the flows")
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Max < many+1500 {
		t.Skipf("the hard limit of files is %d (%v)", files.Max, err)
	}
	for _, k := range []struct {
		kind string
		port string
		most int64 // bytes of a flow
	}{
		{lab.FlowsTCP, idleAt, 16 << 10},
		{lab.FlowsUDP, strconv.Itoa(lab.PortEcho), 4 << 10},
	} {
		t.Run(k.kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, lifted...)
			far, err := lab.StartFlows(r.Tgt, lab.Flows{Kind: lab.FlowsAccept, To: net.JoinHostPort(lab.Tgt4, idleAt)})
			r.must(err)
			r.expect(far, "^accepting$", within)
			c := r.connect(lab.Dial{})
			w, err := r.srv.Worker(lab.ClientAddr4(0))
			r.must(err)
			before := r.private(w.PID)
			r.flows(c, lab.Flows{Kind: k.kind, To: net.JoinHostPort(lab.Tgt4, k.port), N: many})
			each := int64(0)
			for end := time.Now().Add(within); ; time.Sleep(time.Second) { // until what making them took has been given back
				each = (r.private(w.PID) - before) / many
				if each < k.most || time.Now().After(end) {
					break
				}
			}
			t.Logf("%d bytes for each of %d idle %s flows", each, many, k.kind)
			if each >= k.most {
				t.Errorf("%d bytes for an idle %s flow, allowed are %d", each, k.kind, k.most)
			}
			r.each(c, hello4)
		})
	}
}

// TestStuckFlows: as many flows of one client as it may have, of which it takes
// nothing, or nobody takes what it sends. Each fills the share of limit-flow-buffers
// that there was for it when it came, so the worker holds more than that limit,
// yet stays below what limit-worker-memory leaves to its heap: it is not ended,
// its client goes on, and who is beside does not notice.
func TestStuckFlows(t *testing.T) {
	rocservOnly(t, "the kernel has the flows")
	t.Parallel()
	const unread, unsent = 900, 100
	r := newRig(t, 2, "limit-tcp-flows = 1024", "limit-new-flows = 100000", "limit-worker-memory = true")
	r.expect(r.srv.Process, `workers are confined reached=.*rlimit data`, within)
	far, err := lab.StartFlows(r.Tgt, lab.Flows{Kind: lab.FlowsAccept, To: net.JoinHostPort(lab.Tgt4, idleAt)})
	r.must(err)
	r.expect(far, "^accepting$", within)
	c := r.connect(lab.Dial{From: r.Cli[0]})
	other := r.connect(lab.Dial{From: r.Cli[1], User: lab.Other, Input: right})
	arrived := r.steady(other, 10)
	w, err := r.srv.Worker(lab.ClientAddr4(0))
	r.must(err)
	beside, err := r.srv.Worker(lab.ClientAddr4(1))
	r.must(err)
	before, besideBefore := r.private(w.PID), r.private(beside.PID)
	most := before
	look := make(chan struct{})
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		for {
			select {
			case <-look:
				return
			case <-time.After(100 * time.Millisecond):
				if n, err := lab.Private(w.PID); err == nil {
					most = max(most, n)
				}
			}
		}
	}()
	r.flows(c, lab.Flows{Kind: lab.FlowsUnread, To: net.JoinHostPort(lab.Tgt4, strconv.Itoa(lab.PortHTTP)), N: unread})
	r.flows(c, lab.Flows{Kind: lab.FlowsUnsent, To: net.JoinHostPort(lab.Tgt4, idleAt), N: unsent})
	r.each(c, hello4, lookup)
	r.must(arrived())
	r.each(other, hello4, lookup)
	close(look)
	<-looked
	grown := most - before
	t.Logf("the worker grew by %.1f MB at most, the one beside by %.1f MB",
		float64(grown)/megabyte, float64(r.private(beside.PID)-besideBefore)/megabyte)
	if grown > stuckMost {
		t.Errorf("the worker has grown by %d bytes", grown)
	}
	if grown < stuckLeast {
		t.Errorf("the worker has grown by %d bytes only: the test does not fill its buffers", grown)
	}
	if now, err := r.srv.Worker(lab.ClientAddr4(0)); err != nil || now.PID != w.PID || c.Has(`(?i)reconnect`) {
		t.Errorf("the client lost its worker: %v, %v", now, err)
	}
	if other.Has(`(?i)reconnect`) {
		t.Error("who is beside was disturbed")
	}
}

// What a worker may grow by in TestStuckFlows: the heap that limit-worker-memory
// gives it (workerHeap, internal/sandbox); and what it must, for the test to be
// about something: limit-flow-buffers' default.
const (
	stuckMost  = 192 * megabyte
	stuckLeast = 64 * megabyte
)

// TestSYNsIntoNothing: ten thousand connections that one client begins to a
// silent host trouble neither others nor the worker's memory.
func TestSYNsIntoNothing(t *testing.T) {
	rocservOnly(t, "the kernel forwards SYNs")
	t.Parallel()
	r := newRig(t, 2)
	c := r.connect(lab.Dial{From: r.Cli[0]})
	other := r.connect(lab.Dial{From: r.Cli[1], User: lab.Other, Input: right})
	w, err := r.srv.Worker(lab.ClientAddr4(0))
	r.must(err)
	before := r.private(w.PID)
	r.flows(c, lab.Flows{Kind: lab.FlowsSYN, To: net.JoinHostPort(lab.Silent4, "80"), N: many})
	r.each(other, hello4, lookup)
	r.each(c, command("another host, by the same client", lab.Hello, "curl", "-sS", "-m", "30", "http://"+lab.Tgt4+"/"))
	grown := r.private(w.PID) - before
	t.Logf("%d bytes more", grown)
	if grown > 16*megabyte {
		t.Errorf("the worker has grown by %d bytes", grown)
	}
}

// TestDNSBurst: five thousand queries from as many ports need few sockets.
func TestDNSBurst(t *testing.T) {
	rocservOnly(t, "the gateway is ours")
	t.Parallel()
	r := newRig(t, 1)
	c := r.connect(lab.Dial{})
	w, err := r.srv.Worker(lab.ClientAddr4(0))
	r.must(err)
	files := func() int {
		list, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", w.PID))
		r.must(err)
		return len(list)
	}
	before := files()
	p, err := lab.StartFlows(c.From, lab.Flows{Kind: lab.FlowsDNS, To: net.JoinHostPort(lab.Gateway4, "53"), N: 5000})
	r.must(err)
	most := before
	for end := time.Now().Add(within); !p.Has(` flows, `) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		most = max(most, files())
	}
	r.expect(p, `^5000 flows, 0 failed$`, time.Second)
	t.Logf("%d files before, %d at most", before, most)
	if most > before+64 {
		t.Errorf("%d files more for queries of a client", most-before)
	}
}
