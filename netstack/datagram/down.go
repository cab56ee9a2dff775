package datagram

import (
	"math/bits"
	"net/netip"

	"rocserv/egress"
	"rocserv/internal/packet"
	"rocserv/nat"
)

const (
	maxDown    = 64 // messages in one batch of the Sink
	defaultTTL = 64 // of a packet whose own is not known
)

// down takes what arrived for a flow. It is called by the Network's goroutine
// and may wait for the Sink; no lock is held then.
func (r *Relay) down(f *flow, msgs []egress.Message) {
	for len(msgs) > 0 {
		n := min(len(msgs), maxDown)
		if pass, id := r.admit(f, msgs[:n]); pass != 0 {
			r.deliver(f, msgs[:n], pass, id)
		}
		msgs = msgs[n:]
	}
}

// admit says which messages may pass, a bit for each, and gives the IP
// identification of the first.
func (r *Relay) admit(f *flow, msgs []egress.Message) (pass uint64, id uint32) {
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.gone {
		return 0, 0
	}
	for i := range msgs {
		m := &msgs[i]
		switch from := m.Addr.Addr().Unmap(); {
		case !f.expects(from, m.Payload):
			r.stats.Unexpected++
		case r.table.Inbound(f.mapping, from, now) && r.cfg.Down.Admit(packet.UDPOffset(from.Is6())+len(m.Payload)):
			pass |= 1 << i
			r.stats.Down.Packets++
			r.stats.Down.Bytes += uint64(len(m.Payload))
		}
	}
	id = r.ids
	r.ids += uint32(bits.OnesCount64(pass))
	return pass, id
}

// maxMessage is what an IPv4 packet carries behind its header. IPv6 could carry
// twenty bytes more, which no program counts on.
const maxMessage = 65535 - 20

// expects says whether a message can be for this flow at all, and be carried.
func (f *flow) expects(from netip.Addr, payload []byte) bool {
	v6 := f.client.Addr().Is6()
	if from.Is6() != v6 {
		return false
	}
	if f.kind == nat.Echo {
		return len(payload) <= maxMessage && packet.IsEchoReply(v6, payload)
	}
	return len(payload) <= maxMessage-8
}

// deliver makes packets of the messages that may pass.
func (r *Relay) deliver(f *flow, msgs []egress.Message, pass uint64, id uint32) {
	mtu := int(r.mtu.Load())
	sink := r.cfg.Sink
	sink.Begin()
	for ; pass != 0; pass &= pass - 1 {
		m := &msgs[bits.TrailingZeros64(pass)]
		head := packet.UDPOffset(f.client.Addr().Is6())
		if n := head + len(m.Payload); f.kind == nat.UDP && n <= mtu {
			b := sink.Next(n)[:n]
			copy(b[head:], m.Payload)
			packet.PutUDP(b, unmap(m.Addr), f.client, arrivingTTL(m.TTL), uint16(id))
			sink.Add(n)
		} else {
			r.deliverFragments(f, m, id, mtu)
		}
		id++
	}
	sink.End()
}

// deliverFragments is for echo replies, and for what is longer than the MTU.
func (r *Relay) deliverFragments(f *flow, m *egress.Message, id uint32, mtu int) {
	var fr packet.Fragmenter
	src, ttl := unmap(m.Addr), arrivingTTL(m.TTL)
	if f.kind == nat.UDP {
		fr.ResetUDP(src, f.client, ttl, id, m.Payload, mtu)
	} else {
		// The kernel made the echo identifier its own; the client's comes back.
		fr.ResetEcho(src.Addr(), f.client.Addr(), ttl, id, f.client.Port(), m.Payload, mtu)
	}
	for n := fr.Len(); n > 0; n = fr.Len() {
		fr.Put(r.cfg.Sink.Next(n))
		r.cfg.Sink.Add(n)
	}
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// arrivingTTL is what a packet reaches the client with: this is one hop.
func arrivingTTL(ttl int) uint8 {
	if ttl <= 0 || ttl > 255 {
		return defaultTTL
	}
	return uint8(max(ttl-1, 1))
}
