package worker

import (
	"net/netip"

	"rocserv/egress"
	"rocserv/internal/ipc"
	"rocserv/internal/packet"
	"rocserv/worker/peers"
)

// Other clients: what main says of them, and what is asked of main.

// makePeers makes the client's way to other clients.
func (s *session) makePeers() *peers.Peers {
	l := s.offer.lease
	cfg := peers.Config{
		Addrs: l.addrs(), Gateway4: l.gateway4, Gateway6: l.gateway6, MTU: s.offer.tunnel.MTU.Tunnel,
		Up: s.rate.up, Down: s.rate.down, Sink: &s.tunnel, Frozen: s.tunnel.frozen.Load, Now: s.Clock.Now, Log: s.Log,
		Ask:    func(a netip.Addr) { s.link.conn.Send(ipc.PeerReqT, 0, &ipc.Peer{Asked: ipc.PutAddr(a)}) },
		Return: s.tunnel.again,
	}
	if s.offer.cfg.ClientToClient {
		cfg.Behind = ipc.Prefixes(s.offer.cfg.Iroutes)
	}
	if s.policy.Restricts() {
		cfg.Permit = func(proto uint8, dst netip.AddrPort) bool { return s.policy.CheckPeer(egress.Proto(proto), dst) == nil }
	}
	return peers.New(cfg)
}

// again takes packets of the client once more, which were held back meanwhile.
func (t *tunnel) again(pkts [][]byte) {
	t.upMu.Lock()
	defer t.upMu.Unlock()
	for _, pkt := range pkts {
		if h, ok := packet.Parse(pkt); ok && !t.deaf {
			t.route(&h, pkt)
		}
	}
	t.endUp()
}

// addrs are the client's addresses, the IPv4 one first.
func (l *leased) addrs() (list []netip.Addr) {
	for _, a := range []netip.Addr{l.ipv4, l.ipv6} {
		if a.IsValid() {
			list = append(list, a)
		}
	}
	return list
}

// setPeerNets takes main's word where other clients are.
func (l *link) setPeerNets(m *ipc.PeerNets) {
	l.mu.Lock()
	l.nets = m
	s := l.session
	l.mu.Unlock()
	if s != nil {
		s.setPeerNets(m)
	}
}

func (s *session) setPeerNets(m *ipc.PeerNets) {
	s.tunnel.inner.peers.SetNets(ipc.Prefixes(m.Pools), ipc.Prefixes(m.Behind))
}

// peer gives main's word about another client to the session.
func (l *link) peer(rec *ipc.Record) error {
	s, m := l.current(), new(ipc.Peer)
	if err := rec.Decode(m); err != nil || s == nil {
		return err
	}
	other := peers.Peer{Addrs: ipc.Addrs(m.Addrs), Behind: ipc.Prefixes(m.Behind), Serial: m.Serial}
	switch p := s.tunnel.inner.peers; {
	case rec.Type == ipc.PeerPairT:
		p.Paired(other, rec.TakeFD(0))
	case m.Result == ipc.PeerResult_PEER_OPEN && len(rec.FDs) > 0:
		p.Answered(ipc.Addr(m.Asked), peers.Open, other, rec.TakeFD(0))
	default:
		p.Answered(ipc.Addr(m.Asked), verdictOf(m.Result), other, -1)
	}
	return nil
}

func verdictOf(r ipc.PeerResult) peers.Verdict {
	switch r {
	case ipc.PeerResult_PEER_NOBODY:
		return peers.Nobody
	case ipc.PeerResult_PEER_PROHIBITED:
		return peers.Prohibited
	}
	return peers.Away
}
