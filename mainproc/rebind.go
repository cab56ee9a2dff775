package mainproc

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"time"

	"rocserv/internal/ipc"
	"rocserv/internal/wire/dtlshello"
)

const (
	maxOffers     = 4                      // sessions that one datagram is offered to
	offerPause    = 200 * time.Millisecond // between offers of one peer's datagrams
	offersPerHost = 32                     // of one source, in offerWindow
	offersAll     = 1024                   // of all sources
	offerWindow   = 10 * time.Second
	hostsAge      = time.Second // how old the list of sessions by source may be
)

// offers are about clients whose translator gave them another port: they send
// records without a hello, and only who has the keys can tell whose. So main offers
// such a datagram to sessions whose worker was given a socket for that address, and
// says that its DTLS channel is there (sockets). The worker
// that can open it, and finds it newer than all before, connects its socket to the
// new port by itself and names it in its next SESSION_INFO; until then what follows
// is not offered again but after a pause, and dropped.
//
// What a worker claims that was not offered to it means nothing here. Strangers can
// spoof addresses: how much is offered is bounded for each source and for all, and
// costs a worker one decryption.
type offers struct {
	clients func() map[netip.Addr][]udpTarget // sessions by where their DTLS channel is; nil: none

	out    map[endpoint]*offer
	hosts  map[netip.Prefix]int
	all    int
	window time.Time // since when hosts and all count, and out is kept
	known  map[netip.Addr][]udpTarget
	asked  time.Time // when known was made
}

// offer is what was offered of one peer, and to whom.
type offer struct {
	local   endpoint
	targets []udpTarget
	again   time.Time // not before
}

func newOffers() *offers {
	return &offers{out: make(map[endpoint]*offer), hosts: make(map[netip.Prefix]int)}
}

// may says whether a datagram of peer, at whose address there are sessions, is to
// be offered now, and counts it.
func (o *offers) may(peer endpoint, now time.Time) bool {
	if now.Sub(o.window) >= offerWindow {
		o.window, o.all = now, 0
		clear(o.hosts)
		clear(o.out)
	}
	host := hostOf(peer.addr.Addr())
	if o.all >= offersAll || o.hosts[host] >= offersPerHost {
		return false
	}
	if last := o.out[peer]; last != nil && now.Before(last.again) {
		return false
	}
	o.all++
	o.hosts[host]++
	return true
}

// anybody says whether a session's DTLS channel is at an address.
func (o *offers) anybody(a netip.Addr, now time.Time) bool {
	if now.Sub(o.asked) >= hostsAge || now.Before(o.asked) {
		o.known, o.asked = o.clients(), now
	}
	return len(o.known[a]) > 0
}

// next returns sessions whose DTLS channel is at an address. Where there are more
// than maxOffers, those that come next, from where the last time ended.
func (o *offers) next(a netip.Addr) []udpTarget {
	list := o.known[a]
	if len(list) <= maxOffers {
		return list
	}
	o.known[a] = append(list[maxOffers:len(list):len(list)], list[:maxOffers]...)
	return list[:maxOffers]
}

// offer asks sessions whether a record is their client's. d.mu is held.
func (d *demux) offer(peer, local endpoint, data []byte, now time.Time) {
	if d.offers.clients == nil || !dtlshello.IsData(data) || !d.offers.anybody(peer.addr.Addr(), now) {
		d.count.unknown.Add(1)
		return
	}
	if !d.offers.may(peer, now) {
		d.count.limited.Add(1)
		return
	}
	targets := d.offers.next(peer.addr.Addr())
	for _, t := range targets {
		t.takeOffer(&ipc.UdpFd{
			Peer: ipc.PutAddrPort(peer.addr), Local: ipc.PutAddrPort(local.addr), Datagrams: [][]byte{bytes.Clone(data)},
		})
	}
	d.offers.out[peer] = &offer{local: local, targets: targets, again: now.Add(offerPause)}
	d.count.offered.Add(1)
}

// moved is told where a session's DTLS channel is, by its worker. If that was
// offered to it, what the peer has in flight to main's socket is the worker's.
func (d *demux) moved(t udpTarget, to netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for peer, o := range d.offers.out {
		if peer.addr != to {
			continue
		}
		for _, target := range o.targets {
			if target == t {
				delete(d.offers.out, peer)
				d.remember(&handover{peer: peer, local: o.local, target: t, until: d.now().Add(recentTime)})
				d.count.moved.Add(1)
				return
			}
		}
	}
}

// channels are the sessions' workers by where their DTLS channel is (sockets).
func (t *sessions) channels() map[netip.Addr][]udpTarget {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make(map[netip.Addr][]udpTarget)
	for _, s := range t.bySID {
		if s.newest == nil {
			continue
		}
		if at := s.newest.sockets.channel(); at.IsValid() {
			all[at] = append(all[at], s.newest)
		}
	}
	return all
}

// maxSockets is how many sockets of a worker may yet become its channel: it has
// at most two handshakes under way, and two more cross with what it says.
const maxSockets = 4

// sockets are the addresses that a worker was given sockets for, and at which of
// them its DTLS channel is. The latter is the worker's word, the former main's: a
// worker that names an address of other clients hears nothing of theirs. A client's
// new port changes neither.
type sockets struct {
	mu    sync.Mutex
	given []netip.Addr // the newest last
	at    netip.Addr   // zero: nowhere
}

// give notes that the worker was given a socket for a peer.
func (s *sockets) give(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given = append(s.given[max(0, len(s.given)-maxSockets+1):], a)
}

// claim takes the worker's word on where its channel is.
func (s *sockets) claim(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a != s.at && !slices.Contains(s.given, a) {
		a = netip.Addr{}
	}
	s.at = a
}

func (s *sockets) channel() netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

func (s *sockets) save() socketsState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return socketsState{slices.Clone(s.given), s.at}
}

func (s *sockets) take(v socketsState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given, s.at = v.Given[max(0, len(v.Given)-maxSockets):], v.At
}
