package netstack

import (
	"math/bits"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Sizes of an endpoint's buffers, in bytes. gVisor advertises half of the
// receive buffer as window and tunes both sizes itself between default and
// maximum: the receive side when ModerateRecvBuf is called. 1 MiB to begin with
// costs nothing (nothing is allocated before bytes come) and saves the first round
// trips.
//
// The send buffer is what may be on its way to the client and not acknowledged, a
// Gbit/s at 100 ms; what waits to be sent is bounded by recovery.Path.Ahead. So it
// need not grow.
const (
	defaultBuffer    = 1 << 20
	maxReceiveBuffer = 8 << 20
	maxSendBuffer    = 16 << 20
	minBuffer        = 16 << 10
)

// budget divides Limits.Buffers among the flows: each may have the same share
// for either direction. The share changes only when the number of flows
// crosses a power of two; then endpoints that have more are cut, by a store
// that takes no lock. What an endpoint already holds beyond its share it keeps
// until it is read or acknowledged.
type budget struct {
	total   int
	stack   *stack.Stack
	current atomic.Int64
}

func (b *budget) init(s *stack.Stack, total int) {
	b.stack, b.total = s, total
	b.setFlows(0)
}

// share is what a flow may hold in one direction, in bytes.
func (b *budget) share() int { return int(b.current.Load()) }

// setFlows tells how many flows there are. True: the share has become smaller,
// the existing flows have to be limited.
func (b *budget) setFlows(n int) (smaller bool) {
	shares := 1 << bits.Len(uint(max(n, 1)-1)) // n rounded up to a power of two
	share := int64(min(max(b.total/(2*shares), minBuffer), maxSendBuffer))
	old := b.current.Swap(share)
	if old == share {
		return false
	}
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{
		Min: tcp.MinBufferSize, Default: min(defaultBuffer, int(share)), Max: min(maxReceiveBuffer, int(share)),
	}
	snd := tcpip.TCPSendBufferSizeRangeOption{
		Min: tcp.MinBufferSize, Default: int(share), Max: int(share),
	}
	must(b.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &rcv))
	must(b.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &snd))
	return share < old
}

// limit cuts the buffers of an endpoint to its share.
func (b *budget) limit(ep *tcp.Endpoint) {
	share, opts := b.current.Load(), ep.SocketOptions()
	if opts.GetReceiveBufferSize() > share {
		opts.SetReceiveBufferSize(share, false)
	}
	if opts.GetSendBufferSize() > share {
		opts.SetSendBufferSize(share, false)
	}
}
