//go:build cgo && pam

package pam

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	maxConversations = 256 // threads that wait for answers
	// maxShare is how many of them one network has, an IPv4 /24 or an IPv6 /64: as main
	// gives workers (mainproc/slots.go).
	maxShare = maxConversations / 4
	// grace is how long a conversation keeps its place, whoever comes: who types a
	// password or looks for a code is not put out by a rush of others.
	grace = 20 * time.Second
)

// places are taken by conversations. Where there is no room the oldest that waits for
// its client gives way, of the same network if that has its share.
type places struct {
	most, share int
	now         func() time.Time

	mu     sync.Mutex
	inside []*login // oldest first
}

func newPlaces(most, share int) *places { return &places{most: most, share: share, now: time.Now} }

// enter takes a place. The one that gave way ends by itself; its thread may live on
// for as long as its modules delay a failure.
func (p *places) enter(d *login) bool {
	d.source, d.since = network(d.who.Peer), p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	own := 0
	for _, o := range p.inside {
		if o.source == d.source {
			own++
		}
	}
	if own >= p.share || len(p.inside) >= p.most {
		i := slices.IndexFunc(p.inside, func(o *login) bool {
			return o.idle.Load() && d.since.Sub(o.since) >= grace && (own < p.share || o.source == d.source)
		})
		if i < 0 {
			return false
		}
		p.inside[i].End()
		p.inside = slices.Delete(p.inside, i, i+1)
	}
	p.inside = append(p.inside, d)
	return true
}

// leave gives the place back, if it is still held.
func (p *places) leave(d *login) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inside = slices.DeleteFunc(p.inside, func(o *login) bool { return o == d })
}

// network is whom an address is counted with.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 64
	}
	n, _ := a.Prefix(bits) // that of no address is none
	return n
}
