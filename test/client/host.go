package client

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"rocserv/internal/packet"
)

const (
	hostNIC    = 1
	hostBuffer = 4 << 20 // of a flow, each way
	hostGSO    = 60000
)

// Host is a computer behind a tunnel: an IPv4 stack that speaks TCP.
type Host struct {
	stack *stack.Stack
	link  *hostLink
}

// NewHost makes a host. Its Receive goes into Config before the tunnel is
// opened, and its Attach comes after that.
func NewHost() *Host {
	h := &Host{link: new(hostLink)}
	h.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocolCUBIC},
	})
	var (
		sack     = tcpip.TCPSACKEnabled(true)
		recovery = tcpip.TCPRecovery(0) // see package netstack
		rcv      = tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: hostBuffer, Max: hostBuffer}
		snd      = tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: hostBuffer, Max: hostBuffer}
	)
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &rcv, &snd} {
		if err := h.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			panic("client: " + err.String())
		}
	}
	return h
}

// Receive is what the tunnel's Config.Receive calls.
func (h *Host) Receive(pkts [][]byte) {
	if !h.link.ready() {
		return
	}
	for _, b := range pkts {
		if len(b) == 0 || b[0]>>4 != 4 {
			continue
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
		h.link.dispatcher.DeliverNetworkPacket(header.IPv4ProtocolNumber, pkt)
		pkt.DecRef()
	}
}

// Attach gives the host its tunnel.
func (h *Host) Attach(t *Tunnel) error {
	h.link.mtu, h.link.tunnel = uint32(t.MTU), t
	if err := h.stack.CreateNICWithOptions(hostNIC, h.link, stack.NICOptions{QDisc: h.link}); err != nil {
		return fmt.Errorf("client: interface: %v", err)
	}
	addr := tcpip.ProtocolAddress{
		Protocol:          header.IPv4ProtocolNumber,
		AddressWithPrefix: tcpip.AddrFromSlice(t.Addr4.AsSlice()).WithPrefix(),
	}
	if err := h.stack.AddProtocolAddress(hostNIC, addr, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("client: address: %v", err)
	}
	h.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: hostNIC}})
	h.link.open()
	return nil
}

// DialTCP connects through the tunnel.
func (h *Host) DialTCP(ctx context.Context, to netip.AddrPort) (*gonet.TCPConn, error) {
	return gonet.DialContextTCP(ctx, h.stack, tcpip.FullAddress{
		NIC: hostNIC, Addr: tcpip.AddrFromSlice(to.Addr().AsSlice()), Port: to.Port(),
	}, header.IPv4ProtocolNumber)
}

// Close ends the stack without a word, after its tunnel.
func (h *Host) Close() { h.stack.Destroy() }

// hostLink is the interface to the tunnel, in the way of netstack's own.
type hostLink struct {
	tunnel     *Tunnel
	mtu        uint32
	dispatcher stack.NetworkDispatcher

	mu        sync.Mutex
	opened    bool
	segmenter packet.Segmenter
	payload   [][]byte
}

func (l *hostLink) open() {
	l.mu.Lock()
	l.opened = true
	l.mu.Unlock()
}

func (l *hostLink) ready() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opened
}

// WritePacket implements stack.QueueingDiscipline.
func (l *hostLink) WritePacket(pkt *stack.PacketBuffer) tcpip.Error {
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	views, offset := pkt.AsViewList()
	v := views.Front()
	head, n := v.AsSlice()[offset:], pkt.HeaderSize()
	l.payload = l.payload[:0]
	if len(head) > n {
		l.payload, head = append(l.payload, head[n:]), head[:n]
	}
	for v = v.Next(); v != nil; v = v.Next() {
		l.payload = append(l.payload, v.AsSlice())
	}
	if !l.segmenter.Reset(head, l.payload, int(pkt.GSOOptions.MSS)) {
		panic("client: a packet that cannot be segmented")
	}
	l.tunnel.Begin()
	for n := l.segmenter.Len(); n > 0; n = l.segmenter.Len() {
		l.tunnel.Add(l.segmenter.Put(l.tunnel.Next(n)))
	}
	l.tunnel.End()
	clear(l.payload)
	return nil
}

// WritePackets implements stack.LinkWriter.
func (l *hostLink) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for i, pkt := range pkts.AsSlice() {
		if err := l.WritePacket(pkt); err != nil {
			return i, err
		}
	}
	return pkts.Len(), nil
}

// MTU implements stack.LinkEndpoint.
func (l *hostLink) MTU() uint32 { return l.mtu }

// SetMTU implements stack.LinkEndpoint.
func (l *hostLink) SetMTU(mtu uint32) {}

// Capabilities implements stack.LinkEndpoint: what comes is authenticated.
func (*hostLink) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// SupportedGSO implements stack.GSOEndpoint.
func (*hostLink) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// GSOMaxSize implements stack.GSOEndpoint.
func (*hostLink) GSOMaxSize() uint32 { return hostGSO }

// Attach implements stack.LinkEndpoint.
func (l *hostLink) Attach(d stack.NetworkDispatcher) { l.dispatcher = d }

// IsAttached implements stack.LinkEndpoint.
func (l *hostLink) IsAttached() bool { return l.dispatcher != nil }

// MaxHeaderLength implements stack.LinkEndpoint.
func (*hostLink) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.LinkEndpoint.
func (*hostLink) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements stack.LinkEndpoint.
func (*hostLink) SetLinkAddress(tcpip.LinkAddress) {}

// Wait implements stack.LinkEndpoint.
func (*hostLink) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (*hostLink) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements stack.LinkEndpoint.
func (*hostLink) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.LinkEndpoint.
func (*hostLink) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements stack.LinkEndpoint and stack.QueueingDiscipline.
func (*hostLink) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (*hostLink) SetOnCloseAction(func()) {}
