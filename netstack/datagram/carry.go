package datagram

import (
	"rocserv/egress"
	"rocserv/nat"
)

// Carried is a mapping with its socket, on its way from one relay to another
// one of the same client.
type Carried struct {
	nat.Saved
	FD int
}

// Carry takes all mappings out of the relay, which is closed thereby. A mapping
// whose socket cannot be taken out of its Network ends. The descriptors are the
// caller's. Nothing may be injected meanwhile.
func (r *Relay) Carry() (list []Carried) {
	var lost []egress.PacketSocket
	r.mu.Lock()
	r.closed = true
	lost = append(lost, r.evicted...)
	r.evicted = nil
	r.table.Carry(r.cfg.Now(), func(s nat.Saved, m *nat.Mapping[*flow]) {
		m.Value.gone = true
		if rel, ok := m.Value.sock.(egress.Releaser); ok {
			if fd, err := rel.Release(); err == nil {
				list = append(list, Carried{s, fd})
				return
			}
		}
		if m.Value.sock != nil {
			lost = append(lost, m.Value.sock)
		}
	})
	r.mu.Unlock()
	closeAll(lost)
	return list
}

// Adopt takes over a mapping and, if ok, its descriptor.
func (r *Relay) Adopt(c Carried) (ok bool) {
	net, ok := r.cfg.Net.(egress.Carrier)
	if !ok {
		return false
	}
	f := &flow{relay: r, kind: c.Key.Kind, client: c.Key.Client}
	// As in openFlow: the mapping is there before the first datagram can be.
	r.mu.Lock()
	m, ok := (*nat.Mapping[*flow])(nil), false
	if !r.closed {
		m, ok = r.table.Restore(c.Saved, f, r.cfg.Now())
	}
	f.mapping = m
	r.mu.Unlock()
	if !ok {
		return false
	}
	q := request{kind: c.Key.Kind, dst: c.Key.Client} // of the same family as any destination
	sock, err := net.Adopt(q.proto(), c.Key.Client.Addr().Is6(), c.FD, f)
	r.mu.Lock()
	ended := f.gone
	switch {
	case ended:
	case err != nil:
		r.table.Remove(m)
		f.gone = true
	default:
		f.sock = sock
	}
	r.mu.Unlock()
	if ended && err == nil {
		sock.Close()
	}
	return true
}
