package peers

import (
	"encoding/binary"
	"net/netip"
	"time"

	"rocserv/internal/packet"
)

const (
	maxTalks  = 1024
	tcpTalk   = 2*time.Hour + 4*time.Minute // RFC 5382 REQ-5
	otherTalk = 5 * time.Minute             // RFC 4787 REQ-5
)

// permits says whether the user may send a packet: the destination is allowed,
// or it belongs to what the other side has begun (ocserv-fw: established traffic
// passes). Fragments, whose ports nobody sees, do not pass a restriction.
func (p *Peers) permits(h *packet.Header, pkt []byte) bool {
	switch {
	case p.talks == nil:
		return true
	case h.Fragment:
		return false
	case packet.IsICMPError(h, pkt):
		return true
	}
	here, there := portsOf(h, pkt)
	port := there
	if h.IsICMP() {
		port = 0
	}
	return p.cfg.Permit(h.Proto, netip.AddrPortFrom(h.Dst, port)) ||
		p.talks.has(talk{h.Proto, netip.AddrPortFrom(h.Src, here), netip.AddrPortFrom(h.Dst, there)}, p.cfg.Now())
}

// talk is an exchange that another client has begun, as this client sees it.
// Echo has its identifier for both ports.
type talk struct {
	proto       uint8
	here, there netip.AddrPort
}

// talks are those that were heard of lately.
type talks struct {
	until map[talk]time.Time
}

func newTalks() *talks { return &talks{make(map[talk]time.Time)} }

// heard notes a packet of another client.
func (t *talks) heard(h *packet.Header, pkt []byte, now time.Time) {
	if h.Fragment {
		return
	}
	there, here := portsOf(h, pkt)
	k := talk{h.Proto, netip.AddrPortFrom(h.Dst, here), netip.AddrPortFrom(h.Src, there)}
	if _, known := t.until[k]; !known && len(t.until) >= maxTalks {
		t.makeRoom(now)
	}
	t.until[k] = now.Add(lifeOf(h.Proto))
}

func lifeOf(proto uint8) time.Duration {
	if proto == packet.TCP {
		return tcpTalk
	}
	return otherTalk
}

// has says whether an exchange is known, and keeps it.
func (t *talks) has(k talk, now time.Time) bool {
	until, ok := t.until[k]
	if !ok || now.After(until) {
		return false
	}
	t.until[k] = now.Add(lifeOf(k.proto))
	return true
}

// makeRoom forgets those whose time is over, or else the one that is next.
func (t *talks) makeRoom(now time.Time) {
	var next talk
	var first time.Time
	for k, until := range t.until {
		if now.After(until) {
			delete(t.until, k)
		} else if first.IsZero() || until.Before(first) {
			next, first = k, until
		}
	}
	if len(t.until) >= maxTalks {
		delete(t.until, next)
	}
}

// portsOf are a packet's source and destination ports, as far as it has any.
func portsOf(h *packet.Header, pkt []byte) (src, dst uint16) {
	b := h.Payload(pkt)
	switch {
	case h.IsICMP() && len(b) >= 8:
		id := binary.BigEndian.Uint16(b[4:])
		return id, id
	case (h.Proto == packet.TCP || h.Proto == packet.UDP) && len(b) >= 4:
		return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
	return 0, 0
}
