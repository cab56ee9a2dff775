package main

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
)

const (
	leastLoad = 1000 // a packet that is shorter is none of the upload's
	ip4Header = 20
	udpHeader = 8
	protoUDP  = 17
)

// carrier writes the payload of UDP packets to a TCP connection with where they
// go, 64 KB at a time.
type carrier struct {
	mu       sync.Mutex // two channels may bring packets
	to       net.Conn   // nil: there was no packet yet
	gathered []byte
}

// packet takes one packet of the client's.
func (c *carrier) packet(p []byte) error {
	to, payload, ok := datagram(p)
	if !ok || len(p) < leastLoad {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.to == nil {
		var err error
		if c.to, err = net.DialTimeout("tcp", to.String(), handshakeTime); err != nil {
			return err
		}
		c.gathered = make([]byte, 0, gatherSize)
	}
	return c.add(payload)
}

// add gathers a payload; c.mu is held.
func (c *carrier) add(payload []byte) error {
	if len(c.gathered)+len(payload) > cap(c.gathered) {
		if _, err := c.to.Write(c.gathered); err != nil {
			return err
		}
		c.gathered = c.gathered[:0]
	}
	c.gathered = append(c.gathered, payload...)
	return nil
}

func (c *carrier) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.to != nil {
		c.to.Close()
	}
}

// datagram says where a packet of IPv4 with UDP goes and what is in it
// (RFC 791 section 3.1, RFC 768).
func datagram(p []byte) (to netip.AddrPort, payload []byte, ok bool) {
	if len(p) < ip4Header || p[0]>>4 != 4 || p[9] != protoUDP {
		return to, nil, false
	}
	header := int(p[0]&15) * 4
	if header < ip4Header || len(p) < header+udpHeader {
		return to, nil, false
	}
	addr, _ := netip.AddrFromSlice(p[16:20])
	port := binary.BigEndian.Uint16(p[header+2:])
	return netip.AddrPortFrom(addr, port), p[header+udpHeader:], true
}
