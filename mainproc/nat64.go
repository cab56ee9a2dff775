package mainproc

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/nat64"
)

const (
	nat64Wait  = 3 * time.Second  // for the answer of DNS
	nat64Again = 60 * time.Second // until it is asked once more
)

// nat64Finder asks the network's DNS for a NAT64, seldom. It is used by one
// goroutine.
type nat64Finder struct {
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	found  []netip.Prefix
	next   time.Time
}

// find returns the prefixes that the network had when it was last asked. Without
// an answer nothing changes: a resolver that is away for a while ends no flow.
func (f *nat64Finder) find(now time.Time) []netip.Prefix {
	if now.Before(f.next) {
		return f.found
	}
	f.next = now.Add(nat64Again)
	ctx, cancel := context.WithTimeout(context.Background(), nat64Wait)
	defer cancel()
	answer, err := f.lookup(ctx, "ip6", nat64.Name)
	if no := (*net.DNSError)(nil); err != nil && !(errors.As(err, &no) && no.IsNotFound) {
		return f.found
	}
	f.found = nat64.Find(answer)
	return f.found
}

// readHost is readHostInfo, with the way out for IPv4 of a host that has none.
func (s *server) readHost() *ipc.HostInfo {
	h := readHostInfo()
	if h.Ipv4Out || !h.Ipv6Out {
		return h
	}
	for _, p := range s.translation.find(time.Now()) {
		h.Nat64 = append(h.Nat64, ipc.PutPrefix(p))
	}
	return h
}
