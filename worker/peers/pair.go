package peers

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"
	"golang.org/x/sys/unix"

	"rocserv/internal/packet"
	"rocserv/internal/pipe"
)

// pair is the way to another client. Its fields are of Peers.mu, but those
// above the line, which never change.
type pair struct {
	p      *Peers
	other  Peer
	behind *bart.Lite // other.Behind; nil: nothing
	pipe   *pipe.Pipe
	opened time.Time

	// -----

	ready    bool // the other worker's note is here
	mtu      int  // of the other tunnel
	v4, v6   bool // what the other client has
	waiting  [][]byte
	talks    *begun    // nil: this client is not restricted
	gathered bool      // it is in the batch
	used     time.Time // as far as usedBy has looked
	ended    bool

	touched atomic.Bool // since then

	// Owned by serve.
	broken bool // by the other worker's packets: it is hung up
	good   [][]byte
}

var errNote = errors.New("peers: malformed note of another worker")

func newPair(p *Peers, other Peer, fd int, now time.Time) (*pair, error) {
	conn, err := pipe.New(fd, pipe.Config{})
	if err != nil {
		return nil, err
	}
	c := &pair{p: p, other: other, pipe: conn, opened: now, used: now}
	if len(other.Behind) > 0 {
		c.behind = new(bart.Lite)
		for _, n := range other.Behind {
			c.behind.Insert(n)
		}
	}
	// The socket is new, so there is room.
	if err := conn.Message(p.note(), time.Now().Add(time.Second)); err != nil && !errors.Is(err, unix.EPIPE) {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// note is what the other worker is told first: the MTU (uint16, big endian) and
// the families of the client's addresses (bit 0: IPv4, bit 1: IPv6).
func (p *Peers) note() []byte {
	families := byte(0)
	for _, a := range p.cfg.Addrs {
		families |= familyOf(a)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(min(p.mtu, pipe.MaxPacket))), families)
}

func familyOf(a netip.Addr) byte {
	if a.Is4() {
		return 1
	}
	return 2
}

// usedBy notes when the pair was last used, to the accuracy of the calls.
func (c *pair) usedBy(now time.Time) {
	if c.touched.Swap(false) {
		c.used = now
	}
}

// serve reads what the other worker sends until the pair ends.
func (c *pair) serve() {
	defer c.pipe.Close()
	err := c.pipe.Serve(c)
	name, p := c.other.Addrs[0], c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.broken || errors.Is(err, errNote) || errors.Is(err, pipe.ErrFormat) {
		p.counters.Broken++
		p.cfg.Log.Warn("another client's worker breaks the rules", "peer", name, "packets", c.broken, "err", err)
		if len(p.shunned) < MaxPairs {
			p.shunned[name] = p.cfg.Now().Add(shunTime)
		}
	}
	p.end(c)
}

// Message takes the other worker's note.
func (c *pair) Message(b []byte, fds []int) error {
	for _, fd := range fds {
		unix.Close(fd)
	}
	const least = 68 // RFC 791 section 3.2: every link takes that
	if len(b) != 3 || len(fds) > 0 {
		return errNote
	}
	mtu := int(binary.BigEndian.Uint16(b))
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.ready || mtu < least || mtu > pipe.MaxPacket {
		return errNote
	}
	c.ready, c.mtu, c.v4, c.v6 = true, mtu, b[2]&1 != 0, b[2]&2 != 0
	for _, pkt := range p.release(&c.waiting) {
		if h, ok := packet.Parse(pkt); ok {
			c.forward(&h, pkt)
		}
	}
	p.flush()
	return nil
}

// Packets takes packets of the other client to this one.
func (c *pair) Packets(pkts [][]byte) {
	p := c.p
	if c.broken {
		return // what was under way when it was hung up
	}
	c.touched.Store(true)
	c.good = c.good[:0]
	forged := 0
	p.mu.Lock()
	if !c.ready { // its note comes first
		p.counters.Forged += uint64(len(pkts))
		p.mu.Unlock()
		c.breakOff()
		return
	}
	for _, pkt := range pkts {
		h, ok := packet.Parse(pkt)
		switch {
		case !ok || h.TTL == 0 || !c.sends(h.Src) || !p.isMine(h.Dst):
			forged++
		case h.Length > p.mtu: // sent before it knew
			p.counters.Dropped++
		case !p.cfg.Down.Admit(h.Length):
		default:
			if c.talks != nil {
				c.talks.heard(&h, pkt, p.cfg.Now())
			}
			c.good = append(c.good, pkt[:h.Length])
		}
	}
	p.counters.Forged += uint64(forged)
	p.counters.Down += uint64(len(c.good))
	p.mu.Unlock()
	if len(c.good) > 0 && !p.cfg.Frozen() {
		p.cfg.Sink.Begin()
		for _, pkt := range c.good {
			copy(p.cfg.Sink.Next(len(pkt)), pkt)
			p.cfg.Sink.Add(len(pkt))
		}
		p.cfg.Sink.End()
	}
	clear(c.good)
	if forged > 0 {
		c.breakOff()
	}
}

// breakOff ends the pair because of what the other worker sent.
func (c *pair) breakOff() {
	c.broken = true
	c.pipe.Hangup()
}

// sends says whether the other client may send from an address.
func (c *pair) sends(a netip.Addr) bool {
	return slices.Contains(c.other.Addrs, a) || c.behind != nil && c.behind.Lookup(a) && !c.p.isPool(a)
}

// isMine says whether an address is this client's, or of a network behind it.
func (p *Peers) isMine(a netip.Addr) bool {
	return slices.Contains(p.cfg.Addrs, a) || p.Behind(a)
}
