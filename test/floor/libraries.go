//go:build libraries

package main

import (
	_ "github.com/refraction-networking/utls"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const mtu = 1400

// tunnel makes a network stack with one interface, as every tunnel has one.
func tunnel() (end func()) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	if err := s.CreateNIC(1, channel.New(1, mtu, "")); err != nil {
		panic("floor: " + err.String()) // the first of its number
	}
	return s.Close
}
