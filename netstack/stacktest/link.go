package stacktest

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// clientLink is the client's tun device.
type clientLink struct {
	client     *Client
	mtu        atomic.Uint32
	dispatcher stack.NetworkDispatcher
}

// WritePackets implements stack.LinkWriter.
func (l *clientLink) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	up := l.client.up
	up.Begin()
	defer up.End()
	for _, pkt := range pkts.AsSlice() {
		v := pkt.ToView()
		copy(up.Next(v.Size()), v.AsSlice())
		up.Add(v.Size())
		v.Release()
	}
	return pkts.Len(), nil
}

// MTU implements stack.LinkEndpoint.
func (l *clientLink) MTU() uint32 { return l.mtu.Load() }

// SetMTU implements stack.LinkEndpoint.
func (l *clientLink) SetMTU(mtu uint32) { l.mtu.Store(mtu) }

// Capabilities implements stack.LinkEndpoint: the client verifies and makes all checksums.
func (*clientLink) Capabilities() stack.LinkEndpointCapabilities { return 0 }

// Attach implements stack.LinkEndpoint.
func (l *clientLink) Attach(d stack.NetworkDispatcher) { l.dispatcher = d }

// IsAttached implements stack.LinkEndpoint.
func (l *clientLink) IsAttached() bool { return l.dispatcher != nil }

// MaxHeaderLength implements stack.LinkEndpoint.
func (*clientLink) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.LinkEndpoint.
func (*clientLink) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements stack.LinkEndpoint.
func (*clientLink) SetLinkAddress(tcpip.LinkAddress) {}

// Wait implements stack.LinkEndpoint.
func (*clientLink) Wait() {}

// ARPHardwareType implements stack.LinkEndpoint.
func (*clientLink) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements stack.LinkEndpoint.
func (*clientLink) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.LinkEndpoint.
func (*clientLink) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements stack.LinkEndpoint.
func (*clientLink) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (*clientLink) SetOnCloseAction(func()) {}
