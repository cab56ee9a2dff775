package egress

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	maxNamed    = 4096             // addresses whose names are remembered
	namesOfOne  = 8                // names of one address
	nameAtLeast = 30 * time.Minute // a client keeps what it was told longer than its TTL says
)

// Names remembers, for one client, by which names it was told an address: by
// them rules with domains hold, and a proxy is asked for them. What a client
// learned elsewhere (a resolver of its own, DNS over HTTPS) has no name here.
type Names struct {
	now func() time.Time

	mu     sync.Mutex
	byAddr map[netip.Addr]*list.Element // of *named
	order  list.List                    // the one learned last is in front
}

// named is an address and its names.
type named struct {
	addr  netip.Addr
	names []string // the newest first; never changed, only replaced
	until time.Time
}

// NewNames makes an empty memory; now is the clock, nil: time.Now.
func NewNames(now func() time.Time) *Names {
	if now == nil {
		now = time.Now
	}
	return &Names{now: now, byAddr: map[netip.Addr]*list.Element{}}
}

// Learn notes that the client was told an address for a name, in lower case
// and without a dot at the end.
func (n *Names) Learn(name string, a netip.Addr, ttl time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a = a.Unmap()
	until := n.now().Add(max(ttl, nameAtLeast))
	if e := n.byAddr[a]; e != nil {
		d := e.Value.(*named)
		d.until = until
		n.order.MoveToFront(e)
		if d.names[0] == name {
			return
		}
		names := append(make([]string, 0, namesOfOne), name)
		for _, other := range d.names {
			if other != name && len(names) < namesOfOne {
				names = append(names, other)
			}
		}
		d.names = names
		return
	}
	if len(n.byAddr) >= maxNamed {
		n.forget(n.order.Back())
	}
	n.byAddr[a] = n.order.PushFront(&named{addr: a, names: []string{name}, until: until})
}

// Of returns the names of an address, the newest first. The slice is not to be
// changed.
func (n *Names) Of(a netip.Addr) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.byAddr[a]
	if e == nil {
		return nil
	}
	d := e.Value.(*named)
	if n.now().After(d.until) {
		n.forget(e)
		return nil
	}
	return slices.Clip(d.names)
}

func (n *Names) forget(e *list.Element) {
	delete(n.byAddr, n.order.Remove(e).(*named).addr)
}
