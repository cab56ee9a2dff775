package egress

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Proto is an IP protocol that can leave.
type Proto uint8

const (
	ICMP   Proto = 1
	TCP    Proto = 6
	UDP    Proto = 17
	ICMPv6 Proto = 58
)

// Network is a way to the network for one client's traffic. The host's own
// sockets are one (Direct), a test's memory is another, proxies come later.
// It judges every destination by its Policy before anything else is done.
type Network interface {
	// Check judges a destination without touching anything; nil or an error of
	// class Prohibited. For ICMP the port is 0.
	Check(p Proto, dst netip.AddrPort) error

	// DialTCP connects to dst on behalf of the client's src. It ends early when
	// ctx is done. Classify tells what an error means to the client.
	DialTCP(ctx context.Context, src, dst netip.AddrPort) (Stream, error)

	// OpenUDP makes one unconnected socket for one address family; what arrives
	// is given to r. Send judges each destination.
	OpenUDP(v6 bool, r Receiver) (PacketSocket, error)

	// OpenPing makes a ping socket (SOCK_DGRAM, IPPROTO_ICMP or IPPROTO_ICMPV6).
	// Its error is of class Prohibited where the host forbids them.
	OpenPing(v6 bool, r Receiver) (PacketSocket, error)
}

// Stream is a TCP connection to the network. A Stream that also is a
// syscall.Conn is spliced by its descriptor.
type Stream interface {
	net.Conn
	CloseWrite() error
}

// Message is one datagram: payload only, without UDP header; for a ping
// socket the ICMP message from its type byte on.
type Message struct {
	Addr    netip.AddrPort // destination or source
	Payload []byte
	TTL     int // of what arrived, 0 if unknown; of what is sent, 0 for the host's default

	// DF, of what is sent: it is not to be cut into fragments, here or on its
	// way. Who cannot forward it reports it, or Send says TooBigError.
	DF bool
}

// PacketSocket is a UDP or ping socket of a Network.
type PacketSocket interface {
	// Send sends the messages in order and returns how many the socket took.
	// It may call the Receiver's Report.
	// It does not block: what the socket does not take is lost, as on a wire.
	// The error is that of the first message not sent, msgs[n]; the messages
	// behind it have not been tried, and the caller may send them.
	Send(msgs []Message) (n int, err error)

	// Close never waits for a Receiver and may be called by one.
	Close() error
}

// Carrier is a Network whose packet sockets can go on in another process.
type Carrier interface {
	// Adopt takes over, in any case, the descriptor of a packet socket that was
	// Released elsewhere.
	Adopt(p Proto, v6 bool, fd int, r Receiver) (PacketSocket, error)
}

// Releaser is a PacketSocket whose descriptor can be taken out of it. What has
// arrived and was not received stays in it. The socket is closed to its owner;
// the descriptor is the caller's.
type Releaser interface {
	Release() (fd int, err error)
}

// Receiver is told what arrives. Receive is called from one goroutine for all
// sockets of a Network; the messages and their payloads are valid only until
// it returns. No call begins after Close of the socket has returned; one that
// was under way may still be running then.
//
// Report is told what the network said about something the socket has sent. It
// is called from that goroutine or within Send, and must neither wait nor use
// the socket.
type Receiver interface {
	Receive(msgs []Message)
	Report(*Report)
}

// Class is what a failure to reach the network means to the client.
type Class uint8

const (
	Unknown         Class = iota
	Refused               // RST or port unreachable
	NetUnreachable        // ICMP net unreachable (v6: no route)
	HostUnreachable       // ICMP host unreachable (v6: address unreachable)
	Prohibited            // ICMP administratively prohibited: policy, or the host forbids it
	TimedOut              // silence
	Exhausted             // the host has no port, descriptor or buffer left: silence, counted
	TooBig                // EMSGSIZE
)

// ErrProhibited is wrapped by every refusal of policy.
var ErrProhibited = errors.New("prohibited by egress policy")
