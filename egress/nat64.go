package egress

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"rocserv/internal/nat64"
)

// Where the host has IPv6 only, and its network a NAT64, a client's IPv4 leaves
// as IPv6 to an address with the IPv4 one inside. Clients and the policy know
// nothing of it: the destination is the IPv4 address, and what comes back is
// from there. The address that was made of it is held to the hard tier too,
// because it was the network's word what to make it of. The configuration's
// own addresses, of proxies and resolvers, are translated where the host has no
// other way there.

// translationCost is by how much an IPv6 header is longer, in bytes.
const translationCost = 20

// SetNAT64 lets IPv4 leave by a NAT64 with this prefix from now on; the zero
// prefix, or one that cannot be, ends that. Sockets that there are stay.
func (d *Direct) SetNAT64(p netip.Prefix) {
	if nat64.Usable(p) {
		p = p.Masked()
		d.shared.nat64.Store(&p)
	} else {
		d.shared.nat64.Store(nil)
	}
}

// translator is how a socket's IPv4 leaves: as it is (zero), or as IPv6.
type translator struct {
	prefix netip.Prefix
}

// translator is for a new socket or connection.
func (d *Direct) translator(v6 bool) (t translator) {
	if p := d.shared.nat64.Load(); p != nil && !v6 {
		t.prefix = *p
	}
	return t
}

// around is by what to reach a configured address that failed as err says. What
// has a route of its own, as the host's loopback or a network of its own has, is
// not translated.
func (d *Direct) around(dst netip.AddrPort, err error) (t translator) {
	if errors.Is(err, unix.ENETUNREACH) && dst.Addr().Unmap().Is4() {
		t = d.translator(false)
	}
	return t
}

func (t translator) on() bool { return t.prefix.IsValid() }

// out is where a packet to dst leaves to.
func (t translator) out(dst netip.AddrPort) netip.AddrPort {
	if !t.on() || !dst.Addr().Is4() {
		return dst
	}
	return netip.AddrPortFrom(nat64.Embed(t.prefix, dst.Addr()), dst.Port())
}

// judge holds what out makes to the hard tier.
func (t translator) judge(r *rules, dst netip.AddrPort) Denied {
	if !t.on() {
		return 0
	}
	if d, _ := r.table.Lookup(t.out(dst).Addr()); d != 0 && d.Hard() {
		return d
	}
	return 0
}

// in is out's inverse; the zero Addr for who is not behind the NAT64.
func (t translator) in(a netip.Addr) netip.Addr {
	if !t.on() {
		return a
	}
	if !t.prefix.Contains(a) {
		return netip.Addr{}
	}
	return nat64.Extract(a, t.prefix.Bits())
}

// ICMP echo messages, RFC 792, RFC 4443 section 4.
const (
	echoRequest6             = 128
	echoReply6               = 129
	echoRequest4, echoReply4 = 8, 0
)

// request is a client's ICMP message as ICMPv6; the kernel makes the checksum.
func (t translator) request(msg []byte) []byte {
	out := append([]byte(nil), msg...)
	if len(out) > 0 && out[0] == echoRequest4 {
		out[0] = echoRequest6
	}
	return out
}

// received makes IPv4's of what has arrived, in place, and drops what is none.
func (s *socket) received(msgs []Message) []Message {
	t := s.spec.translator
	if !t.on() {
		return msgs
	}
	kept := msgs[:0]
	for _, m := range msgs {
		a := t.in(m.Addr.Addr())
		if !a.IsValid() {
			continue
		}
		m.Addr = netip.AddrPortFrom(a, m.Addr.Port())
		if s.spec.proto == ICMPv6 && len(m.Payload) > 0 && m.Payload[0] == echoReply6 {
			m.Payload[0] = echoReply4
		}
		kept = append(kept, m)
	}
	return kept
}

// report makes IPv4's of an ICMPv6 error, RFC 7915 section 5.2; false: it has no
// counterpart. Routers on the IPv6 side have no IPv4 address: who reports is then
// left out, and to the client it is the gateway.
func (t translator) report(rep *Report) bool {
	if !t.on() {
		return true
	}
	dst := t.in(rep.Dst.Addr())
	if !dst.IsValid() {
		return false
	}
	switch rep.Type {
	case unreachable6:
		rep.Type = unreachable4
		switch rep.Code {
		case 0, 2, 3: // no route, beyond scope, address
			rep.Code = 1
		case 1:
			rep.Code = 10
		case 4:
			rep.Code = 3
		default:
			return false
		}
	case tooBig6:
		rep.Type, rep.Code = unreachable4, fragNeeded4
		rep.Info = max(rep.Info, translationCost) - translationCost
	case timeExceeded6:
		rep.Type = timeExceeded4
	default:
		return false
	}
	rep.Dst = netip.AddrPortFrom(dst, rep.Dst.Port())
	rep.From = t.in(rep.From)
	if len(rep.Quote) > 0 && rep.Quote[0] == echoRequest6 && rep.Dst.Port() == 0 {
		rep.Quote[0] = echoRequest4
	}
	return true
}

// dialError makes IPv4's of what a dial by the NAT64 failed of.
func (t translator) dialError(err error) error {
	rep := (*ReportError)(nil)
	if err == nil || !t.on() || !errors.As(err, &rep) {
		return err
	}
	if !t.report(&rep.Report) {
		return rep.Err
	}
	return err
}

// localMTU is what the way out's MTU is for IPv4.
func (t translator) localMTU(mtu int) int {
	if t.on() && mtu > translationCost {
		return mtu - translationCost
	}
	return mtu
}

// policyProto is as what a socket's datagrams are judged.
func (s *socketSpec) policyProto() Proto {
	if s.translator.on() && s.proto == ICMPv6 {
		return ICMP
	}
	return s.proto
}

// packetSpec is for a client's packet socket.
func (d *Direct) packetSpec(p Proto, v6 bool) socketSpec {
	t := d.translator(v6)
	if t.on() && p == ICMP {
		p = ICMPv6
	}
	return socketSpec{family: family(v6 || t.on()), proto: p, policy: d.policy, translator: t}
}

// clientFamily is the family of the addresses that a socket's owner knows.
func (s *socketSpec) clientFamily() int {
	if s.translator.on() {
		return unix.AF_INET
	}
	return s.family
}
