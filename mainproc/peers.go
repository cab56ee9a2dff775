package mainproc

import (
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"rocserv/internal/ipc"
)

// How clients reach each other. A worker is told where other clients are
// (PEER_NETS). One that has a packet for such an address asks once (PEER_REQ);
// main looks whose it is and whether both may, and gives an end of a packet pair
// to either worker: PEER_REP to the one that asked, PEER_PAIR to the other. Main
// keeps nothing of it; packets never pass it.

const (
	// maxPeerNets is how many networks fit into one PEER_NETS, and maxBehind how
	// many of one client into a Peer.
	maxPeerNets = 2048
	maxBehind   = 1024
	// netsPause is from one telling of networks to the next.
	netsPause = 500 * time.Millisecond
)

// site is what of a session concerns other clients. It does not change.
type site struct {
	vhost  string
	open   bool           // client-to-client
	pools  []netip.Prefix // where its addresses are from
	behind []netip.Prefix // networks behind the client, if it is open
}

// siteOf reads it out of what sec-mod said of the session.
func siteOf(r *ipc.SecmSessionReply, c *ipc.SessionConfig) *site {
	n := &site{vhost: r.Vhost, open: c.GetClientToClient()}
	for _, b := range [][]byte{r.GetLease().GetIpv4Network(), r.GetLease().GetIpv6Network()} {
		if p := ipc.Prefix(b); p.IsValid() {
			n.pools = append(n.pools, p.Masked())
		}
	}
	if n.open {
		for _, p := range ipc.Prefixes(c.GetIroutes()) {
			n.behind = append(n.behind, p.Masked())
		}
		n.behind = n.behind[:min(len(n.behind), maxBehind)]
	}
	return n
}

// peering is what main has for pairs between clients.
type peering struct {
	serial  atomic.Uint64 // of the last pair
	changed chan struct{} // the sessions' networks may have; capacity 1
}

func (p *peering) change() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// whereabouts is where clients and the networks behind them are.
type whereabouts struct {
	pools    map[netip.Prefix]int // how many sessions have addresses of it
	carriers map[*session]bool    // those with networks behind
}

func newWhereabouts() whereabouts {
	return whereabouts{make(map[netip.Prefix]int), make(map[*session]bool)}
}

// setSite changes what a session is for other clients; nil: nothing. t.mu is held.
func (t *sessions) setSite(s *session, n *site) {
	if s.site != nil {
		for _, p := range s.site.pools {
			if t.where.pools[p]--; t.where.pools[p] == 0 {
				delete(t.where.pools, p)
			}
		}
		delete(t.where.carriers, s)
	}
	s.site = n
	if n == nil {
		return
	}
	for _, p := range n.pools {
		t.where.pools[p]++
	}
	if len(n.behind) > 0 {
		t.where.carriers[s] = true
	}
}

// peerOf finds whose an address is, as seen by the session from.
func (t *sessions) peerOf(from *session, w *worker, a netip.Addr) (*session, *worker, ipc.PeerResult) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if from.newest != w || from.site == nil {
		return nil, nil, ipc.PeerResult_PEER_AWAY
	}
	owner, _ := t.leases.Owner(a)
	s := t.bySafeID[owner]
	if s == nil {
		s = t.behind(from.site.vhost, a)
	}
	switch {
	case s == nil:
		return nil, nil, ipc.PeerResult_PEER_NOBODY
	case s == from: // its own, which it does not need us for
		return nil, nil, ipc.PeerResult_PEER_AWAY
	case !from.site.open || s.site == nil || !s.site.open || s.site.vhost != from.site.vhost:
		return nil, nil, ipc.PeerResult_PEER_PROHIBITED
	case s.newest == nil || !s.answered, s.safeID == owner && a != s.lease.IPv4 && a != s.lease.IPv6:
		return nil, nil, ipc.PeerResult_PEER_AWAY
	}
	return s, s.newest, ipc.PeerResult_PEER_OPEN
}

// behind finds the session whose client has the network of an address behind it:
// the narrowest network decides, then who is connected, then who came last.
func (t *sessions) behind(vhost string, a netip.Addr) (best *session) {
	for p := range t.where.pools {
		if p.Contains(a) {
			return nil // an address of clients is never one behind a client
		}
	}
	bits := -1
	for s := range t.where.carriers {
		if s.site.vhost != vhost {
			continue
		}
		for _, n := range s.site.behind {
			if n.Contains(a) && (n.Bits() > bits || n.Bits() == bits && s.before(best)) {
				best, bits = s, n.Bits()
			}
		}
	}
	return best
}

func (s *session) before(o *session) bool {
	if (s.newest == nil) != (o.newest == nil) {
		return s.newest != nil
	}
	return s.since.After(o.since)
}

// answerPeer gives two workers a pair, or says why not. A worker that does not
// read its answer asks again.
func (w *worker) answerPeer(rec *ipc.Record) error {
	m := new(ipc.Peer)
	if err := rec.Decode(m); err != nil {
		return err
	}
	if !w.conduct.peers.Allow() {
		return violation("more than %d questions for other clients per second", 2*ipc.PeerRate)
	}
	a := ipc.Addr(m.Asked)
	if !a.IsValid() {
		return violation("PEER_REQ without an address")
	}
	if w.session == nil || w.current() != tunnel {
		return nil // crossed with RETIRE or TERMINATE
	}
	other, to, result := w.srv.sessions.peerOf(w.session, w, a)
	o := outgoing{typ: ipc.PeerRepT, msg: &ipc.Peer{Asked: m.Asked, Result: result}}
	if result == ipc.PeerResult_PEER_OPEN {
		o = w.pairWithPeer(other, to)
		o.msg.(*ipc.Peer).Asked = m.Asked
	}
	w.out.postSpare(o)
	return nil
}

// pairWithPeer makes a pair and gives one end to the worker of another session. It
// returns the answer to who has asked.
func (w *worker) pairWithPeer(other *session, to *worker) outgoing {
	s := w.srv
	no := outgoing{typ: ipc.PeerRepT, msg: &ipc.Peer{Result: ipc.PeerResult_PEER_AWAY}}
	fd, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		w.log().Error("no pair between clients", "err", err)
		return no
	}
	serial := s.peering.serial.Add(1)
	if !to.out.postSpare(outgoing{typ: ipc.PeerPairT, msg: s.sessions.peer(w.session, serial), fds: []int{fd[1]}}) {
		unix.Close(fd[0])
		return no
	}
	return outgoing{typ: ipc.PeerRepT, msg: s.sessions.peer(other, serial), fds: []int{fd[0]}}
}

// peer is a session as its peers are told of it.
func (t *sessions) peer(s *session, serial uint64) *ipc.Peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	m := &ipc.Peer{Result: ipc.PeerResult_PEER_OPEN, Serial: serial}
	for _, a := range []netip.Addr{s.lease.IPv4, s.lease.IPv6} {
		if a.IsValid() {
			m.Addrs = append(m.Addrs, ipc.PutAddr(a))
		}
	}
	if s.site != nil {
		m.Behind = putPrefixes(s.site.behind)
	}
	return m
}

// netsFor is where other clients are, for the clients of a virtual host: the
// pools of all of them and the networks behind its own. t.mu is held.
func (t *sessions) netsFor(vhost string) *ipc.PeerNets {
	pools := slices.Collect(maps.Keys(t.where.pools))
	var behind []netip.Prefix
	for s := range t.where.carriers {
		if s.site.vhost == vhost {
			behind = append(behind, s.site.behind...)
		}
	}
	pools, behind = distinct(pools), distinct(behind)
	pools = pools[:min(len(pools), maxPeerNets)]
	behind = behind[:min(len(behind), maxPeerNets-len(pools))]
	return &ipc.PeerNets{Pools: putPrefixes(pools), Behind: putPrefixes(behind)}
}

func distinct(l []netip.Prefix) []netip.Prefix {
	slices.SortFunc(l, netip.Prefix.Compare)
	return slices.Compact(l)
}

func putPrefixes(l []netip.Prefix) (list [][]byte) {
	for _, p := range l {
		list = append(list, ipc.PutPrefix(p))
	}
	return list
}

// tellNets tells a worker whose tunnel is new where other clients are.
func (w *worker) tellNets() {
	t := w.srv.sessions
	t.mu.RLock()
	m := &ipc.PeerNets{}
	if n := w.session.site; n != nil {
		m = t.netsFor(n.vhost)
	}
	t.mu.RUnlock()
	w.tell(ipc.PeerNetsT, m)
	w.srv.peering.change()
}

// tellAllNets tells everybody what has changed, until the server is over.
func (s *server) tellAllNets() {
	s.peering.change() // the main before may have been about to
	last := make(map[string]*ipc.PeerNets)
	var late []*worker // whose queue was full
	for {
		select {
		case <-s.ended:
			return
		case <-s.peering.changed:
		}
		var again []*worker
		for _, t := range s.sessions.toTell(last, late) {
			if !t.worker.out.postSpare(outgoing{typ: ipc.PeerNetsT, msg: t.nets}) {
				again = append(again, t.worker)
			}
		}
		time.Sleep(netsPause)
		if late = again; len(late) > 0 {
			s.peering.change()
		}
	}
}

// told is a worker and what it is to be told.
type told struct {
	worker *worker
	nets   *ipc.PeerNets
}

// toTell compares the networks of the sessions with last, which is brought up to
// date. Those that are late are told in any case.
func (t *sessions) toTell(last map[string]*ipc.PeerNets, late []*worker) (list []told) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	now, changed := make(map[string]*ipc.PeerNets), make(map[string]bool)
	for _, s := range t.bySafeID {
		if s.site == nil || s.newest == nil || !s.answered {
			continue
		}
		vhost := s.site.vhost
		if now[vhost] == nil {
			now[vhost] = t.netsFor(vhost)
			changed[vhost] = !proto.Equal(now[vhost], last[vhost])
		}
		if changed[vhost] || slices.Contains(late, s.newest) {
			list = append(list, told{s.newest, now[vhost]})
		}
	}
	maps.Copy(last, now)
	return list
}
