package stacktest

import (
	"net"
	"net/netip"

	"rocserv/egress"
)

// delivery is a datagram on its way back to a socket.
type delivery struct {
	socket *socket
	msg    egress.Message
}

// socket is a UDP or ping socket of the network.
type socket struct {
	network *Network
	proto   egress.Proto
	r       egress.Receiver
	closed  bool // network.mu
}

// ServeUDP lets fn answer datagrams to dst; nil is no answer.
func (n *Network) ServeUDP(dst netip.AddrPort, fn func(payload []byte) []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.udp[dst] = fn
}

// Pingable lets a host answer echo requests.
func (n *Network) Pingable(a netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pingable[a] = true
}

// OpenUDP implements egress.Network.
func (n *Network) OpenUDP(v6 bool, r egress.Receiver) (egress.PacketSocket, error) {
	return &socket{network: n, proto: egress.UDP, r: r}, nil
}

// OpenPing implements egress.Network.
func (n *Network) OpenPing(v6 bool, r egress.Receiver) (egress.PacketSocket, error) {
	proto := egress.ICMP
	if v6 {
		proto = egress.ICMPv6
	}
	return &socket{network: n, proto: proto, r: r}, nil
}

// Send implements egress.PacketSocket.
func (s *socket) Send(msgs []egress.Message) (int, error) {
	for i, m := range msgs {
		if err := s.network.Check(s.proto, m.Addr); err != nil {
			return i, err
		}
		s.network.mu.Lock()
		closed := s.closed
		s.network.mu.Unlock()
		if closed {
			return i, net.ErrClosed
		}
		if reply := s.network.answer(s.proto, m); reply != nil {
			select {
			case s.network.inbox <- delivery{s, egress.Message{Addr: m.Addr, Payload: reply, TTL: 64}}:
			default: // lost, as on a wire
			}
		}
	}
	return len(msgs), nil
}

// answer is what the host at m.Addr says; nil is nothing.
func (n *Network) answer(proto egress.Proto, m egress.Message) []byte {
	n.mu.Lock()
	fn, ping := n.udp[m.Addr], n.pingable[m.Addr.Addr()]
	n.mu.Unlock()
	switch {
	case proto == egress.UDP && fn != nil:
		return fn(append([]byte(nil), m.Payload...))
	case proto != egress.UDP && ping && len(m.Payload) >= 8:
		reply := append([]byte(nil), m.Payload...)
		const echoReply4, echoReply6 = 0, 129
		reply[0] = echoReply4
		if proto == egress.ICMPv6 {
			reply[0] = echoReply6
		}
		return reply
	}
	return nil
}

// Close implements egress.PacketSocket.
func (s *socket) Close() error {
	s.network.mu.Lock()
	defer s.network.mu.Unlock()
	s.closed = true
	return nil
}

// deliver is the network's goroutine for datagrams.
func (n *Network) deliver() {
	for {
		select {
		case <-n.done:
			return
		case d := <-n.inbox:
			n.mu.Lock()
			closed := d.socket.closed
			n.mu.Unlock()
			if !closed {
				d.socket.r.Receive([]egress.Message{d.msg})
			}
		}
	}
}
