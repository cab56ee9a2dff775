package netstack

import (
	"fmt"
	"io"
	"testing"
	"time"

	"rocserv/netstack/stacktest"
)

// TestBudget: all buffers together stay within the budget, however many flows
// come, and existing endpoints are cut.
func TestBudget(t *testing.T) {
	const total = 4 << 20
	r := newRig(t, rigOptions{limits: Limits{Buffers: total}})
	dst := port(host4, 80)
	r.network.Serve(dst, stacktest.Discard)
	for n := 1; n <= 70; n++ {
		r.dial(dst)
		eventually(t, "open", func() bool { return r.stack.Stats().Dial.Opened == uint64(n) })
		sum, share := 0, r.stack.budget.share()
		list := r.stack.established()
		for _, f := range list {
			opts := f.ep.SocketOptions()
			eventually(t, "cut", func() bool { return opts.GetSendBufferSize() <= int64(share) })
			sum += int(opts.GetReceiveBufferSize() + opts.GetSendBufferSize())
		}
		if sum > total {
			t.Fatalf("%d flows may hold %d bytes", len(list), sum)
		}
	}
	if share := r.stack.budget.share(); share != total/2/128 {
		t.Errorf("share of 70 flows: %d", share)
	}
}

func TestShares(t *testing.T) {
	b := newBare(t, Limits{Buffers: 32 << 20}, nil)
	for flows, want := range map[int]int{
		0: maxSendBuffer, 1: maxSendBuffer, 2: 8 << 20, 3: 4 << 20, 4: 4 << 20, 5: 2 << 20,
		100: 128 << 10, 2048: minBuffer, 1 << 20: minBuffer,
	} {
		b.stack.budget.setFlows(flows)
		if got := b.stack.budget.share(); got != want {
			t.Errorf("%d flows: share %d, want %d", flows, got, want)
		}
	}
}

// TestReceiveBufferGrows: ModerateRecvBuf reaches the endpoint of a forwarded
// flow, so that an upload over a long path is not held to the first window.
func TestReceiveBufferGrows(t *testing.T) {
	for _, sockets := range []bool{false, true} {
		t.Run(fmt.Sprintf("sockets %v", sockets), func(t *testing.T) {
			r := newRig(t, rigOptions{sockets: sockets})
			r.client.SetUp(func(pkts [][]byte) {
				time.Sleep(10 * time.Millisecond) // a long way
				r.stack.Inject(pkts)
			})
			dst := port(host4, 80)
			r.network.Serve(dst, stacktest.Discard)
			c := r.dial(dst)
			f := r.flow()
			go io.Copy(c, stacktest.Stream(1))
			eventually(t, "the receive buffer grows", func() bool {
				return f.ep.SocketOptions().GetReceiveBufferSize() > defaultBuffer
			})
		})
	}
}

// TestPace: single bytes to a client that does not acknowledge them do not
// pile up; bytes that are acknowledged pass.
func TestPace(t *testing.T) {
	var p pace
	r := newRig(t, rigOptions{})
	dst := port(host4, 80)
	r.network.Serve(dst, stacktest.Discard)
	r.dial(dst)
	f := r.flow()
	for range tinyCredit - 1 {
		p.read(f, 1)
	}
	if n := f.ep.SocketOptions().GetSendBufferSize(); n == tinySend {
		t.Error("cut too early")
	}
	p.read(f, 1)
	if n := f.ep.SocketOptions().GetSendBufferSize(); n != tinySend {
		t.Errorf("send buffer %d", n)
	}
	if p.bulk() {
		t.Error("large buffers for single bytes")
	}
	p.read(f, smallBuffer)
	if !p.bulk() {
		t.Error("small buffers for a bulk transfer")
	}
	for range 3 * tinyCredit { // one tiny read between long ones is nobody's attack
		p.read(f, 1)
		p.read(f, 1400)
		if p.tiny > 1 {
			t.Fatal("counted as tiny")
		}
	}
}
