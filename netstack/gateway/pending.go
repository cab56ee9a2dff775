package gateway

import (
	"slices"
	"sync/atomic"
	"time"
)

// maxPending bounds the answers that wait for a Flush, in bytes. What would
// exceed it makes them leave at once.
const maxPending = 64 << 10

// pending holds finished packets, one behind the other.
type pending struct {
	buf  []byte
	lens []int
}

func (p *pending) full(n int) bool { return len(p.lens) > 0 && len(p.buf)+n > maxPending }

func (p *pending) add(n int) []byte {
	at := len(p.buf)
	p.buf = slices.Grow(p.buf, n)[:at+n]
	p.lens = append(p.lens, n)
	return p.buf[at:]
}

func (p *pending) reset() { p.buf, p.lens = p.buf[:0], p.lens[:0] }

// ICMP errors: a port scan of the gateway sees closed ports at this rate. RFC
// 4443 section 2.4 (f), RFC 1812 section 4.3.2.8.
const (
	errorsPerSecond = 100
	errorsBurst     = 50
)

// bucket is a token bucket over ICMP errors.
type bucket struct {
	tokens time.Duration // each is worth time.Second / errorsPerSecond
	last   time.Time
}

const token = time.Second / errorsPerSecond

func newBucket(now time.Time) bucket { return bucket{tokens: errorsBurst * token, last: now} }

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(b.tokens+now.Sub(b.last), errorsBurst*token)
	b.last = now
	if b.tokens < token {
		return false
	}
	b.tokens -= token
	return true
}

// Stats counts what a Gateway did, in packets.
type Stats struct {
	Packets uint64 // injected
	Echoes  uint64 // echo requests answered
	Queries uint64 // DNS queries given to the resolver
	Replies uint64 // DNS answers sent
	Refused uint64 // ICMP errors sent
	Dropped uint64 // malformed, not for us, beyond the limit of errors
}

type counters struct {
	packets, echoes, queries, replies, refused, dropped atomic.Uint64
}

// Stats returns the counters.
func (g *Gateway) Stats() Stats {
	c := &g.stats
	return Stats{
		Packets: c.packets.Load(), Echoes: c.echoes.Load(), Queries: c.queries.Load(),
		Replies: c.replies.Load(), Refused: c.refused.Load(), Dropped: c.dropped.Load(),
	}
}
