package datagram

import (
	"net/netip"

	"rocserv/egress"
	"rocserv/nat"
)

// flow is a mapping's socket, and its Receiver.
type flow struct {
	relay  *Relay
	kind   nat.Kind
	client netip.AddrPort // or address and echo identifier

	// The messages gathered for the socket: places in up.pending plus one, 0 for
	// none. Under the up lock.
	first, last int32

	sock    egress.PacketSocket // written under both locks, read under either; nil while it is opened
	mapping *nat.Mapping[*flow] // under Relay.mu
	gone    bool                // not in the table any more; under Relay.mu
}

// Receive implements egress.Receiver.
func (f *flow) Receive(msgs []egress.Message) { f.relay.down(f, msgs) }

// Report implements egress.Receiver.
func (f *flow) Report(rep *egress.Report) { f.relay.report(f, rep) }

// end marks a flow whose mapping has left the table, and adds its socket to
// those that are to be closed once Relay.mu, which is held, is not.
func (f *flow) end(socks []egress.PacketSocket) []egress.PacketSocket {
	f.gone = true
	if f.sock == nil {
		return socks // who opens it will see
	}
	return append(socks, f.sock)
}

// closeAll closes sockets. No lock is held: a Network has locks of its own.
func closeAll(socks []egress.PacketSocket) {
	for _, s := range socks {
		s.Close()
	}
}
