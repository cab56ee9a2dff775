package way

import (
	"net"
	"net/netip"
	"sync"

	"rocserv/egress"
)

// socket is a client's socket whose datagrams take several ways. It has one for
// each of them, opened with the first datagram that goes there.
type socket struct {
	ways  *Ways
	proto egress.Proto
	v6    bool
	r     egress.Receiver

	mu     sync.Mutex // protects the rest
	parts  []part
	closed bool
}

// part is what a socket has of one way.
type part struct {
	m    *member
	sock egress.PacketSocket
}

// Send implements egress.PacketSocket: runs of messages to one destination go
// together.
func (s *socket) Send(msgs []egress.Message) (n int, err error) {
	for n < len(msgs) {
		dst := msgs[n].Addr
		end := n + 1
		for end < len(msgs) && msgs[end].Addr == dst {
			end++
		}
		sock, err := s.partFor(dst)
		if err != nil {
			return n, err
		}
		sent, err := sock.Send(msgs[n:end])
		n += sent
		if err != nil {
			return n, err
		}
		n = end
	}
	return n, nil
}

// partFor is the socket of the way that dst takes.
func (s *socket) partFor(dst netip.AddrPort) (egress.PacketSocket, error) {
	if err := s.ways.cfg.Policy.Check(s.proto, dst); err != nil {
		return nil, err
	}
	l, _, _ := s.ways.route(s.proto, dst)
	try, err := l.order(s.proto)
	if len(try) == 0 {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	// Who has a part stays with it as long as it lives: a change of way is a
	// change of address to the other end.
	for _, m := range try {
		for _, p := range s.parts {
			if p.m == m && !isDead(p.sock) {
				return p.sock, nil
			}
		}
	}
	return s.openPart(try[0])
}

func isDead(sock egress.PacketSocket) bool {
	a, ok := sock.(*association)
	return ok && a.dead()
}

// openPart opens the socket of a way, in the place of a dead one. The lock is held.
func (s *socket) openPart(m *member) (egress.PacketSocket, error) {
	sock, err := m.open(s.proto, s.v6, s.r)
	if err != nil {
		return nil, err
	}
	if a, ok := sock.(*association); ok {
		a.result = m.associated
	}
	for i := range s.parts {
		if s.parts[i].m == m {
			s.parts[i].sock.Close()
			s.parts[i].sock = sock
			return sock, nil
		}
	}
	s.parts = append(s.parts, part{m, sock})
	return sock, nil
}

// Close implements egress.PacketSocket.
func (s *socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	for _, p := range s.parts {
		p.sock.Close()
	}
	s.parts = nil
	return nil
}
