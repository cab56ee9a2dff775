package mainproc

import (
	"bytes"
	"net/netip"
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
// such a datagram to sessions whose DTLS channel is at that address. The worker
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

// may says whether a datagram of peer is to be offered now, and counts it.
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

// at returns sessions whose DTLS channel is at an address. Where there are more
// than maxOffers, those that come next, from where the last time ended.
func (o *offers) at(a netip.Addr, now time.Time) []udpTarget {
	if now.Sub(o.asked) >= hostsAge || now.Before(o.asked) {
		o.known, o.asked = o.clients(), now
	}
	list := o.known[a]
	if len(list) <= maxOffers {
		return list
	}
	o.known[a] = append(list[maxOffers:len(list):len(list)], list[:maxOffers]...)
	return list[:maxOffers]
}

// offer asks sessions whether a record is their client's. d.mu is held.
func (d *demux) offer(peer, local endpoint, data []byte, now time.Time) {
	if d.offers.clients == nil || !dtlshello.IsData(data) {
		d.count.unknown.Add(1)
		return
	}
	if !d.offers.may(peer, now) {
		d.count.limited.Add(1)
		return
	}
	targets := d.offers.at(peer.addr.Addr(), now)
	if len(targets) == 0 {
		d.count.unknown.Add(1)
		return
	}
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

// channels are the sessions' workers by where their DTLS channel is.
func (t *sessions) channels() map[netip.Addr][]udpTarget {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make(map[netip.Addr][]udpTarget)
	for _, s := range t.bySID {
		if s.newest == nil || s.info == nil {
			continue
		}
		if at := ipc.AddrPort(s.info.DtlsPeer); at.IsValid() {
			all[at.Addr()] = append(all[at.Addr()], s.newest)
		}
	}
	return all
}
