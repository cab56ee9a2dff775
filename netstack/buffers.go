package netstack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// smallBuffer is what a flow reads with until it fills it.
	smallBuffer = 4 << 10
	// largeBuffer holds the payload of one super-segment, as gVisor's sender
	// limits it.
	largeBuffer = gsoMax - header.TCPTotalHeaderMaximumSize - 1
)

// buffers are the ones bytes of the network are read into. They live for one
// read(2) and the ep.Write after it, longer only when the client's endpoint
// takes part of it.
type buffers struct {
	small, large sync.Pool
}

func (p *buffers) get(large bool) *[]byte {
	pool, size := &p.small, smallBuffer
	if large {
		pool, size = &p.large, largeBuffer
	}
	if b, ok := pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, size)
	return &b
}

func (p *buffers) put(b *[]byte) {
	if len(*b) == largeBuffer {
		p.large.Put(b)
		return
	}
	p.small.Put(b)
}

// readSize is how much of a buffer of n bytes to read into: not more than the
// flow's share of the budget and what may be moved at once, and a whole number of the segments it will
// become, so that no short packet interrupts a run of equal ones.
func (s *Stack) readSize(f *flow, n int) int {
	n = s.cfg.Down.Quantum(min(n, s.budget.share()))
	if mss := f.segment(int(s.mtu.Load())); n > 4*mss {
		n -= n % mss
	}
	return n
}

const (
	tinyRead = 256
	// tinyCredit is how many reads shorter than tinyRead a flow may have more
	// than longer ones before its send buffer is cut to tinySend bytes.
	tinyCredit = 1024
	tinySend   = 2 << 10
)

// pace follows the sizes of a flow's reads.
//
// It chooses the next buffer, and it bounds what a host can do that sends
// single bytes to a client which does not acknowledge them: gVisor counts
// bytes of payload against the send buffer, but each write costs about 1 KiB
// of segment and packet until it is sent. After too many tiny reads the send
// buffer is cut. Where acknowledgements come in, gVisor's tuning restores it at
// the next one; where none come, the socket is no longer read, the host's bytes
// pile up there and the next read is not tiny.
type pace struct {
	last int
	tiny int
}

// bulk says whether the next read deserves a large buffer. A large buffer once
// used stays until a read would have fit a small one.
func (p *pace) bulk() bool { return p.last >= smallBuffer }

func (p *pace) read(f *flow, n int) {
	p.last = n
	if n >= tinyRead {
		p.tiny = max(0, p.tiny-n/tinyRead)
		return
	}
	if p.tiny++; p.tiny >= tinyCredit {
		p.tiny = 0
		f.ep.SocketOptions().SetSendBufferSize(tinySend, false)
	}
}
