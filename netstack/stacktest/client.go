package stacktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// ClientConfig is what a Client needs.
type ClientConfig struct {
	Addrs []netip.Addr // the lease
	MTU   int
	// Up takes what the client sends, packets in batches, from one goroutine.
	// It may keep nothing of them.
	Up func(pkts [][]byte)
	// Observe sees every packet the client gets before the client does. Nil: nobody looks.
	Observe func(pkt []byte)
	// Drop says which packets are lost on the way. Nil: none.
	Drop  func(up bool, pkt []byte) bool
	Clock tcpip.Clock // nil: the real one
}

// Client is a VPN client's operating system: a network stack with the lease as
// its only address and the tunnel as its only route.
type Client struct {
	cfg    ClientConfig
	stack  *stack.Stack
	link   *clientLink
	up     *Sink
	down   *Sink
	absent atomic.Bool
	upTo   atomic.Pointer[func(pkts [][]byte)]
}

const clientNIC = 1

// NewClient makes a client. Close ends it.
func NewClient(cfg ClientConfig) (*Client, error) {
	c := &Client{cfg: cfg}
	c.upTo.Store(&cfg.Up)
	c.stack = stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocolWithOptions(ipv6.Options{})},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		Clock: cfg.Clock,
	})
	recovery := tcpip.TCPRecovery(0)
	c.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &recovery)
	c.up = NewSink(4<<20, c.sendUp)
	c.down = NewSink(1<<20, c.deliver)
	c.link = &clientLink{client: c}
	c.link.mtu.Store(uint32(cfg.MTU))
	if err := c.stack.CreateNIC(clientNIC, c.link); err != nil {
		return nil, fmt.Errorf("stacktest: interface: %v", err)
	}
	for _, a := range cfg.Addrs {
		proto := protocolOf(a)
		addr := tcpip.ProtocolAddress{Protocol: proto, AddressWithPrefix: toAddress(a).WithPrefix()}
		if err := c.stack.AddProtocolAddress(clientNIC, addr, stack.AddressProperties{}); err != nil {
			return nil, fmt.Errorf("stacktest: address %v: %v", a, err)
		}
	}
	c.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: clientNIC},
		{Destination: header.IPv6EmptySubnet, NIC: clientNIC},
	})
	return c, nil
}

// Sink is what the stack under test writes to.
func (c *Client) Sink() *Sink { return c.down }

// Deliver gives the client one packet that came out of a tunnel.
func (c *Client) Deliver(pkt []byte) { c.deliver([][]byte{pkt}) }

// SetUp replaces ClientConfig.Up.
func (c *Client) SetUp(up func(pkts [][]byte)) { c.upTo.Store(&up) }

// Vanish makes the client lose its network: nothing goes in or out until
// Vanish(false).
func (c *Client) Vanish(absent bool) { c.absent.Store(absent) }

// SetMTU changes the MTU of the client's interface.
func (c *Client) SetMTU(mtu int) { c.link.mtu.Store(uint32(mtu)) }

// Stats returns the counters of the client's stack.
func (c *Client) Stats() tcpip.Stats { return c.stack.Stats() }

// Close ends the client, without a word to anybody.
func (c *Client) Close() {
	c.absent.Store(true)
	c.up.Close()
	c.down.Close()
	c.stack.Destroy()
}

// sendUp is called by the up pump.
func (c *Client) sendUp(pkts [][]byte) {
	if c.absent.Load() {
		return
	}
	if c.cfg.Drop != nil {
		kept := pkts[:0]
		for _, b := range pkts {
			if !c.cfg.Drop(true, b) {
				kept = append(kept, b)
			}
		}
		pkts = kept
	}
	if len(pkts) > 0 {
		(*c.upTo.Load())(pkts)
	}
}

// deliver is called by the down pump.
func (c *Client) deliver(pkts [][]byte) {
	for _, b := range pkts {
		if c.absent.Load() || len(b) == 0 {
			continue
		}
		if c.cfg.Drop != nil && c.cfg.Drop(false, b) {
			continue
		}
		if c.cfg.Observe != nil {
			c.cfg.Observe(b)
		}
		if len(b) > int(c.link.mtu.Load()) {
			continue // an interface does not take what is too long for it
		}
		var proto tcpip.NetworkProtocolNumber = header.IPv4ProtocolNumber
		if b[0]>>4 == 6 {
			proto = header.IPv6ProtocolNumber
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
		c.link.dispatcher.DeliverNetworkPacket(proto, pkt)
		pkt.DecRef()
	}
}

// TCPConn is a connection of the client.
type TCPConn struct {
	*gonet.TCPConn
	ep tcpip.Endpoint
}

// Reset ends the connection with a RST.
func (t *TCPConn) Reset() { t.ep.Abort() }

// State is the connection's state.
func (t *TCPConn) State() tcp.EndpointState { return tcp.EndpointState(t.ep.State()) }

// SetReceiveBuffer limits what the client's kernel takes without its
// application reading, in bytes.
func (t *TCPConn) SetReceiveBuffer(n int) { t.ep.SocketOptions().SetReceiveBufferSize(int64(n), true) }

// DialTCP connects to dst. A refusal is a syscall.Errno, as from a kernel.
func (c *Client) DialTCP(ctx context.Context, dst netip.AddrPort) (*TCPConn, error) {
	return c.DialTCPFrom(ctx, 0, dst)
}

// DialTCPFrom is DialTCP from a chosen port; 0 lets the stack choose.
func (c *Client) DialTCPFrom(ctx context.Context, port uint16, dst netip.AddrPort) (*TCPConn, error) {
	wq := new(waiter.Queue)
	ep, terr := c.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(dst.Addr()), wq)
	if terr != nil {
		return nil, fmt.Errorf("stacktest: endpoint: %v", terr)
	}
	if port != 0 {
		if terr := ep.Bind(tcpip.FullAddress{NIC: clientNIC, Port: port}); terr != nil {
			ep.Close()
			return nil, fmt.Errorf("stacktest: port %d: %v", port, terr)
		}
	}
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	terr = ep.Connect(tcpip.FullAddress{NIC: clientNIC, Addr: toAddress(dst.Addr()), Port: dst.Port()})
	if _, ok := terr.(*tcpip.ErrConnectStarted); ok {
		select {
		case <-ctx.Done():
			ep.Close()
			return nil, ctx.Err()
		case <-ready:
		}
		terr = ep.LastError()
	}
	if terr != nil {
		ep.Close()
		return nil, toErrno(terr)
	}
	return &TCPConn{gonet.NewTCPConn(wq, ep), ep}, nil
}

// toErrno is what a kernel would say.
func toErrno(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrHostUnreachable:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable:
		return syscall.ENETUNREACH
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	}
	return errors.New(err.String())
}

// DialUDP returns a UDP socket connected to dst.
func (c *Client) DialUDP(dst netip.AddrPort) (*gonet.UDPConn, error) {
	remote := tcpip.FullAddress{NIC: clientNIC, Addr: toAddress(dst.Addr()), Port: dst.Port()}
	return gonet.DialUDP(c.stack, nil, &remote, protocolOf(dst.Addr()))
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

func toAddress(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// Ping sends an echo request with a payload and returns that of the reply.
func (c *Client) Ping(ctx context.Context, dst netip.Addr, payload []byte) ([]byte, error) {
	proto, request := icmp.ProtocolNumber4, byte(header.ICMPv4Echo)
	if dst.Is6() {
		proto, request = icmp.ProtocolNumber6, byte(header.ICMPv6EchoRequest)
	}
	wq := new(waiter.Queue)
	ep, terr := c.stack.NewEndpoint(proto, protocolOf(dst), wq)
	if terr != nil {
		return nil, fmt.Errorf("stacktest: ping: %v", terr)
	}
	defer ep.Close()
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	msg := append([]byte{request, 0, 0, 0, 0, 0, 0, 1}, payload...)
	to := tcpip.FullAddress{NIC: clientNIC, Addr: toAddress(dst)}
	if _, terr := ep.Write(bytes.NewReader(msg), tcpip.WriteOptions{To: &to}); terr != nil {
		return nil, toErrno(terr)
	}
	for {
		var reply bytes.Buffer
		if _, terr := ep.Read(&reply, tcpip.ReadOptions{}); terr == nil {
			return reply.Bytes()[8:], nil
		} else if _, ok := terr.(*tcpip.ErrWouldBlock); !ok {
			return nil, toErrno(terr)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ready:
		}
	}
}
